"""Memory and processor time of a process and all below it, as Linux tells them."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

SAMPLE_SEC = 0.1


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: list[str] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):  # of each thread, those that it has started
        with contextlib.suppress(OSError):  # the thread has ended
            children += path.read_text(encoding="utf-8").split()
    return [pid, *(each for child in children for each in family(int(child)))]


def pss_mb(pid: int) -> float:
    """Memory of a process, pages shared by n processes counted as an n-th; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1e3 if found else 0.0


def cpu_sec(pid: int) -> float:
    """Processor time that a process has used, with that of children that have ended; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    ticks = text.rpartition(")")[2].split()[11:15]  # behind the name, which may hold anything
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def peak_family_mb(pid: int, work: Callable[[], object]) -> float:
    """The most memory that a process and all below it held together while `work` ran, sampled.

    Sampling slows a process down a little, so that nothing should be timed meanwhile.
    """
    done = threading.Event()
    seen = [0.0]

    def sample() -> None:
        over = False
        while not over:
            over = done.wait(SAMPLE_SEC)
            seen.append(sum(map(pss_mb, family(pid))))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return max(seen)
