"""What metrics remember between batches: a mean over videos, or the best entries of every video.

MeanOverVideos is the base of Hit@1 and PERR, TopEntries that of GAP and mAP. Both hold exact counts and
scores as they came, never a rounded sum; so results do not depend on the split or on the order of merges.

Shapes: N videos, C classes, M entries kept (at most top_k per video).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import RankedBatch, rank_batch

Empty = Literal["skip", "zero"]

DEFAULT_TOP_K = 20  # of the YouTube-8M starter code

# Batches are joined into a block when there are so many: thousands of small arrays would cost more than
# their content, and joining each batch at once would copy everything every time.
_BATCHES_PER_BLOCK = 256


class MeanOverVideos(ABC):
    """Mean over videos of a fraction, hits / out_of, with a rule for videos without labels.

    Args:
        empty: "skip" leaves videos without labels out of the mean; "zero" counts them as 0, like the
            YouTube-8M starter code.

    Attributes:
        num_without_labels: videos without labels so far, counted under either rule.
    """

    def __init__(self, *, empty: Empty = "skip") -> None:
        if empty not in ("skip", "zero"):
            raise ValueError(f"empty={empty!r}: expected 'skip' or 'zero'")
        self.empty = empty
        self.num_without_labels = 0
        self._num_labelled = 0
        self._hits_by_out_of: Counter[int] = Counter()

    @abstractmethod
    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        """(N,) hits and (N,) out_of, both int, out_of >= 1 wherever a video has labels."""

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch: scores (N, C) finite, labels (N, C) in {0, 1}; N may be 0.

        Raises:
            ShapeError: the arrays do not fit, or hold values that are not allowed.
        """
        self.add(rank_batch(scores, labels))

    def add(self, batch: RankedBatch) -> None:
        """Adds a batch that is ranked already."""
        labelled = batch.num_positives > 0
        hits, out_of = (part[labelled] for part in self._fractions(batch))
        for denominator in np.unique(out_of):
            self._hits_by_out_of[int(denominator)] += int(hits[out_of == denominator].sum())
        self._num_labelled += hits.size
        self.num_without_labels += labelled.size - hits.size

    def merge(self, other: MeanOverVideos) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two treat videos without labels differently.
            TypeError: `other` is another metric.
        """
        if type(self) is not type(other):
            raise TypeError(f"merge of {type(self).__name__} with {type(other).__name__}: expected the same")
        if self.empty != other.empty:
            raise ShapeError(f"merge of empty={self.empty!r} with empty={other.empty!r}: expected the same")
        self._hits_by_out_of.update(other._hits_by_out_of)
        self._num_labelled += other._num_labelled
        self.num_without_labels += other.num_without_labels

    def compute(self) -> float:
        """The mean so far, in [0, 1]; 0.0 if no video counts."""
        num_videos = self._num_labelled + (self.num_without_labels if self.empty == "zero" else 0)
        # fsum rounds once, at the end: the order of the terms does not matter.
        total = math.fsum(hits / out_of for out_of, hits in self._hits_by_out_of.items())
        return total / num_videos if num_videos else 0.0


class Entries(NamedTuple):
    """Kept (class, score, hit) triples, in no order that matters.

    Attributes:
        class_ids: (M,) unsigned int of the smallest width that holds C.
        scores: (M,) float32 or float64.
        hits: (M,) bool, True where the class is a label of its video.
    """

    class_ids: np.ndarray
    scores: np.ndarray
    hits: np.ndarray


class TopEntries:
    """The top_k entries of every video, and the positives per class; all that GAP and mAP need.

    Keeps 7 bytes per entry for float32 scores and up to 65,536 classes: 140 MB for a million videos and
    top_k 20, whatever the number of classes.

    Args:
        top_k: entries kept per video, at least 1; all C where there are fewer classes.

    Attributes:
        num_videos: videos so far, with or without labels.
    """

    def __init__(self, *, top_k: int = DEFAULT_TOP_K) -> None:
        if top_k < 1:
            raise ValueError(f"top_k={top_k}: expected at least 1")
        self.top_k = top_k
        self.num_videos = 0
        self._positives_per_class: np.ndarray | None = None  # (C,), known from the first batch on
        self._blocks: list[Entries] = []
        self._recent: list[Entries] = []

    @property
    def positives_per_class(self) -> np.ndarray:
        """(C,) int64, videos per label, also those outside the top_k; (0,) before the first batch."""
        return np.zeros(0, np.int64) if self._positives_per_class is None else self._positives_per_class

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch: scores (N, C) finite, labels (N, C) in {0, 1}; N may be 0.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed.
        """
        self.add(rank_batch(scores, labels, depth=self.top_k))

    def add(self, batch: RankedBatch) -> None:
        """Adds a batch ranked to a depth of top_k or more.

        Raises:
            ShapeError: another number of classes than in the batches before.
        """
        self._add_positives(batch.positives_per_class)
        self.num_videos += batch.num_positives.size
        id_type = np.min_scalar_type(batch.num_classes)  # narrow ids save memory and are sorted by radix
        kept = (batch.class_ids.astype(id_type), batch.scores, batch.hits)
        # A copy, since a view would keep the deeper ranking alive.
        self._recent.append(Entries(*(part[:, : self.top_k].flatten() for part in kept)))
        if len(self._recent) == _BATCHES_PER_BLOCK:
            self._blocks.append(_joined(self._recent))
            self._recent = []

    def merge(self, other: TopEntries) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in top_k or in the number of classes.
        """
        if self.top_k != other.top_k:
            raise ShapeError(f"merge of top_k={self.top_k} with top_k={other.top_k}: expected the same")
        if other._positives_per_class is None:
            return
        self._add_positives(other._positives_per_class)
        self.num_videos += other.num_videos
        self._blocks = [*self._blocks, *other._blocks, *other._recent]

    def entries(self) -> Entries:
        """All kept entries, joined."""
        if self._recent or len(self._blocks) != 1:
            self._blocks = [_joined([*self._blocks, *self._recent])]
            self._recent = []
        return self._blocks[0]

    def _add_positives(self, positives_per_class: np.ndarray) -> None:
        if self._positives_per_class is None:
            self._positives_per_class = np.zeros_like(positives_per_class)
        expected, seen = self._positives_per_class.size, positives_per_class.size
        if expected != seen:
            raise ShapeError(f"batch of {seen} classes, expected {expected} as in the batches before")
        self._positives_per_class += positives_per_class


def average_precision(scores: np.ndarray, hits: np.ndarray, num_positives: int) -> float:
    """Mean over all positives of the precision at their rank; positives that have no entry add 0.

    Of equal scores, misses rank before hits. This is the one order that neither the split into batches,
    nor the order of videos, nor a random state can change, and it never makes a tie pay.

    Args:
        scores: (M,) finite, in any order.
        hits: (M,) bool.
        num_positives: at least the number of hits.

    Returns:
        Value in [0, 1]; 0.0 if num_positives is 0.
    """
    if num_positives == 0:
        return 0.0
    hit_scores = np.sort(scores[hits])[::-1]
    miss_scores = np.sort(scores[~hits])
    hits_to_rank = np.arange(1, hit_scores.size + 1)
    misses_to_rank = miss_scores.size - np.searchsorted(miss_scores, hit_scores, side="left")
    return float(np.sum(hits_to_rank / (hits_to_rank + misses_to_rank)) / num_positives)


def _joined(parts: list[Entries]) -> Entries:
    if not parts:
        return Entries(np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros(0, bool))
    return Entries(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
