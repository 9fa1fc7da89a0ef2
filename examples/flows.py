"""What the demo shows of every flow: a row each, inputs beside outputs."""

from collections.abc import Iterator
from pathlib import Path

from contact_sheet import Captioned, Row
from PIL import Image, ImageDraw

from kandinsky.client import Client, Generated, ImagePrompt, save_animation

MODEL, DEPTH_MODEL, SD_MODEL = "shapes", "shapes-depth", "shapes-sd-inpaint"
SIZE = 128
SEED = 3
"""Of every image below."""
FRAMES = 12


def rows(client: Client, out: Path) -> Iterator[Row]:
    """Draws every flow's images; writes the animation into `out`."""
    star, circle = (
        image.image
        for image in client.text_to_image(
            ["a yellow star on a blue background", "a red circle on a white background"],
            model=MODEL,
            seed=SEED,
        )
    )
    yield _mix(client, star)
    yield _frames(client, out)
    yield _image_to_image(client, circle)
    yield _inpaint(client, circle, MODEL, "Inpaint")
    yield _inpaint(client, circle, SD_MODEL, "Inpaint by Stable Diffusion")
    yield _adapters(client, circle)
    yield _outpaint(client, star)
    yield _variation(client, star)
    yield _control(client)
    yield _text_guided_edit(client, star)


def _mix(client: Client, star: Image.Image) -> Row:
    text = "a red circle on a white background"
    shown = [_input(star, f"mixed with: {text}")]
    for weight in (0.35, 0.5, 0.65):
        weights = [1 - weight, weight]
        [image] = client.mix([star, text], weights, model=MODEL, seed=SEED)
        shown.append(_output(image, f"{weights[0]:g} of the image, {weight:g} of the text"))
    [image] = client.mix(
        [star, text], [0.5, 0.5], model=MODEL, seed=SEED, interpolation="spherical"
    )
    shown.append(_output(image, "half and half, on the sphere"))
    return Row("Mix", tuple(shown))


def _frames(client: Client, out: Path) -> Row:
    first, last = "a red circle on a white background", "a blue circle on a white background"
    images = client.interpolate_frames(first, last, FRAMES, model=MODEL, seed=SEED)
    save_animation(images, out / "frames.webp")
    picked = [images[round(share * (FRAMES - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    captions = [first, "", "frames.webp moves through all of them", "", last]
    return Row(
        "Interpolate frames",
        tuple(_output(image, text) for image, text in zip(picked, captions, strict=True)),
    )


def _image_to_image(client: Client, circle: Image.Image) -> Row:
    prompt = "a green square on a white background"
    shown = [_input(circle, "start")]
    for strength in (0.2, 0.5, 1.0):
        [image] = client.image_to_image(circle, prompt, model=MODEL, seed=SEED, strength=strength)
        shown.append(_output(image, f"{prompt}, strength {strength:g}"))
    [image] = client.image_to_image(
        circle, prompt, model=MODEL, seed=SEED, strength=1.0, prior_strength=0.5
    )
    shown.append(_output(image, "the prior starts from the image, too"))
    return Row("Image to image", tuple(shown))


def _adapters(client: Client, circle: Image.Image) -> Row:
    text = "a purple ring on a white background"
    [ring] = client.text_to_image(text, model=MODEL, seed=SEED)
    cases = (
        ("a blue star on a white background", "outlined", ["outlined"]),
        ("a green <diamond> on a white background", "a word", ["diamond", "diamond-word"]),
        (
            "a green <diamond> on a white background",
            "a word, outlined",
            {"outlined": 1.0, "diamond": 0.8, "diamond-word": None},
        ),
        (".", "what is beside it", {"shown": ImagePrompt(ring.image)}),
    )
    shown = []
    for prompt, name, adapters in cases:
        if prompt == ".":
            shown.append(_input(ring.image, "shown"))
        [image] = client.inpaint(
            circle, _mask(circle), prompt, model=SD_MODEL, seed=SEED, adapters=adapters
        )
        shown.append(_output(image, f"{prompt}; adapters: {name}"))
    return Row("Adapters", tuple(shown))


def _mask(image: Image.Image) -> Image.Image:
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).rectangle((16, 16, 112, 112), fill=255)
    return mask


def _inpaint(client: Client, circle: Image.Image, model: str, title: str) -> Row:
    mask = _mask(circle)
    shown = [_input(circle, "image"), _input(mask, "mask: white is generated")]
    for what in ("a blue star", "a purple cross"):
        prompt = f"{what} on a white background"
        [image] = client.inpaint(circle, mask, prompt, model=model, seed=SEED)
        shown.append(_output(image, prompt))
    return Row(title, tuple(shown))


def _outpaint(client: Client, star: Image.Image) -> Row:
    prompt = "a yellow star on a blue background"
    shown = [_input(star, "image")]
    for margins in ({"right": 64}, {"left": 64, "right": 64}):
        [image] = client.outpaint(star, prompt, model=MODEL, seed=SEED, **margins)
        sides = " and ".join(f"{pixels} pixels on the {side}" for side, pixels in margins.items())
        shown.append(_output(image, sides))
    return Row("Outpaint", tuple(shown))


def _variation(client: Client, star: Image.Image) -> Row:
    images = client.variation(star, model=MODEL, seed=SEED, images_per_prompt=4)
    return Row("Variation", (_input(star, "image"), *(_output(image, "") for image in images)))


def _control(client: Client) -> Row:
    hint = Image.new("RGB", (SIZE, SIZE), (30, 30, 30))
    ImageDraw.Draw(hint).polygon([(40, 14), (78, 78), (2, 78)], fill=(240, 240, 240))
    shown = [_input(hint, "depth map: near is white")]
    for colour, ground in (("red", "white"), ("yellow", "black"), ("purple", "green")):
        prompt = f"a {colour} triangle on a {ground} background"
        [image] = client.control(hint, prompt, model=DEPTH_MODEL, seed=SEED)
        shown.append(_output(image, prompt))
    return Row("Control", tuple(shown))


def _text_guided_edit(client: Client, star: Image.Image) -> Row:
    source = "a yellow star on a blue background"
    shown = [_input(star, source)]
    for target in ("a red star on a blue background", "a yellow star on a black background"):
        for amount in (0.25, 0.375):
            [image] = client.text_guided_edit(
                star, source, target, model=MODEL, seed=SEED, amount=amount
            )
            shown.append(_output(image, f"to {target}, {amount:g} of the way"))
    return Row("Text-guided edit", tuple(shown))


def _input(image: Image.Image, caption: str) -> Captioned:
    return Captioned(image, caption, ("input",))


def _output(image: Generated, caption: str) -> Captioned:
    return Captioned(image.image, caption, (f"seed {image.seed}",))
