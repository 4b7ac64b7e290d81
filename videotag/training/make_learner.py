"""The learner of a run, after what it needs to know of the training set: labels, rates and penalties.

Shapes: C classes.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from videotag.system.quiet_paddle import paddle  # noqa: F401 - before Paddle's own import

import numpy as np
from paddle import nn

from videotag.config import Config
from videotag.datasets.batches import Batch, Dataset, OnError
from videotag.datasets.order import ordered_groups
from videotag.errors import ConfigError, MediaError, RecordError, VideotagError
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.inference.load_weights import network_state, set_state
from videotag.models.contract import build_model
from videotag.train_section import TrainSection
from videotag.training.batches import training_batches
from videotag.training.last_layer_solver import LastLayerSolver
from videotag.training.learner import Learner
from videotag.training.range_test import find_learning_rate
from videotag.training.run_state import Progress

logger = logging.getLogger(__name__)


def make_learner(
    config: Config,
    model: nn.Layer,
    data: Dataset,
    *,
    steps_per_epoch: int,
    class_counts: np.ndarray | None,
    teacher: nn.Layer | None,
    progress: Progress,
    unread: dict[str, VideotagError],
) -> tuple[Learner | LastLayerSolver, Config]:
    """The learner of a run, and the config in which "auto" is replaced by what the training set suggests.

    Args:
        config: Config of the model.
        model: Network.
        data: Dataset of the TRAIN section.
        steps_per_epoch: Number of steps per epoch.
        class_counts: (C,) number of samples with each class; None if no key needs it.
        teacher: Teacher network; None for none.
        progress: Progress of the run.
        unread: Receives the error of every sample that cannot be read.
    """
    train, task, num_classes = config.train, config.task, config.model.num_classes
    if train.optimizer == "lbfgs":
        name = config.entry.name
        solver = LastLayerSolver(
            model, train, task, num_classes=num_classes, name=name, class_counts=class_counts
        )
        if progress.epoch:  # resumed after the only step
            return solver, config
        solver.read(every_sample(data, train, unread))
        if train.weight_decay == "auto":
            config = with_train(config, weight_decay=solver.choose_penalty())
        return solver, config

    def learner(model: nn.Layer, train: TrainSection) -> Learner:
        return Learner(
            model,
            train,
            task,
            steps_per_epoch=steps_per_epoch,
            num_classes=num_classes,
            class_counts=class_counts,
            teacher=teacher,
        )

    if train.learning_rate == "auto":
        batches = itertools.chain.from_iterable(
            training_batches(
                config, data, epoch=epoch, seed=progress.seed, on_error=collect_media_errors(unread)
            )
            for epoch in range(train.epoch)
        )
        # A copy, because Paddle numbers the state of a second optimizer of the same weights differently.
        copy = build_model(config.entry, config.model)
        set_state(network_state(copy), {n: x.numpy() for n, x in network_state(model).items()})
        rate = find_learning_rate(learner(copy, train), batches, seed=progress.seed)
        logger.info("TRAIN.learning_rate: %g, by a range test", rate)
        config = with_train(config, learning_rate=rate)
    return learner(model, config.train), config


def with_train(config: Config, **values: Any) -> Config:
    """The config with other values in TRAIN."""
    return replace(config, train=config.train.model_copy(update=values))


def every_sample(data: Dataset, train: TrainSection, unread: dict[str, VideotagError]) -> Iterator[Batch]:
    """Every training sample once, in list order and without augmentation, for all processes alike."""
    groups = ordered_groups(len(data), train.batch_size)
    return (
        batch for batch in data.batches(groups, on_error=collect_media_errors(unread)) if batch is not None
    )


def collect_media_errors(unread: dict[str, VideotagError]) -> OnError:
    """A handler that collects the errors of samples that cannot be read, and raises all others."""

    def on_error(video: str, error: VideotagError) -> None:
        if not isinstance(error, MediaError | RecordError):
            raise error
        unread[video] = error

    return on_error


def class_counts_of(config: Config, entries: Sequence[ListEntry]) -> np.ndarray | None:
    """(C,) number of training samples with each class; None if no key of TRAIN needs it."""
    keys = [key for key in ("class_weights", "logit_adjustment") if getattr(config.train, key)]
    if not keys:
        return None
    if any(is_record_file(entry.path) for entry in entries):
        raise ConfigError(
            f"TRAIN.{keys[0]}: counts the labels of a list, but record files hold theirs inside; remove it"
        )
    ids = [label_id for entry in entries for label_id in entry.label_ids]
    return np.bincount(ids, minlength=config.model.num_classes)
