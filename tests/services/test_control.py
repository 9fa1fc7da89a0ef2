"""A UNet that follows a hint: as the reference's ControlNet, from noise and from a image."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22ControlnetImg2ImgPipeline, KandinskyV22ControlnetPipeline
from PIL import Image

from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from services.decoder.families import kandinsky_2_2
from services.transport.settings import StageSettings
from tests.services.asking import SIZE, decode_request, drawn, row
from tests.services.conftest import StageStubs, fields

HINT = torch.rand(3, SIZE, SIZE, generator=torch.manual_seed(1))


def hinted(start: str, hint: tensor_pb2.Tensor | None = None) -> decoder_pb2.DecodeRequest:
    request = decode_request(start)
    request.conditioning.hint.CopyFrom(tensors.from_torch(HINT) if hint is None else hint)
    return request


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("start", ["noise", "image"])
async def test_it_equals_the_reference(
    control_stages: StageStubs, tiny_checkpoint: Path, start: str, guidance_scale: float
) -> None:
    request = hinted(start)
    request.sampling.guidance_scale = guidance_scale
    cls = KandinskyV22ControlnetPipeline
    options = {}
    if start == "image":
        cls = KandinskyV22ControlnetImg2ImgPipeline
        request.start.image.strength = options["strength"] = 0.6
        options["image"] = Image.fromarray(tensors.decode(request.start.image.pixels, "pixels"))
    pipeline = cls.from_pretrained(tiny_checkpoint / "decoder-control")
    expected = pipeline(
        image_embeds=row(request.conditioning.image_embed),
        negative_image_embeds=row(request.conditioning.negative_image_embed),
        hint=HINT[None],
        height=SIZE,
        width=SIZE,
        num_inference_steps=request.sampling.steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(request.sampling.seed),
        output_type="np",
        **options,
    ).images[0]
    assert expected.std() > 0.01
    difference = drawn(await control_stages.decode(request)) - (expected * 255).round().astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
async def test_another_hint_makes_another_image(
    control_stages: StageStubs, guidance_scale: float
) -> None:
    """So that the parity above means the hint: without it, these would be equal."""
    images = []
    for request in (hinted("noise"), hinted("noise", tensors.from_torch(1 - HINT))):
        request.sampling.guidance_scale = guidance_scale
        images.append(drawn(await control_stages.decode(request)))
    assert np.abs(images[0] - images[1]).max() > 100


@pytest.mark.parametrize(
    ("hint", "path"),
    [
        (None, "conditioning.hint"),
        (tensors.encode(np.zeros((3, SIZE, 32), np.float32)), "conditioning.hint.shape"),
        (tensors.encode(np.full((3, SIZE, SIZE), np.nan, np.float32)), "conditioning.hint.data"),
    ],
)
async def test_bad_hints_are_refused(control_stages: StageStubs, hint, path: str) -> None:
    request = decode_request("noise") if hint is None else hinted("noise", hint)
    with pytest.raises(KandinskyError) as error:
        await control_stages.decode(request)
    assert fields(error.value) == [path]
    assert control_stages.host.decoder.counters.forwards == 0


async def test_a_model_that_takes_no_hint_says_so(stages: StageStubs) -> None:
    with pytest.raises(KandinskyError) as error:
        await stages.decode(hinted("noise"))
    assert fields(error.value) == ["conditioning.hint"]


@pytest.mark.parametrize(
    ("model", "control", "wrong"),
    [
        ("tiny-control", True, None),
        ("tiny-control", False, "draws by a control hint alone: set control to true"),
        ("tiny", False, None),
        ("tiny", True, "control needs a UNet that follows a hint"),
    ],
)
def test_a_decoder_is_declared_as_its_unet_draws(
    tiny_checkpoint: Path, model: str, control: bool, wrong: str | None
) -> None:
    settings = StageSettings.parse({"model": model, "catalog": [str(tiny_checkpoint)]})
    entry = settings.entry.model_copy(update={"control": control})
    with pytest.raises(ValueError, match=wrong) if wrong else nullcontext():
        kandinsky_2_2.decoder(settings.loaders(Stage.DECODER), entry)
