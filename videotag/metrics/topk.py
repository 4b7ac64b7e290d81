"""Top-k accuracy for videos with exactly one label each.

Shapes: N videos, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_label_ids, checked_scores


def topk_accuracy(scores: npt.ArrayLike, label_ids: npt.ArrayLike, *, k: int = 1) -> float:
    """Share of videos whose label is among their k best-scored classes; of tied classes lower ids come first.

    Args:
        scores: (N, C) finite, higher is more likely; need not be probabilities.
        label_ids: (N,) int in [0, C).
        k: at least 1; where k >= C, every video counts as right.

    Returns:
        Value in [0, 1]; 0.0 if there are no videos.

    Raises:
        ShapeError: scores not 2-D or not finite; label_ids not (N,), not int or outside [0, C).
        ValueError: k below 1.
    """
    metric = TopKAccuracy(k=k)
    metric.update(scores, label_ids)
    return metric.compute()


class TopKAccuracy:
    """Accumulates topk_accuracy over batches; two numbers in memory.

    Args:
        k: at least 1.

    Attributes:
        num_videos: videos so far.
    """

    def __init__(self, *, k: int = 1) -> None:
        if k < 1:
            raise ValueError(f"k={k}: expected at least 1")
        self.k = k
        self.num_videos = 0
        self._num_hits = 0

    def update(self, scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> None:
        """Adds a batch: scores (N, C) finite, label_ids (N,) int in [0, C); N may be 0.

        Raises:
            ShapeError: the arrays do not fit, or hold values that are not allowed.
        """
        self.add(label_ranks(scores, label_ids))

    def add(self, ranks: np.ndarray) -> None:
        """Adds videos by the (N,) ranks of their labels, 0 = best."""
        self.num_videos += ranks.size
        self._num_hits += int(np.count_nonzero(ranks < self.k))

    def merge(self, other: TopKAccuracy) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in k.
        """
        if self.k != other.k:
            raise ShapeError(f"merge of k={self.k} with k={other.k}: expected the same")
        self.num_videos += other.num_videos
        self._num_hits += other._num_hits

    def compute(self) -> float:
        """The accuracy so far, in [0, 1]; 0.0 if there are no videos."""
        return self._num_hits / self.num_videos if self.num_videos else 0.0


def label_ranks(scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> np.ndarray:
    """(N,) number of classes that rank before the label: higher scores, and equal ones of a lower id.

    Raises:
        ShapeError: as topk_accuracy.
    """
    scores = checked_scores(scores)
    label_ids = checked_label_ids(label_ids, scores.shape)[:, None]  # (N, 1)
    own = np.take_along_axis(scores, label_ids, axis=1)  # (N, 1)
    lower_id = np.arange(scores.shape[1]) < label_ids  # (N, C)
    return np.count_nonzero((scores > own) | ((scores == own) & lower_id), axis=1)
