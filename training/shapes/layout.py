"""Writes the trained parts as the three published pipeline folders, fp16 safetensors."""

import json
from pathlib import Path

import torch
from diffusers import (
    KandinskyV22ControlnetPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from training.shapes import prior, unet
from training.shapes.data import CLIP_SIZE


def export(work: Path, out: Path) -> None:
    """`out`/prior, `out`/decoder, `out`/decoder-inpaint and `out`/decoder-depth."""
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
    # Without torchvision the PIL class would be named; the published index names this one.
    index = out / "prior" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    for path in out.rglob("config.json"):  # where a part was read from says nothing to others
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
