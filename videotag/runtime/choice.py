"""Where a network runs and how exactly: what the user asked for, else the fastest that is right.

float32: the first installed of openvino, onnx and paddle whose outputs are those of the network's own layers.
bfloat16: where the CPU has instructions for it, if what comes out on the user's own data is close to float32.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videotag.errors import WeightsError
from videotag.runtime import backends
from videotag.runtime.agreement import Standard
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.networks import compile_network
from videotag.runtime.onnx_export import ExportError, onnx_file, onnx_parts, told_as_export_error
from videotag.runtime.trained import Arrays, Network, TrainedNetwork
from videotag.system.json_text import read_json

SAMPLE_ROWS = 16  # of the user's data, for bf16 against f32
_REFERENCE_ROWS = 2  # layer by layer is slow
_ERROR_FILE = "error.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Attributes:
        backend: "paddle", "openvino", "onnx" or "auto".
        precision: "f32", "bf16", "f16" (on a GPU) or "auto".
        device: "cpu" or "gpu".
        preferred: the backend that is tried first if any will do; "auto": the fastest.
        is_kept: precision and preferred are those of a folder's first run.
    """

    backend: str = "auto"
    precision: str = "auto"
    device: str = "cpu"
    preferred: str = "auto"
    is_kept: bool = False

    def check(self) -> None:
        """Finds before any work what cannot be had.

        Raises:
            ConfigError, DeviceError: as check_backend.
        """
        backends.check_backend(self.backend, self.precision, device=self.device)


class ChosenNetwork:
    """A network that chooses its backend and precision on the first data it sees; then it is a Network.

    Args:
        trained: the network.
        wish: of the user.
        standard: that results are held to.
        fast_in_bf16: the backends in which this network gains by bfloat16.

    Raises:
        ConfigError, DeviceError: the wish cannot be had.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        wish: Wish,
        *,
        standard: Standard,
        fast_in_bf16: Sequence[str] = ("openvino", "paddle"),
    ) -> None:
        wish.check()
        self.wish = wish
        self._trained = trained
        self._standard = standard
        self._fast_in_bf16 = fast_in_bf16
        self._network: Network | None = None
        #: What was chosen; as wished before.
        self.backend, self.precision = wish.backend, wish.precision

    @property
    def runtime(self) -> str:
        """The backend that was chosen, with its version."""
        return f"{self.backend} {backends.version(self.backend)}"

    def prepare(self) -> None:
        """Converts the network if it never ran here: that takes memory, and there are no data yet."""
        name = next(iter(self._candidates("f32")), "paddle")
        if self._network is None and name != "paddle" and load_entry(self._error_parts(name)) is None:
            # What goes wrong is told when the network is settled.
            with contextlib.suppress(ExportError), told_as_export_error(), onnx_file(self._trained):
                pass

    def settle(self, sample: Arrays) -> None:
        """Chooses, once; says in a line of the log what and why.

        Args:
            sample: inputs such as will follow; at most SAMPLE_ROWS of them are looked at.

        Raises:
            ExportError: the network cannot run in the backend that was asked for.
        """
        if self._network is not None:
            return
        sample = spread_rows(sample, SAMPLE_ROWS)
        if self.wish.precision in ("bf16", "f16"):
            self.precision = self.wish.precision
            self._network, why = self._in_half(sample)
        else:
            self.precision = "f32"
            self._network, why = self._in_f32(sample)
            if self.wish.precision == "auto":
                why += "; " + self._try_bf16(sample)
        logger.info("%s runs in %s, %s: %s", self._trained.name, self.runtime, self.precision, why)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The network's outputs by name."""
        self.settle(inputs)
        assert self._network is not None
        return self._network(inputs)

    def _in_f32(self, sample: Arrays) -> tuple[Network, str]:
        """The network in float32, and why there."""
        passed_over = []
        is_named = self.wish.backend != "auto"
        for name in self._candidates("f32"):
            try:
                network = self._compile(name, "f32")
                error = self._error_of(name, network, sample)
            except ExportError as problem:
                if is_named:
                    raise self._refusal(name, "f32", problem) from problem
                passed_over.append(f"{name}: {problem}")
                continue
            agrees = error <= self._max_f32_error
            if is_named or agrees:
                self.backend = name
                if not agrees:
                    logger.warning(
                        "%s in %s is far from its layers (error %.0e)", self._trained.name, name, error
                    )
                return network, "; not in ".join([f"{self._why(name)} (error {error:.0e})", *passed_over])
            passed_over.append(f"{name}: error {error:.0e}")
        self.backend = "paddle"
        return self._trained.run_layers, "layer by layer; not in " + "; not in ".join(passed_over)

    def _why(self, backend: str) -> str:
        """Why this backend is taken."""
        if self.wish.backend != "auto":
            return "as asked for"
        return "as before" if backend == self.wish.preferred else "the fastest that is installed and agrees"

    def _try_bf16(self, sample: Arrays) -> str:
        """Goes over to bfloat16 if that is faster and right; returns why, or why not."""
        assert self._network is not None
        if self.wish.device == "gpu":
            return "f32, as nothing else was asked for"
        if backends.bf16_instructions() is None:
            return "f32, as this CPU has no instructions for bf16"
        able = [name for name in self._candidates("bf16") if name in self._fast_in_bf16]
        if not able:
            return "f32, as no backend here is faster in bf16"
        expected = self._network(sample)
        self._network = None  # both at once would take the memory of both
        why = "f32, as bf16 failed"
        for name in able:
            try:
                network = self._compile(name, "bf16")
                agreement = self._standard.compare_bf16(expected, _outputs(network, sample))
            except ExportError as problem:
                logger.info("not in bf16 in %s: %s", name, problem)
                continue
            if agreement.ok:
                self.backend, self.precision, self._network = name, "bf16", network
                return f"bf16, as it agrees with f32 ({agreement.text})"
            del network
            why = f"f32, as bf16 is too far from it ({agreement.text})"
            break
        self._network, _ = self._in_f32(sample)  # out of the cache
        return why

    def _in_half(self, sample: Arrays) -> tuple[Network, str]:
        """The network in 16 bits as the user asked; a warning where it is far from float32."""
        problems = []
        few = spread_rows(sample, _REFERENCE_ROWS)
        for name in self._candidates(self.precision):
            try:
                network = self._compile(name, self.precision)
                found = _outputs(network, few)
            except ExportError as problem:
                if self.wish.backend != "auto":
                    raise self._refusal(name, self.precision, problem) from problem
                problems.append(f"{name}: {problem}")
                continue
            self.backend = name
            agreement = self._standard.compare_bf16(self._trained.run_layers(few), found)
            if not agreement.ok:
                logger.warning(
                    "%s in %s is far from f32 (%s)", self._trained.name, self.precision, agreement.text
                )
            why = f"as {'before' if self.wish.is_kept else 'asked for'} ({agreement.text})"
            return network, "; not in ".join([why, *problems])
        remedy = "choose another --save_dir" if self.wish.is_kept else "give --precision=f32"
        raise ExportError(f"{self._trained.name}: not in {self.precision}: {'; '.join(problems)}; {remedy}")

    def _candidates(self, precision: str) -> list[str]:
        """The backends to try in turn."""
        names = backends.candidates(self.wish.backend, precision, device=self.wish.device)
        return sorted(names, key=lambda name: name != self.wish.preferred)  # else as they come

    def _compile(self, backend: str, precision: str) -> Network:
        with told_as_export_error():
            return compile_network(
                self._trained, backend=backend, precision=precision, device=self.wish.device
            )

    def _refusal(self, backend: str, precision: str, problem: ExportError) -> ExportError:
        """Of a backend that the user named: says what to ask for in its place."""
        remedy = "give --backend=paddle"
        if backend == "paddle":
            may_be_f32 = precision != "f32" and not self.wish.is_kept
            remedy = "give --precision=f32" if may_be_f32 else "leave --backend out"
        return ExportError(f"{self._trained.name}: not in {backend}: {problem}; {remedy}")

    @property
    def _max_f32_error(self) -> float:
        standard = self._standard
        return standard.max_f32_error if self.wish.device == "cpu" else standard.max_gpu_error

    def _error_of(self, backend: str, network: Network, sample: Arrays) -> float:
        """The error of a backend in float32; measured once for each network and version."""
        parts = self._error_parts(backend)
        found = load_entry(parts)
        if found is not None and _ERROR_FILE in found:
            with contextlib.suppress(WeightsError):  # a file of something else is measured anew
                known = read_json(found[_ERROR_FILE], error=WeightsError, remedy="measured anew")
                if isinstance(known, float):
                    return known
        few = spread_rows(sample, _REFERENCE_ROWS)
        error = self._standard.f32_error(self._trained.run_layers(few), _outputs(network, few))
        store_entry(parts, {_ERROR_FILE: json.dumps(error).encode()})
        return error

    def _error_parts(self, backend: str) -> dict[str, object]:
        """What decides the error of a backend."""
        return {
            **onnx_parts(self._trained),
            "form": f"error of {backend} on {self.wish.device}",
            "version": backends.version(backend),
            "cpu": backends.cpu_kind(),
        }


def spread_rows(arrays: Arrays, count: int) -> dict[str, np.ndarray]:
    """At most `count` rows of every array, from the first to the last at even steps."""
    size = len(next(iter(arrays.values())))
    rows = np.unique(np.linspace(0, max(0, size - 1), min(count, size)).round().astype(int))
    return {name: array[rows] for name, array in arrays.items()}


def _outputs(network: Network, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a network in a backend.

    Raises:
        ExportError: it failed.
    """
    with told_as_export_error():
        return network(inputs)
