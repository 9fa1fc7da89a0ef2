"""Every family under every option of attention and memory: followed, or refused with a reason."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from diffusers.models.attention_processor import Attention

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import GuideKind, Stage
from kandinsky.client import canvases, guides
from services.loading.loader import Loader
from services.loading.runtime_options import OptionRefused, RuntimeOptions
from services.transport.settings import StageSettings
from tests import tiny_families
from tests.parity.conftest import pixels, running_chain
from tests.parity.test_sd_inpaint import box_mask, smooth_image
from tests.stagehost import load_family

SIDE = 64
OPTIONS: Mapping[str, tuple[str, Any]] = {
    "sliced attention": ("attention", "sliced"),
    "fused projections": ("fuse_qkv", True),
    "slicing": ("autoencoder_slicing", True),
    "tiling": ("autoencoder_tiling", True),
    "model offload": ("offload", "model"),
    "sequential offload": ("offload", "sequential"),
    "group offload": ("offload", "group"),
}
ADDED = "cannot fuse this UNet2DConditionModel, whose attention has added"
NO_PARTS = {way: f"diffusers has no {way} of VQModel" for way in ("slicing", "tiling")}
REFUSED: Mapping[str, Mapping[str, str]] = {
    "kandinsky-2-1": {"fused projections": ADDED, **NO_PARTS},
    "kandinsky-2-2": {"fused projections": ADDED, **NO_PARTS},
    "kandinsky-3": NO_PARTS,
    "karlo": {
        "fused projections": ADDED,
        **dict.fromkeys(("slicing", "tiling"), "this model has no autoencoder"),
    },
    "stable-diffusion-inpainting": {},
    "versatile-diffusion": {},
}
"""Of the decoders, with words of the reason."""
FOLLOWED = [
    (name, option) for name in FAMILIES for option in OPTIONS if option not in REFUSED[name]
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's model `tiny`, made when first asked for; rounding is small."""

    @cache
    def folder(name: str) -> Path:
        tiny = tiny_families.module(name)
        return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp(name)), dtype="float64")

    return folder


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The families' images without options, as they are made."""
    return {}


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.nn.Module, bool]]:
    """Those that are prepared, each with whether it is an autoencoder."""
    found: list[tuple[torch.nn.Module, bool]] = []
    original = Loader.prepared

    def recording(
        loader: Loader, network: torch.nn.Module, *, is_autoencoder: bool = False
    ) -> torch.nn.Module:
        found.append((network, is_autoencoder))
        return original(loader, network, is_autoencoder=is_autoencoder)

    monkeypatch.setattr(Loader, "prepared", recording)
    return found


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets through what a CPU cannot do; offloading on it works nevertheless."""
    monkeypatch.setattr(RuntimeOptions, "check", lambda *_: None)


def options_of(option: str) -> dict[str, Any]:
    key, value = OPTIONS[option]
    return {key: value}


def runtime(name: str, option: str) -> dict[Stage, dict[str, Any]]:
    """Of the sampling stages that take an option."""
    return {stage: options_of(option) for stage in stages_of(name, option)}


def stages_of(name: str, option: str) -> tuple[Stage, ...]:
    """The sampling stages that take an option."""
    key, value = OPTIONS[option]
    also = key in ("attention", "fuse_qkv") or value in ("sequential", "group")
    return tuple(stage for stage in family(name).reads if also or stage is Stage.DECODER)


def load(folder: Path, stage: Stage, option: str) -> Any:
    settings = {"model": "tiny", "catalog": [str(folder)], "runtime": options_of(option)}
    return load_family(StageSettings.parse(settings), stage)


async def drawn(folder: Path, name: str, runtime: Mapping[Stage, Mapping[str, Any]]) -> np.ndarray:
    """int [64, 64, 3]"""
    spec, image = family(name), smooth_image(SIDE, SIDE)
    guide = guides.text("a red cat")
    if GuideKind.TEXT_AND_IMAGE in spec.guides:  # so that both of its transformers are passed
        guide = guides.text_and_image("a red cat", image, text_to_image_strength=0.6)
    canvas = canvases.inpaint(box_mask(SIDE, SIDE), image)
    async with running_chain(folder, runtime=runtime) as chain:
        [made] = await chain.ask(
            "generate",
            guide,
            canvas if name == "stable-diffusion-inpainting" else None,
            seed=1,
            height=SIDE,
            width=SIDE,
        )
    return pixels(made)


@pytest.mark.parametrize(("name", "option"), FOLLOWED)
@pytest.mark.usefixtures("unchecked")
async def test_it_draws_the_same(
    catalog: Callable[[str], Path], plain: dict[str, np.ndarray], name: str, option: str
) -> None:
    folder = catalog(name)
    if name not in plain:
        plain[name] = await drawn(folder, name, {})
    actual = await drawn(folder, name, runtime(name, option))
    assert plain[name].std() > 5, "a flat image would equal anything"
    difference = np.abs(actual - plain[name]).max()
    assert difference > 1 if option == "tiling" else difference <= 1


@pytest.mark.parametrize(
    ("name", "option", "reason"),
    [(name, option, reason) for name in FAMILIES for option, reason in REFUSED[name].items()],
)
def test_it_is_refused(catalog: Callable[[str], Path], name: str, option: str, reason: str) -> None:
    key, _ = OPTIONS[option]
    with pytest.raises(OptionRefused, match=rf"^runtime\.{key}: .*{reason}"):
        load(catalog(name), Stage.DECODER, option)


@pytest.mark.usefixtures("unchecked")
def test_xformers_is_refused_where_it_would_need_a_mask(catalog: Callable[[str], Path]) -> None:
    """As diffusers says in Attention.set_use_memory_efficient_attention_xformers."""
    runtime = {"attention": "xformers"}
    args = {"model": "tiny", "catalog": [str(catalog("karlo"))], "runtime": runtime}
    with pytest.raises(OptionRefused, match=r"^runtime\.attention: xformers takes no mask"):
        load_family(StageSettings.parse(args), Stage.DECODER)


@pytest.mark.parametrize("option", ["sliced attention", "fused projections"])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_attention_follows(
    catalog: Callable[[str], Path],
    networks: list[tuple[torch.nn.Module, bool]],
    name: str,
    option: str,
) -> None:
    """Of each network that attends, autoencoders apart where attention is sliced."""
    for stage in stages_of(name, option):
        if stage is Stage.DECODER and option in REFUSED[name]:
            continue
        networks.clear()
        load(catalog(name), stage, option)
        used = [
            type(module.processor).__name__
            for network, is_autoencoder in networks
            for module in network.modules()
            if isinstance(module, Attention) and not (is_autoencoder and option.startswith("sl"))
        ]
        assert used
        assert all(each.startswith(option[:5].title()) for each in used), used


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("unchecked")
def test_no_attention_asks_the_dispatcher(
    catalog: Callable[[str], Path], networks: list[tuple[torch.nn.Module, bool]], name: str
) -> None:
    """So `set_attention_backend` of diffusers would do nothing, and its backends are refused."""
    for stage in family(name).reads:
        load(catalog(name), stage, "group offload")
    modules = [module for network, _ in networks for module in network.modules()]
    attentions = [module for module in modules if isinstance(module, Attention)]
    assert attentions
    assert not any(hasattr(module.processor, "_attention_backend") for module in attentions)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Layers at work while the group that they are in was off the device: none, on a GPU."""
    grouped: set[int] = set()
    loaded: set[int] = set()
    astray: list[str] = []

    def weights(group: ModuleGroup) -> set[int]:
        own = [weight for module in group.modules for weight in module.parameters()]
        return {id(weight) for weight in [*own, *group.parameters]}

    def onload(group: ModuleGroup) -> None:
        loaded.update(weights(group))

    def offload(group: ModuleGroup) -> None:
        grouped.update(weights(group))
        loaded.difference_update(weights(group))

    def note(module: torch.nn.Module, _: object) -> None:
        own = {id(weight) for weight in module.parameters(recurse=False)}
        if own & grouped - loaded and not hasattr(module, "_diffusers_hook"):  # it loads itself
            astray.append(type(module).__name__)

    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    yield astray
    handle.remove()
    assert grouped, "nothing was in a group"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("unchecked")
async def test_groups_are_on_the_device_when_they_are_at_work(
    catalog: Callable[[str], Path], on_device: list[str], name: str
) -> None:
    await drawn(catalog(name), name, runtime(name, "group offload"))
    assert on_device == []
