"""PERR: precision at equal recall rate, the precision of a video's first k classes when it has k labels.

Differs from eval_util.calculate_precision_at_equal_recall_rate of the YouTube-8M starter code, which
counts a label only where its score is above 0: that rule is left out, so logits and probabilities give
the same value. For scores above 0 (all that a sigmoid yields, short of underflow) the two agree; so does
empty="zero" with its videos without labels.

Source: YouTube-8M, arXiv:1609.08675.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.accumulators import Empty, MeanOverVideos
from videotag.metrics.ranking import RankedBatch


def perr(scores: npt.ArrayLike, labels: npt.ArrayLike, *, empty: Empty = "skip") -> float:
    """Mean over videos of the share of labels among the k best-scored classes, k = labels of that video.

    Of tied classes the lower ids come first.

    Args:
        scores: (N, C) finite, higher is more likely; need not be probabilities.
        labels: (N, C) in {0, 1}.
        empty: "skip" leaves out videos without labels, "zero" counts them as 0.

    Returns:
        Value in [0, 1]; 0.0 if no video counts.

    Raises:
        ShapeError: not 2-D, shapes differ, a score that is not finite, a label besides 0 and 1.

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = Perr(empty=empty)
    metric.update(scores, labels)
    return metric.compute()


class Perr(MeanOverVideos):
    """Accumulates perr over batches; two numbers in memory per number of labels that a video has."""

    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        within = np.arange(batch.hits.shape[1]) < batch.num_positives[:, None]  # (N, K)
        return np.count_nonzero(batch.hits & within, axis=1), batch.num_positives
