"""Writes the trained parts as published pipeline folders, fp16 safetensors, and reads them back."""

import json
from collections.abc import Collection
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    KandinskyV22ControlnetPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from training.shapes import prior, sd_inpaint, unet
from training.shapes.data import CLIP_SIZE

READ_BACK = {
    "clip": (
        ("text_encoder", CLIPTextModelWithProjection, "prior/text_encoder"),
        ("image_encoder", CLIPVisionModelWithProjection, "prior/image_encoder"),
        ("tokenizer", CLIPTokenizer, "prior/tokenizer"),
    ),
    "prior": (("prior", PriorTransformer, "prior/prior"),),
    "movq": (("movq", VQModel, "decoder/movq"),),
    "unet": (("unet", UNet2DConditionModel, "decoder/unet"),),
    "inpaint": (("inpaint", UNet2DConditionModel, "decoder-inpaint/unet"),),
    "depth": (("depth", UNet2DConditionModel, "decoder-depth/unet"),),
    "kl_autoencoder": (("kl_autoencoder", AutoencoderKL, "sd-inpaint/vae"),),
    "sd_inpaint": (("sd_inpaint", UNet2DConditionModel, "sd-inpaint/unet"),),
    "locality": (),  # trains the decoder of "movq", and is in its weights
}
"""Of each stage of training, in order: what it made, of which class, and where `export` puts it."""


def unpack(checkpoint: Path, work: Path, again: Collection[str] = ()) -> list[str]:
    """Put what `export` wrote back into `work`, in float32; returns the stages that are done.

    Args:
        checkpoint: folder that `export` wrote.
        work: where stages keep what they made.
        again: stages to leave out, since they are to be trained again.
    """
    done = [name for name in READ_BACK if name not in again]
    for name, kind, folder in (part for stage in done for part in READ_BACK[stage]):
        part = kind.from_pretrained(checkpoint / folder)
        if isinstance(part, torch.nn.Module):
            part.float()
        part.save_pretrained(work / name)
    return done


def export(work: Path, out: Path) -> None:
    """`out`/prior, decoder, decoder-inpaint, decoder-depth and sd-inpaint."""
    movq = VQModel.from_pretrained(work / "movq")
    KandinskyV22PriorPipeline(
        prior=PriorTransformer.from_pretrained(work / "prior"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(work / "image_encoder"),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(work / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        scheduler=prior.make_scheduler(),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": CLIP_SIZE}, crop_size={"height": CLIP_SIZE, "width": CLIP_SIZE}
        ),
    ).to(dtype=torch.float16).save_pretrained(out / "prior")
    KandinskyV22Pipeline(
        unet=UNet2DConditionModel.from_pretrained(work / "unet"),
        scheduler=unet.make_scheduler(),
        movq=movq,
    ).to(dtype=torch.float16).save_pretrained(out / "decoder")
    KandinskyV22InpaintPipeline(
        unet=UNet2DConditionModel.from_pretrained(work / "inpaint"),
        scheduler=unet.make_scheduler(),
        movq=movq,
    ).to(dtype=torch.float16).save_pretrained(out / "decoder-inpaint")
    KandinskyV22ControlnetPipeline(
        unet=UNet2DConditionModel.from_pretrained(work / "depth"),
        scheduler=unet.make_scheduler(),
        movq=movq,
    ).to(dtype=torch.float16).save_pretrained(out / "decoder-depth")
    tokenizer, text_encoder = sd_inpaint.make_text_encoder(work)
    StableDiffusionInpaintPipeline(
        unet=UNet2DConditionModel.from_pretrained(work / "sd_inpaint"),
        scheduler=sd_inpaint.make_scheduler(),
        vae=AutoencoderKL.from_pretrained(work / "kl_autoencoder"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16).save_pretrained(out / "sd-inpaint")
    # Without torchvision the PIL class would be named; the published index names this one.
    index = out / "prior" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    for path in out.rglob("config.json"):  # where a part was read from says nothing to others
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
