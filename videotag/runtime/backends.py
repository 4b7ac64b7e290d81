"""The backends a trained network may run in: what each needs, which are installed, which can run what.

    paddle     Paddle Inference with oneDNN on a CPU, or a GPU; the reference, always there
    openvino   OpenVINO on a CPU, by way of ONNX
    onnx       ONNX Runtime on a CPU, float32 only

A backend is added by a line of BACKENDS, and one of videotag.runtime.networks that makes its network.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from paddle import nn

#: Floating-point instructions that make bfloat16 faster than float32.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Backend:
    """What a backend needs and can do.

    Attributes:
        packages: that must be installed, its own first.
        extra: of videotag, which brings them; None for what is always there.
        precisions: that it computes in.
        on_gpu: whether it can use a GPU.
    """

    packages: tuple[str, ...]
    extra: str | None
    precisions: tuple[str, ...]
    on_gpu: bool = False


#: By name, in the order in which `auto` tries them for float32: the fastest first.
BACKENDS = {
    "openvino": Backend(("openvino", "paddle2onnx"), "openvino", ("f32", "bf16")),
    "onnx": Backend(("onnxruntime", "paddle2onnx"), "onnx", ("f32",)),
    "paddle": Backend(("paddlepaddle",), None, ("f32", "bf16"), on_gpu=True),
}

#: Layer -> why no network that holds it can leave Paddle; it then runs layer by layer in the backend paddle.
#: Layers of other projects say the same by an attribute `not_exportable`.
NOT_EXPORTABLE = {
    "PeepholeLSTM": "a loop over steps in Python, as old weights need it (MODEL.variant videotag and "
    "fluid_yt8m of AttentionLSTM), has no form for a number of steps that varies; Paddle's tracer aborts",
}


def obstacle(layer: nn.Layer) -> str | None:
    """Why a network cannot be exported; None if nothing is known against it."""
    for part in layer.sublayers(include_self=True):
        if reason := NOT_EXPORTABLE.get(type(part).__name__) or getattr(part, "not_exportable", None):
            return f"{type(part).__name__}: {reason}"
    return None


def version(name: str) -> str | None:
    """The version of a backend's own package; None if anything that it needs is not installed."""
    try:
        versions = [_installed(package) for package in BACKENDS[name].packages]
    except importlib.metadata.PackageNotFoundError:
        return None
    return versions[0]


def runtime_version(name: str) -> str | None:
    """The version of what runs a backend's networks; None if it is not installed. Exports need no more."""
    try:
        return _installed(BACKENDS[name].packages[0])
    except importlib.metadata.PackageNotFoundError:
        return None


def converter_version() -> str:
    """The version of what makes ONNX of a network; empty if it is not installed."""
    try:
        return _installed("paddle2onnx")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package != "paddlepaddle":
            raise
        return importlib.metadata.version("paddlepaddle-gpu")


def remedy(name: str) -> str:
    """The command that installs a backend."""
    return f"pip install 'videotag[{BACKENDS[name].extra}]'"


def check_backend(name: str, precision: str, *, device: str = "cpu") -> None:
    """Checks what a user asked for.

    Args:
        name: a backend, or "auto".
        precision: "f32", "bf16" or "auto".
        device: "cpu" or "gpu".

    Raises:
        ConfigError: it is not installed, cannot compute so, or not on this device.
        DeviceError: bf16 on a CPU without instructions for it.
    """
    if precision == "bf16" and device == "cpu" and bf16_instructions() is None:
        raise DeviceError(
            f"--precision=bf16: this CPU has neither {' nor '.join(_BF16_FLAGS)}; give --precision=f32, or "
            "leave it out"
        )
    if name == "auto":
        return
    backend = BACKENDS[name]
    if device == "gpu" and not backend.on_gpu:
        raise ConfigError(f"--backend={name}: runs on a CPU only; give --use_gpu=False, or --backend=paddle")
    if version(name) is None:
        raise ConfigError(
            f"--backend={name}: {' and '.join(backend.packages)} must be installed; run: {remedy(name)}, "
            "or leave --backend out"
        )
    if precision != "auto" and precision not in backend.precisions:
        able = [other for other, its in BACKENDS.items() if precision in its.precisions]
        raise ConfigError(
            f"--backend={name} --precision={precision}: it computes in {', '.join(backend.precisions)} only; "
            f"give --backend={' or '.join(able)}, or another precision"
        )


def candidates(name: str, precision: str, *, device: str = "cpu") -> Iterator[str]:
    """The backends to try in turn for a precision: the one that was named, or all that are installed."""
    for other, backend in BACKENDS.items():
        fits = precision in backend.precisions and (device == "cpu" or backend.on_gpu)
        if fits and name in ("auto", other) and version(other) is not None:
            yield other


def bf16_instructions(cpuinfo: str | None = None) -> str | None:
    """The CPU's instructions for bfloat16, "amx_bf16" or "avx512_bf16"; None if it has neither.

    Args:
        cpuinfo: what /proc/cpuinfo says; read if not given.
    """
    flags = cpu_flags(cpuinfo)
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def cpu_flags(cpuinfo: str | None = None) -> list[str]:
    """What the first CPU can do, by Linux' names, sorted; empty where that is not told."""
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return sorted(found[1].split()) if found else []


def cpu_kind() -> str:
    """Differs where a network compiled for one CPU may not suit the other."""
    return f"{platform.machine()} {' '.join(cpu_flags())}"
