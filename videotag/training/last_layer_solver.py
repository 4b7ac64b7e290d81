"""TRAIN.optimizer "lbfgs": solves the last layer of a network to the optimum over the whole training set.

TRAIN.start_from_probe solves it the same way before the first step; see probe.py.
Shapes: N samples, P inputs of the last layer, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from videotag.system.quiet_paddle import paddle  # noqa: F401 - before Paddle's own import

import numpy as np
from paddle import nn

from videotag.datasets.batches import Batch
from videotag.errors import ConfigError
from videotag.inference.parallel import world_size
from videotag.registry import Task
from videotag.train_section import TrainSection
from videotag.training.calibrate import LBFGS, LastLayer, check_others_frozen, read_last_layer
from videotag.training.folds import group_folds
from videotag.training.learner import freeze
from videotag.training.logistic import LogisticRegression, cross_entropy, probabilities
from videotag.training.losses import class_weights

START_FROM_PROBE = "start_from_probe"


class LastLayerSolver:
    """Counterpart of Learner that takes one step to the optimum.

    Args:
        model: Network; for LBFGS, parameters other than those of its last layer are frozen or there are none.
        train: TRAIN section.
        task: Task, which selects the loss.
        num_classes: Number of classes C.
        name: Name of the model, for messages.
        class_counts: (C,) number of training samples with each class; needed for class_weights.
        key: Key of TRAIN that the solver serves, LBFGS or START_FROM_PROBE.

    Raises:
        ConfigError: There are several processes, or TRAIN.freeze matches nothing.
    """

    def __init__(
        self,
        model: nn.Layer,
        train: TrainSection,
        task: Task,
        *,
        num_classes: int,
        name: str,
        class_counts: np.ndarray | None = None,
        key: str = LBFGS,
    ) -> None:
        if world_size() > 1:
            raise ConfigError(f"TRAIN.{key} runs in one process; start it without a launcher")
        self.model = model
        self._train = train
        self._task: Task = task
        self._num_classes = num_classes
        self._name, self._key = name, key
        self._counts = class_counts
        self._last: LastLayer | None = None

    def read(self, batches: Iterable[Batch]) -> None:
        """Runs the network over the training set.

        Args:
            batches: Every training sample once.

        Raises:
            ConfigError: The network is not linear in its trainable parameters, or has no linear last layer.
            FileListError: There is no sample.
        """
        if self._key == LBFGS:
            freeze(self.model, self._train.freeze)
            check_others_frozen(self.model, name=self._name)
            self._last = read_last_layer(self.model, batches, name=self._name)
        else:
            self._last = read_last_layer(
                self.model, batches, name=self._name, key=self._key, remedy="leave it out"
            )

    def choose_penalty(self) -> float:
        """The weight decay with the smallest held-out loss in a cross-validation; after `read`.

        Raises:
            ConfigError: There is a single sample.
        """
        assert self._last is not None, "read comes first"
        if len(set(self._last.ids)) < 2:
            if self._key != LBFGS:
                raise ConfigError(f"TRAIN.{self._key} needs at least 2 different samples; leave it out")
            raise ConfigError("TRAIN.weight_decay: auto needs at least 2 different samples; give a number")
        folds = group_folds(self._last.ids, self._last.labels)
        return self._problem.cross_validate(folds).penalty

    def solve(self, penalty: float) -> float:
        """Sets the last layer to the optimum and returns its loss; after `read`.

        Args:
            penalty: Weight decay, above 0.

        Returns:
            The loss without the penalty, averaged over samples.
        """
        assert self._last is not None, "read comes first"
        weights, biases = self._problem.fit(penalty)
        self._last.set(weights, biases)
        y = self._last.labels
        if self._task == "single_label":
            y = np.eye(self._num_classes)[y]
        return cross_entropy(probabilities(self._last.inputs @ weights + biases, self._task), y, self._task)

    @cached_property
    def _problem(self) -> LogisticRegression:
        assert self._last is not None, "read comes first"
        weights = None
        if self._train.class_weights:
            assert self._counts is not None, "train_model counts the labels"
            weights = class_weights(self._counts)
        return LogisticRegression(
            self._last.inputs,
            self._last.labels,
            task=self._task,
            num_classes=self._num_classes,
            class_weights=weights,
        )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[nn.Layer]:
        """See Learner; nothing is averaged."""
        yield self.model

    def state(self) -> dict[str, np.ndarray]:
        """See Learner; the weights are the state, but a file without any array counts as damaged."""
        return {"solved": np.ones(1, np.float32)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See Learner."""
