"""GAP: global average precision, the main metric of YouTube-8M.

Differs from average_precision_calculator of the starter code only in ties: the starter code seeds Python's
global random state and shuffles them; here misses rank before hits of the same score. Without ties the two
agree.

Source: YouTube-8M, arXiv:1609.08675.
"""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.accumulators import DEFAULT_TOP_K, TopEntries, average_precision


def gap(scores: npt.ArrayLike, labels: npt.ArrayLike, *, top_k: int = DEFAULT_TOP_K) -> float:
    """Global average precision over the top_k scores of every video.

    Positives outside the top_k still count in the recall denominator. If classes of a video tie for the last
    place of its top_k, those with the lowest ids are kept; among kept entries of equal score, misses rank
    before hits.

    Args:
        scores: (N, C) finite numbers, higher is more likely; need not be probabilities. N may be 0.
        labels: (N, C) in {0, 1}.
        top_k: Number of predictions kept per video, at least 1; all C if there are fewer classes.

    Returns:
        Value in [0, 1]; 0.0 if there is no positive label.

    Raises:
        ShapeError: The arrays are not 2-D or differ in shape, a score is not finite, or a label is neither 0
            nor 1.
        ValueError: Argument top_k is below 1.

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = Gap(top_k=top_k)
    metric.update(scores, labels)
    return metric.compute()


class Gap(TopEntries):
    """Accumulates gap over batches; see TopEntries for its memory use."""

    def compute(self) -> float:
        """The GAP so far, in [0, 1]; 0.0 if there is no positive label."""
        return gap_from_entries(self)


def gap_from_entries(top: TopEntries) -> float:
    """The GAP of accumulated entries, in [0, 1]; 0.0 if there is no positive label."""
    entries = top.entries()
    return average_precision(entries.scores, entries.hits, int(top.positives_per_class.sum()))
