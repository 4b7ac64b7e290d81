"""Part of the benchmark: time in ResNet-101 by kind of layer, from OpenVINO's counters."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np
from bench_options import Options
from bench_report import Line, Part
from bench_stage_one import make_weights, open_extractor

_RUNS, _QUICK_RUNS = 20, 3
_LEAST_SHARE = 0.005  # of the time; kinds below it are summed


def run(options: Options) -> Part:
    """Measures milliseconds per frame by kind of layer, with OpenVINO's counters."""
    from videotag.inference.extractor import FRAMES_PER_STEP
    from videotag.runtime.backends import bf16_instructions, get_backend

    part = Part(f"Where the network's time goes: ResNet-101 in OpenVINO, batches of {FRAMES_PER_STEP['cpu']}")
    if not get_backend("openvino").version():
        part.notes.append("OpenVINO is not installed; pip install 'videotag[openvino]'.")
        return part
    weights = str(make_weights(options))
    runs = options.rounds or (_QUICK_RUNS if options.quick else _RUNS)
    for precision in ("f32", "bf16") if bf16_instructions() else ("f32",):
        spec = "bench_profile:Layers"
        with options.child(spec, weights=weights, precision=precision, batch=FRAMES_PER_STEP["cpu"]) as child:
            found = child.measure(runs=runs)
        rounds = {f"{kind} ({count})": times for kind, count, times in found["kinds"]}
        part.lines.append(Line(f"{precision}, by kind (layers)", "ms of a frame", rounds))
    part.notes.append(
        "Reorder copies between memory layouts and number formats; 1x1 are convolutions of one pixel."
    )
    options.say("profile")
    return part


class Layers:
    """A contestant: ResNet-101 with OpenVINO's counters.

    Args:
        weights: Weights of the TSN.
        precision: Precision of the network, "f32" or "bf16".
        batch: Number of frames per batch.
        config: Config of the TSN.
    """

    def __init__(self, weights: str, precision: str, batch: int, config: str = "configs/tsn.yaml") -> None:
        from videotag.runtime.onnx_export import onnx_model
        from videotag.system.cores import num_cores
        from videotag.system.quiet_runtimes import import_openvino

        extractor = open_extractor(weights, "f32", config=config)
        size = extractor.config.infer.target_size
        self._core = import_openvino().Core()
        model = self._core.read_model(io.BytesIO(onnx_model(extractor.network.trained)))
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": num_cores()}
        options |= {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False, "PERF_COUNT": True}
        self._request = self._core.compile_model(model, "CPU", options).create_infer_request()
        self._frames = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
        self._request.infer([self._frames])

    def measure(self, runs: int) -> dict[str, Any]:
        """(kind, number of layers, milliseconds per frame in every run), slowest first."""
        counts: dict[str, int] = {}
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(runs):
            self._request.infer([self._frames])
            ran, spent = by_kind(self._request.get_profiling_info())
            counts |= {kind: max(count, counts.get(kind, 0)) for kind, count in ran.items()}
            for kind, milliseconds in spent.items():
                times[kind].append(milliseconds / len(self._frames))
        kinds = [(kind, counts[kind], times[kind]) for kind in times]
        return {"kinds": folded(sorted(kinds, key=lambda kind: -sum(kind[2])))}


def by_kind(layers: Any) -> tuple[dict[str, int], dict[str, float]]:
    """Number of layers that ran and their milliseconds, by layer type and kernel."""
    counts: dict[str, int] = defaultdict(int)
    spent: dict[str, float] = defaultdict(float)
    for layer in layers:
        milliseconds = layer.real_time.total_seconds() * 1e3
        if milliseconds:
            kind = f"{layer.node_type}, {layer.exec_type}"
            counts[kind] += 1
            spent[kind] += milliseconds
    return dict(counts), dict(spent)


def folded(kinds: list[tuple[str, int, list[float]]]) -> list[tuple[str, int, list[float]]]:
    """The kinds, with those below _LEAST_SHARE summed as "others"."""
    total = sum(sum(times) for _, _, times in kinds)
    large = [kind for kind in kinds if sum(kind[2]) >= _LEAST_SHARE * total]
    small = kinds[len(large) :]
    if not small:
        return large
    sums = [sum(column) for column in zip(*(times for _, _, times in small), strict=False)]
    return [*large, ("others", sum(count for _, count, _ in small), sums)]
