"""Runtime options that a stage, a device or an installation cannot honour are refused by name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from kandinsky.catalog.family import Stage
from services.loading.runtime_options import OptionRefused
from tests.services.answers import Options, settings
from tests.stagehost import load_family


def test_unknown_keys_and_values_are_named(tiny_checkpoint: Path) -> None:
    for key, value in (
        ("compyle", True),
        ("dtype", "int8"),
        ("attention", "slow"),
        ("offload", "disk"),
        ("row_buckets", [0, 2]),
    ):
        with pytest.raises(ValidationError, match=rf"runtime\.{key}"):
            settings(tiny_checkpoint, **{key: value})
    for buckets in ([], [4, 2], [2, 2]):
        with pytest.raises(ValidationError, match="row_buckets must be one or more ascending"):
            settings(tiny_checkpoint, row_buckets=buckets)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"cuda_graphs": True, "offload": "model"}, "cuda_graphs and offload: model"),
        ({"cuda_graphs": True, "offload": "sequential"}, "cuda_graphs and offload: sequential"),
        ({"cuda_graphs": True, "offload": "group"}, "cuda_graphs and offload: group"),
        ({"compile": True, "offload": "sequential"}, "compile and offload: sequential"),
        ({"compile": True, "offload": "group"}, "compile and offload: group"),
        ({"compile": True, "attention": "sliced"}, "compile and attention: sliced"),
        ({"compile": True, "autoencoder_slicing": True}, "compile and autoencoder_slicing"),
        ({"compile": True, "autoencoder_tiling": True}, "compile and autoencoder_tiling"),
        ({"fuse_qkv": True, "attention": "sliced"}, "fuse_qkv and attention: sliced"),
        ({"fuse_qkv": True, "attention": "xformers"}, "fuse_qkv and attention: xformers"),
    ],
)
def test_contradictions_are_refused(tiny_checkpoint: Path, options: Options, keys: str) -> None:
    with pytest.raises(ValidationError, match=f"{keys} contradict each other"):
        settings(tiny_checkpoint, **options)


@pytest.mark.parametrize("backend", ["flash", "native", "_native_cudnn", "sage"])
def test_backends_that_no_network_asks_for_are_refused(tiny_checkpoint: Path, backend: str) -> None:
    expected = rf"runtime\.attention\n.*{backend} is a backend of diffusers' attention dispatcher"
    with pytest.raises(ValidationError, match=expected):
        settings(tiny_checkpoint, attention=backend)


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        (Stage.DECODER, {"cuda_graphs": True}, "cuda_graphs needs a CUDA device; this one is cpu"),
        (Stage.DECODER, {"offload": "model"}, "offload: model needs an accelerator"),
        (Stage.ENCODERS, {"offload": "sequential"}, "offload: sequential needs an accelerator"),
        (Stage.DECODER, {"offload": "group"}, "offload: group needs an accelerator"),
        (Stage.PRIOR, {"offload": "sequential"}, "offload: sequential needs an accelerator"),
        (Stage.PRIOR, {"offload": "group"}, "offload: group needs an accelerator"),
        (Stage.PRIOR, {"offload": "model"}, "the prior stage cannot do runtime.offload: model"),
        (Stage.PRIOR, {"autoencoder_tiling": True}, "runtime.autoencoder_tiling: it has no auto"),
        (Stage.PRIOR, {"channels_last": True}, "the prior stage cannot do runtime.channels_last"),
        (Stage.ENCODERS, {"offload": "group"}, "the encoders stage cannot do runtime.offload: gr"),
        (Stage.ENCODERS, {"autoencoder_slicing": True}, "runtime.autoencoder_slicing: it has no"),
        (Stage.ENCODERS, {"compile": True}, "the encoders stage cannot do runtime.compile"),
        (Stage.ENCODERS, {"attention": "sliced"}, "the encoders stage cannot do runtime.attention"),
    ],
)
def test_what_a_stage_cannot_is_refused_before_it_loads(
    tiny_checkpoint: Path, stage: Stage, options: Options, message: str
) -> None:
    with pytest.raises(OptionRefused, match=message):
        settings(tiny_checkpoint, **options).loaders(stage)


@pytest.mark.parametrize(
    ("installed", "message"),
    [(False, "needs the package xformers, which is not installed"), (True, "needs a CUDA device")],
)
def test_xformers_is_refused_where_it_cannot_run(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, message: str
) -> None:
    monkeypatch.setattr("services.loading.runtime_options.is_xformers_available", lambda: installed)
    with pytest.raises(OptionRefused, match=f"runtime.attention: xformers {message}"):
        settings(tiny_checkpoint, attention="xformers").loaders(Stage.DECODER)


def test_a_network_that_cannot_be_fused_is_named(tiny_checkpoint: Path) -> None:
    options = settings(tiny_checkpoint, fuse_qkv=True)
    with pytest.raises(OptionRefused, match="fuse_qkv: diffusers cannot fuse this UNet2DCondition"):
        load_family(options, Stage.DECODER)


def test_an_unknown_backend_is_named_at_start(tiny_checkpoint: Path) -> None:
    options = settings(tiny_checkpoint, compile=True, compile_backend="tpu")
    with pytest.raises(OptionRefused, match="compile_backend: tpu is none of"):
        load_family(options, Stage.DECODER)
