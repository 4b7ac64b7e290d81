"""The memory that this process may use: that of the machine, or less in a container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_MEMINFO = re.compile(r"^MemTotal:\s+(\d+) kB", re.MULTILINE)


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes of the machine's memory, without swap, or the lowest limit of a control group above it.

    Args:
        root: Folder of proc and sys.

    Returns:
        Number of bytes; None if the system does not tell.
    """
    found = _MEMINFO.search(_read(root / "proc/meminfo"))
    machine = [int(found[1]) * 1024] if found else []
    return min([*machine, *_group_limits(root)], default=None)


def _group_limits(root: Path) -> Iterator[int]:
    """The limits in bytes of this process's control groups, of version 1 and 2, and of those around them."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0":
            places, name = [mounts, mounts / "unified"], "memory.max"
        elif "memory" in controllers.split(","):
            places, name = [mounts / "memory"], "memory.limit_in_bytes"
        else:
            continue
        inner = Path(group.lstrip("/"))
        for place in places:
            for folder in (inner, *inner.parents):  # inside a container, only the outermost may be visible
                text = _read(place / folder / name).strip()
                if text.isdecimal():
                    yield int(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux, or hidden by a sandbox
        return ""
