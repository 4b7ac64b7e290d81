"""Selects backend and precision of a network: as requested, else the fastest that gives the same results.

For float32, this is the fastest installed backend whose outputs agree with those of the network's layers.
bfloat16 is selected if the CPU has instructions for it and the outputs on a sample of the user's data are
close to float32. A selection depends only on the request and the sample. It is made once, before any work,
and then passed to every worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from videotag.errors import ConfigError, WeightsError
from videotag.runtime import backends
from videotag.runtime.agreement import Agreement, Tolerances
from videotag.runtime.backends import AUTO, ExportError, compile_network, get_backend, wrap_backend_errors
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import onnx_parts
from videotag.runtime.parity import random_samples
from videotag.runtime.trained import Arrays, Network, TrainedNetwork
from videotag.system.json_text import read_json

SAMPLE_ROWS = 16  # of the user's data, for bf16 against f32
_REFERENCE_ROWS = 2  # layer by layer is slow
_ERROR_FILE = "error.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeRequest:
    """Backend and precision requested by the user.

    Attributes:
        backend: Name of a backend, or "auto".
        precision: Precision "f32", "bf16", "f16" (on a GPU) or "auto".
        device: Device "cpu" or "gpu".
        preferred: Name of the backend to try first if backend is "auto"; "auto" tries the fastest first.
        kept_precision: Precision of existing features in the output folder, which "auto" keeps; None if there
            are none.
    """

    backend: str = AUTO
    precision: str = "auto"
    device: str = "cpu"
    preferred: str = AUTO
    kept_precision: str | None = None

    @property
    def wanted_precision(self) -> str:
        """The precision, as far as it is known before the selection."""
        return self.kept_precision or self.precision

    @property
    def needs_sample(self) -> bool:
        """Whether the selection compares 16 bits with float32, which requires the user's own data."""
        if self.wanted_precision != "auto":
            return self.wanted_precision != "f32"
        return self.device == "cpu" and backends.bf16_instructions() is not None

    def check(self) -> None:
        """Checks before any work that backend and precision are available.

        Raises:
            ConfigError, DeviceError: They are not available, see check_backend.
        """
        backends.check_backend(self.backend, self.wanted_precision, device=self.device)


@dataclass(frozen=True)
class RuntimeChoice:
    """Selected backend and precision; can be pickled and passed to workers.

    Attributes:
        backend: Name of the backend.
        precision: Precision "f32", "bf16" or "f16".
        device: Device "cpu" or "gpu".
        why: Reason for the choice, for the log.
        by_layers: Whether to run the network's layers one by one, because no backend agrees with them.
    """

    backend: str
    precision: str
    device: str
    why: str
    by_layers: bool = False

    @property
    def runtime(self) -> str:
        """The backend with its version."""
        return f"{self.backend} {get_backend(self.backend).version()}"


def select_runtime(
    trained: TrainedNetwork,
    request: RuntimeRequest,
    sample: Arrays,
    *,
    tolerances: Tolerances,
) -> RuntimeChoice:
    """Selects backend and precision of a network, and logs them with the reason.

    Args:
        trained: Network with its weights.
        request: Backend and precision requested by the user.
        sample: Inputs by name, (N, ...) each, that represent all of the user's data; at most SAMPLE_ROWS rows
            are used. Random ones suffice if request.needs_sample is False.
        tolerances: Tolerances for the outputs relative to the layers, and for bf16 relative to f32.

    Raises:
        ConfigError: Existing features of the folder are in 16 bits, which the user did not request, and are
            too far from float32 on the sample.
        ExportError: The network cannot run in the requested backend or precision.
    """
    return _Selection(trained, request, tolerances, sample).make()[0]


def open_network(trained: TrainedNetwork, choice: RuntimeChoice) -> Network:
    """Opens the network in a previously selected backend and precision.

    Raises:
        ConfigError, DeviceError: This machine does not support the choice, unlike the one that made it.
        ExportError: The backend cannot run the network.
    """
    if choice.by_layers:
        return trained.run_layers
    with wrap_backend_errors():
        return compile_network(
            trained, backend=choice.backend, precision=choice.precision, device=choice.device
        )


class RuntimeNetwork:
    """A network whose backend and precision are selected before work, once for all processes.

    Args:
        trained: Network with its weights.
        request: Backend and precision requested by the user.
        tolerances: Tolerances of its outputs, see select_runtime.

    Attributes:
        choice: Selected backend and precision; None before the selection.

    Raises:
        ConfigError, DeviceError: The requested backend or precision is not available.
    """

    def __init__(self, trained: TrainedNetwork, request: RuntimeRequest, *, tolerances: Tolerances) -> None:
        request.check()
        self.request = request
        self._trained = trained
        self._tolerances = tolerances
        self.choice: RuntimeChoice | None = None
        self._network: Network | None = None

    @property
    def backend(self) -> str:
        """The selected backend; before that, the requested one."""
        return self.choice.backend if self.choice else self.request.backend

    @property
    def precision(self) -> str:
        """The selected precision; before that, the requested one."""
        return self.choice.precision if self.choice else self.request.wanted_precision

    @property
    def runtime(self) -> str:
        """The selected backend with its version."""
        assert self.choice is not None
        return self.choice.runtime

    def settle(self, sample: Arrays | None = None) -> None:
        """Selects backend and precision; further calls do nothing.

        Args:
            sample: Inputs by name, (N, ...) each, see select_runtime. None uses random inputs; precision
                "auto" is then float32, because only the user's data shows whether bfloat16 is close enough.
        """
        if self._network is not None:
            return
        request = self.request
        if sample is None:
            sample = random_samples(self._trained.inputs)[1]
            request = replace(request, precision="f32") if request.wanted_precision == "auto" else request
        self.choice, self._network = _Selection(self._trained, request, self._tolerances, sample).make()

    def adopt(self, choice: RuntimeChoice) -> None:
        """Uses a choice made elsewhere; see open_network."""
        self.choice, self._network = choice, open_network(self._trained, choice)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The network's outputs by name, (N, ...) float32; selects without a sample if necessary."""
        self.settle()
        assert self._network is not None
        return self._network(inputs)


_Selected: TypeAlias = tuple[RuntimeChoice, Network]


@dataclass(frozen=True)
class _Selection:
    """The arguments of select_runtime, and what follows from them."""

    trained: TrainedNetwork
    request: RuntimeRequest
    tolerances: Tolerances
    sample: Arrays

    def make(self) -> _Selected:
        """The choice and its network, which need not be compiled once more."""
        choice, network = self._select()
        logger.info("%s runs in %s, %s: %s", self.trained.name, choice.runtime, choice.precision, choice.why)
        return choice, network

    def _select(self) -> _Selected:
        if self.request.precision in ("bf16", "f16"):
            few = spread_rows(self.sample, _REFERENCE_ROWS)
            return self._in_16_bits(self.request.precision, few, self.trained.run_layers(few))
        choice, network = self._in_f32()
        if self.request.wanted_precision == "f32":
            return choice, network
        if self.request.kept_precision is None and (reason := self._reason_against_bf16()):
            return replace(choice, why=f"{choice.why}; {reason}"), network
        sample = spread_rows(self.sample, SAMPLE_ROWS)
        expected = network(sample)
        del network  # both at once would take the memory of both
        if self.request.kept_precision:
            return self._in_16_bits(self.request.kept_precision, sample, expected)
        return self._in_bf16_or(choice, sample, expected)

    def _in_f32(self) -> _Selected:
        """The network in the first backend that agrees with the layers; else the layers themselves."""
        passed_over = []
        is_named = self.request.backend != AUTO
        for name in self._candidates("f32"):
            try:
                network = self._compile(name, "f32")
                error = self._error_of(name, network)
            except ExportError as problem:
                if is_named:
                    raise self._refusal(name, "f32", problem) from problem
                passed_over.append(f"{name}: {problem}")
                continue
            agrees = error <= self._max_f32_error
            if is_named or agrees:
                if not agrees:
                    logger.warning(
                        "%s in %s is far from its layers (error %.0e)", self.trained.name, name, error
                    )
                why = "; not in ".join([f"{self._why(name)} (error {error:.0e})", *passed_over])
                return self._choice(name, "f32", why), network
            passed_over.append(f"{name}: error {error:.0e}")
        why = "layer by layer; not in " + "; not in ".join(passed_over)
        choice = self._choice(backends.fallback_backend().name, "f32", why)
        return replace(choice, by_layers=True), self.trained.run_layers

    def _why(self, backend: str) -> str:
        """The reason for this backend, for the log."""
        if self.request.backend != AUTO:
            return "as asked for"
        if backend == self.request.preferred:
            return "as before"
        return "the fastest that is installed and agrees"

    def _reason_against_bf16(self) -> str | None:
        """The reason not to try bfloat16; None if it may be faster."""
        if self.request.device == "gpu":
            return "f32, as nothing else was asked for"
        if backends.bf16_instructions() is None:
            return "f32, as this CPU has no instructions for bf16"
        return None if self._fast_candidates() else "f32, as no backend here is faster in bf16"

    def _in_bf16_or(self, f32: RuntimeChoice, sample: Arrays, expected: Arrays) -> _Selected:
        """The network in bfloat16 if it is close to float32; else in f32 again, from the cache."""
        try:
            bf16, network, agreement = self._first_in("bf16", self._fast_candidates(), sample, expected)
        except ExportError:
            reason = "f32, as bf16 failed"
        else:
            if agreement.ok:
                reason = f"bf16, as it agrees with f32 ({agreement.text})"
                return replace(bf16, why=f"{f32.why}; {reason}"), network
            del network
            reason = f"f32, as bf16 is too far from it ({agreement.text})"
        return replace(f32, why=f"{f32.why}; {reason}"), open_network(self.trained, f32)

    def _in_16_bits(self, precision: str, rows: Arrays, expected: Arrays) -> _Selected:
        """The network in the 16-bit precision that the user requested or that existing features have."""
        names = self._candidates(precision)
        choice, network, agreement = self._first_in(precision, names, rows, expected)
        is_asked = self.request.precision == precision
        if not agreement.ok and is_asked:
            logger.warning("%s in %s is far from f32 (%s)", self.trained.name, precision, agreement.text)
        elif not agreement.ok:
            raise ConfigError(
                f"{self.trained.name} in {precision}, as the folder's features are: too far from f32 on this "
                f"list ({agreement.text}, expected {agreement.bound}); give --precision={precision} to "
                "insist, or choose another --save_dir"
            )
        why = f"as {'asked for' if is_asked else 'before'} ({agreement.text}){choice.why}"
        return replace(choice, why=why), network

    def _first_in(
        self, precision: str, names: Sequence[str], rows: Arrays, expected: Arrays
    ) -> tuple[RuntimeChoice, Network, Agreement]:
        """The first backend that runs the network in 16 bits, and its agreement with float32 on some rows."""
        problems = []
        for name in names:
            try:
                network = self._compile(name, precision)
                found = _outputs(network, rows)
            except ExportError as problem:
                logger.info("not in %s in %s: %s", precision, name, problem)
                if self.request.backend != AUTO:
                    raise self._refusal(name, precision, problem) from problem
                problems.append(f"{name}: {problem}")
                continue
            why = "".join(f"; not in {problem}" for problem in problems)
            agreement = self.tolerances.compare_bf16(expected, found)
            return self._choice(name, precision, why), network, agreement
        remedy = "choose another --save_dir" if self.request.kept_precision else "give --precision=f32"
        raise ExportError(f"{self.trained.name}: not in {precision}: {'; '.join(problems)}; {remedy}")

    def _candidates(self, precision: str) -> list[str]:
        """The backends to try in turn."""
        names = backends.candidates(self.request.backend, precision, device=self.request.device)
        return sorted(names, key=lambda name: name != self.request.preferred)  # else as they come

    def _fast_candidates(self) -> list[str]:
        """The backends that are faster in bfloat16."""
        names = self._candidates("bf16")
        return [name for name in names if get_backend(name).gains_by_bf16(self.trained)]

    def _choice(self, backend: str, precision: str, why: str) -> RuntimeChoice:
        return RuntimeChoice(backend, precision, self.request.device, why)

    def _compile(self, backend: str, precision: str) -> Network:
        return open_network(self.trained, self._choice(backend, precision, ""))

    def _refusal(self, backend: str, precision: str, problem: ExportError) -> ExportError:
        """The error for a backend that the user requested, with an alternative."""
        fallback = backends.fallback_backend().name
        remedy = f"give --backend={fallback}"
        if backend == fallback:
            may_be_f32 = precision != "f32" and self.request.kept_precision is None
            remedy = "give --precision=f32" if may_be_f32 else "leave --backend out"
        return ExportError(f"{self.trained.name}: not in {backend}: {problem}; {remedy}")

    @property
    def _max_f32_error(self) -> float:
        on_cpu = self.request.device == "cpu"
        return self.tolerances.max_f32_error if on_cpu else self.tolerances.max_gpu_error

    def _error_of(self, backend: str, network: Network) -> float:
        """The error of a backend in float32, measured once per network and version."""
        parts = self._error_parts(backend)
        found = load_entry(parts)
        if found is not None and _ERROR_FILE in found:
            with contextlib.suppress(WeightsError):  # of a damaged file: the error is measured anew
                known = read_json(found[_ERROR_FILE], error=WeightsError, remedy="measured anew")
                if isinstance(known, float):
                    return known
        few = spread_rows(self.sample, _REFERENCE_ROWS)
        error = self.tolerances.f32_error(self.trained.run_layers(few), _outputs(network, few))
        store_entry(parts, {_ERROR_FILE: json.dumps(error).encode()})
        return error

    def _error_parts(self, backend: str) -> dict[str, object]:
        """Everything that determines the error of a backend, as cache key."""
        return {
            **onnx_parts(self.trained),
            "form": f"error of {backend} on {self.request.device}",
            "version": get_backend(backend).version(),
            "cpu": backends.cpu_kind(),
        }


def spread_rows(arrays: Arrays, count: int) -> dict[str, np.ndarray]:
    """Selects at most `count` evenly spaced rows, including first and last, of every array (N, ...)."""
    size = len(next(iter(arrays.values())))
    rows = np.unique(np.linspace(0, max(0, size - 1), min(count, size)).round().astype(int))
    return {name: array[rows] for name, array in arrays.items()}


def _outputs(network: Network, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a network, with errors of its backend wrapped.

    Raises:
        ExportError: The backend failed.
    """
    with wrap_backend_errors():
        return network(inputs)
