"""Part of the benchmark: training the full AttentionLSTM, as training.py measures it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from bench_child import Child
from bench_options import Options
from bench_report import Line, Part

from videotag.cores import mkl_path

PLAIN, PADDED, OURS = "padded to 300, MKL as it comes", "padded to 300", "videotag"
WAYS = {PLAIN: "padded", PADDED: "padded", OURS: "cut"}
LEAST_RATIO = 1.4
_BATCH_SIZE, _STEPS, _VIDEOS = 128, 3, 16384
_QUICK_BATCH_SIZE, _QUICK_STEPS, _QUICK_VIDEOS = 16, 2, 2048
_SHOWN_KERNELS = 6


def run(options: Options) -> Part:
    """Videos per second of both, how long a step waits for its batch, and where a step's time goes."""
    part = Part("Stage two, training: AttentionLSTM at full size, videos of 100 to 300 steps")
    size = {"batch_size": _BATCH_SIZE, "num_videos": _VIDEOS}
    steps = _STEPS
    if options.quick:
        size, steps = {"batch_size": _QUICK_BATCH_SIZE, "num_videos": _QUICK_VIDEOS}, _QUICK_STEPS
    names = list(WAYS) if mkl_path() and not options.quick else [PADDED, OURS]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        children: dict[str, Child] = {}
        for name in names:
            child = options.child(
                "bench_training:Training", is_plain=name == PLAIN, way=WAYS[name], folder=folder, **size
            )
            children[name] = stack.enter_context(child)
            options.say(f"stage two, training: {name} is warm")
        for _ in range(options.num_rounds(cheap=False)):
            found = {name: child.measure(steps=steps) for name, child in children.items()}
        shown = children[OURS].measure(steps=0)["kernels"]
    kernels = list(shown.items())
    parts = {name: [ms] for name, ms in kernels[:_SHOWN_KERNELS]}
    parts["others"] = [sum(ms for _, ms in kernels[_SHOWN_KERNELS:])]
    text = f"batches of {size['batch_size']}, {size['num_videos']:,} videos"
    rates = {name: found[name]["rates"] for name in names}
    padding = {name: [100 * found[name]["padding_share"]] for name in (PADDED, OURS)}
    waits = {OURS: [100 * found[OURS]["loader_wait_share"]]}
    part.lines += [
        Line(text, "videos/s", rates, reference=PADDED, more_is_better=True, goals={OURS: LEAST_RATIO}),
        Line("share of what is computed that is padding", "percent", padding),
        Line("share of the time in which a step waits for its batch", "percent", waits),
        Line("a step, by kernel", "ms", parts),
    ]
    part.notes.append("All learn by the engine's own step.")
    if PLAIN in names:
        part.notes.append("MKL as it comes: without the MKL_DEBUG_CPU_TYPE that videotag sets on this CPU.")
    options.say("stage two, training")
    return part


class Training:
    """A contestant: one way of training.

    Args:
        way: of training.WAYS.
        folder: for the features, which all ways share.
        size: batch_size and num_videos, as of training.Trial.
    """

    def __init__(self, way: str, folder: str, **size: Any) -> None:
        import training

        from videotag.kept_memory import keep_freed_memory

        keep_freed_memory()
        self._trial = training.Trial(way, Path(folder), **size)

    def measure(self, steps: int) -> dict[str, Any]:
        """What was found in all rounds with this one; after 0 steps, the profile of another."""
        if not steps:
            return self._trial.profile()
        self._trial.learn(steps)
        return self._trial.found()
