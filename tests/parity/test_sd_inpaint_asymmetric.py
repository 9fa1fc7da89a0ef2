"""A VAE whose decoder sees what the mask keeps (AsymmetricAutoencoderKL) equals the reference."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from services.diffusion.kl_autoencoder import MaskedKLAutoencoder
from services.engine.phase import Phase
from tests import tiny_sd_inpaint
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_sd_inpaint import Reference, assert_equal, inpainted


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asymmetric")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder, asymmetric=True))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


@pytest.mark.parametrize("strength", [1.0, 0.6])
async def test_it_equals_the_reference(chain: Chain, reference: Reference, strength: float) -> None:
    [actual] = await inpainted(chain, strength=strength)
    assert_equal(actual, reference.draw(strength=strength))


async def test_it_does_not_without_the_image(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above would see an image, or a mask, that is left out."""
    monkeypatch.setattr(MaskedKLAutoencoder, "decoding_beside", unseen)
    [without] = await inpainted(chain)
    monkeypatch.undo()
    [with_image] = await inpainted(chain)
    assert np.abs(without - with_image).max() > 8


def unseen(
    autoencoder: MaskedKLAutoencoder, shape: tuple[int, ...], *beside: torch.Tensor
) -> Phase:
    return autoencoder.decoding(shape)
