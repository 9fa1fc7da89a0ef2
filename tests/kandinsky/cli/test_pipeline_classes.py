"""`kandinsky inspect` on a folder of every Kandinsky 2 pipeline class that diffusers has."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines import kandinsky, kandinsky2_2
from typer.testing import CliRunner

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import FolderCheckpoint
from kandinsky.cli.app import app
from kandinsky.cli.recognition import kinds
from services.decoder.families import FAMILIES as DECODERS
from services.encoders.families import FAMILIES as ENCODERS
from services.loading import families
from services.loading.loader import Loader
from services.prior.families import FAMILIES as PRIORS
from tests import tiny, tiny_2_1

PIPELINES = {
    name: getattr(module, name)
    for module in (kandinsky, kandinsky2_2)
    for name in dir(module)
    if name.endswith("Pipeline")
}
PRIOR, DECODER, INPAINT = (
    "stages.encoders.weights, stages.prior.weights",
    "stages.decoder.weights",
    "stages.decoder.inpaint",
)


def saved(name: str, folder: Path) -> Path:
    """The folder that diffusers writes of a pipeline of the class, with tiny networks."""
    torch.manual_seed(0)
    prior = tiny.prior_pipeline().components
    if "V22" in name:
        parts = tiny.decoder_pipeline().components
        inpaint = tiny.unet(in_channels=9)
    else:
        parts = tiny_2_1.decoder_pipeline(tiny_2_1.piece_tokenizer()).components
        inpaint = tiny_2_1.unet(in_channels=9)
    if "Inpaint" in name:
        parts["unet"] = inpaint
    elif "Controlnet" in name:
        parts["unet"] = tiny.unet(in_channels=8, addition_embed_type="image_hint")
    if "Prior" in name:
        parts = prior
    parts |= {f"prior_{part}": value for part, value in prior.items()}
    pipeline = PIPELINES[name]
    taken = inspect.signature(pipeline.__init__).parameters
    pipeline(**{part: value for part, value in parts.items() if part in taken}).save_pretrained(
        folder
    )
    return folder


def loader(folder: Path) -> Loader:
    return Loader(FolderCheckpoint(folder=folder), torch.device("cpu"), torch.float32)


def load(home: str, family: str, folder: Path, plain: Path, control: bool) -> list[Any]:
    """What each stage makes of the folder where `home`, which inspect names, is its place."""
    own, decoder = loader(folder), loader(plain)
    entry = Catalog.load()["shapes-depth" if control else family]
    if home == PRIOR:
        loaders = {"weights": own, "decoder_text": decoder}
        return [families.load(known, family)(loaders, entry) for known in (ENCODERS, PRIORS)]
    if home == INPAINT:
        return [families.load(DECODERS, family)({"weights": decoder, "inpaint": own}, entry)]
    assert home.split(", ")[0] == DECODER
    return [families.load(DECODERS, family)({"weights": own}, entry)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A decoder without a mask, by family."""
    names = {"kandinsky-2-1": "KandinskyPipeline", "kandinsky-2-2": "KandinskyV22Pipeline"}
    return {family: saved(name, tmp_path_factory.mktemp(family)) for family, name in names.items()}


@pytest.mark.parametrize("name", PIPELINES)
def test_what_inspect_says_is_what_a_stage_loads(
    name: str, tmp_path: Path, plain: dict[str, Path]
) -> None:
    folder = saved(name, tmp_path)
    done = CliRunner().invoke(app, ["inspect", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"({name})" in done.stdout
    assert "unknown" not in done.stdout
    family = "kandinsky-2-2" if "V22" in name else "kandinsky-2-1"
    verdict = f"can be served by family {family}, as "
    said = done.stdout.splitlines()[-1]
    assert said.startswith(verdict)
    stages = said.removeprefix(verdict)
    assert all(load(stages.split("; ")[0], family, folder, plain[family], "Controlnet" in name))
    combined = "encoders and prior need the prior in a folder of its own"
    assert (combined in stages) == ("Combined" in name)
    assert (INPAINT in stages) == ("Inpaint" in name)
    assert (PRIOR in stages) == ("Prior" in name)


def test_every_class_of_kandinsky_2_is_served_and_every_served_class_is_one_of_diffusers() -> None:
    assert set(PIPELINES) <= kinds().keys()
    assert all(hasattr(diffusers, name) for name in kinds())


@pytest.mark.parametrize("named", ["[]", "{}", "7", "true"])
def test_a_class_that_is_not_a_name_is_one_sentence(tmp_path: Path, named: str) -> None:
    (tmp_path / "model_index.json").write_text(f'{{"_class_name": {named}}}')
    done = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
