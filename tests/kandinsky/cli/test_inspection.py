"""`kandinsky inspect` on real checkpoints and on broken ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from typer.testing import CliRunner, Result

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import Stage
from kandinsky.cli.app import app
from kandinsky.cli.recognition import Files, UnrecognisedError, kinds, recognise


def inspect(checkpoint: object) -> Result:
    return CliRunner().invoke(app, ["inspect", str(checkpoint)])


@pytest.fixture(scope="module")
def family_2_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny_2_1

    return tiny_2_1.build(tmp_path_factory.mktemp("tiny-2-1"))


@pytest.fixture
def decoder(family_2_1: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(family_2_1 / "decoder", tmp_path / "decoder"))


def test_checkpoints_of_2_2_are_recognised(tiny_checkpoint: Path) -> None:
    prior, decoder = inspect(tiny_checkpoint / "prior"), inspect(tiny_checkpoint / "decoder")
    assert (prior.exit_code, decoder.exit_code) == (0, 0), prior.output + decoder.output
    assert (
        "served by family kandinsky-2-2, as stages.encoders.weights, stages.prior.weights"
        in prior.stdout
    )
    assert "served by family kandinsky-2-2, as stages.decoder.weights" in decoder.stdout
    assert "text_encoder: CLIPTextModelWithProjection, " in prior.stdout


def test_checkpoints_of_2_1_are_recognised(family_2_1: Path) -> None:
    prior, decoder = inspect(family_2_1 / "prior"), inspect(family_2_1 / "decoder")
    assert (prior.exit_code, decoder.exit_code) == (0, 0), prior.output + decoder.output
    assert "prior of Kandinsky 2.1 (KandinskyPriorPipeline)" in prior.stdout
    assert "as stages.decoder.weights, stages.encoders.decoder_text" in decoder.stdout
    assert "text_encoder: MultilingualCLIP, " in decoder.stdout
    assert "ddpm_scheduler: DDPMScheduler" in decoder.stdout


def test_without_an_index_the_networks_are_recognised(decoder: Path) -> None:
    (decoder / "model_index.json").unlink()
    assert "decoder of Kandinsky 2.1" in inspect(decoder).stdout


def test_weights_of_a_variant_alone_are_named(decoder: Path) -> None:
    """As the hub's Kandinsky 3 has them; a shard's number may stand before or after the name."""
    for file in [*decoder.rglob("*.safetensors")]:
        name = f"{file.stem}.fp16-00001-of-00001" if "unet" in str(file) else f"{file.stem}.fp16"
        file.rename(file.with_name(f"{name}.safetensors"))
    done = inspect(decoder)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].endswith("decoder_text, with variant: fp16")
    assert "0.0 MiB" not in done.stdout
    unet = next(iter((decoder / "unet").glob("*.safetensors")))
    shutil.copy(unet, decoder / "unet" / "diffusion_pytorch_model.safetensors")
    assert "with variant: fp16" in inspect(decoder).stdout, (
        "the other networks have no plain weights"
    )
    unet.unlink()
    done = inspect(decoder)
    assert done.exit_code == 1
    assert "part text_encoder holds no weights" in done.stderr


def test_every_fault_is_one_sentence(decoder: Path) -> None:
    shutil.rmtree(decoder / "tokenizer")
    (decoder / "movq" / "config.json").unlink()
    (decoder / "text_encoder" / "model.safetensors").unlink()
    unet = decoder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:-1])
    config = decoder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}))
    done = inspect(decoder)
    assert done.exit_code == 1
    assert "can be served" not in done.stdout
    size = unet.stat().st_size
    assert done.stderr.splitlines() == [
        "cannot be served: part tokenizer is missing",
        "cannot be served: part text_encoder holds no weights",
        "cannot be served: part movq has no config.json",
        "cannot be served: the UNet's in_channels is 9, not 4",
        f"cannot be served: {unet} is cut short: {size} bytes of {size + 1}",
    ]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("model_index.json", b"{", "model_index.json is not JSON"),
        ("model_index.json", b"[]", "model_index.json holds no JSON object"),
        (
            "model_index.json",
            b'{"_class_name": "FluxPipeline"}',
            "names FluxPipeline, which no family of this release serves",
        ),
        ("unet/config.json", b'{"in_channels": 4}', "no network of a known kind"),
        ("notes.txt", b"", "there is no model_index.json"),
    ],
)
def test_what_is_unknown_is_said_so(
    tmp_path: Path, name: str, contents: bytes, message: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(contents)
    done = inspect(tmp_path)
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_on_the_hub_is_recognised_by_its_small_files(
    family_2_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, fetched = family_2_1 / "decoder", []
    files = [path for path in decoder.rglob("*") if path.is_file()]
    siblings = [
        SimpleNamespace(rfilename=path.relative_to(decoder).as_posix(), size=path.stat().st_size)
        for path in files
    ]

    def fetch(name: str, path: str, revision: str) -> str:
        fetched.append(path)
        return str(decoder / path)

    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=siblings)
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    done = inspect("kandinsky-community/kandinsky-2-1")
    assert done.exit_code == 0, done.output
    assert "the catalog's kandinsky-2-1 loads it" in done.stdout
    assert "can be served by family kandinsky-2-1" in done.stdout
    assert fetched
    assert all(path.endswith(".json") for path in fetched)


def test_a_hub_that_is_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub\nin two lines")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", away)
    done = inspect("somebody/something")
    assert done.exit_code == 1
    assert done.stderr == (
        "somebody/something: the hub cannot be asked for somebody/something@main: "
        "no route to the hub\n"
    )


@pytest.mark.parametrize("name", ["no/such/folder", "spaces in it"])
def test_neither_a_folder_nor_a_name(name: str) -> None:
    done = inspect(name)
    assert (done.exit_code, done.stderr) == (
        1,
        f"{name}: {name!r} is neither a folder nor a name on the hub\n",
    )


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unet.safetensors").touch()
    done = inspect(tmp_path / "unet.safetensors")
    assert done.exit_code == 1
    assert "is a file; give the folder" in done.stderr


def test_declared_families_are_those_that_the_stages_register() -> None:
    from services.decoder.families import FAMILIES as DECODERS
    from services.encoders.families import FAMILIES as ENCODERS
    from services.prior.families import FAMILIES as PRIORS

    registered = {
        Stage.ENCODERS: ENCODERS,
        Stage.PRIOR: PRIORS,
        Stage.DECODER: DECODERS,
    }
    for stage, families in registered.items():
        declared = {name for name in FAMILIES if stage in family(name).text_route}
        assert families.keys() == declared


def test_every_layout_is_a_kind() -> None:
    known = kinds()
    for spec in map(family, FAMILIES):
        for layout in spec.layouts:
            for pipeline in (*layout.pipelines, *layout.combined):
                assert (known[pipeline].family, known[pipeline].layout) == (spec, layout)


def test_an_index_without_a_class_falls_back_to_the_networks() -> None:
    with pytest.raises(UnrecognisedError, match="known kind"):
        recognise(Files({"model_index.json": 2}, lambda _: b"{}"))


def test_inspecting_a_folder_loads_no_model_library(tiny_checkpoint: Path) -> None:
    program = (
        "import sys; from kandinsky.cli.inspection import inspect;"
        f"inspect({str(tiny_checkpoint / 'decoder')!r}, 'main');"
        "print(*{'torch', 'diffusers', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
