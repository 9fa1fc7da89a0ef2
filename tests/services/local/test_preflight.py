"""What `up` checks before it starts anything."""

import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from kandinsky.catalog.family import Stage
from services.local import memory, preflight
from services.local.memory import REPLICA_BYTES
from services.local.preflight import PreflightError
from tests.kandinsky.declared import app

ENTRY = """
name: small
description: A checkpoint of which only the headers matter.
family: kandinsky-2-2
dtype: float32
stages:
  encoders: {weights: {folder: prior}}
  prior: {weights: {folder: prior}}
  decoder: {weights: {folder: decoder}}
size: {height: 64, width: 64, min: 64, max: 128}
"""

NUMBERS = {"prior/text_encoder": 10, "prior/prior": 20, "decoder/unet": 30, "decoder/movq": 40}
"""Part to how many thousand float16 numbers it holds."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, thousands in NUMBERS.items():
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "config.json").write_text("{}")
        weights = {"weight": np.zeros((thousands, 1000), np.float16)}
        save_file(weights, tmp_path / part / "diffusion_pytorch_model.safetensors")
    (tmp_path / "prior" / "tokenizer").mkdir()
    (tmp_path / "small.yaml").write_text(ENTRY)
    return tmp_path


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    plan = preflight.plan(["small"], [folder])
    assert [entry.name for entry in plan.models] == ["small"]
    assert [stage for _, stage in plan.stages] == [Stage.ENCODERS, Stage.PRIOR, Stage.DECODER]


def test_a_stage_takes_its_own_parts_in_the_dtype_they_are_loaded_in(folder: Path) -> None:
    (entry,) = preflight.plan(["small"], [folder]).models
    assert memory.stage_bytes(entry, Stage.ENCODERS) == 10_000 * 4
    assert memory.stage_bytes(entry, Stage.PRIOR) == 20_000 * 4
    assert memory.stage_bytes(entry, Stage.DECODER) == 70_000 * 4


def test_the_decoders_text_encoder_counts_in_the_encoders(folder: Path) -> None:
    text_encoder = folder / "decoder" / "text_encoder"
    text_encoder.mkdir()
    (text_encoder / "config.json").write_text("{}")
    save_file({"weight": np.zeros((5, 1000), np.float16)}, text_encoder / "model.safetensors")
    encoders = "encoders: {weights: {folder: prior}"
    both = f"{encoders}, decoder_text: {{folder: decoder}}"
    entry = ENTRY.replace("kandinsky-2-2", "kandinsky-2-1").replace(encoders, both)
    (folder / "small.yaml").write_text(entry)
    (entry,) = preflight.plan(["small"], [folder]).models
    assert memory.stage_bytes(entry, Stage.ENCODERS) == 15_000 * 4
    assert memory.stage_bytes(entry, Stage.DECODER) == 70_000 * 4


def test_an_inpainting_checkpoint_counts_by_the_parts_that_are_loaded(folder: Path) -> None:
    """Its MoVQ, which is the decoder's own, is not loaded twice."""
    decoder = "decoder: {weights: {folder: decoder}"
    both = f"{decoder}, inpaint: {{folder: decoder}}"
    (folder / "small.yaml").write_text(ENTRY.replace(decoder, both))
    (entry,) = preflight.plan(["small"], [folder]).models
    assert memory.stage_bytes(entry, Stage.DECODER) == 100_000 * 4


def test_memory_is_weighed_by_replicas(folder: Path) -> None:
    plan = preflight.plan(["small"], [folder])
    needed = 4 * REPLICA_BYTES + (100_000 + 70_000) * 4
    preflight.check_memory(plan, {Stage.DECODER: 2}, needed)
    with pytest.raises(PreflightError, match=r"take 1\.6 GiB of memory and 1\.6 GiB are free"):
        preflight.check_memory(plan, {Stage.DECODER: 2}, needed - 1)


def test_weights_are_those_of_the_variant_that_the_entry_names(folder: Path) -> None:
    for part in ("unet", "movq"):
        file = folder / "decoder" / part / "diffusion_pytorch_model.safetensors"
        save_file({"weight": np.zeros(7_000, np.float16)}, file.with_suffix(".fp16.safetensors"))
    (entry,) = preflight.plan(["small"], [folder]).models
    assert memory.stage_bytes(entry, Stage.DECODER) == 70_000 * 4
    named = ENTRY.replace("{folder: decoder}", "{folder: decoder, variant: fp16}")
    (folder / "small.yaml").write_text(named)
    (entry,) = preflight.plan(["small"], [folder]).models
    assert memory.stage_bytes(entry, Stage.DECODER) == 14_000 * 4
    file.with_suffix(".fp16.safetensors").unlink()
    with pytest.raises(PreflightError, match="decoder/movq holds no weights of variant fp16"):
        preflight.plan(["small"], [folder])


@pytest.mark.parametrize("part", ["prior/prior", "decoder/unet", "prior", "decoder"])
def test_what_is_missing_is_named(folder: Path, part: str) -> None:
    if "/" in part:
        (folder / part / "diffusion_pytorch_model.safetensors").unlink()
    else:
        (folder / part).rename(folder / "elsewhere")
    with pytest.raises(PreflightError, match=str(folder / part)):
        preflight.plan(["small"], [folder])


def test_a_part_that_the_index_lists_must_be_there(folder: Path) -> None:
    index = '{"_class_name": "KandinskyV22Pipeline", "scheduler": ["diffusers", "DDPMScheduler"]}'
    (folder / "decoder" / "model_index.json").write_text(index)
    with pytest.raises(PreflightError, match="scheduler is missing"):
        preflight.plan(["small"], [folder])


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", struct.pack("<Q", 4) + b"oops"],
)
def test_a_file_that_is_no_safetensors_is_named(folder: Path, content: bytes) -> None:
    file = folder / "decoder/unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(content)
    with pytest.raises(PreflightError, match=str(file)):
        preflight.plan(["small"], [folder])


def test_a_file_that_was_cut_short_is_named(folder: Path) -> None:
    file = folder / "decoder/unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(PreflightError, match="cut short"):
        preflight.plan(["small"], [folder])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.yaml", "name: [", "broken.yaml cannot be read as YAML"),
        ("other.yaml", ENTRY + "colour: red\n", "colour"),
    ],
)
def test_a_broken_catalog_is_one_sentence(folder: Path, name: str, content: str, said: str) -> None:
    (folder / name).write_text(content)
    done = CliRunner().invoke(app, ["up", "--model", "small", "--catalog", str(folder)])
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_model_is_named_with_those_there_are(folder: Path) -> None:
    with pytest.raises(PreflightError, match=r"no model 'large' in the catalog; it has .*small"):
        preflight.plan(["large"], [folder])


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError, match=f"127.0.0.1:{port}: address already in use"):
            preflight.check_port("127.0.0.1", port)
    assert preflight.check_port("127.0.0.1", port) == port
    assert preflight.check_port("127.0.0.1", 0) > 0


def test_a_host_of_another_machine_is_named() -> None:
    with pytest.raises(PreflightError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        preflight.check_port("192.0.2.1", 0)


def test_missing_extras_name_the_remedy() -> None:
    with pytest.raises(PreflightError, match=r"no_such_module .*kandinsky-serve\[gateway,serve\]"):
        preflight.check_extras(["json", "no_such_module"])


@pytest.mark.parametrize(
    ("limit", "available"), [("max", 1000), ("600", 600 - 200 + 50), ("100", 0), ("5000", 1000)]
)
def test_the_least_of_machine_and_control_group_counts(
    tmp_path: Path, limit: str, available: int
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("200")
    (tmp_path / "memory.stat").write_text("anon 150\ninactive_file 50\n")
    assert memory.bytes_available(1000, tmp_path) == available


def test_a_control_group_of_version_1_counts(tmp_path: Path) -> None:
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("600")
    (group / "memory.usage_in_bytes").write_text("200")
    (group / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory.bytes_available(1000, tmp_path) == 400
