"""Trains every tagger on the same generated features and evaluates it by kind of tag.

The benchmark checks itself. It finds the models that see order by shuffling steps. The others must fail at
order tags, or the features give order away. At least one of those that see it must learn order tags, or the
benchmark is too hard to say anything. "Told apart" is the share of order tags that get the higher score in
the right one of two twins. Chance is 0.5; equal scores count as 0.5.
Shapes: N videos, T steps, C classes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from videotag.system.quiet_paddle import paddle

import numpy as np
import yaml
from paddle import nn

from videotag.config import Config, load_config
from videotag.datasets.batches import Batch
from videotag.datasets.synthetic_features import KINDS, FeatureSet, SyntheticOptions
from videotag.errors import OutputError, VideotagError
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.formats.yt8m_records import YT8MRecord, write_yt8m
from videotag.inference.data import evaluation_batches, open_dataset
from videotag.inference.evaluate import evaluate, in_layers
from videotag.inference.load_weights import load_model
from videotag.labels import write_labels
from videotag.metrics import PerClass
from videotag.registry import LOGITS, MASK, ModelEntry
from videotag.system.atomic import write_text
from videotag.training.train import train_model

CHANCE_MARGIN = 0.05  # largest distance of told_apart from 0.5 for models blind to order
MIN_TOLD_APART = 0.75  # for the best model that sees order
SAME_SCORE = 1e-4  # smaller differences are rounding errors
NEVER = 10**9  # steps between log lines
#: Sizes for every model that has the key, so that new models are small too.
COMMON_SIZES: dict[str, Any] = {
    "embedding_size": 64,
    "lstm_size": 64,
    "hidden_size": 64,
    "cluster_size": 16,
    "cluster_nums": 8,
    "fc_sizes": [128, 128],
    "num_heads": 4,
    "groups": 4,
}
COMMON_TRAINING: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.003,
    "batch_size": 64,
    "clip_norm": 5.0,
    "weight_decay": 0.0,
    "warmup_epochs": 1,
    "decay_gamma": 0.3,
    "keep": 1,
}
DECAY_AT = (0.6, 0.8)  # as shares of the epochs
#: Model -> its own MODEL and TRAIN keys.
OWN_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AttentionCluster": ({"fc_sizes": [256, 256], "drop_rate": 0.2}, {}),
    "AttentionLSTM": ({"fc_sizes": [256, 256], "drop_rate": 0.1, "class_prior": 0.1}, {}),
    "BiGRU": ({"num_layers": 1}, {"learning_rate": 0.004}),
    "BiLSTM": ({"num_layers": 1}, {"learning_rate": 0.004}),
    "LatentTransformer": ({}, {"learning_rate": 0.002}),
    "MaxPool": ({}, {"learning_rate": 0.05}),
    "MeanPool": ({}, {"learning_rate": 0.05}),
    "MoE": ({}, {"learning_rate": 0.05}),
    "NetVLAD": ({}, {"learning_rate": 0.005}),
    "NeXtVLAD": ({}, {"learning_rate": 0.005}),
    "StatisticsPool": ({"fc_sizes": []}, {"learning_rate": 0.01}),
}
logger = logging.getLogger("videotag.tools.zoo")  # which commands show


@dataclass(frozen=True)
class BenchOptions:
    """Size of a run.

    Attributes:
        seed: Seed of features and training.
        num_train: Number of training videos.
        num_test: Number of test videos.
        epochs: Number of training epochs.
        features: Size and difficulty of the features.
    """

    seed: int
    num_train: int
    num_test: int
    epochs: int
    features: SyntheticOptions = field(default_factory=SyntheticOptions)


class Data(NamedTuple):
    """Features on disk."""

    feature_set: FeatureSet
    train: list[ListEntry]
    test: list[ListEntry]  # twins side by side
    labels: list[str]


@dataclass(frozen=True)
class Row:
    """Results of one model; metrics and shares are in [0, 1].

    Attributes:
        model: Name of the model.
        sees_order: Whether its logits change when steps are shuffled.
        gap, hit_at_one, perr, mean_ap: Metrics over all tags.
        mean_ap_by_kind: Kind of tag -> mean average precision over its classes.
        told_apart: Share of twins told apart, see the module docstring.
        num_parameters: Number of trainable parameters.
        trained_per_sec: Videos per second in training, including reading and checkpoints.
        tagged_per_sec: Videos per second in inference, from arrays in memory.
        train_cpu_sec: Processor seconds of training over all cores; other work hardly affects it.
    """

    model: str
    sees_order: bool
    gap: float
    hit_at_one: float
    perr: float
    mean_ap: float
    mean_ap_by_kind: dict[str, float]
    told_apart: float
    num_parameters: int
    trained_per_sec: float
    tagged_per_sec: float
    train_cpu_sec: float


class TwinScores:
    """Accumulates how well a model tells twins apart; twins are neighbours in the list.

    Args:
        order_classes: Ids of the order tags, (K,) int.
    """

    def __init__(self, order_classes: np.ndarray) -> None:
        self._classes = order_classes
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str]) -> None:
        """Adds scores and labels (N, C); ignores the ids."""
        self._scores.append(scores[:, self._classes])
        self._labels.append(labels[:, self._classes] > 0)

    def merge(self, other: TwinScores) -> None:
        """Appends the twins of `other`."""
        self._scores += other._scores
        self._labels += other._labels

    def compute(self) -> float:
        """The share told apart; NaN if no twins differ in a tag."""
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        end = len(scores) // 2 * 2
        gain = scores[0:end:2] - scores[1:end:2]  # (pairs, order classes)
        gain = np.where(labels[0:end:2], gain, -gain)[labels[0:end:2] != labels[1:end:2]]
        if not gain.size:
            return math.nan
        return float(np.where(np.abs(gain) < SAME_SCORE, 0.5, gain > 0).mean())


def make_data(out_dir: Path, options: BenchOptions) -> Data:
    """Generates the features of a run in `out_dir`, with lists and class names.

    Raises:
        OutputError: The folder cannot be written.
    """
    feature_set = FeatureSet(options.features, seed=options.seed)
    train, test = (
        write_split(out_dir / split, feature_set.records(count, split=split))
        for split, count in (("train", options.num_train), ("test", options.num_test))
    )
    write_labels(out_dir / "labels.txt", feature_set.names)
    return Data(feature_set, train, test, list(feature_set.names))


def write_split(folder: Path, records: Iterable[YT8MRecord]) -> list[ListEntry]:
    """Writes records as a TFRecord file with a list beside it; returns the entries of the list.

    Raises:
        OutputError: The files cannot be written.
    """
    path = folder.with_suffix(".tfrecord")
    write_yt8m(path, records)
    entries = [ListEntry(str(path))]
    write_filelist(folder.with_suffix(".list"), entries)
    return entries


def settings_of(entry: ModelEntry, options: BenchOptions, *, num_classes: int) -> dict[str, dict[str, Any]]:
    """The MODEL and TRAIN sections for a model: common values, overridden by the model's own."""
    own_model, own_train = OWN_SETTINGS.get(entry.name, ({}, {}))
    dims = options.features.dims
    model = {
        "name": entry.name,
        "task": "multi_label",
        "num_classes": num_classes,
        "feature_names": list(dims),
        "feature_dims": list(dims.values()),
        **{key: value for key, value in COMMON_SIZES.items() if key in entry.config.model_fields},
        **own_model,
    }
    train = {
        **COMMON_TRAINING,
        "epoch": options.epochs,
        "decay_epochs": sorted({max(1, round(share * options.epochs)) for share in DECAY_AT}),
        "seed": options.seed,
        **own_train,
    }
    return {"MODEL": model, "TRAIN": train}


def bench_config(entry: ModelEntry, data: Data, options: BenchOptions, *, save_dir: Path) -> Config:
    """Writes the config of a model to save_dir/NAME.yaml and loads it.

    Raises:
        ConfigError: The sizes do not fit the model.
        OutputError: The file cannot be written.
    """
    settings = settings_of(entry, options, num_classes=data.feature_set.num_classes)
    path = save_dir / f"{entry.name}.yaml"
    write_text(path, yaml.safe_dump(settings, sort_keys=False))
    return load_config(path)


def bench_model(config: Config, data: Data, *, save_dir: Path) -> Row:
    """Trains a model in save_dir and evaluates its final weights.

    Raises:
        VideotagError: Training fails, see train_model.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    result = train_model(config, data.train, [], save_dir=save_dir, labels=data.labels, log_interval=NEVER)
    train_sec, train_cpu_sec = time.perf_counter() - started, time.process_time() - cpu_started
    model = load_model(config, result.last_path, config_name=config.entry.name)
    num_train = len(open_dataset(config, data.train, config.train))
    dataset = open_dataset(config, data.test, config.test)
    batches: list[Any] = list(evaluation_batches(dataset, config.test, on_error=_raise))
    sees = sees_order(model, batches[0], seed=0)
    feature_set = data.feature_set
    per_class, twins = PerClass(), TwinScores(feature_set.classes_of("order"))
    started = time.perf_counter()
    metrics = evaluate(in_layers(model), batches, observers=[per_class, twins])
    test_sec = time.perf_counter() - started
    precisions = per_class.compute().average_precision
    return Row(
        model=config.entry.name,
        sees_order=sees,
        **{key: metrics[key] for key in ("gap", "hit_at_one", "perr", "mean_ap")},
        mean_ap_by_kind={kind: _mean(precisions[feature_set.classes_of(kind)]) for kind in KINDS},
        told_apart=twins.compute(),
        num_parameters=count_parameters(model),
        trained_per_sec=num_train * config.train.epoch / train_sec,
        tagged_per_sec=len(dataset) / test_sec,
        train_cpu_sec=train_cpu_sec,
    )


def count_parameters(model: nn.Layer) -> int:
    """Number of trainable parameters."""
    return sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)


def sees_order(model: nn.Layer, batch: Batch, *, seed: int) -> bool:
    """Whether logits change when the real steps of every video are shuffled, equally in all modalities.

    Args:
        model: Tagger; it is switched to evaluation mode.
        batch: Videos with the same number of steps in every modality.
        seed: Seed of the shuffling.
    """
    rng = np.random.default_rng(seed)
    some_mask = next(x for name, x in batch.inputs.items() if name.endswith(MASK))
    shuffled = {name: x.copy() for name, x in batch.inputs.items()}
    for row, length in enumerate(some_mask.sum(axis=1)):
        order = rng.permutation(int(length))
        for x in shuffled.values():
            x[row, :length] = x[row, order]
    run = in_layers(model)
    with paddle.no_grad():
        before, after = (run(inputs)[LOGITS].numpy() for inputs in (batch.inputs, shuffled))
    return bool(np.abs(before - after).max() > 1e-3 * before.std())


def problems_of(rows: Sequence[Row]) -> list[str]:
    """Problems of the benchmark or its models, one line each; empty if there are none."""
    problems = [
        f"{row.model}: blind to order, but tells {row.told_apart:.3f} of the twins apart, expected "
        f"0.5 +- {CHANCE_MARGIN}; the features give order away, correct synthetic_features.py"
        for row in rows
        if not row.sees_order and not abs(row.told_apart - 0.5) <= CHANCE_MARGIN
    ]
    seeing = [row for row in rows if row.sees_order]
    if seeing and not any(row.told_apart >= MIN_TOLD_APART for row in seeing):
        best = max(seeing, key=lambda row: row.told_apart)
        problems.append(
            f"no model learned order tags: the best, {best.model}, tells {best.told_apart:.3f} of the "
            f"twins apart, expected {MIN_TOLD_APART} or more; give more --videos or a higher --epoch"
        )
    return problems


def run_zoo(
    entries: Sequence[ModelEntry], options: BenchOptions, *, save_dir: Path
) -> tuple[list[Row], dict[str, str]]:
    """Trains and evaluates every model; checks all configs before the first one.

    Args:
        entries: Taggers of the registry.
        options: Size of the run.
        save_dir: Folder for data/, and for a folder and a config per model.

    Returns:
        The rows of the models that succeeded, in the order of entries; and model -> error for the others,
        such as a loss that diverged.

    Raises:
        ConfigError: The sizes do not fit a model.
        OutputError: save_dir cannot be written.
    """
    data = make_data(save_dir / "data", options)
    configs = [bench_config(entry, data, options, save_dir=save_dir) for entry in entries]
    for config in configs:
        config.entry.cls(config.model)  # a model may refuse its sizes only when it is built
    rows, failed = [], {}
    for number, config in enumerate(configs, start=1):
        name = config.entry.name
        logger.info("model %d of %d: %s", number, len(configs), name)
        try:
            rows.append(bench_model(config, data, save_dir=save_dir / name))
        except OutputError:
            raise  # the next model would fail in the same way
        except VideotagError as error:
            failed[name] = str(error)
    return rows, failed


def _mean(values: np.ndarray) -> float:
    """Mean without NaN; NaN if there is nothing else."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def _raise(_: str, error: VideotagError) -> None:
    raise error
