"""Numbers of every class: average precision, and precision, recall and support of the tags that are said.

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
from videotag.metrics.ranking import checked_scores, label_rows, rank_batch


class PerClassTable(NamedTuple):
    """A row per class; NaN where a number has no denominator.

    Attributes:
        average_precision: (C,) float64 in [0, 1], what mean_ap is the mean of; NaN without positives.
        precision: (C,) float64 in [0, 1]; NaN where the class is never said.
        recall: (C,) float64 in [0, 1]; NaN without positives.
        support: (C,) int64, videos that have the label.
    """

    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray


class PerClass:
    """Accumulates the table over batches.

    Memory as TopEntries (140 MB for a million videos, float32 scores and top_k 20), and two counts per class.

    Args:
        threshold: least score of a class that is said; None: the best-scored class of a video is said and
            no other (of tied ones that of the lowest id), for videos of one label each.
        top_k: entries per video that the average precision looks at; at least 1.
    """

    def __init__(self, *, threshold: float | None = 0.5, top_k: int = DEFAULT_TOP_K) -> None:
        self.threshold = threshold
        self._entries = TopEntries(top_k=top_k)
        self._num_said = np.zeros(0, np.int64)  # (C,) from the first batch on
        self._num_right = np.zeros(0, np.int64)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids.
            video_ids: not looked at; observers of an evaluation are given them.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed; nothing of the batch is added.
        """
        scores = checked_scores(scores)
        positive = label_rows(labels, scores.shape)
        self._entries.add(rank_batch(scores, positive, depth=self._entries.top_k))
        said = said_classes(scores, self.threshold)
        self._count(np.count_nonzero(said, axis=0), np.count_nonzero(said & positive, axis=0))

    def merge(self, other: PerClass) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in threshold, top_k or the number of classes.
        """
        if self.threshold != other.threshold:
            raise ShapeError(
                f"merge of threshold={self.threshold} with threshold={other.threshold}: expected the same"
            )
        self._entries.merge(other._entries)
        if other._num_said.size:
            self._count(other._num_said, other._num_right)

    def compute(self) -> PerClassTable:
        """The table so far; of length 0 before the first batch."""
        support = self._entries.positives_per_class
        return PerClassTable(
            average_precision=np.where(support > 0, ap_per_class(self._entries), np.nan),
            precision=_ratio(self._num_right, self._num_said),
            recall=_ratio(self._num_right, support),
            support=support.copy(),
        )

    def _count(self, num_said: np.ndarray, num_right: np.ndarray) -> None:
        if not self._num_said.size:
            self._num_said, self._num_right = np.zeros_like(num_said), np.zeros_like(num_right)
        self._num_said += num_said
        self._num_right += num_right


def said_classes(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """(N, C) bool: where scores reach the threshold; for None the best of each row, of ties the first."""
    if threshold is not None:
        return np.asarray(scores >= threshold)
    best = scores.argmax(axis=1)[:, None]  # (N, 1)
    return np.asarray(np.arange(scores.shape[1]) == best)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
