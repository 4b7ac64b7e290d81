"""Memory and processor time of a process and its descendants, from Linux's /proc."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

SAMPLE_SEC = 0.1


def family(pid: int) -> list[int]:
    """Ids of a process and its descendants."""
    children: list[str] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):  # one per thread that started children
        with contextlib.suppress(OSError):  # the thread has ended
            children += path.read_text(encoding="utf-8").split()
    return [pid, *(each for child in children for each in family(int(child)))]


def pss_mb(pid: int) -> float:
    """Memory of a process in MB, counting 1/n of pages shared by n processes; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1e3 if found else 0.0


def cpu_sec(pid: int) -> float:
    """Processor seconds of a process and its ended children; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    ticks = text.rpartition(")")[2].split()[11:15]  # behind the name, which may hold anything
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def peak_family_mb(pid: int, work: Callable[[], object]) -> float:
    """Peak memory in MB of a process and its descendants while `work` runs, sampled every 0.1 s.

    Sampling slows the process a little, so nothing should be timed meanwhile.
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
