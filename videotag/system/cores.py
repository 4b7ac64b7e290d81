"""CPU settings of a process: number of threads, instruction set, and processes that share the cores."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from videotag.errors import ConfigError

THREADS_VARIABLE = "OMP_NUM_THREADS"
MKL_VARIABLE = "MKL_DEBUG_CPU_TYPE"
_CPUINFO = Path("/proc/cpuinfo")
MKL_VARIABLES = (MKL_VARIABLE, "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")  # these select its instruction set
#: MKL's CPU type -> CPU flags that its code needs; fastest first.
_MKL_CPU_TYPES = {
    "7": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "5": {"avx2", "fma", "bmi1", "bmi2"},
}


def use_whole_cpu() -> None:
    """Sets OMP_NUM_THREADS and, if necessary, MKL_DEBUG_CPU_TYPE, unless the user has set them.

    OMP_NUM_THREADS becomes the number of cores that this process may use. Paddle reads it on import, and uses
    a single thread if it is unset. Processes that its launcher starts on one machine share the cores.
    MKL reads MKL_DEBUG_CPU_TYPE at the first matrix product; see `mkl_cpu_type`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharers = os.environ.get("PADDLE_LOCAL_SIZE", "1")
    cores = max(1, cores // int(sharers)) if sharers.isdecimal() and int(sharers) else cores
    os.environ.setdefault(THREADS_VARIABLE, str(cores))
    cpu_type = mkl_cpu_type()
    if cpu_type is not None and not any(os.environ.get(name) for name in MKL_VARIABLES):
        os.environ[MKL_VARIABLE] = cpu_type


def is_launched() -> bool:
    """Whether this process is one of several started by Paddle's launcher."""
    return os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1"


def num_cores() -> int:
    """Number of cores that this process may use: the value of OMP_NUM_THREADS, 1 if it is unset.

    Raises:
        ConfigError: OMP_NUM_THREADS is not a whole number of at least 1.
    """
    text = os.environ.get(THREADS_VARIABLE, "1")
    first = text.partition(",")[0].strip()  # OpenMP accepts one number per nesting level
    if not (first.isdecimal() and int(first)):
        raise ConfigError(
            f"{THREADS_VARIABLE}={text}: expected a whole number from 1; correct it or unset it"
        )
    return int(first)


def mkl_cpu_type(cpuinfo: str | None = None) -> str | None:
    """The MKL_DEBUG_CPU_TYPE that makes MKL use all of this CPU; None if it does so by default.

    Paddle multiplies matrices with MKL 2019, which checks the CPU's vendor before its instruction sets: for
    vendors other than Intel it falls back to SSE code, a quarter of the speed of AVX-512.

    Args:
        cpuinfo: Content of /proc/cpuinfo; None reads it.
    """
    cpuinfo = _first_cpu() if cpuinfo is None else cpuinfo
    vendor = re.search(r"^vendor_id[ \t]*:[ \t]*(\S+)", cpuinfo, re.MULTILINE)
    if vendor is None or vendor[1] == "GenuineIntel":
        return None
    flags = set(cpu_flags(cpuinfo))
    return next((cpu_type for cpu_type, needed in _MKL_CPU_TYPES.items() if needed <= flags), None)


def cpu_flags(cpuinfo: str | None = None) -> list[str]:
    """The flags of the first CPU as Linux names them, sorted; empty if the system does not list them.

    Args:
        cpuinfo: Content of /proc/cpuinfo; None reads it.
    """
    flags = re.search(r"^flags\s*:(.*)$", _first_cpu() if cpuinfo is None else cpuinfo, re.MULTILINE)
    return sorted(flags[1].split()) if flags else []


def _first_cpu() -> str:
    """The first CPU's entry of /proc/cpuinfo, "" without one; reading it for hundreds of CPUs is slow."""
    try:
        with _CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            return "".join(itertools.takewhile(str.strip, lines))
    except OSError:  # not Linux, or hidden by a sandbox
        return ""
