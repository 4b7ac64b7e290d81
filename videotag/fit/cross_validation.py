"""Held-out scores of a candidate: every video is scored by a network that was not trained on its fold.

Shapes: N training videos, C classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import nn

from videotag.config import Config
from videotag.datasets.batches import raise_error
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.datasets.order import ordered_groups
from videotag.fit.candidates import Candidate, schedule
from videotag.fit.labeled_set import TrainingSet
from videotag.inference.evaluate import in_layers
from videotag.inference.tasks import task_scores
from videotag.models.contract import build_model
from videotag.registry import LOGITS
from videotag.system.progress import track
from videotag.training.batches import training_batches
from videotag.training.calibrate import LastLayer, fit_standardizers, read_last_layer
from videotag.training.folds import group_folds
from videotag.training.learner import Learner
from videotag.training.logistic import LogisticRegression
from videotag.training.run import DivergedError

EVALUATION_BATCH = 128
_PROJECTED_SHARE = 0.1  # of the epochs, from which the duration of a training is projected
logger = logging.getLogger(__name__)


class OutOfTimeError(Exception):
    """Cross-validating the remaining folds would exceed the time limit."""


@dataclass(frozen=True)
class HeldOutScores:
    """Result of the cross-validation of a candidate.

    Attributes:
        scores: Probabilities (N, C) float64.
        seconds: Duration.
        weight_decay: Penalty that was chosen for a linear candidate; None for others.
    """

    scores: np.ndarray
    seconds: float
    weight_decay: float | None = None


def cross_validate(
    candidate: Candidate, config: Config, train_set: TrainingSet, *, seconds_left: Callable[[], float]
) -> HeldOutScores:
    """Held-out scores of a candidate over the folds of a training set.

    Args:
        candidate: Candidate.
        config: Config of the candidate.
        train_set: Training set of N videos, with its folds.
        seconds_left: Function that returns the time in seconds that is left for this.

    Raises:
        OutOfTimeError: Cross-validating the remaining folds would exceed the time limit.
        DivergedError: Scores are not finite.
    """
    start, data, folds = time.monotonic(), train_set.dataset, train_set.folds
    if candidate.is_linear:
        scores, penalty = _linear(config, data, folds)
        return HeldOutScores(scores, time.monotonic() - start, penalty)
    scores = np.zeros((len(data), config.model.num_classes))
    all_rows = np.arange(len(data))
    for number, fold in enumerate(track(folds, f"cross-validate {candidate.name}", len(folds))):
        limit_sec = seconds_left() / len(folds) if number == 0 else float("inf")
        model = train_network(config, data.subset(np.setdiff1d(all_rows, fold)), limit_sec=limit_sec)
        scores[fold] = score(model, data.subset(fold), config)
        if not np.isfinite(scores[fold]).all():
            raise DivergedError(f"{candidate.name}: scores are not finite")
        seconds = time.monotonic() - start
        if number == 0 and seconds * (len(folds) - 1) > seconds_left():
            raise OutOfTimeError
    return HeldOutScores(scores, time.monotonic() - start)


def train_network(config: Config, data: MemoryDataset, *, limit_sec: float = float("inf")) -> nn.Layer:
    """A network trained on a dataset, with as many steps as suit its size; nothing is written.

    Args:
        config: Config of a candidate; batch size and number of epochs are adapted to the dataset.
        data: Training set.
        limit_sec: Time limit in seconds; the first tenth of the epochs projects whether it is kept.

    Raises:
        OutOfTimeError: Training would take longer than the limit.
    """
    start = time.monotonic()
    config = config.with_train(**schedule(len(data)))
    train = config.train
    steps_per_epoch = max(1, len(data) // train.batch_size)
    seed = train.seed or 0
    paddle.seed(seed)
    model = build_model(config.entry, config.model)
    fit_standardizers(model, data.batches(ordered_groups(len(data), EVALUATION_BATCH)))
    learner = Learner(
        model,
        train,
        config.task,
        steps_per_epoch=steps_per_epoch,
        num_classes=config.model.num_classes,
    )
    step = 0
    for epoch in range(train.epoch):
        learner.start_epoch()
        for batch in training_batches(config, data, epoch=epoch, seed=seed, on_error=raise_error):
            learner.learn(batch, step=step, seed=(seed + step) % 2**31)
            step += 1
        share = (epoch + 1) / train.epoch
        if share >= _PROJECTED_SHARE and (time.monotonic() - start) / share > limit_sec:
            raise OutOfTimeError
    return model


def score(model: nn.Layer, data: MemoryDataset, config: Config) -> np.ndarray:
    """Probabilities (N, C) float64 of a network for N videos.

    Args:
        model: Network.
        data: Dataset of the N videos.
        config: Config of the network, whose task selects sigmoid or softmax.
    """
    run = in_layers(model)
    scores = []
    with paddle.no_grad():
        for batch in data.batches(ordered_groups(len(data), EVALUATION_BATCH)):
            scores.append(task_scores(config.task, run(batch.inputs)[LOGITS]).numpy())
    return np.concatenate(scores).astype(np.float64)


def _linear(config: Config, data: MemoryDataset, folds: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    # Standardized over all folds, which uses no label.
    _, last = _last_layer(config, data)
    found = _problem(config, last).cross_validate(folds)
    return found.scores, found.penalty


def train_linear(config: Config, data: MemoryDataset, penalty: float | None = None) -> nn.Layer:
    """A linear candidate that is solved to the optimum on a dataset.

    Args:
        config: Config of the candidate.
        data: Training set.
        penalty: Penalty, see LogisticRegression.fit; None chooses it by cross-validation, with all samples of
            an id in one fold, for which there must be two ids.
    """
    model, last = _last_layer(config, data)
    problem = _problem(config, last)
    if penalty is None:
        penalty = problem.cross_validate(group_folds(last.ids, last.labels)).penalty
    last.set(*problem.fit(penalty))
    return model


def _last_layer(config: Config, data: MemoryDataset) -> tuple[nn.Layer, LastLayer]:
    """A linear candidate that is standardized on a dataset, and the inputs of its last layer."""
    paddle.seed(0)
    model = build_model(config.entry, config.model)
    groups = ordered_groups(len(data), EVALUATION_BATCH)
    fit_standardizers(model, data.batches(groups))
    return model, read_last_layer(model, data.batches(groups), name=config.entry.name)


def _problem(config: Config, last: LastLayer) -> LogisticRegression:
    return LogisticRegression(
        last.inputs, last.labels, task=config.task, num_classes=config.model.num_classes
    )
