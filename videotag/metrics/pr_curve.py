"""Precision-recall curves for plotting, computed from score histograms in bounded memory.

The points are exact, but limited to the bin edges: the thresholds 0, 1/256 ... 255/256.

Shapes: N videos, C classes, B = NUM_BINS, P points of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_scores, multi_hot

NUM_BINS = 256  # a power of 2, so that score x NUM_BINS is exact and no score lands in a neighboring bin


class Curve(NamedTuple):
    """Points of a curve by descending threshold, hence ascending recall.

    Attributes:
        thresholds: (P,) float64 lowest score of a predicted tag.
        precision: (P,) float64 in [0, 1].
        recall: (P,) float64 in [0, 1].
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class ScoreHistograms:
    """Accumulates two histograms per class: of all scores, and of the scores of positives.

    Takes 4 KB per class, 16 MB for 3,862 classes, whatever the number of videos.
    """

    def __init__(self) -> None:
        self._all = np.zeros((0, NUM_BINS), np.int64)  # (C, B) from the first batch on
        self._positive = np.zeros((0, NUM_BINS), np.int64)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) probabilities in [0, 1]; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids.
            video_ids: Ignored; observers of an evaluation receive them.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid.
        """
        scores = checked_scores(scores)
        positive = multi_hot(labels, scores.shape)
        outside = np.argwhere((scores < 0) | (scores > 1))
        if outside.size:
            row, column = outside[0]
            raise ShapeError(f"scores[{row}, {column}]: {scores[row, column]}, expected 0 to 1; logits?")
        num_classes = scores.shape[1]
        bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)  # (N, C)
        codes = np.arange(num_classes) * NUM_BINS + bins  # (N, C)
        self._add(_histograms(codes.ravel(), num_classes), _histograms(codes[positive], num_classes))

    def merge(self, other: ScoreHistograms) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in the number of classes.
        """
        if len(other._all):
            self._add(other._all, other._positive)

    def curve(self, class_ids: Sequence[int] | None = None) -> Curve:
        """The micro-averaged curve of some classes.

        Thresholds at which nothing is predicted are left out; without positives the curve has no points.

        Args:
            class_ids: Class ids to average over; None for all classes.
        """
        chosen = slice(None) if class_ids is None else list(class_ids)
        predicted = np.cumsum(self._all[chosen].sum(axis=0)[::-1])  # (B,) by descending threshold
        correct = np.cumsum(self._positive[chosen].sum(axis=0)[::-1])  # (B,)
        thresholds = np.arange(NUM_BINS)[::-1] / NUM_BINS
        kept = predicted > 0 if correct[-1] else np.zeros(NUM_BINS, bool)
        return Curve(thresholds[kept], correct[kept] / predicted[kept], correct[kept] / max(1, correct[-1]))

    def _add(self, counts: np.ndarray, positive_counts: np.ndarray) -> None:
        if not len(self._all):
            self._all, self._positive = np.zeros_like(counts), np.zeros_like(counts)
        if len(self._all) != len(counts):
            raise ShapeError(
                f"batch of {len(counts)} classes, expected {len(self._all)} as in earlier batches"
            )
        self._all += counts
        self._positive += positive_counts


def _histograms(codes: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, B) counts of codes; a code is class x B + bin."""
    return np.bincount(codes, minlength=num_classes * NUM_BINS).reshape(num_classes, NUM_BINS)
