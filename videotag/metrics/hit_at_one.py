"""Hit@1: how often the best-scored class of a video is one of its labels.

Source: YouTube-8M, arXiv:1609.08675; eval_util.calculate_hit_at_one of the starter code, which counts
videos without labels as 0 (here: empty="zero").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.accumulators import Empty, MeanOverVideos
from videotag.metrics.ranking import RankedBatch


def hit_at_one(scores: npt.ArrayLike, labels: npt.ArrayLike, *, empty: Empty = "skip") -> float:
    """Fraction of videos whose best-scored class is one of their labels; among ties the lowest id is best.

    Args:
        scores: (N, C) finite numbers, higher is more likely; need not be probabilities. N may be 0.
        labels: (N, C) in {0, 1}.
        empty: Rule for videos without labels: "skip" leaves them out, "zero" counts them as misses.

    Returns:
        Value in [0, 1]; 0.0 if no video counts.

    Raises:
        ShapeError: The arrays are not 2-D or differ in shape, a score is not finite, or a label is neither 0
            nor 1.
        ValueError: `empty` is neither "skip" nor "zero".

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = HitAtOne(empty=empty)
    metric.update(scores, labels)
    return metric.compute()


class HitAtOne(MeanOverVideos):
    """Accumulates hit_at_one over batches in constant memory."""

    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        return batch.hits[:, 0], np.ones_like(batch.num_positives)
