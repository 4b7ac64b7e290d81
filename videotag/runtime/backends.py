"""Backends: what runs a trained network, how one is found, and what this machine can run.

A backend is one file, videotag/runtime/NAME_backend.py, which registers a subclass of Backend:

    @register_backend
    class OnnxBackend(Backend):
        name = "onnx"
        ...

The files are found by their names. They are imported to list the backends, so that they must not import the
packages that they run networks with until a network is converted, saved or loaded.
"""

from __future__ import annotations

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
from videotag.runtime.trained import Described, Network, TrainedNetwork
from videotag.system.cores import cpu_flags

if TYPE_CHECKING:
    from paddle import nn

AUTO = "auto"  # in place of a backend's name: the fastest that is installed and agrees with the layers
PRECISIONS = ("f32", "bf16", "f16")
BF16_CAPABILITY = (8, 0)  # compute capability of the first GPUs that multiply in bfloat16
#: Floating-point instructions that make bfloat16 faster than float32.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_FILE_SUFFIX = "_backend"

logger = logging.getLogger(__name__)


class ExportError(ConfigError):
    """A network cannot be converted for a backend, or not be loaded there.

    A backend gives the reason alone; the caller, who knows what the user asked for, adds name and remedy.
    """


class Backend(abc.ABC):
    """What runs trained networks: what it needs, what it can do, and how a network gets there.

    `convert` and `load` return a Network, whose call runs it.

    Attributes:
        name: Name in flags, configs and export.json.
        runtime_package: Package that runs its networks.
        converter_packages: Packages that `convert` and `save` need besides.
        extra: Extra of videotag that installs all of them; None if there is none.
        precisions: Precisions that it computes in on a CPU.
        gpu_precisions: Precisions that it computes in on a GPU; empty if it runs on a CPU only.
        speed: Usual speed in f32 relative to the layers run one by one; "auto" tries the fastest first.
        files: Names of the files that `save` writes, all called "network" before the suffix.
        needs_paddle: Whether `load` needs Paddle.
        is_fallback: Whether it is always installed and runs every network, layer by layer if need be; true
            of one backend.
        unsupported_layers: Class of a layer -> why no network with such a layer can be saved.
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
        """A trained network that runs in this backend.

        Args:
            trained: Network with its weights.
            precision: One of `precisions_on(device)`.
            device: "cpu" or "gpu".

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
        self, network: Described, folder: Path, *, digests: Sequence[str], precision: str, device: str
    ) -> Network:
        """A network that `save` wrote, of which nobody knows who sent it.

        Args:
            network: Name, inputs and outputs of the network.
            folder: Folder with `files`, whose content agrees with `digests`.
            digests: The sha256 of each of `files`, in their order.
            precision: One of `precisions_on(device)`.
            device: "cpu" or "gpu".

        Raises:
            WeightsError: A file could make the backend read other files.
            ExportError: The backend cannot load it.
        """

    def gains_by_bf16(self, network: Described) -> bool:
        """Whether this network runs faster in bf16 than in f32, on a CPU that has instructions for it."""
        return "bf16" in self.precisions

    def unsupported_reason(self, layer: nn.Layer) -> str | None:
        """Why a network cannot be saved for this backend; None if nothing is known against it."""
        return unsupported_reason(layer, self.unsupported_layers)

    def precisions_on(self, device: str) -> tuple[str, ...]:
        """The precisions that it computes in on "cpu" or "gpu"."""
        return self.gpu_precisions if device == "gpu" else self.precisions

    def version(self) -> str | None:
        """The version of its runtime package; None if a package that it needs is not installed."""
        is_complete = all(map(package_version, self.converter_packages))
        return self.runtime_version() if is_complete else None

    def runtime_version(self) -> str | None:
        """The version of its runtime package; None if that is not installed. Exports need no more."""
        return package_version(self.runtime_package)

    def install_command(self) -> str:
        """The command that installs all that it needs."""
        if self.extra is not None:
            return f"pip install 'videotag[{self.extra}]'"
        return " ".join(["pip install", self.runtime_package, *self.converter_packages])


BackendClass = TypeVar("BackendClass", bound=type[Backend])
_BACKENDS: dict[str, Backend] = {}


def register_backend(cls: BackendClass) -> BackendClass:
    """A class decorator that registers a backend under its name.

    Raises:
        ValueError: The name is taken; a programmer's mistake, hence no VideotagError.
    """
    if cls.name in _BACKENDS:
        raise ValueError(f"backend {cls.name!r} is registered twice: {type(_BACKENDS[cls.name])} and {cls}")
    _BACKENDS[cls.name] = cls()
    return cls


def list_backends() -> list[Backend]:
    """All backends, the fastest first, whether installed or not."""
    _load_backends()
    return sorted(_BACKENDS.values(), key=lambda backend: (-backend.speed, backend.name))


def backend_names() -> list[str]:
    """The names of all backends, the fastest first."""
    return [backend.name for backend in list_backends()]


def get_backend(name: str) -> Backend:
    """The backend of a name.

    Raises:
        UnknownNameError: There is no such backend; the text names the nearest and lists all.
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
    """Imports the files of all backends, which register themselves."""
    for module in pkgutil.iter_modules(runtime.__path__, prefix=f"{runtime.__name__}."):
        if module.name.endswith(_FILE_SUFFIX):
            importlib.import_module(module.name)


def compile_network(
    trained: TrainedNetwork, *, backend: str, precision: str = "f32", device: str = "cpu"
) -> Network:
    """A trained network that runs in a backend: arrays by name in, arrays by name out.

    Args:
        trained: Network with its weights.
        backend: Name of a backend.
        precision: "f32", "bf16" or "f16".
        device: "cpu" or "gpu".

    Raises:
        ConfigError, DeviceError: As check_backend.
        ExportError: The network cannot be converted for this backend.
    """
    check_backend(backend, precision, device=device)
    return get_backend(backend).convert(trained, precision=precision, device=device)


@contextlib.contextmanager
def wrap_backend_errors() -> Iterator[None]:
    """Raises what a backend raises as ExportError: the errors of backends share no class.

    Lack of memory stays as it is, since other backends would lack it too, and so does a failed import, which
    may be caused by a signal.
    """
    try:
        yield
    except (VideotagError, MemoryError, ImportError):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        text = " ".join(str(error).split())
        logger.debug("a backend failed", exc_info=True)
        text = text.rpartition("Error Message Summary:")[2].strip(" -")[:200]  # behind Paddle's C++ traceback
        raise ExportError(f"{type(error).__name__}{': ' if text else ''}{text}") from error


def unsupported_reason(layer: nn.Layer, unsupported_layers: Mapping[str, str]) -> str | None:
    """Why a network cannot be exported; None if nothing is known against it.

    A layer says so itself by an attribute `not_exportable` with the reason.

    Args:
        layer: The network.
        unsupported_layers: Class of a layer -> why no network with such a layer can be exported.
    """
    for part in layer.sublayers(include_self=True):
        known = unsupported_layers.get(type(part).__name__)
        if reason := known or getattr(part, "not_exportable", None):
            return f"{type(part).__name__}: {reason}"
    return None


def package_version(package: str) -> str | None:
    """The version of an installed package, or of its build for GPUs, NAME-gpu; None if there is neither."""
    for name in (package, f"{package}-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def check_name(name: str, *, where: str) -> None:
    """Checks that a user named a backend, or "auto".

    Args:
        name: What the user wrote.
        where: Where it is written, for the error.

    Raises:
        ConfigError: There is no such backend; the text names the nearest and lists all.
    """
    if name not in (names := [AUTO, *backend_names()]):
        raise ConfigError(f"{where}: {unknown(name, names, 'backend')}")


def check_backend(name: str, precision: str, *, device: str = "cpu", flag: str = "--backend") -> None:
    """Checks that backend and precision can be had.

    Args:
        name: Name of a backend, or "auto".
        precision: "f32", "bf16", "f16" or "auto".
        device: "cpu" or "gpu".
        flag: Flag that named the backend, for errors.

    Raises:
        ConfigError: There is no such backend, it is not installed, or it does not run on this device or in
            this precision.
        DeviceError: The device does not compute in this precision.
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
    """The names of the installed backends to try in turn, the fastest first.

    Args:
        name: The only backend to try; "auto" for all of them.
        precision: A precision that each must compute in.
        device: "cpu" or "gpu".
    """
    for backend in list_backends():
        able = precision in backend.precisions_on(device)
        if able and name in (AUTO, backend.name) and backend.version() is not None:
            yield backend.name


def unsupported_precision_reason(precision: str, device: str) -> str | None:
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


def bf16_instructions(cpuinfo: str | None = None) -> str | None:
    """The CPU's instructions for bfloat16, "amx_bf16" or "avx512_bf16"; None if it has neither.

    Args:
        cpuinfo: Content of /proc/cpuinfo; read if not given.
    """
    flags = cpu_flags(cpuinfo)
    return next((flag for flag in _BF16_FLAGS if flag in flags), None)


def cpu_kind() -> str:
    """A text that differs between CPUs where a network compiled for one may not suit the other."""
    return f"{platform.machine()} {' '.join(cpu_flags())}"
