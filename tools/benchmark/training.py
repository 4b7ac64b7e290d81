"""Measures training on a CPU: what a step spends its time on, and the gain of not computing padding.

    python tools/benchmark/training.py
    python tools/benchmark/training.py --rounds=1 --steps=2 --batch_size=8 --videos=2048

Writes feature files of 100 to 300 time steps and trains AttentionLSTM on them in two ways that take turns:
  cut     as `videotag train` does: batches of videos of similar length, each cut to its longest
  padded  batches in random order, each padded to 300 time steps

Prints videos per second of each way, by the clock and by processor time, which other work affects less. They
follow from the measured time steps per second and the time steps of a whole epoch, so the lengths of timed
batches do not matter. Also prints:
  - the share of padding in an epoch's batches;
  - for cut alone, the share of time in which steps wait for the loader, and the time of one step by kernel;
  - the loss curves of a small network on the same videos, where the ways differ only by the order of batches.
Results: docs/training.md.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from videotag.system.quiet_paddle import paddle

import numpy as np
from run_tool import run_tool

from videotag.config import Config, load_config
from videotag.datasets.batches import Batch
from videotag.datasets.order import shuffled_groups
from videotag.datasets.sample_dataset import READER_THREADS, SampleDataset
from videotag.errors import EXIT_OK, ConfigError, VideotagError
from videotag.formats.filelist import ListEntry
from videotag.inference.data import open_dataset
from videotag.models import load_models
from videotag.registry import MASK
from videotag.system.kept_memory import keep_freed_memory
from videotag.training.batches import training_batches
from videotag.training.learner import Learner

LEAST_STEPS, MOST_STEPS = 100, 300
WAYS = ("cut", "padded")
SEED = 1
#: Steps until all memory is allocated that later steps reuse; fewer if all batches have the same size.
WARM_STEPS: Mapping[str, int] = {"cut": 12, "padded": 4}
NUM_FILES = 512  # 840 MB at full size
_READ_AHEAD = READER_THREADS + 1  # batches
_KERNEL = " kernel launch"  # follows a kernel's name in Paddle's profile
SMALL = {"dim": 64, "num_classes": 20, "embedding_size": 32, "lstm_size": 16, "fc_sizes": (32, 32)}


def main(argv: list[str] | None = None) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--steps", default=4, type=int, help="steps per way and round")
    parser.add_argument("--batch_size", default=128, type=int, help="default: %(default)s, 8 GB")
    parser.add_argument(
        "--videos", default=16384, type=int, help="size of the data set (default: %(default)s)"
    )
    parser.add_argument("--epochs", default=8, type=int, help="epochs of the small network's loss curves")
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    for name, number in vars(args).items():
        if number < 1:
            raise ConfigError(f"--{name}={number}: expected at least 1")
    if args.videos < args.batch_size:
        raise ConfigError(f"--videos={args.videos}: expected at least one batch, of {args.batch_size}")
    keep_freed_memory()  # as `videotag train` does
    print(table(measure(args.rounds, steps=args.steps, batch_size=args.batch_size, num_videos=args.videos)))
    print("\n| epoch | loss, cut | loss, padded |\n|---|---|---|")
    for epoch, (cut, padded) in enumerate(zip(*loss_curves(args.epochs).values(), strict=True)):
        print(f"| {epoch} | {cut:.4f} | {padded:.4f} |")
    return EXIT_OK


@dataclass
class Timings:
    """Measurements of one way.

    Attributes:
        seconds: Wall time of training steps, including waiting for the loader.
        wait_sec: Wall time of waiting for the loader.
        processor_sec: Processor time of training steps, over all threads.
        steps: Computed time steps, padding included.
        losses: Loss of every training step.
        rates: Time steps per second in every round.
    """

    seconds: float = 0.0
    wait_sec: float = 0.0
    processor_sec: float = 0.0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


class Trial:
    """Trains on a data set in one way; warms up when it is created.

    Args:
        way: One of WAYS.
        config: Config of the network.
        data: Data set, repeated as often as needed.
        warm_steps: Number of warm-up steps, which create the optimizer's state.
    """

    def __init__(self, way: str, config: Config, data: SampleDataset, *, warm_steps: int) -> None:
        self._way, self._config, self._data = way, config, data
        self._learner = _learner(config)
        epochs = (_batches(way, config, data, epoch=epoch) for epoch in itertools.count())
        self._batches = itertools.chain.from_iterable(epochs)
        self._timings = Timings()
        _warm_up(self._learner, way, self._batches, warm_steps)

    def learn(self, steps: int) -> None:
        """Trains for one round of `steps` steps."""
        _learn(self._learner, self._way, self._batches, steps, self._timings)

    def found(self) -> dict[str, Any]:
        """Results of all rounds.

        Returns:
            Keys samples_per_sec, rates (the same by round), samples_per_processor_sec, padding_share, losses.
        """
        per_video = _steps_per_video(self._config, self._data)[self._way]
        assert self._data.sizes is not None, "of sequences"
        return _summary(self._timings, per_video, float(self._data.sizes.mean()))

    def wait_share(self, steps: int) -> float:
        """Share of time that `steps` more steps, run back to back, wait for their batches, in [0, 1]."""
        timings = Timings()
        _learn(self._learner, self._way, self._batches, _READ_AHEAD, timings)  # were read in the meantime
        timings = Timings()
        _learn(self._learner, self._way, self._batches, steps, timings)
        return timings.wait_sec / timings.seconds

    def profile(self) -> dict[str, Any]:
        """Milliseconds of one more step of "cut", by kernel in "kernels" and in total in "step_ms"."""
        kernels, step_ms = profile(self._learner, next(self._batches))
        return {"kernels": kernels, "step_ms": step_ms}


def measure(
    rounds: int = 3,
    *,
    steps: int = 4,
    batch_size: int = 16,
    num_videos: int = 2048,
    num_files: int = NUM_FILES,
    ways: Sequence[str] = WAYS,
    warm_steps: Mapping[str, int] = WARM_STEPS,
    **sizes: Any,
) -> dict[str, Any]:
    """Measures the ways in turn, and profiles one step.

    Both run in one process: on a virtual machine, memory that a process does not touch for a minute may
        become
    slow.

    Args:
        rounds: Number of rounds; the ways take turns in each.
        steps: Training steps per way and round.
        batch_size: Number N of videos per batch.
        num_videos: Size of the data set; more videos give batches of more similar lengths.
        num_files: Number of files to write; if smaller than num_videos, files are used several times.
        ways: Ways to measure, out of WAYS.
        warm_steps: Way -> number of warm-up steps.
        sizes: Arguments of `_config`; by default, the sizes of configs/attention_lstm.yaml.

    Returns:
        Way -> result of Trial.found. With "cut", also loader_wait_share, kernels and step_ms. With all of
        WAYS, also the videos per second of "cut" relative to "padded": ratio (median of the rounds) and
        processor_ratio (by processor time).
    """
    with tempfile.TemporaryDirectory() as folder:
        config, data = _data_set(Path(folder), num_videos, batch_size, sizes, num_files)
        trials = {way: Trial(way, config, data, warm_steps=warm_steps[way]) for way in ways}
        for _ in range(rounds):
            for trial in trials.values():
                trial.learn(steps)
        result: dict[str, Any] = {way: trial.found() for way, trial in trials.items()}
        if "cut" in trials:
            result["loader_wait_share"] = trials["cut"].wait_share(steps)
            result |= trials["cut"].profile()
        trials.clear()  # also ends the reader threads
    if tuple(ways) == WAYS:
        rounds_of_both = zip(*(result[way]["rates"] for way in WAYS), strict=True)
        cut, padded = (result[way]["samples_per_processor_sec"] for way in WAYS)
        result["ratio"] = statistics.median(a / b for a, b in rounds_of_both)
        result["processor_ratio"] = cut / padded
    return result


def loss_curves(epochs: int, *, num_videos: int = 512, batch_size: int = 16) -> dict[str, list[float]]:
    """Way -> mean loss of every epoch of a small network, with the same initial weights and videos."""
    curves: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config, data = _data_set(Path(folder), num_videos, batch_size, SMALL)
        for way in WAYS:
            learner, step = _learner(config), 0
            curves[way] = []
            for epoch in range(epochs):
                losses = []
                for batch in _batches(way, config, data, epoch=epoch):
                    losses.append(_loss(learner, _padded(batch) if way == "padded" else batch, step))
                    step += 1
                curves[way].append(float(np.mean(losses)))
    return curves


def profile(learner: Learner, batch: Batch, *, most: int = 12) -> tuple[dict[str, float], float]:
    """Milliseconds of one step: by kernel, longest first and the rest as "other"; and in total."""
    from paddle import profiler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.json"
        # Without on_trace_ready, it writes into the working folder.
        watch = profiler.Profiler(
            targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda it: it.export(str(path), "json")
        )
        watch.start()
        start = time.perf_counter()
        learner.learn(batch, step=1, seed=1)
        step_ms = 1e3 * (time.perf_counter() - start)
        watch.stop()
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    times: Counter[str] = Counter()
    for event in events:
        name, found, _ = event.get("name", "").partition(_KERNEL)
        if found and event.get("ph") == "X":
            times[name] += event["dur"] / 1e3
    kernels = dict(times.most_common(most))
    return kernels | {"other": step_ms - sum(kernels.values())}, step_ms


def table(result: dict[str, Any]) -> str:
    """The result of `measure` as Markdown tables."""
    lines = [
        "| way | videos/s | per processor second | padding |",
        "|---|---|---|---|",
    ]
    for way in WAYS:
        one = result[way]
        lines.append(
            f"| {way} | {one['samples_per_sec']:.2f} | {one['samples_per_processor_sec']:.2f} "
            f"| {one['padding_share']:.1%} |"
        )
    lines += [
        f"| ratio | {result['ratio']:.2f} | {result['processor_ratio']:.2f} | |",
        "",
        f"A step of cut waits for its batch {result['loader_wait_share']:.2%} of the time.",
        "",
        f"| kernel | ms of a step of {result['step_ms']:,.0f} |",
        "|---|---|",
        *(f"| {name} | {ms:,.0f} |" for name, ms in result["kernels"].items()),
    ]
    return "\n".join(lines)


def _data_set(
    folder: Path, num_videos: int, batch_size: int, sizes: dict[str, Any], num_files: int = NUM_FILES
) -> tuple[Config, SampleDataset]:
    """Writes float32 features of 100 to 300 steps as .npy files; returns them with the config of a network.

    Tag c of a video is a spike in feature c.
    """
    config = _config(batch_size, **sizes)
    (dim,), num_classes = config.model.dims.values(), config.model.num_classes
    rng = np.random.default_rng(SEED)
    entries = []
    for number in range(min(num_videos, num_files)):
        label_ids = np.sort(rng.choice(min(dim, num_classes), size=3, replace=False))
        features = rng.standard_normal((rng.integers(LEAST_STEPS, MOST_STEPS + 1), dim), np.float32)
        features[rng.integers(len(features), size=(20, 1)), label_ids] += 3.0
        path = folder / f"{number}.npy"
        np.save(path, features)
        entries.append(ListEntry(str(path), tuple(label_ids.tolist())))
    entries = list(itertools.islice(itertools.cycle(entries), num_videos))
    data = open_dataset(config, entries, config.train)
    assert isinstance(data, SampleDataset)
    return config, data


def _config(
    batch_size: int,
    *,
    dim: int = 2048,
    num_classes: int = 3396,
    embedding_size: int = 1024,
    lstm_size: int = 512,
    fc_sizes: tuple[int, int] = (8192, 4096),
) -> Config:
    """The config of configs/attention_lstm.yaml with other sizes."""
    load_models()
    model = {"feature_dims": [dim], "num_classes": num_classes, "embedding_size": embedding_size}
    model |= {"lstm_size": lstm_size, "fc_sizes": list(fc_sizes)}
    values = [(f"MODEL.{key}", value) for key, value in model.items()]
    values += [("TRAIN.batch_size", batch_size), ("TRAIN.use_gpu", False), ("TRAIN.drop_last", True)]
    return load_config("configs/attention_lstm.yaml", overrides=values)


def _learner(config: Config) -> Learner:
    paddle.seed(SEED)
    model = config.entry.cls(config.model)
    num_classes = config.model.num_classes
    learner = Learner(model, config.train, config.task, steps_per_epoch=1000, num_classes=num_classes)
    learner.start_epoch()
    return learner


def _batches(way: str, config: Config, data: SampleDataset, *, epoch: int) -> Iterator[Batch]:
    """Yields the batches of an epoch in one way."""
    if way == "cut":
        yield from training_batches(config, data, epoch=epoch, seed=SEED, on_error=_fail)  # type: ignore[misc]
        return
    rng = np.random.default_rng([SEED, epoch])
    groups = shuffled_groups(data.shuffled(rng), config.train.batch_size, rng, drop_last=True)
    yield from data.batches(groups, on_error=_fail)  # type: ignore[misc]


def _warm_up(learner: Learner, way: str, batches: Iterator[Batch], steps: int) -> None:
    """Trains for some steps, which create the optimizer's state and allocate memory for later ones."""
    for number, batch in enumerate(itertools.islice(batches, steps)):
        longest = number == 0 or way == "padded"  # the longest batch needs the most memory
        _loss(learner, _padded(batch) if longest else batch, step=0)


def _learn(learner: Learner, way: str, batches: Iterator[Batch], steps: int, timings: Timings) -> None:
    """Trains for some steps in one way, after one that is not counted.

    The batch of the first step was read during the previous round, and the other way has filled the CPU
    caches.
    """
    steps_before, seconds = timings.steps, timings.seconds
    _loss(learner, _padded(next(batches)) if way == "padded" else next(batches), step=0)
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        wait_sec = time.perf_counter() - start
        if way == "padded":  # not timed: a loader would do it
            batch = _padded(batch)
        start, processor_start = time.perf_counter(), time.process_time()
        timings.losses.append(_loss(learner, batch, step=len(timings.losses) + 1))
        step_sec = time.perf_counter() - start
        timings.processor_sec += time.process_time() - processor_start
        timings.seconds += wait_sec + step_sec
        timings.wait_sec += wait_sec
        (mask,) = (x for name, x in batch.inputs.items() if name.endswith(MASK))
        timings.steps += mask.size
    timings.rates.append((timings.steps - steps_before) / (timings.seconds - seconds))


def _loss(learner: Learner, batch: Batch, step: int) -> float:
    """Trains on a batch and returns its loss."""
    learned = learner.learn(batch, step=step, seed=step)
    assert learned is not None
    return float(learned[0].item())


def _padded(batch: Batch) -> Batch:
    """The batch, padded to 300 steps."""
    return replace(
        batch,
        inputs={
            name: np.pad(x, [(0, 0), (0, MOST_STEPS - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
            for name, x in batch.inputs.items()
        },
    )


def _summary(timings: Timings, steps_per_video: float, mean_steps: float) -> dict[str, Any]:
    return {
        "samples_per_sec": timings.steps / steps_per_video / timings.seconds,
        "rates": [rate / steps_per_video for rate in timings.rates],
        "samples_per_processor_sec": timings.steps / steps_per_video / timings.processor_sec,
        "padding_share": 1 - mean_steps / steps_per_video,
        "losses": timings.losses,
    }


def _steps_per_video(config: Config, data: SampleDataset) -> dict[str, float]:
    """Way -> computed time steps per video, averaged over an epoch."""
    rng = np.random.default_rng([SEED, 0])
    assert data.sizes is not None, "of sequences"
    groups = shuffled_groups(data.shuffled(rng), config.train.batch_size, rng, sizes=data.sizes)
    cut = sum(int(data.sizes[group].max()) * len(group) for group in groups) / len(data)
    return {"cut": cut, "padded": float(MOST_STEPS)}


def _fail(video: str, error: VideotagError) -> NoReturn:
    raise error


if __name__ == "__main__":
    exit_with(main())
