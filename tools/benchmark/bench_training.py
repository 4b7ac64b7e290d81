"""Part of the benchmark: training a tagger on videos of different length, by the engine's own step.

The classic way fills every batch up to 300 steps; ours puts videos of like length together and fills up to
the longest of a batch. Both learn from the same batches of the same files.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench_options import Options, measures_of
from bench_report import Line, Part, take_turns

from videotag.atomic import write_text
from videotag.formats.features import write_features

LEAST_STEPS, MOST_STEPS = 100, 300
PADDED, OURS = "every batch padded to 300", "videotag"
LEAST_RATIO = 1.4
_DIM, _FILES = 2048, 64
#: Batches that the engine sorts by length together in a long epoch: these hold every length there is.
_BATCHES, _BATCH_SIZE, _EPOCH_BATCHES = 16, 16, 128
#: MODEL keys: embedding_size, lstm_size, fc_sizes, num_classes.
_SIZES: tuple[int, int, list[int], int] = (512, 256, [2048, 1024], 1000)
_QUICK_SIZES: tuple[int, int, list[int], int] = (64, 32, [128, 64], 100)


def run(options: Options) -> Part:
    """Videos per second of both, and how long a step waits for its batch."""
    embedding_size, lstm_size, fc_sizes, num_classes = sizes = _QUICK_SIZES if options.quick else _SIZES
    part = Part(
        f"Stage two, training: AttentionLSTM (2048 to {lstm_size}, {embedding_size}, {fc_sizes[0]}, "
        f"{fc_sizes[1]}, {num_classes}), videos of {LEAST_STEPS} to {MOST_STEPS} steps"
    )
    folder = str(make_features(options.work_dir / "features"))
    specs = {PADDED: "bench_training:Training", OURS: "bench_training:Training"}
    arguments: dict[str, dict[str, Any]] = {
        name: {"folder": folder, "sizes": sizes, "padded": name == PADDED} for name in specs
    }
    waits: list[float] = []
    with options.children(specs, arguments) as children:
        options.say("training: started")

        def ours() -> float:
            found = children[OURS].measure()
            waits.append(100 * found["waiting_share"])
            return float(found["rate"])

        measures = {**measures_of(children, "rate"), OURS: ours}
        rounds = take_turns(measures, options.num_rounds(cheap=False))
    text = f"batches of {_BATCH_SIZE}, {_BATCHES} steps"
    part.lines += [
        Line(text, "videos/s", rounds, reference=PADDED, more_is_better=True, goals={OURS: LEAST_RATIO}),
        Line("share of the time in which a step waits for its batch", "percent", {OURS: waits}),
    ]
    options.say("stage two, training")
    return part


def make_features(folder: Path) -> Path:
    """Files of features whose lengths are spread evenly, made if they are not there; their folder."""
    rng = np.random.default_rng(0)
    for index, length in enumerate(np.linspace(LEAST_STEPS, MOST_STEPS, _FILES).round().astype(int)):
        path = folder / f"{index}.npy"
        rows = np.abs(rng.standard_normal((length, _DIM), np.float32))
        if not path.exists():
            write_features(path, rows)
    return folder


class Training:
    """A contestant: some steps of an epoch over the files, each of which stands in the list many times.

    Args:
        folder: of make_features; also gets a config.
        sizes: of the network, see _SIZES.
        padded: whether every batch is filled up to MOST_STEPS.
        batches: steps of a measurement.
    """

    def __init__(
        self, folder: str, sizes: tuple[int, int, list[int], int], padded: bool, batches: int = _BATCHES
    ):
        from videotag.config import load_config
        from videotag.engine.data import open_dataset
        from videotag.engine.learner import Learner
        from videotag.formats.filelist import ListEntry
        from videotag.models import load_models, paddle

        load_models()
        embedding_size, lstm_size, fc_sizes, num_classes = sizes
        model = {"name": "AttentionLSTM", "feature_dims": [_DIM], "num_classes": num_classes}
        model |= {"embedding_size": embedding_size, "lstm_size": lstm_size, "fc_sizes": fc_sizes}
        path = Path(folder) / f"{'padded' if padded else 'ours'}.yaml"
        write_text(path, yaml.safe_dump({"MODEL": model, "TRAIN": {"batch_size": _BATCH_SIZE, "seed": 0}}))
        self._config, self._padded, self._batches = load_config(path), padded, batches
        files = sorted(Path(folder).glob("*.npy"), key=lambda file: int(file.stem))
        entries = [ListEntry(str(file), (int(file.stem) % num_classes,)) for file in files]
        repeats = -(-_BATCH_SIZE * _EPOCH_BATCHES // len(entries))
        self._data = open_dataset(self._config, entries * repeats, self._config.train)
        paddle.seed(0)
        network = self._config.entry.cls(self._config.model)
        self._learner = Learner(
            network, self._config.train, self._config.task, steps_per_epoch=_EPOCH_BATCHES
        )
        self._learner.start_epoch()
        self._learner.learn(next(self._epoch()), step=0, seed=0)  # the first step is a slow one

    def measure(self) -> dict[str, Any]:
        """Videos per second, and the share of the time in which steps waited for their batch."""
        batches = self._epoch()
        waiting, videos, started = 0.0, 0, time.perf_counter()
        for step in range(self._batches):
            asked = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - asked
            learned = self._learner.learn(batch, step=step, seed=step)
            assert learned
            learned[0].item()  # the step is done
            videos += len(batch.video_ids)
        seconds = time.perf_counter() - started
        return {"rate": videos / seconds, "waiting_share": waiting / seconds}

    def _epoch(self) -> Iterator[Any]:
        from videotag.engine.data import training_batches

        def refuse(video: str, error: Exception) -> None:
            raise error

        batches = training_batches(self._config, self._data, epoch=0, seed=0, on_error=refuse)
        batches = itertools.islice(batches, self._batches)
        return map(padded_to_most, batches) if self._padded else batches


def padded_to_most(batch: Any) -> Any:
    """The batch (N, T, D) filled up to (N, MOST_STEPS, D)."""
    width = {name: (0, MOST_STEPS - x.shape[1]) for name, x in batch.features.items()}
    features = {name: np.pad(x, ((0, 0), width[name], (0, 0))) for name, x in batch.features.items()}
    masks = {name: np.pad(mask, ((0, 0), width[name])) for name, mask in batch.masks.items()}
    return replace(batch, features=features, masks=masks)
