"""Hit@1: how often the best-scored class of a video is one of its labels.

Source: YouTube-8M, arXiv:1609.08675; eval_util.calculate_hit_at_one of the starter code, which counts
videos without labels as 0 (empty="zero" here).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.accumulators import Empty, MeanOverVideos
from videotag.metrics.ranking import RankedBatch


def hit_at_one(scores: npt.ArrayLike, labels: npt.ArrayLike, *, empty: Empty = "skip") -> float:
    """Share of videos whose best-scored class is one of their labels; of tied classes the lowest id counts.

    Args:
        scores: (N, C) finite, higher is more likely; need not be probabilities.
        labels: (N, C) in {0, 1}.
        empty: "skip" leaves out videos without labels, "zero" counts them as misses.

    Returns:
        Value in [0, 1]; 0.0 if no video counts.

    Raises:
        ShapeError: not 2-D, shapes differ, a score that is not finite, a label besides 0 and 1.

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = HitAtOne(empty=empty)
    metric.update(scores, labels)
    return metric.compute()


class HitAtOne(MeanOverVideos):
    """Accumulates hit_at_one over batches; a few numbers in memory."""

    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        return batch.hits[:, 0], np.ones_like(batch.num_positives)
