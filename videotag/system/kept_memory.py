"""Tunes glibc's malloc: keep freed memory for the next training step, or return it to the system.

By default glibc returns large blocks to the system at once. Every training step then waits while the kernel
zeroes some 100,000 pages again, for gradients and the optimizer's temporaries.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
_NEVER = -1  # the largest positive value is 2 GiB, and free memory beyond it would still be returned


def give_back_freed_memory() -> None:
    """Returns freed memory to the system, so that other processes can use it; does nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def keep_freed_memory() -> bool:
    """Makes malloc keep freed memory for later allocations.

    Returns:
        Whether the settings were applied; False without glibc, or if the user has set malloc options.
    """
    set_by_user = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Serves large blocks from the heap instead of mmap, and never returns the top of the heap.
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
