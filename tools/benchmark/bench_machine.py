"""Describes the machine of a benchmark, without its name, user or paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from videotag.system.cores import cpu_flags

#: CPU instruction sets that matter for the speed of networks.
FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
)
PACKAGES = (
    *("paddlepaddle", "openvino", "onnxruntime", "paddle2onnx", "av", "numpy", "pillow"),
    *("opencv-python-headless", "protobuf"),
)


def describe_machine() -> dict[str, Any]:
    """CPU, cores, instruction sets, memory, system and versions; None for unknown or missing ones."""
    return {
        "cpu": _cpu_model(),
        "cores": num_machine_cores(),
        "flags": [flag for flag in cpu_flags() if flag in FLAGS],
        "memory_gib": _memory_gib(),
        "os": _system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def num_machine_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The machine as lines of Markdown."""
    flags = ", ".join(machine["flags"]) or "none of interest"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return [
        f"- {machine['cpu']}, {machine['cores']} cores ({flags}), {machine['memory_gib']} GiB of memory",
        f"- {machine['os']}, Python {machine['python']}, {packages}",
    ]


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_gib() -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return round(int(found[1]) / 2**20) if found else None


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = ""
    return f"{name or platform.system()} ({platform.system()} {platform.release().split('-')[0]})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).is_file() else ""
