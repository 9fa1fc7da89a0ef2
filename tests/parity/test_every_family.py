"""Each family draws with every guide on every canvas that it declares, and resumes where it says.

What the images look like is for the parity tests of each family to say; here nothing is left out.
"""

from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import CanvasKind, FamilySpec, GuideKind, Stage, Unconditional
from kandinsky.client import canvases, guides
from services.engine.calibration import calibrated_limits, warm_up
from services.engine.limits import EngineLimits
from services.engine.step_times import StepTimeEstimator
from services.transport.settings import StageSettings
from tests import tiny_families
from tests.parity.conftest import Chain, pixels, running_chain
from tests.stagehost import load_family

SIDE = 64
COMBINATIONS = [
    (name, guide, canvas)
    for name in FAMILIES
    for guide in family(name).guides
    for canvas in family(name).canvases
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's model `tiny`, made when first asked for."""

    @cache
    def folder(name: str) -> Path:
        tiny = tiny_families.module(name)
        return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp(name)))

    return folder


@pytest.fixture
async def chain(catalog: Callable[[str], Path], name: str) -> AsyncIterator[Chain]:
    async with running_chain(catalog(name)) as running:
        yield running


def shown(seed: int = 3) -> np.ndarray:
    """uint8 [64, 64, 3]: squares of colours."""
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return values.repeat(8, 0).repeat(8, 1)


def mask() -> np.ndarray:
    """uint8 [64, 64]: the right half is generated."""
    return np.where(np.arange(SIDE) < SIDE // 2, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0)


def conditioning(folder: Path, spec: FamilySpec) -> dict[str, np.ndarray]:
    """Random values for all that the decoder reads, both sides."""
    settings = StageSettings.parse({"model": "tiny", "catalog": [str(folder)]})
    shapes = load_family(settings, Stage.DECODER).denoiser.network.shapes(SIDE, SIDE)
    draw, values = np.random.default_rng(5), dict[str, np.ndarray]()
    for field in spec.reads[Stage.DECODER]:
        if field.name not in shapes:
            continue
        for side in ("", "negative_") if _has_negative(field.unconditional) else ("",):
            value = draw.standard_normal(shapes[field.name]).astype(np.float32)
            is_mask = field.name.endswith("_mask")
            values[side + field.name] = np.ones(value.shape, bool) if is_mask else value
    return values


def _has_negative(unconditional: Unconditional | None) -> bool:
    return unconditional not in (None, Unconditional.LEARNED)


def guide(kind: GuideKind, folder: Path, spec: FamilySpec) -> Any:
    match kind:
        case GuideKind.TEXT:
            return guides.text("a red cat")
        case GuideKind.MIX:
            return guides.mix(["a cat", shown()], [0.6, 0.4])
        case GuideKind.INTERPOLATION:
            return guides.interpolation("a cat", shown(), 2)
        case GuideKind.IMAGE:
            return guides.image(shown())
        case GuideKind.TEXT_DIFF:
            return guides.text_diff(shown(), "a cat", "a dog")
        case GuideKind.TEXT_AND_IMAGE:
            return guides.text_and_image("a cat", shown(), text_to_image_strength=0.7)
        case GuideKind.EMBEDDINGS:
            return guides.embeddings([conditioning(folder, spec)])
    raise ValueError(kind)


def canvas(kind: CanvasKind) -> Any:
    match kind:
        case CanvasKind.NOISE:
            return None
        case CanvasKind.IMAGE:
            return canvases.image(shown(4), strength=0.9)
        case CanvasKind.INPAINT:
            return canvases.inpaint(mask(), shown(4))
        case CanvasKind.OUTPAINT:
            return canvases.outpaint(shown(4)[:, : SIDE // 2], right=SIDE // 2)
    raise ValueError(kind)


@pytest.mark.parametrize(("name", "guide_kind", "canvas_kind"), COMBINATIONS)
async def test_a_combination_draws(
    chain: Chain, name: str, guide_kind: GuideKind, canvas_kind: CanvasKind
) -> None:
    spec = family(name)
    images = await chain.ask(
        "generate",
        guide(guide_kind, chain.folder, spec),
        canvas(canvas_kind),
        seed=1,
        height=SIDE,
        width=SIDE,
    )
    assert len(images) == (2 if guide_kind is GuideKind.INTERPOLATION else 1)
    for image in images:
        assert pixels(image).shape == (SIDE, SIDE, 3)
        assert pixels(image).std() > 1


@pytest.mark.parametrize(
    ("name", "stage"),
    [(name, stage) for name in FAMILIES for stage in family(name).reads],
)
def test_a_replica_can_calibrate_and_warm_up(
    catalog: Callable[[str], Path], name: str, stage: Stage
) -> None:
    settings = StageSettings.parse({"model": "tiny", "catalog": [str(catalog(name))]})
    loaded = load_family(settings, stage)
    sides = (SIDE, SIDE) if stage is Stage.DECODER else ()
    usual = loaded.calibration_phase(*sides)
    warm_up([usual, *(loaded.further_phases(*sides) if sides else ())])
    limits = calibrated_limits(EngineLimits(), usual, StepTimeEstimator())
    assert limits.rows >= 2
