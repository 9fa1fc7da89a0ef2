"""Images from prompts; first start a server: `kandinsky up --model shapes`."""

from kandinsky import Client

with Client("127.0.0.1:50051") as client:
    images = client.text_to_image(
        ["a red circle on a blue background", "жёлтая звезда на чёрном фоне"],
        model="shapes",
        seed=0,
        on_progress=lambda at: print(f"image {at.index}: {at.phase} {at.step}/{at.steps}"),
    )
for image in images:
    image.save(f"image-{image.index}.png")
    print(f"image-{image.index}.png: seed {image.seed}, {image.elapsed:.1f} s")
