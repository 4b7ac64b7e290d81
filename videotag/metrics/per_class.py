"""Metrics per class: average precision, and precision, recall and support of the predicted tags.

Shapes: N videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.accumulators import DEFAULT_TOP_K, TopEntries
from videotag.metrics.mean_ap import ap_per_class
from videotag.metrics.ranking import checked_scores, multi_hot, rank_batch


class PerClassTable(NamedTuple):
    """One row per class; NaN where the denominator is 0.

    Attributes:
        average_precision: (C,) float64 in [0, 1], whose mean is mean_ap; NaN without positives.
        precision: (C,) float64 in [0, 1]; NaN where the class is never predicted.
        recall: (C,) float64 in [0, 1]; NaN without positives.
        support: (C,) int64 number of videos that have the label.
    """

    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray


class PerClass:
    """Accumulates the table over batches.

    Takes the memory of TopEntries (140 MB for a million videos, float32 scores and top_k 20) and two counts
    per class.

    Args:
        threshold: Lowest score of a predicted class. None, for single-label videos, predicts only the
            best-scored class of each video; among ties the one with the lowest id.
        top_k: Number of entries per video that average precision is computed from, at least 1.

    Raises:
        ValueError: Argument top_k is below 1.
    """

    def __init__(self, *, threshold: float | None = 0.5, top_k: int = DEFAULT_TOP_K) -> None:
        self.threshold = threshold
        self._entries = TopEntries(top_k=top_k)
        self._num_predicted = np.zeros(0, np.int64)  # (C,) from the first batch on
        self._num_correct = np.zeros(0, np.int64)  # (C,)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids.
            video_ids: Ignored; observers of an evaluation receive them.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid; nothing
                is added then.
        """
        scores = checked_scores(scores)
        positive = multi_hot(labels, scores.shape)
        self._entries.add(rank_batch(scores, positive, depth=self._entries.top_k))
        predicted = predicted_classes(scores, self.threshold)
        self._count(np.count_nonzero(predicted, axis=0), np.count_nonzero(predicted & positive, axis=0))

    def merge(self, other: PerClass) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in threshold, top_k or the number of classes.
        """
        if self.threshold != other.threshold:
            raise ShapeError(
                f"merge of threshold={self.threshold} with threshold={other.threshold}: expected the same"
            )
        self._entries.merge(other._entries)
        if other._num_predicted.size:
            self._count(other._num_predicted, other._num_correct)

    def compute(self) -> PerClassTable:
        """The table so far; its arrays are (0,) before the first batch."""
        support = self._entries.positives_per_class
        return PerClassTable(
            average_precision=np.where(support > 0, ap_per_class(self._entries), np.nan),
            precision=_ratio(self._num_correct, self._num_predicted),
            recall=_ratio(self._num_correct, support),
            support=support.copy(),
        )

    def _count(self, num_predicted: np.ndarray, num_correct: np.ndarray) -> None:
        if not self._num_predicted.size:
            self._num_predicted, self._num_correct = np.zeros_like(num_predicted), np.zeros_like(num_correct)
        self._num_predicted += num_predicted
        self._num_correct += num_correct


def predicted_classes(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """(N, C) bool, True where a class is predicted.

    Args:
        scores: (N, C) scores.
        threshold: Lowest score of a predicted class; None predicts only the best of each row, among ties the
            one with the lowest id.
    """
    if threshold is not None:
        return np.asarray(scores >= threshold)
    best = scores.argmax(axis=1)[:, None]  # (N, 1)
    return np.asarray(np.arange(scores.shape[1]) == best)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """(C,) part / whole; NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
