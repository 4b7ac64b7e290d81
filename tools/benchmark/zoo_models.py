"""Every tagger of the zoo, trained on the same generated features and measured by kind of tag.

The benchmark checks itself. Which models see order is tried out, by shuffling the steps. Those that do not
must fail at tags of order, or the features give these away; of those that do, one at least must learn them,
or the benchmark is too hard to say anything.
"Told apart" is the share of tags of order that get the higher score in the right one of two twins; 0.5 is
chance, and what equal scores count.
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
from videotag.datasets.synthetic_features import KINDS, FeatureOptions, FeatureSet
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

CHANCE_MARGIN = 0.05  # told apart of a model blind to order may be so far from 0.5
CLEARLY = 0.75  # told apart of one model at least that sees order
SAME_SCORE = 1e-4  # a smaller difference comes from the order of a sum
NEVER = 10**9  # steps between log lines
#: Sizes for whichever model has such a key, so that a new one is small too.
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
DECAY_AT = (0.6, 0.8)  # shares of the epochs
#: What a model needs besides, MODEL and TRAIN keys.
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
}
logger = logging.getLogger("videotag.tools.zoo")  # which commands show


@dataclass(frozen=True)
class BenchOptions:
    """Size of a run.

    Attributes:
        seed: of features and training.
        num_train: videos to train on.
        num_test: videos to measure on.
        epochs: over the videos to train on.
        features: size and difficulty of the features.
    """

    seed: int
    num_train: int
    num_test: int
    epochs: int
    features: FeatureOptions = field(default_factory=FeatureOptions)


class Data(NamedTuple):
    """Features on disk."""

    feature_set: FeatureSet
    train: list[ListEntry]
    test: list[ListEntry]  # twins side by side
    labels: list[str]


@dataclass(frozen=True)
class Row:
    """What came out for a model; all but counts and rates in [0, 1].

    Attributes:
        model: its name.
        sees_order: whether its logits change when the steps are shuffled.
        told_apart: see the module.
        mean_ap_by_kind: mean of the average precision over the classes of a kind.
        num_parameters: that are trained.
        trained_per_sec: videos a second in training, reading and checkpoints included.
        tagged_per_sec: videos a second in inference, from arrays in memory.
        train_cpu_sec: what training took of all cores, which other work beside it does not change.
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
    """Observer of an evaluation: how well it tells twins apart, which stand side by side in the list."""

    def __init__(self, order_classes: np.ndarray) -> None:
        self._classes = order_classes
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str]) -> None:
        """Takes scores and labels (N, C); the ids are not looked at."""
        self._scores.append(scores[:, self._classes])
        self._labels.append(labels[:, self._classes] > 0)

    def merge(self, other: TwinScores) -> None:
        """Adds the twins that `other` has seen."""
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
    """Generates the features of a run below `out_dir`, with lists and class names.

    Raises:
        OutputError: the place cannot be written.
    """
    feature_set = FeatureSet(options.features, seed=options.seed)
    train, test = (
        write_split(out_dir / split, feature_set.records(count, split=split))
        for split, count in (("train", options.num_train), ("test", options.num_test))
    )
    write_labels(out_dir / "labels.txt", feature_set.names)
    return Data(feature_set, train, test, list(feature_set.names))


def write_split(folder: Path, records: Iterable[YT8MRecord]) -> list[ListEntry]:
    """Writes records as a TFRecord file, and a list of it beside it; returns the list.

    Raises:
        OutputError: the place cannot be written.
    """
    path = folder.with_suffix(".tfrecord")
    write_yt8m(path, records)
    entries = [ListEntry(str(path))]
    write_filelist(folder.with_suffix(".list"), entries)
    return entries


def settings_of(entry: ModelEntry, options: BenchOptions, *, num_classes: int) -> dict[str, dict[str, Any]]:
    """The MODEL and TRAIN sections of a model's run: common values, then the model's own."""
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
    """The config of a model's run, written to save_dir/NAME.yaml.

    Raises:
        ConfigError: the sizes do not fit the model.
        OutputError: the place cannot be written.
    """
    settings = settings_of(entry, options, num_classes=data.feature_set.num_classes)
    path = save_dir / f"{entry.name}.yaml"
    write_text(path, yaml.safe_dump(settings, sort_keys=False))
    return load_config(path)


def bench_model(config: Config, data: Data, *, save_dir: Path) -> Row:
    """Trains a model into save_dir and measures its last weights.

    Raises:
        VideotagError: as train_model.
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
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)


def sees_order(model: nn.Layer, batch: Batch, *, seed: int) -> bool:
    """Whether logits change when the real steps of every video are shuffled, all modalities alike.

    Args:
        model: a tagger; it is switched to evaluation.
        batch: videos of some steps, as many in every modality.
        seed: of the shuffling.
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
    """What is wrong with the benchmark or its models, a line each; empty if nothing is."""
    problems = [
        f"{row.model}: blind to order, but tells {row.told_apart:.3f} of the twins apart, expected "
        f"0.5 +- {CHANCE_MARGIN}; the features give order away, correct synthetic_features.py"
        for row in rows
        if not row.sees_order and not abs(row.told_apart - 0.5) <= CHANCE_MARGIN
    ]
    seeing = [row for row in rows if row.sees_order]
    if seeing and not any(row.told_apart >= CLEARLY for row in seeing):
        best = max(seeing, key=lambda row: row.told_apart)
        problems.append(
            f"no model learned tags of order: the best, {best.model}, tells {best.told_apart:.3f} of the "
            f"twins apart, expected {CLEARLY} or more; give more --videos or a higher --epoch"
        )
    return problems


def run_zoo(
    entries: Sequence[ModelEntry], options: BenchOptions, *, save_dir: Path
) -> tuple[list[Row], dict[str, str]]:
    """Trains and measures every model below save_dir; all configs are checked before the first one.

    Args:
        entries: taggers of the registry.
        options: size of the run.
        save_dir: for data/, and a folder and a config for every model.

    Returns:
        The rows, in the order of entries; and model -> why it has none, such as a loss that diverged.

    Raises:
        ConfigError: the sizes do not fit a model.
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
            raise  # the next model would find the same place
        except VideotagError as error:
            failed[name] = str(error)
    return rows, failed


def _mean(values: np.ndarray) -> float:
    """Mean of those that are numbers; NaN if none is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def _raise(_: str, error: VideotagError) -> None:
    raise error
