"""Freed memory: reused without new pages, or returned to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from videotag.system import kept_memory
from videotag.system.kept_memory import give_back_freed_memory, keep_freed_memory

#: Prints whether it was set, and the pages that the system made for 64 MiB of which as much was freed before.
CODE = """
import resource, sys
import numpy as np
from videotag.system.kept_memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else "not asked")
np.ones(1 << 26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 26, np.uint8)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() >> 20)
"""


#: Prints whether the heap is as large after 3 GiB in it, which nobody has touched, are freed.
LARGE_CODE = """
import ctypes
import numpy as np
from videotag.system.kept_memory import keep_freed_memory
keep_freed_memory()
sbrk = ctypes.CDLL(None).sbrk
sbrk.restype = ctypes.c_void_p
start, block = sbrk(0), np.empty(3 << 30, np.uint8)
end = sbrk(0)
del block
print(end - start > 2 << 30, sbrk(0) == end)
"""


#: Prints the MiB that the process holds less after 64 MiB, kept when they were freed, are given back.
BACK_CODE = """
from pathlib import Path
import numpy as np
from videotag.system.kept_memory import give_back_freed_memory, keep_freed_memory
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
keep_freed_memory()
np.ones(1 << 26, np.uint8)
before = held()
give_back_freed_memory()
print(before - held())
"""


def run(code, *arguments, **environment):
    """What it prints, by line."""
    path = [place for place in sys.path if place]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": ":".join(path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def pages(wish, **environment):
    """What CODE prints: the answer, and MiB."""
    answer, mebibytes = run(CODE, wish, **environment)
    return answer, int(mebibytes)


def has_mallopt():
    import ctypes

    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not has_mallopt(), reason="no glibc")
def test_freed_memory_is_reused_without_new_pages():
    assert pages("keep")[0] == "True"
    assert pages("keep")[1] <= 1
    assert pages("keep", MALLOC_MMAP_THRESHOLD_="65536")[0] == "False"
    assert pages("keep", GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == "False"


@pytest.mark.skipif(not has_mallopt(), reason="no glibc")
def test_more_than_two_gib_are_kept_too():
    assert run(LARGE_CODE) == ["True True"]


@pytest.mark.skipif(not has_mallopt(), reason="no glibc")
def test_kept_memory_is_returned():
    assert int(run(BACK_CODE)[0]) >= 60


def test_other_systems_are_not_changed(monkeypatch):
    monkeypatch.setattr(kept_memory.sys, "platform", "darwin")
    assert keep_freed_memory() is False
    give_back_freed_memory()
    monkeypatch.setattr(kept_memory.sys, "platform", "linux")
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda name: object())  # musl has none
    assert keep_freed_memory() is False
