"""Writes LoRAs of the tiny Stable Diffusion inpainting, as diffusers, PEFT and Kohya have them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

UNET_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "time_emb_proj", "ff.net.0.proj")
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1")
LARGE = 0.4
"""Deviation of the random weights: an image shows them."""


def write(
    folder: Path,
    checkpoint: Path,
    name: str,
    seed: int,
    *,
    form: str = "diffusers",
    rank: int = 4,
    alpha: float | None = None,
    text: bool = True,
) -> Path:
    """Write a random LoRA into a folder of adapters, and its manifest; returns the file.

    Args:
        folder: of adapters.
        checkpoint: folder of the pipeline.
        name: of the adapter.
        seed: of its weights.
        form: `diffusers`, `kohya`, or `peft`, which is of the UNet alone.
        rank: of its matrices.
        alpha: its scale is alpha over rank; None for 1.
        text: whether it changes the text encoder too.
    """
    folder.mkdir(exist_ok=True)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(checkpoint, safety_checker=None)
    torch.manual_seed(seed)
    config = {"r": rank, "lora_alpha": rank if alpha is None else alpha}
    unet = _drawn(pipeline.unet, LoraConfig(**config, target_modules=list(UNET_LAYERS)))
    encoder = None
    if text and form != "peft":
        encoder = _drawn(
            pipeline.text_encoder, LoraConfig(**config, target_modules=list(TEXT_LAYERS))
        )
    file = folder / f"{name}.safetensors"
    if form == "peft":
        file = folder / name / "adapter_model.safetensors"
        file.parent.mkdir()
        pipeline.unet.peft_config["default"].save_pretrained(file.parent)
        save_file({f"base_model.model.{key}": value for key, value in unet.items()}, file)
    elif form == "kohya":
        state = {f"unet.{key}": value for key, value in unet.items()}
        state |= {f"text_encoder.text_model.{key}": value for key, value in (encoder or {}).items()}
        made = convert_state_dict_to_kohya(state)
        of_alpha = torch.tensor(float(rank if alpha is None else alpha))
        made |= {f"{key.split('.')[0]}.alpha": of_alpha.clone() for key in list(made)}
        save_file({key: value.contiguous() for key, value in made.items()}, file)
    else:
        StableDiffusionInpaintPipeline.save_lora_weights(
            folder,
            unet,
            encoder,
            weight_name=file.name,
            unet_lora_adapter_metadata=_config(pipeline.unet),
            text_encoder_lora_adapter_metadata=_config(pipeline.text_encoder) if encoder else None,
        )
    manifest = folder / "manifest.yaml"
    known = manifest.read_text() if manifest.exists() else ""
    manifest.write_text(f"{known}{name}: {{file: {file.relative_to(folder)}}}\n")
    return file


def _drawn(network: torch.nn.Module, config: LoraConfig) -> dict[str, torch.Tensor]:
    inject_adapter_in_model(config, network)
    network.peft_config = {"default": config}
    state = get_peft_model_state_dict(network)
    return {key: LARGE * torch.randn_like(value) for key, value in sorted(state.items())}


def _config(network: torch.nn.Module) -> dict[str, Any]:
    config = network.peft_config["default"].to_dict()
    return {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }
