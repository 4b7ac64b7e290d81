"""Accumulator base classes: a mean over videos, and the top entries of every video.

MeanOverVideos is the base of Hit@1 and PERR, TopEntries that of GAP and mAP. Both store exact counts and
the original scores, never a rounded sum, so results do not depend on the batch split or the merge order.

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

DEFAULT_TOP_K = 20  # as in the YouTube-8M starter code

# This many batches are concatenated into one block: thousands of small arrays cost more than their content,
# and concatenating after every batch would copy everything every time.
_BATCHES_PER_BLOCK = 256


class MeanOverVideos(ABC):
    """Mean over videos of the fraction hits / out_of, with a rule for videos without labels.

    Args:
        empty: Rule for videos without labels: "skip" leaves them out of the mean, "zero" counts them as 0
            like the YouTube-8M starter code.

    Attributes:
        num_without_labels: Number of videos without labels so far, counted under either rule.

    Raises:
        ValueError: `empty` is neither "skip" nor "zero".
    """

    def __init__(self, *, empty: Empty = "skip") -> None:
        if empty not in ("skip", "zero"):
            raise ValueError(f"empty={empty!r}: expected 'skip' or 'zero'")
        self.empty = empty
        self.num_without_labels = 0
        self._num_labeled = 0
        self._hits_by_out_of: Counter[int] = Counter()

    @abstractmethod
    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int hits and (N,) int out_of; out_of >= 1 wherever a video has labels."""

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N, C) in {0, 1}.

        Raises:
            ShapeError: The shapes do not match, or a value is invalid.
        """
        self.add(rank_batch(scores, labels))

    def add(self, batch: RankedBatch) -> None:
        """Adds a batch that is already ranked."""
        labeled = batch.num_positives > 0
        hits, out_of = (part[labeled] for part in self._fractions(batch))
        for denominator in np.unique(out_of):
            self._hits_by_out_of[int(denominator)] += int(hits[out_of == denominator].sum())
        self._num_labeled += hits.size
        self.num_without_labels += labeled.size - hits.size

    def merge(self, other: MeanOverVideos) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two have different rules for videos without labels.
            TypeError: `other` is another metric.
        """
        if type(self) is not type(other):
            raise TypeError(f"merge of {type(self).__name__} with {type(other).__name__}: expected the same")
        if self.empty != other.empty:
            raise ShapeError(f"merge of empty={self.empty!r} with empty={other.empty!r}: expected the same")
        self._hits_by_out_of.update(other._hits_by_out_of)
        self._num_labeled += other._num_labeled
        self.num_without_labels += other.num_without_labels

    def compute(self) -> float:
        """The mean over all videos so far, in [0, 1]; 0.0 if no video counts."""
        num_videos = self._num_labeled + (self.num_without_labels if self.empty == "zero" else 0)
        # fsum rounds only once, at the end, so the order of the terms does not matter.
        total = math.fsum(hits / out_of for out_of, hits in self._hits_by_out_of.items())
        return total / num_videos if num_videos else 0.0


class Entries(NamedTuple):
    """Kept (class id, score, hit) triples, in arbitrary order.

    Attributes:
        class_ids: (M,) unsigned integers of the narrowest dtype that holds C.
        scores: (M,) float32 or float64 scores.
        hits: (M,) bool, True where the class is a label of its video.
    """

    class_ids: np.ndarray
    scores: np.ndarray
    hits: np.ndarray


class TopEntries:
    """The top_k entries of every video and the positives per class, which GAP and mAP are computed from.

    An entry takes 7 bytes with float32 scores and up to 65,536 classes: 140 MB for a million videos and
    top_k 20, whatever the number of classes.

    Args:
        top_k: Number of entries kept per video, at least 1; all C if there are fewer classes.

    Attributes:
        num_videos: Number of videos so far, with or without labels.

    Raises:
        ValueError: Argument top_k is below 1.
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
        """(C,) int64 videos per label, including labels outside the top_k; (0,) before the first batch."""
        return np.zeros(0, np.int64) if self._positives_per_class is None else self._positives_per_class

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N, C) in {0, 1}.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid.
        """
        self.add(rank_batch(scores, labels, depth=self.top_k))

    def add(self, batch: RankedBatch) -> None:
        """Adds a batch ranked to a depth of at least top_k.

        Raises:
            ShapeError: The number of classes differs from earlier batches.
        """
        self._add_positives(batch.positives_per_class)
        self.num_videos += batch.num_positives.size
        id_type = np.min_scalar_type(batch.num_classes)  # narrow ids save memory and get a radix sort
        kept = (batch.class_ids.astype(id_type), batch.scores, batch.hits)
        # flatten copies: a view would keep the deeper ranking alive.
        self._recent.append(Entries(*(part[:, : self.top_k].flatten() for part in kept)))
        if len(self._recent) == _BATCHES_PER_BLOCK:
            self._blocks.append(_concatenated(self._recent))
            self._recent = []

    def merge(self, other: TopEntries) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in top_k or in the number of classes.
        """
        if self.top_k != other.top_k:
            raise ShapeError(f"merge of top_k={self.top_k} with top_k={other.top_k}: expected the same")
        if other._positives_per_class is None:
            return
        self._add_positives(other._positives_per_class)
        self.num_videos += other.num_videos
        self._blocks = [*self._blocks, *other._blocks, *other._recent]

    def entries(self) -> Entries:
        """All kept entries."""
        if self._recent or len(self._blocks) != 1:
            self._blocks = [_concatenated([*self._blocks, *self._recent])]
            self._recent = []
        return self._blocks[0]

    def _add_positives(self, positives_per_class: np.ndarray) -> None:
        if self._positives_per_class is None:
            self._positives_per_class = np.zeros_like(positives_per_class)
        expected, seen = self._positives_per_class.size, positives_per_class.size
        if expected != seen:
            raise ShapeError(f"batch of {seen} classes, expected {expected} as in earlier batches")
        self._positives_per_class += positives_per_class


def average_precision(scores: np.ndarray, hits: np.ndarray, num_positives: int) -> float:
    """Mean over all positives of the precision at their rank; positives without an entry add 0.

    Among equal scores, misses rank before hits. This order does not depend on the batch split, the order of
    videos or a random state, and ties never raise the value.

    Args:
        scores: (M,) finite scores in any order.
        hits: (M,) bool, True for entries that are hits.
        num_positives: Number of positives, at least the number of hits.

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


def _concatenated(parts: list[Entries]) -> Entries:
    if not parts:
        return Entries(np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros(0, bool))
    return Entries(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
