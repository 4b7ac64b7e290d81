"""Selects backend and precision of a network: as requested, else the fastest that gives the same results.

For float32, this is the fastest installed backend whose outputs agree with those of the network's layers.
bfloat16 is selected if the CPU has instructions for it and the outputs on a sample of the user's data are
close to float32. A selection depends only on the request and the sample, except that the float32 error of a
backend is measured once and cached. It is made once, before any work, and then passed to every worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from videotag.errors import ConfigError
from videotag.runtime import backends
from videotag.runtime.agreement import Agreement, Tolerances, compare_feature_errors
from videotag.runtime.backends import AUTO, ExportError, compile_network, get_backend, wrap_backend_errors
from videotag.runtime.network_cache import cached_number, load_entry
from videotag.runtime.onnx_export import onnx_parts
from videotag.runtime.parity import random_samples
from videotag.runtime.trained import Arrays, Network, TrainedNetwork

SAMPLE_ROWS = 16  # of the user's data, for bf16 against f32
_REFERENCE_ROWS = 2  # layer by layer is slow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedRuntime:
    """The backend and precision that computed the existing features of a folder.

    Attributes:
        backend: Name of the backend; "auto" if unknown.
        precision: "f32", "bf16" or "f16".
        max_error: RMS error per frame that 16 bits may have on later lists; None if unknown.
    """

    backend: str
    precision: str
    max_error: float | None = None


@dataclass(frozen=True)
class RuntimeRequest:
    """Backend and precision requested by the user.

    Attributes:
        backend: Name of a backend, or "auto".
        precision: Precision "f32", "bf16", "f16" (on a GPU) or "auto".
        device: Device "cpu" or "gpu".
        previous: Runtime of existing features, whose precision is binding and whose backend is tried first;
            None if there are none.
    """

    backend: str = AUTO
    precision: str = "auto"
    device: str = "cpu"
    previous: RecordedRuntime | None = None

    @property
    def wanted_precision(self) -> str:
        """The precision, as far as it is known before the selection."""
        return self.previous.precision if self.previous else self.precision

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
        try:
            backends.check_backend(self.backend, self.wanted_precision, device=self.device)
        except ConfigError as error:
            if self.previous is None:
                raise
            raise ConfigError(
                f"--backend={self.backend}: cannot compute in {self.previous.precision}, the precision of "
                "the folder's features; remove the flag, or choose another --save_dir"
            ) from error


@dataclass(frozen=True)
class RuntimeChoice:
    """Selected backend and precision; can be pickled and passed to workers.

    Attributes:
        backend: Name of the backend.
        precision: Precision "f32", "bf16" or "f16".
        device: Device "cpu" or "gpu".
        by_layers: Whether to run the network's layers one by one, because no backend agrees with them.
        max_error: See RecordedRuntime; for frame features in 16 bits.
    """

    backend: str
    precision: str
    device: str
    by_layers: bool = False
    max_error: float | None = None

    @property
    def runtime(self) -> str:
        """The backend with its version."""
        return f"{self.backend} {get_backend(self.backend).version()}"


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
        tolerances: Tolerances for the outputs relative to the layers, and for 16 bits relative to float32.

    Attributes:
        choice: Selected backend and precision; None before the selection.

    Raises:
        ConfigError, DeviceError: The requested backend or precision is not available.
    """

    def __init__(self, trained: TrainedNetwork, request: RuntimeRequest, *, tolerances: Tolerances) -> None:
        self.trained = trained
        self._tolerances = tolerances
        self._selecting = threading.Lock()
        self._request = request
        self.reset(request.previous)

    def reset(self, previous: RecordedRuntime | None) -> None:
        """Discards the selection, so that the next list gets its own.

        Args:
            previous: Runtime of the existing features of the list's folder; None if there are none.

        Raises:
            ConfigError, DeviceError: The backend or precision is not available.
        """
        self._request = replace(self._request, previous=previous)
        self._request.check()
        self.choice: RuntimeChoice | None = None
        self._network: Network | None = None

    @property
    def requested_precision(self) -> str:
        """The precision that the user requested."""
        return self._request.precision

    @property
    def needs_sample(self) -> bool:
        """Whether the selection requires a sample of the user's own data."""
        return self._request.needs_sample

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.trained.outputs

    @property
    def backend(self) -> str:
        """The selected backend; before that, the requested one."""
        return self.choice.backend if self.choice else self._request.backend

    @property
    def precision(self) -> str:
        """The selected precision; before that, the requested one."""
        return self.choice.precision if self.choice else self._request.wanted_precision

    @property
    def runtime(self) -> str:
        """The selected backend with its version."""
        assert self.choice is not None
        return self.choice.runtime

    def select_runtime(self, sample: Arrays | None = None) -> bool:
        """Selects backend and precision, and logs them with the reason; later calls have no effect.

        May be called from several threads.

        Args:
            sample: Inputs by name, (N, ...) each, that represent all of the user's data; at most SAMPLE_ROWS
                rows are used. None uses random inputs; precision "auto" is then float32, because only the
                user's data shows whether bfloat16 is close enough.

        Returns:
            Whether this call selected them; False if an earlier one did.

        Raises:
            ConfigError: Existing features of the folder are in 16 bits, which the user did not request, and
                are too far from float32 on the sample.
            ExportError: The network cannot run in the requested backend or precision.
        """
        with self._selecting:
            if self._network is not None:
                return False
            request = self._request
            if sample is None:
                sample = random_samples(self.trained.inputs)[1]
                request = replace(request, precision="f32") if request.wanted_precision == "auto" else request
            selection = _Selection(self.trained, request, self._tolerances, sample)
            self.choice, self._network, reason = selection.make()
        choice = self.choice
        logger.info("%s runs in %s, %s: %s", self.trained.name, choice.runtime, choice.precision, reason)
        return True

    def set_choice(self, choice: RuntimeChoice) -> None:
        """Opens the network in a choice made elsewhere; see open_network."""
        self.choice, self._network = choice, open_network(self.trained, choice)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The network's outputs by name, (N, ...) float32; selects without a sample if necessary."""
        self.select_runtime()
        assert self._network is not None
        return self._network(inputs)


#: A choice, its network, which thus need not be opened again, and the reason for the log.
_Selected: TypeAlias = tuple[RuntimeChoice, Network, str]
#: Backend and network -> its agreement with a reference.
_Measure: TypeAlias = Callable[[str, Network], Agreement]


@dataclass(frozen=True)
class _Selection:
    """One selection of backend and precision; see RuntimeNetwork.select_runtime."""

    trained: TrainedNetwork
    request: RuntimeRequest
    tolerances: Tolerances
    sample: Arrays

    def make(self) -> _Selected:
        """float32 first, which 16 bits are then compared with."""
        choice, network, reason = self._in_f32()
        precision, names = self.request.wanted_precision, []
        if precision == "f32":
            return choice, network, reason
        if precision != "auto":
            names = self._candidates(precision)
        elif self.request.device == "gpu":
            return choice, network, f"{reason}; f32, the default on a GPU"
        elif backends.bf16_instructions() is None:
            return choice, network, f"{reason}; f32, as this CPU has no instructions for bf16"
        elif not (names := self._fast_candidates()):
            return choice, network, f"{reason}; f32, as no backend here is faster in bf16"
        measure = self._compare_with(network)
        del network  # float32 and 16 bits at once would take the memory of both
        if precision != "auto":
            return self._in_16_bits(precision, names, measure)
        try:
            bf16, network, agreement, skipped = self._first("bf16", names, measure)
        except ExportError as problem:
            refusal = f"f32, as bf16 failed ({problem})"
        else:
            if agreement.ok:
                return bf16, network, f"{reason}; bf16, as it agrees with f32 ({agreement.text}){skipped}"
            del network
            refusal = f"f32, as bf16 is too far from it ({agreement.text})"
        return choice, open_network(self.trained, choice), f"{reason}; {refusal}"

    def _in_f32(self) -> _Selected:
        """The network in the first backend that agrees with the layers; else the layers themselves."""
        names = self._candidates("f32")
        if load_entry(self._error_parts(names[0])) is None:
            # The layers' own errors are raised here: after a failed trace, Paddle may crash instead.
            _ = self._layer_outputs
        try:
            choice, network, agreement, skipped = self._first("f32", names, self._agreement_with_layers)
        except ExportError as problem:
            if self._names_backend:
                raise self._refusal("f32", problem) from problem
            fallback = RuntimeChoice(
                backends.fallback_backend().name, "f32", self.request.device, by_layers=True
            )
            return fallback, self.trained.run_layers, f"layer by layer; {problem}"
        if not agreement.ok:
            logger.warning(
                "%s in %s is far from its layers (%s)", self.trained.name, choice.backend, agreement.text
            )
        reason = "the fastest that is installed and agrees"
        if self._names_backend:
            reason = "as requested"
        elif self.request.previous and choice.backend == self.request.previous.backend:
            reason = "as in the folder's first run"
        return choice, network, f"{reason} ({agreement.text}){skipped}"

    def _in_16_bits(self, precision: str, names: Sequence[str], measure: _Measure) -> _Selected:
        """The network in the 16-bit precision that the user requested or that existing features have."""
        is_requested = self.request.precision == precision
        try:
            choice, network, agreement, skipped = self._first(precision, names, measure)
        except ExportError as problem:
            raise self._refusal(precision, problem) from problem
        if not agreement.ok and not is_requested:
            raise ConfigError(
                f"{self.trained.name} in {precision}, as the folder's features are: too far from f32 on this "
                f"list ({agreement.text}, expected {agreement.bound}); give --precision={precision} to "
                "insist, or choose another --save_dir"
            )
        if not agreement.ok:
            logger.warning("%s in %s is far from f32 (%s)", self.trained.name, precision, agreement.text)
        reason = "as requested" if is_requested else "as in the folder's first run"
        return choice, network, f"{reason} ({agreement.text}){skipped}"

    def _first(
        self, precision: str, names: Sequence[str], measure: _Measure
    ) -> tuple[RuntimeChoice, Network, Agreement, str]:
        """The first backend that runs the network, its agreement, and those skipped, as text for the log.

        Float32 has to agree, unless the user named the backend; the agreement of 16 bits is for the caller to
        judge.

        Raises:
            ExportError: No backend can; the message has the reason for each.
        """
        skipped = []
        for name in names:
            choice = RuntimeChoice(name, precision, self.request.device)
            try:
                network = open_network(self.trained, choice)
                agreement = measure(name, network)
            except ExportError as problem:
                skipped.append(f"not in {name}: {problem}")
                continue
            if agreement.ok or self._names_backend or precision != "f32":
                choice = replace(choice, max_error=agreement.max_error)
                return choice, network, agreement, "".join(f"; {text}" for text in skipped)
            del network
            skipped.append(f"not in {name}: {agreement.text}")
        raise ExportError("; ".join(skipped))

    def _candidates(self, precision: str) -> list[str]:
        """The backends to try in turn: the previous one, then from the fastest to the slowest."""
        previous = self.request.previous.backend if self.request.previous else None
        names = backends.candidates(self.request.backend, precision, device=self.request.device)
        return sorted(names, key=lambda name: name != previous)

    def _fast_candidates(self) -> list[str]:
        """The backends that are faster in bfloat16."""
        return [name for name in self._candidates("bf16") if get_backend(name).gains_by_bf16(self.trained)]

    @property
    def _names_backend(self) -> bool:
        return self.request.backend != AUTO

    def _refusal(self, precision: str, problem: ExportError) -> ExportError:
        """The error if no backend runs the network, with an alternative."""
        fallback = backends.fallback_backend().name
        if self._names_backend and self.request.backend != fallback:
            remedy = f"give --backend={fallback}"
        elif precision != "f32" and self.request.previous is None:
            remedy = "give --precision=f32"
        else:
            remedy = "leave --backend out" if self._names_backend else "choose another --save_dir"
        return ExportError(f"{self.trained.name} in {precision}: {problem}; {remedy}")

    def _agreement_with_layers(self, backend: str, network: Network) -> Agreement:
        """The agreement of a backend in float32, measured once per network and version of the backend."""

        def measure() -> float:
            few, expected = self._layer_outputs
            return self.tolerances.f32_error(expected, _outputs(network, few))

        error = cached_number(self._error_parts(backend), measure)
        on_cpu = self.request.device == "cpu"
        bound = self.tolerances.max_f32_error if on_cpu else self.tolerances.max_gpu_error
        return Agreement(error <= bound, f"error {error:.0e}", f"at most {bound:.0e}")

    @cached_property
    def _layer_outputs(self) -> tuple[Arrays, Arrays]:
        """A few rows of the sample, as the layers are slow, and the layers' outputs for them."""
        few = evenly_spaced_rows(self.sample, _REFERENCE_ROWS)
        return few, self.trained.run_layers(few)

    def _compare_with(self, network: Network) -> _Measure:
        """The measure of 16 bits against the outputs of a float32 network on the sample."""
        rows, previous = evenly_spaced_rows(self.sample, SAMPLE_ROWS), self.request.previous
        expected = network(rows)

        def measure(_: str, network: Network) -> Agreement:
            outputs = _outputs(network, rows)
            if previous and previous.max_error is not None:
                return compare_feature_errors(expected, outputs, previous.max_error)
            return self.tolerances.compare_bf16(expected, outputs)

        return measure

    def _error_parts(self, backend: str) -> dict[str, object]:
        """Everything that determines the error of a backend, as cache key."""
        return {
            **onnx_parts(self.trained),
            "form": f"error of {backend} on {self.request.device}",
            "version": get_backend(backend).version(),
            "cpu": backends.cpu_kind(),
        }


def evenly_spaced(size: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced indices (K,) below `size`, including the first and the last."""
    return np.unique(np.linspace(0, max(0, size - 1), min(count, size)).round().astype(int))


def evenly_spaced_rows(arrays: Arrays, count: int) -> dict[str, np.ndarray]:
    """Selects at most `count` evenly spaced rows, including first and last, of every array (N, ...)."""
    rows = evenly_spaced(len(next(iter(arrays.values()))), count)
    return {name: array[rows] for name, array in arrays.items()}


def _outputs(network: Network, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a network, with errors of its backend wrapped.

    Raises:
        ExportError: The backend failed.
    """
    with wrap_backend_errors():
        return network(inputs)
