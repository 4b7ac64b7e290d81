"""Lets a process keep the memory that it frees, where it takes as much again in every step; or give it back.

glibc hands large blocks back to the system at once; a step of training then waits for it to clear some
100,000 pages anew, for gradients and for what the optimizer computes in between.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
_NEVER = -1  # the largest positive number would mean 2 GiB, and what is free beyond goes back


def give_back_freed_memory() -> None:
    """Hands what is free back to the system, for another process to use; with glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def keep_freed_memory() -> bool:
    """Sets it; whether that was possible: with glibc, where the user has set nothing of the kind."""
    set_by_user = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # No blocks of their own from the system, and nothing of the rest given back.
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
