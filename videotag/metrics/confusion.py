"""Which classes are taken for which: counts of (true class, class said instead), only of pairs that occur.

Shapes: N videos, C classes, K classes ranked per video, M missed labels of a batch, P pairs that occurred.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.accumulators import DEFAULT_TOP_K
from videotag.metrics.ranking import checked_label_ids, checked_scores, rank_batch

# Counted together when there are so many: sorting the counts for each batch would take longer than the rest.
_PENDING_PAIRS = 1_000_000


class PairCounts(ABC):
    """Counts of (true class, said class), 16 bytes per pair that occurred: at most 240 MB for 3,862 classes.

    Attributes:
        num_classes: C; 0 before the first batch.
    """

    def __init__(self) -> None:
        self.num_classes = 0
        self._codes = np.zeros(0, np.int64)  # (P,) ascending, true class x C + said class
        self._counts = np.zeros(0, np.int64)  # (P,)
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    @abstractmethod
    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch of scores (N, C); N may be 0; video_ids are not looked at."""

    def merge(self, other: PairCounts) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in the number of classes.
            TypeError: the two count different things.
        """
        if type(self) is not type(other):
            raise TypeError(f"merge of {type(self).__name__} with {type(other).__name__}: expected the same")
        if not other.num_classes:
            return
        self._check_classes(other.num_classes)
        codes, counts = other._counted()
        mine, my_counts = self._counted()
        self._codes, self._counts = _summed(
            np.concatenate([mine, codes]), np.concatenate([my_counts, counts])
        )

    def pairs(self, limit: int) -> list[tuple[int, int, int]]:
        """The most frequent pairs of two different classes, as (true class, said class, count).

        The most frequent one is first; of equal counts the lower true class, then the lower said class.
        """
        codes, counts = self._counted()
        true, said = np.divmod(codes, max(1, self.num_classes))
        differ = np.flatnonzero(true != said)
        best = differ[np.argsort(-counts[differ], kind="stable")[:limit]]
        return list(zip(true[best].tolist(), said[best].tolist(), counts[best].tolist(), strict=True))

    def matrix(self, true_ids: Sequence[int], said_ids: Sequence[int]) -> np.ndarray:
        """(len(true_ids), len(said_ids)) int64 counts; 0 for pairs that never occurred."""
        codes, counts = self._counted()
        rows, columns = np.asarray(true_ids, np.int64), np.asarray(said_ids, np.int64)
        wanted = rows[:, None] * self.num_classes + columns
        if not codes.size:
            return np.zeros(wanted.shape, np.int64)
        places = np.minimum(np.searchsorted(codes, wanted), codes.size - 1)
        return np.where(codes[places] == wanted, counts[places], 0)

    def _add(self, true_ids: np.ndarray, said_ids: np.ndarray) -> None:
        """Counts pairs of classes, two arrays of one length."""
        self._pending.append(true_ids.astype(np.int64) * self.num_classes + said_ids)
        self._num_pending += true_ids.size
        if self._num_pending >= _PENDING_PAIRS:
            self._counted()

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """All codes and their counts, after adding up what is pending."""
        if self._pending:
            new = np.concatenate(self._pending)
            counts = np.concatenate([self._counts, np.ones(new.size, np.int64)])
            self._codes, self._counts = _summed(np.concatenate([self._codes, new]), counts)
            self._pending, self._num_pending = [], 0
        return self._codes, self._counts

    def _check_classes(self, num_classes: int) -> None:
        if self.num_classes and self.num_classes != num_classes:
            raise ShapeError(
                f"batch of {num_classes} classes, expected {self.num_classes} as in the batches before"
            )
        self.num_classes = num_classes


class Confusion(PairCounts):
    """The confusion matrix of videos of one label each: what they are, and what scores best.

    Right ones count as well, as pairs of a class with itself; of tied classes the lowest id counts as said.
    """

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch: scores (N, C) finite, labels (N,) int in [0, C); N may be 0.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed.
        """
        scores = checked_scores(scores)
        label_ids = checked_label_ids(labels, scores.shape)
        self._check_classes(scores.shape[1])
        self._add(label_ids, scores.argmax(axis=1))


class MissedTags(PairCounts):
    """With many labels per video: every label that is missed, with every wrong tag said of the same video.

    Which wrong tag stands for which missed one nobody knows, so all pairs of a video count.

    Args:
        threshold: least score of a tag that is said.
        top_k: a video says no more tags than its best-scored ones; at least 1. It bounds the pairs per video.
    """

    def __init__(self, *, threshold: float = 0.5, top_k: int = DEFAULT_TOP_K) -> None:
        if top_k < 1:
            raise ValueError(f"top_k={top_k}: expected at least 1")
        super().__init__()
        self.threshold = threshold
        self.top_k = top_k

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch: scores (N, C) finite, labels (N, C) in {0, 1}; N may be 0.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed.
        """
        batch = rank_batch(scores, labels, depth=self.top_k)
        self._check_classes(batch.num_classes)
        said = (batch.scores >= self.threshold) & (np.arange(batch.scores.shape[1]) < self.top_k)  # (N, K)
        missed = np.array(labels, bool)  # (N, C), a copy
        rows, columns = np.nonzero(said & batch.hits)
        missed[rows, batch.class_ids[rows, columns]] = False
        rows, missed_ids = np.nonzero(missed)  # (M,)
        wrong = (said & ~batch.hits)[rows]  # (M, K)
        each = np.broadcast_to(missed_ids[:, None], wrong.shape)  # (M, K)
        self._add(each[wrong], batch.class_ids[rows][wrong])

    def merge(self, other: PairCounts) -> None:
        """As of PairCounts; another threshold or top_k is a ShapeError too."""
        if isinstance(other, MissedTags):
            mine, theirs = (self.threshold, self.top_k), (other.threshold, other.top_k)
            if mine != theirs:
                raise ShapeError(f"merge of threshold, top_k {mine} with {theirs}: expected the same")
        super().merge(other)


def _summed(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each code once, ascending, with the sum of its counts."""
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    if not codes.size:
        return codes, counts
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return codes[starts], np.add.reduceat(counts, starts)
