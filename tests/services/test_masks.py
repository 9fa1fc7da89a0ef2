"""Masks become kept cells as the reference makes them."""

import numpy as np
import torch
from diffusers.pipelines.kandinsky2_2 import pipeline_kandinsky2_2_inpainting as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.nn import functional as F

from services.diffusion.masks import kept_cells

MASKS = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda cells: arrays.arrays(
        np.uint8, (cells[0] * 8, cells[1] * 8), elements=st.sampled_from([0, 127, 128, 255])
    )
)


@given(MASKS)
def test_it_equals_the_reference(mask: np.ndarray) -> None:
    height, width = (side // 8 for side in mask.shape)
    white = torch.from_numpy((mask >= 128).astype(np.float32))[None, None]
    keep = F.interpolate(1 - white, (height, width), mode="nearest")
    expected = reference.prepare_mask(keep.clone())
    actual = kept_cells(torch.from_numpy(mask), height, width, torch.zeros(()))
    torch.testing.assert_close(actual, expected)


def test_a_hole_takes_six_neighbours() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[16:24, 16:24] = 255
    kept = kept_cells(torch.from_numpy(mask), 5, 5, torch.zeros(()))[0, 0]
    gone = {(int(y), int(x)) for y, x in (kept == 0).nonzero()}
    assert gone == {(2, 2), (1, 2), (3, 2), (2, 1), (2, 3), (1, 1), (3, 3)}
