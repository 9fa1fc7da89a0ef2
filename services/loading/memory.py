"""How the C library keeps memory that networks on a CPU let go of."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h of glibc."""
KEPT, MAPPED = 2**31 - 1, 2**30
"""Bytes: what may lie unused at the heap's end, and the size from which a block is mapped."""


def keep_freed_memory() -> None:
    """Keeps freed memory in the process instead of handing it back to the kernel each time.

    glibc maps large blocks again at every allocation, and the kernel clears each page when it is
    touched: with 16 images at a time, MoVQ spends more than half of its time on that. A process
    then holds the most memory that it ever needed. Elsewhere than on glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED)
        mallopt(M_TRIM_THRESHOLD, KEPT)
