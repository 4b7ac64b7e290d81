"""What a process of videotag may use of the CPU: how many threads, which instructions, and who shares it."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from videotag.errors import ConfigError

THREADS_VARIABLE = "OMP_NUM_THREADS"
MKL_VARIABLE = "MKL_DEBUG_CPU_TYPE"
_CPUINFO = Path("/proc/cpuinfo")
MKL_VARIABLES = (MKL_VARIABLE, "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")  # that choose its instructions
#: MKL's number of a kind of CPU -> what its code needs, the fastest first.
_MKL_CPU_TYPES = {
    "7": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "5": {"avx2", "fma", "bmi1", "bmi2"},
}


def use_whole_cpu() -> None:
    """Sets OMP_NUM_THREADS and, if need be, MKL_DEBUG_CPU_TYPE, unless the user has set them.

    OMP_NUM_THREADS becomes the cores this process may use: Paddle reads it while it is imported, and takes a
    single thread when it is unset. Processes that its launcher starts on one machine share the cores.
    For MKL_DEBUG_CPU_TYPE see `mkl_cpu_type`: it is read at the first product of matrices.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharers = os.environ.get("PADDLE_LOCAL_SIZE", "1")
    cores = max(1, cores // int(sharers)) if sharers.isdecimal() and int(sharers) else cores
    os.environ.setdefault(THREADS_VARIABLE, str(cores))
    cpu_type = mkl_cpu_type()
    if cpu_type is not None and not any(os.environ.get(name) for name in MKL_VARIABLES):
        os.environ[MKL_VARIABLE] = cpu_type


def is_launched() -> bool:
    """Whether this process is one of several that Paddle's launcher has started."""
    return os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1"


def num_cores() -> int:
    """Cores that this process may use, or what the user has set OMP_NUM_THREADS to.

    Raises:
        ConfigError: the variable holds no whole number from 1.
    """
    text = os.environ.get(THREADS_VARIABLE, "1")
    first = text.partition(",")[0].strip()  # OpenMP takes a number for each level of nesting
    if not (first.isdecimal() and int(first)):
        raise ConfigError(
            f"{THREADS_VARIABLE}={text}: expected a whole number from 1; correct it or unset it"
        )
    return int(first)


def mkl_cpu_type(cpuinfo: str | None = None) -> str | None:
    """MKL_DEBUG_CPU_TYPE with which MKL uses what this CPU can do; None if it does so by itself.

    Paddle multiplies matrices by an MKL of 2019, which looks at a CPU's maker before it looks at its
    instructions: to others than Intel's it gives the code for SSE, a fourth of the speed of AVX-512.

    Args:
        cpuinfo: what /proc/cpuinfo says; read if not given.
    """
    cpuinfo = _first_cpu() if cpuinfo is None else cpuinfo
    maker = re.search(r"^vendor_id[ \t]*:[ \t]*(\S+)", cpuinfo, re.MULTILINE)
    if maker is None or maker[1] == "GenuineIntel":
        return None
    flags = set(cpu_flags(cpuinfo))
    return next((number for number, needed in _MKL_CPU_TYPES.items() if needed <= flags), None)


def cpu_flags(cpuinfo: str | None = None) -> list[str]:
    """What the first CPU can do, by Linux' names, sorted; empty where that is not told.

    Args:
        cpuinfo: what /proc/cpuinfo says; read if not given.
    """
    found = re.search(r"^flags\s*:(.*)$", _first_cpu() if cpuinfo is None else cpuinfo, re.MULTILINE)
    return sorted(found[1].split()) if found else []


def _first_cpu() -> str:
    """What Linux says of the first CPU: of hundreds, the rest takes long to be told."""
    try:
        with _CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            return "".join(itertools.takewhile(str.strip, lines))
    except OSError:  # not Linux, or a sandbox that hides it
        return ""
