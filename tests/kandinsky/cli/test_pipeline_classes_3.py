"""`kandinsky inspect` on a folder of every Kandinsky 3 pipeline class that diffusers has."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.pipelines import kandinsky3
from typer.testing import CliRunner, Result

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import FolderCheckpoint
from kandinsky.cli.app import app
from kandinsky.cli.recognition import kinds
from services.decoder.families import FAMILIES as DECODERS
from services.encoders.families import FAMILIES as ENCODERS
from services.loading import families
from services.loading.loader import Loader
from tests import tiny_3

FAMILY = "kandinsky-3"
PIPELINES = [name for name in dir(kandinsky3) if name.endswith("Pipeline")]
VERDICT = f"can be served by family {FAMILY}, as stages.encoders.weights, stages.decoder.weights"


def inspect(folder: Path) -> Result:
    return CliRunner().invoke(app, ["inspect", str(folder)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_3.build(tmp_path) / "kandinsky-3"


@pytest.mark.parametrize("name", PIPELINES)
def test_what_inspect_says_is_what_the_stages_load(name: str, folder: Path) -> None:
    getattr(kandinsky3, name).from_pretrained(folder).save_pretrained(folder)
    done = inspect(folder)
    assert done.exit_code == 0, done.output
    assert f"Kandinsky 3 ({name})" in done.stdout
    assert "  text_encoder: T5EncoderModel, " in done.stdout
    assert "  tokenizer: T5Tokenizer\n" in done.stdout
    assert done.stdout.splitlines()[-1] == VERDICT
    checkpoint = FolderCheckpoint(folder=folder)
    loaders = {"weights": Loader(checkpoint, torch.device("cpu"), torch.float32)}
    entry = Catalog.load()[FAMILY]
    assert all(families.load(known, FAMILY)(loaders, entry) for known in (ENCODERS, DECODERS))


def test_every_class_is_served() -> None:
    served = {name for name, kind in kinds().items() if kind.family.name == FAMILY}
    assert served == set(PIPELINES)


def test_without_an_index_the_network_is_recognised(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    assert inspect(folder).stdout.splitlines()[-1] == VERDICT


def test_what_is_wrong_is_said(folder: Path) -> None:
    config = folder / "unet" / "config.json"
    changed = json.loads(config.read_text()) | {"_class_name": "UNet2DConditionModel"}
    config.write_text(json.dumps(changed))
    shutil.rmtree(folder / "tokenizer")
    done = inspect(folder)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "cannot be served: part tokenizer is missing",
        "cannot be served: the UNet's _class_name is 'UNet2DConditionModel', not 'Kandinsky3UNet'",
    ]
