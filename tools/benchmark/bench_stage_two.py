"""Part of the benchmark: full-size AttentionLSTM, features in memory -> probabilities.

Shapes: N videos, T steps, C classes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_options import BASELINE, BASELINE_WITH_MKL, MKL_NOTE, Options, measures_of
from bench_report import Line, Part, take_turns

from videotag.system.cores import mkl_cpu_type

CONFIG = "configs/attention_lstm.yaml"
NUM_STEPS = 300
VIDEOS, QUICK_VIDEOS = 16, 4
LEAST_RATIO, MOST_ERROR = 5.0, 1e-3


def run(options: Options) -> Part:
    """Measures every installed backend in every precision, against layer-by-layer execution."""
    from videotag.runtime.backends import bf16_instructions, list_backends

    part = Part("Stage two, inference: AttentionLSTM (2048 to 512, 1024, 8192, 4096, 3396), 300 steps")
    chosen: dict[str, tuple[str | None, str]] = {BASELINE: (None, "f32")}
    if mkl_cpu_type():
        chosen[BASELINE_WITH_MKL] = (None, "f32")
        part.notes.append(MKL_NOTE)
    for backend in list_backends():
        for precision in backend.precisions:
            if backend.version() and (precision == "f32" or bf16_instructions()):
                chosen[f"{backend.name} {backend.version()}, {precision}"] = (backend.name, precision)
    count = QUICK_VIDEOS if options.quick else VIDEOS
    with tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, dict[str, Any]] = {
            name: {
                "backend": backend,
                "precision": precision,
                "output": f"{folder}/{index}.npy",
                "count": count,
            }
            for index, (name, (backend, precision)) in enumerate(chosen.items())
        }
        specs = dict.fromkeys(chosen, "bench_stage_two:Tagger")
        with options.children(specs, arguments) as children:
            options.say("stage two: started")
            measures = measures_of(children, "rate", count=count)
            rounds = take_turns(measures, options.num_rounds(cheap=True))
        probabilities = {name: np.load(arguments[name]["output"]) for name in chosen}
    errors = {
        name: [float(np.abs(found - probabilities[BASELINE]).max())]
        for name, found in probabilities.items()
        if name != BASELINE
    }
    ours = [name for name, way in chosen.items() if way == ("openvino", "f32")]
    ratios, bounds = dict.fromkeys(ours, LEAST_RATIO), dict.fromkeys(ours, MOST_ERROR)
    text = f"{count} videos at once"
    part.lines += [
        Line(text, "videos/s", rounds, reference=BASELINE, more_is_better=True, goals=ratios),
        Line("largest difference of a probability", "from the baseline", errors, goals=bounds),
    ]
    part.notes.append(
        "The baseline calls the layers one by one, in f32. Random weights. "
        "`auto` takes bf16 only where no probability differs by more than 0.001."
    )
    options.say("stage two, inference")
    return part


class Tagger:
    """A contestant: the tagger in a backend.

    Args:
        backend: Name of the backend; None runs layer by layer.
        precision: Precision of the backend.
        output: File to write the probabilities (N, C) to.
        count: Number N of fixed videos for `output`.
        config: Config of the tagger.
    """

    def __init__(
        self, backend: str | None, precision: str, output: str, count: int, config: str = CONFIG
    ) -> None:
        from videotag.config import load_config
        from videotag.models import load_models, paddle
        from videotag.registry import LOGITS
        from videotag.runtime.agreement import scores_of
        from videotag.runtime.backends import compile_network
        from videotag.runtime.trained import TrainedNetwork

        load_models()
        loaded = load_config(config)
        paddle.seed(0)
        model = loaded.entry.cls(loaded.model)
        self._dims = loaded.model.dims
        trained = TrainedNetwork.from_model(
            model, weights=["seed 0"], config=loaded.model.model_dump(mode="json"), name="bench"
        )
        self._network = (
            compile_network(trained, backend=backend, precision=precision) if backend else trained.run_layers
        )
        found = self._network(self._arrays(count))
        np.save(Path(output), scores_of("multi_label", found[LOGITS]))

    def measure(self, count: int) -> dict[str, Any]:
        """Videos per second of one batch of `count`."""
        arrays = self._arrays(count)
        started = time.perf_counter()
        self._network(arrays)
        return {"rate": count / (time.perf_counter() - started)}

    def _arrays(self, count: int) -> dict[str, np.ndarray]:
        """Features (N, T, D) >= 0, as after a ReLU, and masks (N, T)."""
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for name, dim in self._dims.items():
            arrays[name] = np.abs(rng.standard_normal((count, NUM_STEPS, dim), np.float32))
            arrays[f"{name}.mask"] = np.ones((count, NUM_STEPS), bool)
        return arrays
