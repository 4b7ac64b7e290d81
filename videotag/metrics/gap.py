"""GAP: global average precision, the main metric of YouTube-8M.

Differs from average_precision_calculator of the starter code in ties alone: that shuffles them after
seeding Python's global random state; here misses rank before hits of the same score, and no state is
touched. Without ties the two agree.

Source: YouTube-8M, arXiv:1609.08675.
"""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.accumulators import DEFAULT_TOP_K, TopEntries, average_precision


def gap(scores: npt.ArrayLike, labels: npt.ArrayLike, *, top_k: int = DEFAULT_TOP_K) -> float:
    """Global average precision over the top_k scores of every video.

    Positives outside the top_k still count in the recall denominator. Of the classes of a video that tie
    for the last of the top_k places, the lowest ids stay; among all kept entries of one score, misses
    rank before hits.

    Args:
        scores: (N, C) finite, higher is more likely; need not be probabilities.
        labels: (N, C) in {0, 1}.
        top_k: predictions kept per video; all C where there are fewer classes.

    Returns:
        Value in [0, 1]; 0.0 if there is no positive label.

    Raises:
        ShapeError: not 2-D, shapes differ, a score that is not finite, a label besides 0 and 1.
        ValueError: top_k below 1.

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = Gap(top_k=top_k)
    metric.update(scores, labels)
    return metric.compute()


class Gap(TopEntries):
    """Accumulates gap over batches; memory as TopEntries says."""

    def compute(self) -> float:
        """The GAP so far, in [0, 1]; 0.0 if there is no positive label."""
        return gap_of(self)


def gap_of(kept: TopEntries) -> float:
    """The GAP of entries that are collected already."""
    entries = kept.entries()
    return average_precision(entries.scores, entries.hits, int(kept.positives_per_class.sum()))
