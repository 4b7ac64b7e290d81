"""Precision-recall curves for pictures, from histograms of the scores, so that memory is bounded.

The curve's points are exact, but there are only as many as bins: at the thresholds 0, 1/256 ... 255/256. What
happens between two of them is not seen, which is an error of less than 1/256 in the threshold.

Shapes: N videos, C classes, B = NUM_BINS, P points of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_scores, label_rows

NUM_BINS = 256  # a power of 2, so that score x NUM_BINS is exact and no score falls beside its bin


class Curve(NamedTuple):
    """Points by descending threshold, hence ascending recall.

    Attributes:
        thresholds: (P,) float64, a tag is said where its score reaches it.
        precision: (P,) float64 in [0, 1].
        recall: (P,) float64 in [0, 1].
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class ScoreHistograms:
    """Accumulates for every class how many scores, and how many of positives, fall into each bin.

    Memory: 4 KB per class, 16 MB for 3,862 classes, whatever the number of videos.
    """

    def __init__(self) -> None:
        self._all = np.zeros((0, NUM_BINS), np.int64)  # (C, B) from the first batch on
        self._positive = np.zeros((0, NUM_BINS), np.int64)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str] = ()) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) in [0, 1]; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids.
            video_ids: not looked at; observers of an evaluation are given them.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed.
        """
        scores = checked_scores(scores)
        positive = label_rows(labels, scores.shape)
        outside = np.argwhere((scores < 0) | (scores > 1))
        if outside.size:
            row, column = outside[0]
            raise ShapeError(f"scores[{row}, {column}]: {scores[row, column]}, expected 0 to 1; logits?")
        num_classes = scores.shape[1]
        bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)  # (N, C)
        codes = np.arange(num_classes) * NUM_BINS + bins  # (N, C)
        self._add(_counted(codes.ravel(), num_classes), _counted(codes[positive], num_classes))

    def merge(self, other: ScoreHistograms) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in the number of classes.
        """
        if len(other._all):
            self._add(other._all, other._positive)

    def curve(self, class_ids: Sequence[int] | None = None) -> Curve:
        """The curve of some classes taken together; None: of all, the micro average.

        Points where nothing is said are left out; there are none at all without positives.
        """
        chosen = slice(None) if class_ids is None else list(class_ids)
        said = np.cumsum(self._all[chosen].sum(axis=0)[::-1])  # (B,), the highest threshold first
        right = np.cumsum(self._positive[chosen].sum(axis=0)[::-1])
        thresholds = np.arange(NUM_BINS)[::-1] / NUM_BINS
        drawn = said > 0 if right[-1] else np.zeros(NUM_BINS, bool)
        return Curve(thresholds[drawn], right[drawn] / said[drawn], right[drawn] / max(1, right[-1]))

    def _add(self, counts: np.ndarray, positive_counts: np.ndarray) -> None:
        if not len(self._all):
            self._all, self._positive = np.zeros_like(counts), np.zeros_like(counts)
        if len(self._all) != len(counts):
            raise ShapeError(
                f"batch of {len(counts)} classes, expected {len(self._all)} as in the batches before"
            )
        self._all += counts
        self._positive += positive_counts


def _counted(codes: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, B) counts of codes, class x B + bin."""
    return np.bincount(codes, minlength=num_classes * NUM_BINS).reshape(num_classes, NUM_BINS)
