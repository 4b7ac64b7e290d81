"""Part of the benchmark: ResNet-101, frames in memory -> features.

The weights are random, but share two properties of a trained network: batch norm is fitted to generated film,
so values stay in range, and residual blocks add little, so bf16 rounding errors do not grow from block to
block.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import baseline
import numpy as np
from bench_clips import film_frames
from bench_options import BASELINE, BASELINE_WITH_MKL, MKL_NOTE, Options, measures_of
from bench_report import Line, Part, take_turns

from videotag.system.cores import mkl_cpu_type

CONFIG = "configs/tsn.yaml"
BASELINE_FRAMES, QUICK_FRAMES = 300, 16
F32, BF16 = "videotag, f32", "videotag, bf16"
_BLOCK_SHARE = 0.2  # standard deviation of a residual block's output
_FITTED = 16  # frames that batch norm is fitted to


def run(options: Options) -> Part:
    """Measures the backend that `auto` selects, in each precision, against layer-by-layer execution."""
    from videotag.runtime.backends import bf16_instructions

    part = Part("Stage one: ResNet-101, 224x224 frames in memory to features")
    weights = str(make_weights(options))
    count = QUICK_FRAMES if options.quick else BASELINE_FRAMES
    specs = {BASELINE: "baseline:Frames"}
    if mkl_cpu_type():
        specs[BASELINE_WITH_MKL] = "baseline:Frames"
        part.notes.append(MKL_NOTE)
    arguments = {name: {"weights": weights} for name in specs}
    specs[F32], precisions = "bench_stage_one:Frames", {F32: "f32"}
    if bf16_instructions():
        specs[BF16], precisions[BF16] = "bench_stage_one:Frames", "bf16"
    else:
        part.notes.append("No bf16: this CPU has no instructions for it.")
    for name, precision in precisions.items():
        arguments[name] = {"weights": weights, "precision": precision}
    with options.children(specs, arguments) as children:
        for name in precisions:
            part.notes.append(f"{name}: {children[name].facts['runtime']}.")
        measures = measures_of(children, "rate", count=count)
        rounds = take_turns(measures, options.num_rounds(cheap=False))
    part.lines.append(Line(f"{count} frames", "frames/s", rounds, reference=BASELINE, more_is_better=True))
    part.notes.append(f"The baseline takes the {count} frames as one batch. Weights are random.")
    options.say("stage one")
    return part


def make_weights(options: Options) -> Path:
    """The weights that all contestants share; generates them if they are missing."""
    path = options.work_dir / "resnet101.pdparams"
    if not path.is_file():
        options.say("making weights")
        with options.child("bench_stage_one:MakeWeights", path=str(path)):
            pass
    return path


class MakeWeights:
    """Writes a TSN with random weights.

    Args:
        path: The weight file to write.
        config: Config of the TSN.
    """

    def __init__(self, path: str, config: str = CONFIG) -> None:
        from videotag.config import load_config
        from videotag.models import load_models, paddle
        from videotag.training.checkpoint import save_weights

        load_models()
        loaded = load_config(config)
        paddle.seed(0)
        model = loaded.entry.cls(loaded.model)
        norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
        for norm in norms:
            norm._momentum = 0.0  # the running statistics become those of the only batch
        for name, norm in model.named_sublayers():
            if name.endswith(".bn3"):
                norm.weight.set_value(paddle.full_like(norm.weight, _BLOCK_SHARE))
        model.train()
        size = loaded.infer.target_size
        images = np.stack([next(film_frames(size, size, 1, seed=seed)) for seed in range(_FITTED)])
        with paddle.no_grad():
            model.backbone(paddle.to_tensor(baseline.normalized(images)))
        save_weights(model, Path(path))


class Frames:
    """A contestant: the extractor of `videotag extract`, with backend and precision already selected.

    Args:
        weights: Weights of the TSN.
        precision: Precision of the network, "f32", "bf16" or "auto".
        config: Config of the TSN.
    """

    def __init__(self, weights: str, precision: str, config: str = CONFIG) -> None:
        self.extractor = open_extractor(weights, precision, config=config)
        self._size = self.extractor.config.infer.target_size
        self.measure(count=16)
        network = self.extractor.network
        self.facts = {"runtime": f"{network.runtime}, {network.precision}"}

    def measure(self, count: int) -> dict[str, Any]:
        """Frames per second of `count` noise frames."""
        from videotag.inputs.frames import Frames as VideoFrames

        images = np.random.default_rng(0).integers(0, 256, (count, self._size, self._size, 3), np.uint8)
        frames = VideoFrames(images, np.arange(count), None, 0.0, None)
        started = time.perf_counter()
        self.extractor.features(frames)
        return {"rate": count / (time.perf_counter() - started)}


def open_extractor(weights: str, precision: str, *, num_frames: int = 300, config: str = CONFIG) -> Any:
    """An Extractor with these weights; it has not selected its backend yet."""
    from videotag.config import load_config
    from videotag.inference.extractor import load_extractor
    from videotag.models import load_models
    from videotag.weights import FoundWeights

    load_models()
    overrides: list[tuple[str, Any]] = [("INFER.precision", precision), ("INFER.seg_num", num_frames)]
    return load_extractor(load_config(config, overrides=overrides), FoundWeights(Path(weights)))
