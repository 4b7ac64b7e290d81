"""Which classes are confused with which: sparse counts of (true class, predicted class) pairs.

Shapes: N videos, C classes, K classes ranked per video, M missed labels in a batch, P distinct pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.accumulators import DEFAULT_TOP_K
from videotag.metrics.ranking import checked_label_ids, checked_scores, rank_batch

# Pairs are buffered and counted in bulk: sorting the counts after every batch would dominate the run time.
_PENDING_PAIRS = 1_000_000


class PairCounts(ABC):
    """Counts of (true class, predicted class), 16 bytes per distinct pair: at most 240 MB for 3,862 classes.

    Attributes:
        num_classes: Number of classes C; 0 before the first batch.
    """

    def __init__(self) -> None:
        self.num_classes = 0
        self._codes = np.zeros(0, np.int64)  # (P,) ascending, true class x C + predicted class
        self._counts = np.zeros(0, np.int64)  # (P,)
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    @abstractmethod
    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: Labels of the N videos, in the shape that the subclass expects.
            video_ids: Ignored; observers of an evaluation receive them.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid.
        """

    def merge(self, other: PairCounts) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in the number of classes.
            TypeError: `other` is of another class.
        """
        if type(self) is not type(other):
            raise TypeError(f"merge of {type(self).__name__} with {type(other).__name__}: expected the same")
        if not other.num_classes:
            return
        self._check_classes(other.num_classes)
        codes, counts = other._counted()
        mine, my_counts = self._counted()
        self._codes, self._counts = _sum_duplicates(
            np.concatenate([mine, codes]), np.concatenate([my_counts, counts])
        )

    def pairs(self, limit: int) -> list[tuple[int, int, int]]:
        """The most frequent pairs of two different classes, as (true class, predicted class, count).

        Sorted by descending count; ties by true class, then by predicted class.

        Args:
            limit: Maximum number of pairs.
        """
        codes, counts = self._counted()
        true, predicted = np.divmod(codes, max(1, self.num_classes))
        differ = np.flatnonzero(true != predicted)
        best = differ[np.argsort(-counts[differ], kind="stable")[:limit]]
        return list(zip(true[best].tolist(), predicted[best].tolist(), counts[best].tolist(), strict=True))

    def matrix(self, true_ids: Sequence[int], predicted_ids: Sequence[int]) -> np.ndarray:
        """(R, K) int64 counts for R true and K predicted classes; 0 for pairs that never occurred."""
        codes, counts = self._counted()
        rows, columns = np.asarray(true_ids, np.int64), np.asarray(predicted_ids, np.int64)
        wanted = rows[:, None] * self.num_classes + columns
        if not codes.size:
            return np.zeros(wanted.shape, np.int64)
        positions = np.minimum(np.searchsorted(codes, wanted), codes.size - 1)
        return np.where(codes[positions] == wanted, counts[positions], 0)

    def _add(self, true_ids: np.ndarray, predicted_ids: np.ndarray) -> None:
        """Buffers n pairs of classes, given as two (n,) arrays of class ids."""
        self._pending.append(true_ids.astype(np.int64) * self.num_classes + predicted_ids)
        self._num_pending += true_ids.size
        if self._num_pending >= _PENDING_PAIRS:
            self._counted()

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """(P,) codes and (P,) counts, including the pending pairs."""
        if self._pending:
            new = np.concatenate(self._pending)
            counts = np.concatenate([self._counts, np.ones(new.size, np.int64)])
            self._codes, self._counts = _sum_duplicates(np.concatenate([self._codes, new]), counts)
            self._pending, self._num_pending = [], 0
        return self._codes, self._counts

    def _check_classes(self, num_classes: int) -> None:
        if self.num_classes and self.num_classes != num_classes:
            raise ShapeError(
                f"batch of {num_classes} classes, expected {self.num_classes} as in earlier batches"
            )
        self.num_classes = num_classes


class Confusion(PairCounts):
    """The confusion matrix of single-label videos: true class against best-scored class.

    Correct predictions count too, on the diagonal; among tied classes the lowest id is the prediction.
    """

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N,) int class ids in [0, C).
            video_ids: Ignored; observers of an evaluation receive them.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid.
        """
        scores = checked_scores(scores)
        label_ids = checked_label_ids(labels, scores.shape)
        self._check_classes(scores.shape[1])
        self._add(label_ids, scores.argmax(axis=1))


class MissedTags(PairCounts):
    """For multi-label videos: every missed label paired with every wrong tag predicted for the same video.

    Which wrong tag was predicted in place of which missed label is unknown, so all pairs of a video count.

    Args:
        threshold: Lowest score of a predicted tag.
        top_k: Maximum number of predicted tags per video, the best-scored ones; at least 1. It bounds the
            number of pairs per video.

    Raises:
        ValueError: Argument top_k is below 1.
    """

    def __init__(self, *, threshold: float = 0.5, top_k: int = DEFAULT_TOP_K) -> None:
        if top_k < 1:
            raise ValueError(f"top_k={top_k}: expected at least 1")
        super().__init__()
        self.threshold = threshold
        self.top_k = top_k

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N, C) in {0, 1}.
            video_ids: Ignored; observers of an evaluation receive them.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid.
        """
        batch = rank_batch(scores, labels, depth=self.top_k)
        self._check_classes(batch.num_classes)
        in_top_k = np.arange(batch.scores.shape[1]) < self.top_k  # (K,)
        predicted = (batch.scores >= self.threshold) & in_top_k  # (N, K)
        missed = np.array(labels, bool)  # (N, C), a copy
        rows, columns = np.nonzero(predicted & batch.hits)
        missed[rows, batch.class_ids[rows, columns]] = False
        rows, missed_ids = np.nonzero(missed)  # (M,)
        wrong = (predicted & ~batch.hits)[rows]  # (M, K)
        repeated_ids = np.broadcast_to(missed_ids[:, None], wrong.shape)  # (M, K)
        self._add(repeated_ids[wrong], batch.class_ids[rows][wrong])

    def merge(self, other: PairCounts) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in threshold, top_k or the number of classes.
            TypeError: `other` is of another class.
        """
        if isinstance(other, MissedTags):
            mine, theirs = (self.threshold, self.top_k), (other.threshold, other.top_k)
            if mine != theirs:
                raise ShapeError(f"merge of threshold, top_k {mine} with {theirs}: expected the same")
        super().merge(other)


def _sum_duplicates(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) distinct codes, ascending, and (P,) the sums of their counts, from (n,) codes and (n,) counts."""
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    if not codes.size:
        return codes, counts
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return codes[starts], np.add.reduceat(counts, starts)
