"""`kandinsky up` starts a model of every family from its user's YAML, and each draws."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import CanvasKind
from kandinsky.client import Client
from services.local.preflight import free_port
from tests import tiny_families
from tests.endtoend.test_up import up

SIDE = 64


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family: the folder of its checkpoint and of an entry that has the family's name."""
    folders = {}
    for name in FAMILIES:
        tiny, folder = tiny_families.module(name), tmp_path_factory.mktemp(name)
        folders[name] = tiny.write_catalog(tiny.build(folder), f"tiny-{name}")
    return folders


def draw(client: Client, name: str) -> Image.Image:
    """An image of a family's model, on a canvas that it has."""
    settings = {"model": f"tiny-{name}", "height": SIDE, "width": SIDE, "seed": 1}
    if CanvasKind.NOISE in family(name).canvases:
        return client.text_to_image("a red cat", **settings)[0].image
    drawn = np.full((SIDE, SIDE, 3), 200, np.uint8)
    mask = np.where(np.arange(SIDE) < SIDE // 2, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0)
    return client.inpaint(drawn, mask, "a red cat", **settings)[0].image


def test_each_is_started_and_draws(catalogs: dict[str, Path], tmp_path: Path) -> None:
    port = str(free_port())
    others = [word for folder in catalogs.values() for word in ("--catalog", str(folder))]
    models = [word for name in catalogs for word in ("--model", f"tiny-{name}")]
    with up(tmp_path, *others, *models, "--port", port) as process:
        announced = ""
        while f"127.0.0.1:{port}" not in announced:  # so many names take more than a line
            line = process.stdout.readline()
            assert line, process.stderr.read()
            announced += line
        with Client(f"127.0.0.1:{port}", timeout=120) as client:
            assert {model.name for model in client.list_models()} == {
                f"tiny-{name}" for name in FAMILIES
            }
            for name in FAMILIES:
                image = draw(client, name)
                assert image.size == (SIDE, SIDE)
                assert np.asarray(image).std() > 1
