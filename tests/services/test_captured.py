"""Captured and compiled calls on a GPU answer what the network answers."""

import threading

import pytest
import torch

from benchmarks.full_size.networks import REDUCED
from services.loading.denoising_call import denoising_call
from services.loading.runtime_options import RuntimeOptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "options",
    [
        {"cuda_graphs": True},
        {"cuda_graphs": True, "channels_last": True},
        {"compile": True},
        {"compile": True, "cuda_graphs": True, "channels_last": True},
    ],
    ids=str,
)
def test_every_row_count_and_size_is_answered(options: dict[str, bool]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    networks = REDUCED.build("cuda", torch.float32)
    call = denoising_call(networks.unet, RuntimeOptions.model_validate(options))
    halt = threading.Event()

    def read_on() -> None:  # as requests are read on the device while a graph is captured
        while not halt.is_set():
            torch.randn(64, 64).to("cuda").cpu()

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        with torch.inference_mode():
            for rows, pixels in [(2, 64), (3, 64), (8, 64), (2, 96), (40, 64), (3, 64)]:
                inputs = networks.unet_inputs(rows, pixels)
                expected = networks.unet(**inputs, return_dict=False)[0]
                actual = call(**inputs, return_dict=False)[0]
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    finally:
        halt.set()
        reader.join()
