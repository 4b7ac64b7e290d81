"""Part of the benchmark: all metrics over YouTube-8M's number of classes, from batches of scores.

Shapes: N videos of a batch, C classes.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Any

import baseline
import numpy as np
from bench_options import BASELINE, Options
from bench_report import Line, Part, take_turns

from videotag.metrics import TaggingMetrics

NUM_CLASSES, BATCH_SIZE = 3862, 1024
VIDEOS, QUICK_VIDEOS = 1_000_000, 50_000
BASELINE_VIDEOS, QUICK_BASELINE_VIDEOS = 50_000, 5_000
OURS = "videotag"
MOST_SEC, MOST_MB = 60.0, 1000.0  # for a million videos
_MB = 1e3  # kB


def run(options: Options) -> Part:
    """Measures seconds and memory, the baseline scaled to the same number of videos."""
    count = QUICK_VIDEOS if options.quick else VIDEOS
    few = QUICK_BASELINE_VIDEOS if options.quick else BASELINE_VIDEOS
    part = Part(f"Metrics: Hit@1, PERR, GAP and mAP of {count:,} videos x {NUM_CLASSES:,} classes")
    specs = dict.fromkeys((BASELINE, OURS), "bench_metrics:Metrics")
    arguments = {name: {"is_baseline": name == BASELINE} for name in specs}
    memory: list[float] = []
    with options.children(specs, arguments) as children:

        def ours() -> float:
            found = children[OURS].measure(count=count)
            memory.append(found["growth_mb"])
            return float(found["seconds"])

        def theirs() -> float:
            return float(children[BASELINE].measure(count=few)["seconds"]) * count / few

        rounds = take_turns({BASELINE: theirs, OURS: ours}, options.num_rounds(cheap=False))
    part.lines.append(Line("batches of 1,024", "seconds", rounds, reference=BASELINE))
    part.lines.append(Line("videotag by itself", "seconds", {OURS: rounds[OURS]}, goals={OURS: MOST_SEC}))
    # Later rounds reuse memory, so only the first shows how much is needed.
    part.lines.append(Line("growth of memory at most", "MB", {OURS: memory[:1]}, goals={OURS: MOST_MB}))
    part.notes.append(
        f"Making the scores is not counted. The baseline was measured on {few:,} videos and multiplied; "
        "its sorts grow faster than that."
    )
    options.say("metrics")
    return part


class Metrics:
    """A contestant: updates with batches and computes at the end.

    Args:
        is_baseline: Whether to use the baseline.
    """

    def __init__(self, is_baseline: bool) -> None:
        self._is_baseline = is_baseline

    def measure(
        self, count: int, num_classes: int = NUM_CLASSES, batch_size: int = BATCH_SIZE
    ) -> dict[str, Any]:
        """Seconds, the growth of memory in MB, and the values."""
        metrics: Any = baseline.Metrics(num_classes) if self._is_baseline else TaggingMetrics()
        seconds = 0.0
        before: float | None = None
        for scores, labels in score_batches(count, num_classes, batch_size):
            before = _peak_mb() if before is None else before  # including one batch
            started = time.perf_counter()
            metrics.update(scores, labels)
            seconds += time.perf_counter() - started
        started = time.perf_counter()
        values = metrics.compute()
        seconds += time.perf_counter() - started
        return {"seconds": seconds, "growth_mb": _peak_mb() - (before or 0.0), "values": values}


def score_batches(
    count: int, num_classes: int, batch_size: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields random scores (N, C) float32 and labels (N, C) bool, at most three per video."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        scores = rng.random((size, num_classes), np.float32)
        labels = np.zeros((size, num_classes), bool)
        chosen = rng.integers(0, num_classes, (size, 3))
        np.put_along_axis(labels, chosen, True, axis=1)
        np.put_along_axis(scores, chosen[:, :1], 0.999 + 0.001 * scores[:, :1], axis=1)  # some are right
        yield scores, labels


def _peak_mb() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
