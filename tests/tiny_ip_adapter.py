"""Writes IP-Adapters of the tiny Stable Diffusion inpainting, and their image encoder."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from services.adapters.ip_adapter_file import cross_attentions

HIDDEN, EMBED, SIDE, PATCHES = 24, 16, 32, 17
"""Widths of states and embeddings, pixels a side, and states of an image."""
TOKENS = 4
LARGE = 0.8
"""Deviation of the random weights: an image shows them."""


def build_image_encoder(folder: Path, seed: int = 0, embed: int = EMBED) -> Path:
    """Writes `folder`/image_encoder; returns the folder.

    Args:
        folder: that holds it.
        seed: of its weights.
        embed: width of its embeddings.
    """
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=8,
        projection_dim=embed,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


def write(
    folder: Path,
    checkpoint: Path,
    name: str,
    seed: int,
    *,
    form: str = "safetensors",
    reads: str = "embeddings",
) -> Path:
    """Write a random IP-Adapter into a folder of adapters, and its manifest; returns the file.

    Args:
        folder: of adapters.
        checkpoint: folder of the pipeline.
        name: of the adapter.
        seed: of its weights.
        form: `safetensors` or `bin`.
        reads: `embeddings`; or `states`, resampled (plus) or `all` of them (full).
    """
    folder.mkdir(exist_ok=True)
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    width = unet.config.cross_attention_dim
    torch.manual_seed(seed)
    attention = {
        f"{2 * i + 1}.to_{part}_ip.weight": LARGE * torch.randn(module.to_k.out_features, width)
        for i, module in enumerate(cross_attentions(unet))
        for part in ("k", "v")
    }
    projection = {"embeddings": _plain, "states": _plus, "all": _full}[reads]
    parts = {"image_proj": projection(width), "ip_adapter": attention}
    file = folder / f"{name}.{form}"
    if form == "bin":
        torch.save(parts, file)
    else:
        save_file({f"{p}.{k}": v for p, state in parts.items() for k, v in state.items()}, file)
    with (folder / "manifest.yaml").open("a") as manifest:
        manifest.write(f"{name}: {{kind: ip-adapter, file: {file.name}}}\n")
    return file


def _plain(width: int) -> dict[str, torch.Tensor]:
    return {
        "proj.weight": torch.randn(TOKENS * width, EMBED),
        "proj.bias": torch.randn(TOKENS * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }


def _full(width: int) -> dict[str, torch.Tensor]:
    return {
        "proj.0.weight": torch.randn(HIDDEN, HIDDEN),
        "proj.0.bias": torch.randn(HIDDEN),
        "proj.2.weight": torch.randn(width, HIDDEN),
        "proj.2.bias": torch.randn(width),
        "proj.3.weight": torch.ones(width),
        "proj.3.bias": torch.zeros(width),
    }


PUBLISHED = (
    ("attn.to_out.0.", "0.to_out."),
    ("attn.to_q.", "0.to_q."),
    ("ln0.", "0.norm1."),
    ("ln1.", "0.norm2."),
    ("ff.1.net.0.proj.", "1.1."),
    ("ff.1.net.2.", "1.3."),
    ("ff.0.", "1.0."),
)
"""Of a layer's weights: names of diffusers, and those of published files."""


def _plus(width: int) -> dict[str, torch.Tensor]:
    network = IPAdapterPlusImageProjection(
        embed_dims=HIDDEN, output_dims=width, hidden_dims=64, heads=1, num_queries=TOKENS
    )
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in network.state_dict().items()}
    published = {}
    for key, value in state.items():
        for known, name in PUBLISHED:
            key = key.replace(known, name)
        if "attn.to_k." in key:
            pair = torch.cat([value, state[key.replace("to_k", "to_v")]])
            published[key.replace("attn.to_k.", "0.to_kv.")] = pair
        elif "attn.to_v." not in key:
            published[key] = value
    return published
