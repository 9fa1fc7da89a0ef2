"""What a file holds of a tensor that it names."""

import torch

DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def is_whole(tensor: torch.Tensor) -> bool:
    """Whether a file holds each of a tensor's values, as floats.

    A pickle may name a large tensor and hold one value, which would be made into all of them.
    """
    return (
        tensor.dtype in DTYPES
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.untyped_storage().nbytes() >= tensor.nbytes
    )
