"""How many threads a process of videotag may keep busy, and whether it shares the machine with others."""

from __future__ import annotations

import os

from videotag.errors import ConfigError

_VARIABLE = "OMP_NUM_THREADS"


def use_all_cores() -> None:
    """Sets OMP_NUM_THREADS to the cores this process may use, unless the user has set it.

    Paddle reads the variable while it is imported, and takes a single thread when it is unset. Processes that
    its launcher starts on one machine share the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharers = os.environ.get("PADDLE_LOCAL_SIZE", "1")
    cores = max(1, cores // int(sharers)) if sharers.isdecimal() and int(sharers) else cores
    os.environ.setdefault(_VARIABLE, str(cores))


def is_launched() -> bool:
    """Whether this process is one of several that Paddle's launcher has started."""
    return os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1"


def num_cores() -> int:
    """Cores that this process may use, or what the user has set OMP_NUM_THREADS to.

    Raises:
        ConfigError: the variable holds no whole number from 1.
    """
    text = os.environ.get(_VARIABLE, "1")
    first = text.partition(",")[0].strip()  # OpenMP takes a number for each level of nesting
    if not (first.isdecimal() and int(first)):
        raise ConfigError(f"{_VARIABLE}={text}: expected a whole number from 1; correct it or unset it")
    return int(first)
