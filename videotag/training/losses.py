"""Losses of TRAIN: what TRAIN.loss may select instead of the task's default, and weights for rare classes.

Shapes: N videos, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from videotag.system.quiet_paddle import paddle

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor

from videotag.config import Config
from videotag.errors import ConfigError
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.inference.tasks import unreduced_loss
from videotag.registry import Task
from videotag.train_section import MAX_CLASS_WEIGHT, TrainSection

_SMALLEST_SHARE = 1e-6  # of a class, whose logarithm adjusts its logit


class TrainingLoss:
    """The loss of a TRAIN section, without distillation.

    Args:
        train: TRAIN section.
        task: Task of the model.
        counts: (C,) number of training samples with each class; None if unknown, which only a section
            without class_weights and logit_adjustment allows.
    """

    def __init__(self, train: TrainSection, task: Task, counts: np.ndarray | None) -> None:
        self._train, self._task = train, task
        self._weights = self._offsets = None
        if train.class_weights:
            assert counts is not None, "train_model counts the labels"
            self._weights = paddle.to_tensor(class_weights(counts).astype(np.float32))  # (C,)
        if train.logit_adjustment:
            assert counts is not None, "train_model counts the labels"
            shares = np.maximum(counts / max(1, counts.sum()), _SMALLEST_SHARE)
            self._offsets = paddle.to_tensor((train.logit_adjustment * np.log(shares)).astype(np.float32))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss summed over the videos, shape ().

        Args:
            logits: (N, C) float32.
            labels: (N, C) in [0, 1]; or (N,) class ids of a single-label task.
        """
        train = self._train
        if self._offsets is not None:
            logits = logits + self._offsets
        if labels.ndim == 1 and (self._weights is not None or train.label_smoothing):
            labels = F.one_hot(labels, logits.shape[1])
        weights = None
        if self._weights is not None and self._task == "single_label":
            weights = (labels * self._weights).sum(axis=1)  # (N,)
        elif self._weights is not None:
            weights = labels * self._weights + 1 - labels  # (N, C)
        if train.label_smoothing:
            spread = 1 / logits.shape[1] if self._task == "single_label" else 0.5
            labels = (1 - train.label_smoothing) * labels + train.label_smoothing * spread
        if train.loss == "asymmetric":
            return asymmetric_loss(logits, labels, gamma=train.asymmetric_gamma, clip=train.asymmetric_clip)
        losses = unreduced_loss(self._task, logits, labels)
        return (losses if weights is None else weights * losses).sum()


def class_counts_of(config: Config, entries: Sequence[ListEntry]) -> np.ndarray | None:
    """The number of training samples with each class, (C,) int64; None if no key of TRAIN needs it.

    Args:
        config: Config of the model.
        entries: Samples to train on.

    Raises:
        ConfigError: A key of TRAIN needs it, but record files hold the labels.
    """
    keys = [key for key in ("class_weights", "logit_adjustment") if getattr(config.train, key)]
    if not keys:
        return None
    if any(is_record_file(entry.path) for entry in entries):
        raise ConfigError(
            f"TRAIN.{keys[0]}: counts the labels of a list, but record files hold theirs inside; remove it"
        )
    ids = [label_id for entry in entries for label_id in entry.label_ids]
    return np.bincount(ids, minlength=config.model.num_classes)


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Weights (C,) float64 of the classes, inversely proportional to their number of samples.

    1 for the most frequent class, at most MAX_CLASS_WEIGHT.

    Args:
        counts: (C,) number of samples with each class; classes without any count as one.
    """
    counts = np.maximum(counts, 1)
    return np.minimum(counts.max() / counts, MAX_CLASS_WEIGHT)


def asymmetric_loss(logits: Tensor, labels: Tensor, *, gamma: tuple[float, float], clip: float) -> Tensor:
    """Asymmetric loss for multi-label tagging, a scalar summed over videos and classes.

    -y (1 - p)^gamma[0] log(p) - (1 - y) q^gamma[1] log(1 - q), with p = sigmoid(logit), q = max(p - clip, 0).
    Equals binary cross-entropy if gamma and clip are 0. Loss and gradients are finite for finite logits.

    Args:
        logits: (N, C).
        labels: (N, C) in [0, 1].
        gamma: Focusing exponents of positive and negative labels, both at least 0.
        clip: Margin in [0, 1); negative labels with a probability up to it have no loss.

    Source: arXiv:2009.14119, whose defaults are gamma (0, 4) and clip 0.05.
    """
    log_p, log_not_p = F.log_sigmoid(logits), F.log_sigmoid(-logits)
    present = paddle.exp(gamma[0] * log_not_p) * log_p
    if clip:
        q = F.sigmoid(logits) - clip
        log_q = paddle.log(paddle.where(q > 0, q, paddle.ones_like(q)))
        log_not_q = paddle.logaddexp(log_not_p, paddle.full_like(logits, math.log(clip)))
        absent = paddle.exp(gamma[1] * log_q) * log_not_q
        absent = paddle.where(q > 0, absent, paddle.zeros_like(absent))
    else:
        absent = paddle.exp(gamma[1] * log_p) * log_not_p
    return -(labels * present + (1 - labels) * absent).sum()
