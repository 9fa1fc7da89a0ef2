"""A stage's arguments are checked once, where they enter."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.family import Stage
from services.loading.loader import CheckpointError
from services.transport.settings import StageSettings
from tests import tiny


def parse(folder: Path, **changes: object) -> StageSettings:
    return StageSettings.parse({"model": "tiny", "catalog": [str(folder)], **changes})


def test_an_unknown_argument_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValidationError, match="repliccas"):
        parse(tiny_checkpoint, repliccas=2)
    with pytest.raises(ValidationError, match="max_rows"):
        parse(tiny_checkpoint, engine={"max_rows": 2})


def test_an_unknown_model_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(CatalogError, match="nonsense"):
        parse(tiny_checkpoint, model="nonsense")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    tiny.write_catalog(tmp_path)
    with pytest.raises(CheckpointError, match=str(tmp_path / "decoder")):
        parse(tmp_path).loaders(Stage.DECODER)["weights"].model(UNet2DConditionModel, "unet")


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    tiny.write_catalog(tiny.build(tmp_path))
    file = tmp_path / "decoder/unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"conv_in\.weight"):
        parse(tmp_path).loaders(Stage.DECODER)["weights"].model(UNet2DConditionModel, "unet")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_weights_come_in_the_entry_s_dtype(tmp_path: Path, dtype: str) -> None:
    tiny.write_catalog(tiny.build(tmp_path), dtype=dtype)
    unet = parse(tmp_path).loaders(Stage.DECODER)["weights"].model(UNet2DConditionModel, "unet")
    assert unet.dtype is getattr(torch, dtype)
    assert not unet.training
