"""Pictures from prompts; first start a server: `kandinsky up --model shapes`."""

from kandinsky import Client

with Client("127.0.0.1:50051") as client:
    images = client.text_to_image(
        ["a red circle on a blue background", "жёлтая звезда на чёрном фоне"],
        model="shapes",
        seed=0,
        on_progress=lambda news: print(
            f"image {news.index}: {news.phase} {news.step}/{news.steps}"
        ),
    )
for image in images:
    image.save(f"picture-{image.index}.png")
    print(f"picture-{image.index}.png: seed {image.seed}, {image.elapsed:.1f} s")
