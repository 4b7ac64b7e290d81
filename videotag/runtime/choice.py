"""Chooses the backend and precision of a network: what the user asked for, or the fastest that is right.

float32: in the fastest installed backend whose outputs agree with those of the network's own layers.
bfloat16: on a CPU that has instructions for it, if the outputs on the user's own data are close to float32.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass

import numpy as np

from videotag.errors import WeightsError
from videotag.runtime import backends
from videotag.runtime.agreement import Tolerances
from videotag.runtime.backends import AUTO, ExportError, compile_network, get_backend, wrap_backend_errors
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import onnx_parts
from videotag.runtime.trained import Arrays, Network, TrainedNetwork
from videotag.system.json_text import read_json

SAMPLE_ROWS = 16  # of the user's data, for bf16 against f32
_REFERENCE_ROWS = 2  # layer by layer is slow
_ERROR_FILE = "error.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeRequest:
    """What the user asked for.

    Attributes:
        backend: Name of a backend, or "auto".
        precision: "f32", "bf16", "f16" (on a GPU) or "auto".
        device: "cpu" or "gpu".
        preferred: With the backend "auto", the backend to try first; "auto" is the fastest.
        is_kept: Whether precision and preferred come from the first run of a folder.
    """

    backend: str = AUTO
    precision: str = "auto"
    device: str = "cpu"
    preferred: str = AUTO
    is_kept: bool = False

    def check(self) -> None:
        """Checks before any work that backend and precision can be had.

        Raises:
            ConfigError, DeviceError: As check_backend.
        """
        backends.check_backend(self.backend, self.precision, device=self.device)


class ChosenNetwork:
    """A Network that chooses its backend and precision on the first data it sees.

    Args:
        trained: Network with its weights.
        request: What the user asked for.
        tolerances: How far the outputs may be from those of the layers.

    Raises:
        ConfigError, DeviceError: The requested backend or precision cannot be had.
    """

    def __init__(self, trained: TrainedNetwork, request: RuntimeRequest, *, tolerances: Tolerances) -> None:
        request.check()
        self.request = request
        self._trained = trained
        self._tolerances = tolerances
        self._network: Network | None = None
        #: What was chosen; before that, what was requested.
        self.backend, self.precision = request.backend, request.precision

    @property
    def runtime(self) -> str:
        """The backend that was chosen, with its version."""
        return f"{self.backend} {get_backend(self.backend).version()}"

    def prepare(self) -> None:
        """Converts the network if it never ran here: that takes memory, and there is no data yet."""
        name = next(iter(self._candidates("f32")), None)
        if self._network is None and name and load_entry(self._error_parts(name)) is None:
            # An error is reported when the network is settled.
            with contextlib.suppress(ExportError), wrap_backend_errors():
                get_backend(name).prepare(self._trained)

    def settle(self, sample: Arrays) -> None:
        """Chooses backend and precision, once, and logs them with the reason in one line.

        Args:
            sample: Inputs such as will follow; at most SAMPLE_ROWS of them are used.

        Raises:
            ExportError: The network cannot run in the backend that was asked for.
        """
        if self._network is not None:
            return
        sample = spread_rows(sample, SAMPLE_ROWS)
        if self.request.precision in ("bf16", "f16"):
            self.precision = self.request.precision
            self._network, why = self._in_half(sample)
        else:
            self.precision = "f32"
            self._network, why = self._in_f32(sample)
            if self.request.precision == "auto":
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
        is_named = self.request.backend != AUTO
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
        self.backend = backends.fallback_backend().name
        return self._trained.run_layers, "layer by layer; not in " + "; not in ".join(passed_over)

    def _why(self, backend: str) -> str:
        """The reason for this backend, for the log."""
        if self.request.backend != AUTO:
            return "as asked for"
        return (
            "as before" if backend == self.request.preferred else "the fastest that is installed and agrees"
        )

    def _try_bf16(self, sample: Arrays) -> str:
        """Changes to bfloat16 if that is faster and right; returns the reason for or against it."""
        assert self._network is not None
        if self.request.device == "gpu":
            return "f32, as nothing else was asked for"
        if backends.bf16_instructions() is None:
            return "f32, as this CPU has no instructions for bf16"
        able = [name for name in self._candidates("bf16") if get_backend(name).gains_by_bf16(self._trained)]
        if not able:
            return "f32, as no backend here is faster in bf16"
        expected = self._network(sample)
        self._network = None  # both at once would take the memory of both
        why = "f32, as bf16 failed"
        for name in able:
            try:
                network = self._compile(name, "bf16")
                agreement = self._tolerances.compare_bf16(expected, _outputs(network, sample))
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
                if self.request.backend != AUTO:
                    raise self._refusal(name, self.precision, problem) from problem
                problems.append(f"{name}: {problem}")
                continue
            self.backend = name
            agreement = self._tolerances.compare_bf16(self._trained.run_layers(few), found)
            if not agreement.ok:
                logger.warning(
                    "%s in %s is far from f32 (%s)", self._trained.name, self.precision, agreement.text
                )
            why = f"as {'before' if self.request.is_kept else 'asked for'} ({agreement.text})"
            return network, "; not in ".join([why, *problems])
        remedy = "choose another --save_dir" if self.request.is_kept else "give --precision=f32"
        raise ExportError(f"{self._trained.name}: not in {self.precision}: {'; '.join(problems)}; {remedy}")

    def _candidates(self, precision: str) -> list[str]:
        """The backends to try in turn."""
        names = backends.candidates(self.request.backend, precision, device=self.request.device)
        return sorted(names, key=lambda name: name != self.request.preferred)  # else as they come

    def _compile(self, backend: str, precision: str) -> Network:
        with wrap_backend_errors():
            return compile_network(
                self._trained, backend=backend, precision=precision, device=self.request.device
            )

    def _refusal(self, backend: str, precision: str, problem: ExportError) -> ExportError:
        """The error about a backend that the user named, with what to ask for instead."""
        fallback = backends.fallback_backend().name
        remedy = f"give --backend={fallback}"
        if backend == fallback:
            may_be_f32 = precision != "f32" and not self.request.is_kept
            remedy = "give --precision=f32" if may_be_f32 else "leave --backend out"
        return ExportError(f"{self._trained.name}: not in {backend}: {problem}; {remedy}")

    @property
    def _max_f32_error(self) -> float:
        on_cpu = self.request.device == "cpu"
        return self._tolerances.max_f32_error if on_cpu else self._tolerances.max_gpu_error

    def _error_of(self, backend: str, network: Network, sample: Arrays) -> float:
        """The error of a backend in float32, measured once for each network and version."""
        parts = self._error_parts(backend)
        found = load_entry(parts)
        if found is not None and _ERROR_FILE in found:
            with contextlib.suppress(WeightsError):  # of a damaged file: the error is measured anew
                known = read_json(found[_ERROR_FILE], error=WeightsError, remedy="measured anew")
                if isinstance(known, float):
                    return known
        few = spread_rows(sample, _REFERENCE_ROWS)
        error = self._tolerances.f32_error(self._trained.run_layers(few), _outputs(network, few))
        store_entry(parts, {_ERROR_FILE: json.dumps(error).encode()})
        return error

    def _error_parts(self, backend: str) -> dict[str, object]:
        """All that decides the error of a backend, as keys of the cache."""
        return {
            **onnx_parts(self._trained),
            "form": f"error of {backend} on {self.request.device}",
            "version": get_backend(backend).version(),
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
        ExportError: The backend failed.
    """
    with wrap_backend_errors():
        return network(inputs)
