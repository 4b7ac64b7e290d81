"""The backends a trained network may run in: what each needs, which are installed, which can run what.

    paddle     Paddle Inference with oneDNN on a CPU, or a GPU; the reference, always there
    openvino   OpenVINO on a CPU, by way of ONNX
    onnx       ONNX Runtime on a CPU, float32 only

A backend is added by a line of BACKENDS, and one of videotag.runtime.networks that makes its network.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from videotag.errors import ConfigError, DeviceError
from videotag.system.cores import cpu_flags

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
        precisions: that it computes in on a CPU.
        on_gpu: that it computes in on a GPU; none if it cannot use one.
    """

    packages: tuple[str, ...]
    extra: str | None
    precisions: tuple[str, ...]
    on_gpu: tuple[str, ...] = ()

    def precisions_on(self, device: str) -> tuple[str, ...]:
        """What it computes in on "cpu" or "gpu"."""
        return self.on_gpu if device == "gpu" else self.precisions


BF16_CAPABILITY = (8, 0)  # compute capability of the first GPUs that multiply in bfloat16


#: By name, in the order in which `auto` tries them for float32: the fastest first.
BACKENDS = {
    "openvino": Backend(("openvino", "paddle2onnx"), "openvino", ("f32", "bf16")),
    "onnx": Backend(("onnxruntime", "paddle2onnx"), "onnx", ("f32",)),
    "paddle": Backend(("paddlepaddle",), None, ("f32", "bf16"), on_gpu=("f32", "bf16", "f16")),
}

#: Layer -> why no network that holds it can be traced by Paddle; in the backend paddle it then runs layer by
#: layer. By way of ONNX these have another form (videotag.runtime.peephole_scan).
NOT_TRACEABLE = {
    "PeepholeLSTM": "a loop over steps in Python, as old weights need it (MODEL.variant videotag and "
    "fluid_yt8m of AttentionLSTM), has no form for a number of steps that varies; Paddle's tracer aborts",
}


def obstacle(layer: nn.Layer, *, in_onnx: bool = False) -> str | None:
    """Why a network cannot be exported; None if nothing is known against it.

    Layers of other projects say so themselves, by an attribute `not_exportable` with the reason.

    Args:
        layer: the network.
        in_onnx: by way of ONNX, which holds some layers that Paddle cannot trace.
    """
    for part in layer.sublayers(include_self=True):
        known = None if in_onnx else NOT_TRACEABLE.get(type(part).__name__)
        if reason := known or getattr(part, "not_exportable", None):
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


def check_backend(name: str, precision: str, *, device: str = "cpu", flag: str = "--backend") -> None:
    """Checks what a user asked for.

    Args:
        name: a backend, or "auto".
        precision: "f32", "bf16", "f16" or "auto".
        device: "cpu" or "gpu".
        flag: that named it, for texts.

    Raises:
        ConfigError: it is not installed, cannot compute so, or not on this device.
        DeviceError: bf16 on a device without instructions for it, or f16 on a CPU.
    """
    if reason := precision_obstacle(precision, device):
        able = tuple(p for p in ("f32", "bf16", "f16") if precision_obstacle(p, device) is None)
        raise DeviceError(
            f"--precision={precision}: {reason}; give --precision={' or '.join(able)}, or leave it out"
        )
    if name == "auto":
        return
    backend = BACKENDS[name]
    if device == "gpu" and not backend.on_gpu:
        raise ConfigError(f"{flag}={name}: runs on a CPU only; give --use_gpu=False, or {flag}=paddle")
    if version(name) is None:
        raise ConfigError(
            f"{flag}={name}: {' and '.join(backend.packages)} must be installed; run: {remedy(name)}, "
            f"or give another {flag}"
        )
    able = backend.precisions_on(device)
    if precision != "auto" and precision not in able:
        others = [other for other, its in BACKENDS.items() if precision in its.precisions_on(device)]
        raise ConfigError(
            f"{flag}={name} --precision={precision}: it computes in {', '.join(able)} only; "
            f"give {flag}={' or '.join(others)}, or another precision"
        )


def precision_obstacle(precision: str, device: str) -> str | None:
    """Why a device does not compute in a precision; None if it does.

    Args:
        precision: "f32", "bf16", "f16" or "auto".
        device: "cpu" or "gpu".
    """
    if device == "gpu":
        found = gpu_capability() if precision == "bf16" else BF16_CAPABILITY
        if found < BF16_CAPABILITY:
            needed = ".".join(map(str, BF16_CAPABILITY))
            return f"this GPU is of compute capability {found[0]}.{found[1]}, bf16 needs {needed}"
    elif precision == "f16":
        return "on a GPU only"
    elif precision == "bf16" and bf16_instructions() is None:
        return f"this CPU has neither {' nor '.join(_BF16_FLAGS)}"
    return None


def gpu_capability() -> tuple[int, int]:
    """The compute capability of the GPU that Paddle uses."""
    from videotag.system.quiet_paddle import paddle

    major, minor = paddle.device.cuda.get_device_capability()
    return int(major), int(minor)


def candidates(name: str, precision: str, *, device: str = "cpu") -> Iterator[str]:
    """The backends to try in turn for a precision: the one that was named, or all that are installed."""
    for other, backend in BACKENDS.items():
        able = precision in backend.precisions_on(device)
        if able and name in ("auto", other) and version(other) is not None:
            yield other


def bf16_instructions(cpuinfo: str | None = None) -> str | None:
    """The CPU's instructions for bfloat16, "amx_bf16" or "avx512_bf16"; None if it has neither.

    Args:
        cpuinfo: what /proc/cpuinfo says; read if not given.
    """
    flags = cpu_flags(cpuinfo)
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def cpu_kind() -> str:
    """Differs where a network compiled for one CPU may not suit the other."""
    return f"{platform.machine()} {' '.join(cpu_flags())}"
