"""Top-k accuracy for videos with exactly one label each.

Shapes: N videos, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_label_ids, checked_scores


def topk_accuracy(scores: npt.ArrayLike, label_ids: npt.ArrayLike, *, k: int = 1) -> float:
    """Fraction of videos whose label is among their k best-scored classes; ties rank by ascending class id.

    Args:
        scores: (N, C) finite numbers, higher is more likely; need not be probabilities. N may be 0.
        label_ids: (N,) int class ids in [0, C).
        k: Number of best-scored classes, at least 1; if k >= C, every video counts as correct.

    Returns:
        Value in [0, 1]; 0.0 if there are no videos.

    Raises:
        ShapeError: The scores are not 2-D or not finite, or label_ids are not (N,), not integers or outside
            [0, C).
        ValueError: Argument k is below 1.
    """
    metric = TopKAccuracy(k=k)
    metric.update(scores, label_ids)
    return metric.compute()


class TopKAccuracy:
    """Accumulates topk_accuracy over batches in constant memory.

    Args:
        k: Number of best-scored classes, at least 1.

    Attributes:
        num_videos: Number of videos so far.

    Raises:
        ValueError: Argument k is below 1.
    """

    def __init__(self, *, k: int = 1) -> None:
        if k < 1:
            raise ValueError(f"k={k}: expected at least 1")
        self.k = k
        self.num_videos = 0
        self._num_hits = 0

    def update(self, scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            label_ids: (N,) int class ids in [0, C).

        Raises:
            ShapeError: The shapes do not match, or a value is invalid.
        """
        self.add(label_ranks(scores, label_ids))

    def add(self, ranks: np.ndarray) -> None:
        """Adds N videos, given the (N,) int ranks of their labels, 0 for the best."""
        self.num_videos += ranks.size
        self._num_hits += int(np.count_nonzero(ranks < self.k))

    def merge(self, other: TopKAccuracy) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in k.
        """
        if self.k != other.k:
            raise ShapeError(f"merge of k={self.k} with k={other.k}: expected the same")
        self.num_videos += other.num_videos
        self._num_hits += other._num_hits

    def compute(self) -> float:
        """The accuracy so far, in [0, 1]; 0.0 if there are no videos."""
        return self._num_hits / self.num_videos if self.num_videos else 0.0


def label_ranks(scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> np.ndarray:
    """(N,) int number of classes that rank before the label: a higher score, or an equal one and a lower id.

    Args:
        scores: (N, C) finite numbers, higher is more likely; N may be 0.
        label_ids: (N,) int class ids in [0, C).

    Raises:
        ShapeError: The shapes do not match, or a value is invalid.
    """
    scores = checked_scores(scores)
    label_ids = checked_label_ids(label_ids, scores.shape)[:, None]  # (N, 1)
    own = np.take_along_axis(scores, label_ids, axis=1)  # (N, 1)
    lower_id = np.arange(scores.shape[1]) < label_ids  # (N, C)
    return np.count_nonzero((scores > own) | ((scores == own) & lower_id), axis=1)
