"""The learner of a run, with the values of TRAIN that "auto" leaves to the training set.

Shapes: C classes.
"""

from __future__ import annotations

import itertools
import logging

from videotag.system.quiet_paddle import paddle  # noqa: F401 - before Paddle's own import

import numpy as np
from paddle import nn

from videotag.config import Config
from videotag.datasets.batches import Dataset
from videotag.errors import VideotagError
from videotag.inference.load_weights import network_state, set_state
from videotag.models.contract import build_model
from videotag.training.batches import collect_media_errors, every_sample, training_batches
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
    """Makes the learner of a run and chooses the values that TRAIN leaves to "auto".

    Args:
        config: Config of the model.
        model: Network.
        data: Dataset of the TRAIN section.
        steps_per_epoch: Number of steps per epoch.
        class_counts: (C,) number of training samples with each class; None if no key needs it.
        teacher: Teacher network; None for none.
        progress: Progress of the run.
        unread: Receives the error of every sample that cannot be read.

    Returns:
        The learner; and the config with the chosen values instead of "auto".

    Raises:
        ConfigError: A key of TRAIN does not fit the network, see Learner and LastLayerSolver.
        DeviceError: The device does not support TRAIN.precision.
        FileListError: No sample can be read.
    """
    if config.train.optimizer == "lbfgs":
        return _make_solver(
            config, model, data, class_counts=class_counts, is_solved=progress.epoch > 0, unread=unread
        )

    def learner(config: Config, model: nn.Layer) -> Learner:
        return Learner(
            model,
            config.train,
            config.task,
            steps_per_epoch=steps_per_epoch,
            num_classes=config.model.num_classes,
            class_counts=class_counts,
            teacher=teacher,
        )

    if config.train.learning_rate == "auto":
        # A copy, because Paddle numbers the state of a second optimizer of the same weights differently.
        copy = build_model(config.entry, config.model)
        set_state(network_state(copy), {n: x.numpy() for n, x in network_state(model).items()})
        rate = _choose_rate(config, learner(config, copy), data, seed=progress.seed, unread=unread)
        config = config.with_train(learning_rate=rate)
    return learner(config, model), config


def _make_solver(
    config: Config,
    model: nn.Layer,
    data: Dataset,
    *,
    class_counts: np.ndarray | None,
    is_solved: bool,
    unread: dict[str, VideotagError],
) -> tuple[LastLayerSolver, Config]:
    """The solver of optimizer "lbfgs" and the config with its penalty; `is_solved` if its step is done."""
    solver = LastLayerSolver(
        model,
        config.train,
        config.task,
        num_classes=config.model.num_classes,
        name=config.entry.name,
        class_counts=class_counts,
    )
    if is_solved:
        return solver, config
    solver.read(every_sample(data, config.train, unread))
    if config.train.weight_decay == "auto":
        config = config.with_train(weight_decay=solver.choose_penalty())
    return solver, config


def _choose_rate(
    config: Config, learner: Learner, data: Dataset, *, seed: int, unread: dict[str, VideotagError]
) -> float:
    """The learning rate by a range test, which leaves the learner and its network useless."""
    epochs = (
        training_batches(config, data, epoch=epoch, seed=seed, on_error=collect_media_errors(unread))
        for epoch in range(config.train.epoch)
    )
    rate = find_learning_rate(learner, itertools.chain.from_iterable(epochs), seed=seed)
    logger.info("TRAIN.learning_rate: %g, by a range test", rate)
    return rate
