"""mAP: mean over classes of the average precision of each class.

Defined as in the YouTube-8M starter code (mean_average_precision_calculator with filter_empty_classes): a
class is ranked only over the videos that have it in their top_k, and classes without a positive are left
out. The copies in Paddle's model zoo count such classes as 0, which lowers the value.
Differs in ties: misses rank before hits of the same score (the starter code shuffles).

Shapes: M entries kept, C classes.
Source: YouTube-8M, arXiv:1609.08675.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.accumulators import DEFAULT_TOP_K, TopEntries, average_precision


def mean_ap(scores: npt.ArrayLike, labels: npt.ArrayLike, *, top_k: int = DEFAULT_TOP_K) -> float:
    """Mean average precision over the classes that have a positive label.

    Positives outside their video's top_k still count in the recall denominator of their class.

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
    metric = MeanAp(top_k=top_k)
    metric.update(scores, labels)
    return metric.compute()


class MeanAp(TopEntries):
    """Accumulates mean_ap over batches; see TopEntries for its memory use."""

    def compute(self) -> float:
        """The mAP so far, in [0, 1]; 0.0 if there is no positive label."""
        return mean_ap_from_entries(self)


def mean_ap_from_entries(top: TopEntries) -> float:
    """The mAP of accumulated entries, in [0, 1]; 0.0 if there is no positive label."""
    positives = top.positives_per_class  # (C,)
    if not positives.any():
        return 0.0
    return float(np.mean(ap_per_class(top)[positives > 0]))


def ap_per_class(top: TopEntries) -> np.ndarray:
    """(C,) float64 average precision per class of accumulated entries; 0 for classes without positives."""
    entries, positives = top.entries(), top.positives_per_class
    by_class = np.argsort(entries.class_ids, kind="stable")  # (M,)
    scores, hits = entries.scores[by_class], entries.hits[by_class]
    ends = np.cumsum(np.bincount(entries.class_ids, minlength=positives.size))  # (C,)
    aps = np.zeros(positives.size)
    for class_id in np.flatnonzero(positives):
        own = slice(ends[class_id - 1] if class_id else 0, ends[class_id])
        aps[class_id] = average_precision(scores[own], hits[own], positives[class_id])
    return aps
