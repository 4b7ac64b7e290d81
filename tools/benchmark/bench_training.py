"""Part of the benchmark: training the full AttentionLSTM, as training.py measures it."""

from __future__ import annotations

from typing import Any

from bench_options import Options
from bench_report import Line, Part

from videotag.system.cores import mkl_cpu_type

PLAIN, PADDED, OURS = "padded to 300, default MKL", "padded to 300", "videotag"
LEAST_RATIO = 1.4
_BATCH_SIZE, _STEPS, _VIDEOS = 128, 4, 16384
_QUICK_BATCH_SIZE, _QUICK_STEPS, _QUICK_VIDEOS, _QUICK_FILES = 16, 2, 2048, 128
_QUICK_WARM_STEPS = {"cut": 2, "padded": 1}
_PLAIN_STEPS = 2  # each takes half a minute
_SHOWN_KERNELS = 6


def run(options: Options) -> Part:
    """Measures videos per second of every way, how long a step waits for its batch, and its kernels."""
    part = Part("Stage two, training: AttentionLSTM at full size, videos of 100 to 300 steps")
    size: dict[str, Any] = {"batch_size": _BATCH_SIZE, "steps": _STEPS, "num_videos": _VIDEOS}
    if options.quick:
        size = {"batch_size": _QUICK_BATCH_SIZE, "steps": _QUICK_STEPS, "num_videos": _QUICK_VIDEOS}
        size |= {"num_files": _QUICK_FILES, "warm_steps": _QUICK_WARM_STEPS}
    with options.child("bench_training:Training") as child:
        found = child.measure(rounds=options.num_rounds(cheap=not options.quick), **size)
    rates = {PADDED: found["padded"]["rates"], OURS: found["cut"]["rates"]}
    part.notes.append("All variants use the same training step; the two compared alternate in one process.")
    if mkl_cpu_type() and not options.quick:
        options.say("stage two, training: both ways")
        with options.child("bench_training:Training", is_plain=True) as child:
            plain = child.measure(rounds=1, ways=["padded"], **{**size, "steps": _PLAIN_STEPS})
        rates = {PLAIN: plain["padded"]["rates"], **rates}
        part.notes.append(
            "Default MKL: measured afterwards, without what videotag sets on this CPU (docs/runtimes.md)."
        )
    waits = {OURS: [100 * found["loader_wait_share"]]}
    padding = {name: [100 * found[way]["padding_share"]] for name, way in ((PADDED, "padded"), (OURS, "cut"))}
    kernels = list(found["kernels"].items())
    shown = {name: [ms] for name, ms in kernels[:_SHOWN_KERNELS]}
    shown["others"] = [sum(ms for _, ms in kernels[_SHOWN_KERNELS:])]
    text = f"batches of {size['batch_size']}, {size['num_videos']:,} videos"
    part.lines += [
        Line(text, "videos/s", rates, reference=PADDED, more_is_better=True, goals={OURS: LEAST_RATIO}),
        Line("share of what is computed that is padding", "percent", padding),
        Line("share of the time in which a step waits for its batch", "percent", waits),
        Line("a step, by kernel", "ms", shown),
    ]
    options.say("stage two, training")
    return part


class Training:
    """A contestant: both ways of training, in one process."""

    def measure(self, **size: Any) -> dict[str, Any]:
        """The result of training.measure."""
        import training

        from videotag.system.kept_memory import keep_freed_memory

        keep_freed_memory()
        return training.measure(**size)
