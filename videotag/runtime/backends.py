"""Backends, which run trained networks: interface, registry, and what this machine supports.

A backend is one file, videotag/runtime/NAME_backend.py, which registers a subclass of Backend:

    @register_backend
    class OnnxBackend(Backend):
        name = "onnx"
        ...

The files are found by name and imported to list the backends. They must therefore not import their runtime
packages until a network is converted, saved or loaded.
"""

from __future__ import annotations

from videotag.system.signals import raise_received

import abc
import contextlib
import functools
import importlib
import importlib.metadata
import logging
import pkgutil
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from videotag import runtime
from videotag.errors import ConfigError, DeviceError, UnknownNameError, VideotagError, lacks_memory
from videotag.registry import unknown
from videotag.runtime.trained import Network, NetworkSpec, TrainedNetwork
from videotag.system.cores import cpu_flags

if TYPE_CHECKING:
    from paddle import nn

AUTO = "auto"  # selects the fastest installed backend that agrees with the layers
PRECISIONS = ("f32", "bf16", "f16")
BF16_CAPABILITY = (8, 0)  # compute capability of the first GPUs that multiply in bfloat16
#: Floating-point instructions that make bfloat16 faster than float32.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_FILE_SUFFIX = "_backend"

logger = logging.getLogger(__name__)


class ExportError(ConfigError):
    """A network cannot be converted for or loaded by a backend.

    A backend only states the reason; its caller, who knows the user's request, adds name and remedy.
    """


class Backend(abc.ABC):
    """Base class of backends: requirements, capabilities, and conversion of networks.

    `convert` and `load` return a Network, which is called to run it.

    Attributes:
        name: Name in flags, configs and export.json.
        runtime_package: Name of the package that runs its networks.
        converter_packages: Names of further packages that `convert` and `save` need.
        extra: Extra of videotag that installs all packages; None if there is none.
        precisions: Supported precisions on a CPU.
        gpu_precisions: Supported precisions on a GPU; empty if it runs on CPUs only.
        speed: Typical speedup in f32 over running the layers one by one; "auto" tries the fastest first.
        files: Names of the files that `save` writes, all with the stem "network".
        needs_paddle: Whether `load` needs Paddle.
        is_fallback: Whether it is always installed and runs every network, layer by layer if necessary; True
            for exactly one backend.
        unsupported_layers: Reasons why networks with a layer of a class cannot be saved, by class name.
    """

    name: ClassVar[str]
    runtime_package: ClassVar[str]
    converter_packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str | None] = None
    precisions: ClassVar[tuple[str, ...]] = ("f32",)
    gpu_precisions: ClassVar[tuple[str, ...]] = ()
    speed: ClassVar[float] = 1.0
    files: ClassVar[tuple[str, ...]]
    needs_paddle: ClassVar[bool] = False
    is_fallback: ClassVar[bool] = False
    unsupported_layers: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def convert(self, trained: TrainedNetwork, *, precision: str, device: str) -> Network:
        """Converts a trained network to one that runs in this backend.

        Args:
            trained: Network with its weights.
            precision: Precision, one of `precisions_on(device)`.
            device: Device "cpu" or "gpu".

        Raises:
            ExportError: The network cannot be converted.
        """

    @abc.abstractmethod
    def save(self, trained: TrainedNetwork, folder: Path) -> None:
        """Writes a trained network to a folder, as `files`.

        Raises:
            ExportError: The network cannot be converted.
            OutputError, OSError: The folder cannot be written.
        """

    @abc.abstractmethod
    def load(
        self, network: NetworkSpec, folder: Path, *, digests: Sequence[str], precision: str, device: str
    ) -> Network:
        """Loads a network written by `save`, which may come from an untrusted source.

        Args:
            network: Name, inputs and outputs of the network.
            folder: Folder with `files`, which have been verified by `digests`.
            digests: The sha256 of each of `files`, in order.
            precision: Precision, one of `precisions_on(device)`.
            device: Device "cpu" or "gpu".

        Raises:
            WeightsError: A file could make the backend read other files.
            ExportError: The backend cannot load the network.
        """

    def gains_by_bf16(self, network: NetworkSpec) -> bool:
        """Whether this network is faster in bf16 than in f32 on a CPU with bf16 instructions."""
        return "bf16" in self.precisions

    def unsupported_reason(self, layer: nn.Layer) -> str | None:
        """The reason why a network cannot be saved for this backend; None if none is known."""
        return unsupported_reason(layer, self.unsupported_layers)

    def precisions_on(self, device: str) -> tuple[str, ...]:
        """The supported precisions on "cpu" or "gpu"."""
        return self.gpu_precisions if device == "gpu" else self.precisions

    def version(self) -> str | None:
        """The version of its runtime package; None if any required package is not installed."""
        is_complete = all(map(package_version, self.converter_packages))
        return self.runtime_version() if is_complete else None

    def runtime_version(self) -> str | None:
        """The version of its runtime package, the only one that exports need; None if not installed."""
        return package_version(self.runtime_package)

    def install_command(self) -> str:
        """The command that installs all its packages."""
        if self.extra is not None:
            return f"pip install 'videotag[{self.extra}]'"
        return " ".join(["pip install", self.runtime_package, *self.converter_packages])


BackendClass = TypeVar("BackendClass", bound=type[Backend])
_BACKENDS: dict[str, Backend] = {}


def register_backend(cls: BackendClass) -> BackendClass:
    """A class decorator that registers a backend under its name.

    Raises:
        ValueError: The name is already registered; a programming error, hence no VideotagError.
    """
    if cls.name in _BACKENDS:
        raise ValueError(f"backend {cls.name!r} is registered twice: {type(_BACKENDS[cls.name])} and {cls}")
    _BACKENDS[cls.name] = cls()
    return cls


def list_backends() -> list[Backend]:
    """All backends, installed or not, fastest first."""
    _load_backends()
    return sorted(_BACKENDS.values(), key=lambda backend: (-backend.speed, backend.name))


def backend_names() -> list[str]:
    """The names of all backends, fastest first."""
    return [backend.name for backend in list_backends()]


def get_backend(name: str) -> Backend:
    """The backend with a name.

    Raises:
        UnknownNameError: There is no such backend; the message suggests the nearest and lists all.
    """
    _load_backends()
    if name not in _BACKENDS:
        raise UnknownNameError(unknown(name, _BACKENDS, "backend"))
    return _BACKENDS[name]


def fallback_backend() -> Backend:
    """The backend that is always installed and runs every network."""
    return next(backend for backend in list_backends() if backend.is_fallback)


@functools.cache
def _load_backends() -> None:
    """Imports the modules of all backends, which register themselves."""
    for module in pkgutil.iter_modules(runtime.__path__, prefix=f"{runtime.__name__}."):
        if module.name.endswith(_FILE_SUFFIX):
            importlib.import_module(module.name)


def compile_network(
    trained: TrainedNetwork, *, backend: str, precision: str = "f32", device: str = "cpu"
) -> Network:
    """Converts a trained network to one that runs in a backend.

    Args:
        trained: Network with its weights.
        backend: Name of a backend.
        precision: Precision "f32", "bf16" or "f16".
        device: Device "cpu" or "gpu".

    Raises:
        ConfigError, DeviceError: The backend is not available, see check_backend.
        ExportError: The network cannot be converted for this backend.
    """
    check_backend(backend, precision, device=device)
    return get_backend(backend).convert(trained, precision=precision, device=device)


@contextlib.contextmanager
def wrap_backend_errors() -> Iterator[None]:
    """Context that converts a backend's errors, which share no base class, to ExportError.

    Out-of-memory errors are not converted, because other backends would fail too; nor are import errors,
    which a signal may cause.
    """
    try:
        yield
    except (VideotagError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise_received()
        if lacks_memory(error):
            raise
        text = " ".join(str(error).split())
        logger.debug("a backend failed", exc_info=True)
        text = text.rpartition("Error Message Summary:")[2].strip(" -")[:200]  # behind Paddle's C++ traceback
        raise ExportError(f"{type(error).__name__}{': ' if text else ''}{text}") from error


def unsupported_reason(layer: nn.Layer, unsupported_layers: Mapping[str, str]) -> str | None:
    """The reason why a network cannot be exported; None if none is known.

    A layer may state the reason itself in an attribute `not_exportable`.

    Args:
        layer: Network.
        unsupported_layers: Reasons why networks with a layer of a class cannot be exported, by class name.
    """
    for part in layer.sublayers(include_self=True):
        known = unsupported_layers.get(type(part).__name__)
        if reason := known or getattr(part, "not_exportable", None):
            return f"{type(part).__name__}: {reason}"
    return None


def package_version(package: str) -> str | None:
    """The version of an installed package, or of its GPU build, NAME-gpu; None if neither is installed."""
    for name in (package, f"{package}-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def check_name(name: str, *, where: str) -> None:
    """Checks that a name is that of a backend, or "auto".

    Args:
        name: Name given by the user.
        where: Flag or config key with the name, for the error.

    Raises:
        ConfigError: There is no such backend; the message suggests the nearest and lists all.
    """
    if name not in (names := [AUTO, *backend_names()]):
        raise ConfigError(f"{where}: {unknown(name, names, 'backend')}")


def check_backend(name: str, precision: str, *, device: str = "cpu", flag: str = "--backend") -> None:
    """Checks that a backend and precision are available.

    Args:
        name: Name of a backend, or "auto".
        precision: Precision "f32", "bf16", "f16" or "auto".
        device: Device "cpu" or "gpu".
        flag: Flag that named the backend, for errors.

    Raises:
        ConfigError: The backend does not exist, is not installed, or does not support this device or
            precision.
        DeviceError: The device does not support this precision.
    """
    check_name(name, where=flag)
    if reason := unsupported_precision_reason(precision, device):
        others = [p for p in PRECISIONS if unsupported_precision_reason(p, device) is None]
        raise DeviceError(
            f"--precision={precision}: {reason}; give --precision={' or '.join(others)}, or leave it out"
        )
    if name == AUTO:
        return
    backend = get_backend(name)
    able = backend.precisions_on(device)
    if device == "gpu" and not able:
        others = [other.name for other in list_backends() if other.gpu_precisions]
        raise ConfigError(
            f"{flag}={name}: runs on a CPU only; give --use_gpu=False, or {flag}={' or '.join(others)}"
        )
    if backend.version() is None:
        needed = " and ".join([backend.runtime_package, *backend.converter_packages])
        raise ConfigError(
            f"{flag}={name}: {needed} must be installed; run: {backend.install_command()}, or give another "
            f"{flag}"
        )
    if precision not in (AUTO, *able):
        others = [other.name for other in list_backends() if precision in other.precisions_on(device)]
        raise ConfigError(
            f"{flag}={name} --precision={precision}: it computes in {', '.join(able)} only; "
            f"give {flag}={' or '.join(others)}, or another precision"
        )


def candidates(name: str, precision: str, *, device: str = "cpu") -> Iterator[str]:
    """The names of the installed backends to try, fastest first.

    Args:
        name: Name of the only backend to try; "auto" for all of them.
        precision: Precision that the backends must support.
        device: Device "cpu" or "gpu".
    """
    for backend in list_backends():
        able = precision in backend.precisions_on(device)
        if able and name in (AUTO, backend.name) and backend.version() is not None:
            yield backend.name


def unsupported_precision_reason(precision: str, device: str) -> str | None:
    """The reason why a device does not support a precision; None if it does.

    Args:
        precision: Precision "f32", "bf16", "f16" or "auto".
        device: Device "cpu" or "gpu".
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


def bf16_instructions(cpuinfo: str | None = None) -> str | None:
    """The CPU's instructions for bfloat16, "amx_bf16" or "avx512_bf16"; None if it has neither.

    Args:
        cpuinfo: Content of /proc/cpuinfo; read if not given.
    """
    flags = cpu_flags(cpuinfo)
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def cpu_kind() -> str:
    """An identifier of the CPU model: a network compiled for one may not run on another."""
    return f"{platform.machine()} {' '.join(cpu_flags())}"
