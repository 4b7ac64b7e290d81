"""PERR: precision at equal recall rate, the precision of a video's k best-scored classes if it has k labels.

Differs from eval_util.calculate_precision_at_equal_recall_rate of the YouTube-8M starter code, which counts a
label only if its score is above 0. Without that rule, logits and probabilities give the same value; with
scores above 0 (every sigmoid output, barring underflow) and empty="zero" the two agree.

Source: YouTube-8M, arXiv:1609.08675.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.accumulators import Empty, MeanOverVideos
from videotag.metrics.ranking import RankedBatch


def perr(scores: npt.ArrayLike, labels: npt.ArrayLike, *, empty: Empty = "skip") -> float:
    """Mean over videos of the precision among the k best-scored classes, k being the video's label count.

    Tied classes rank by ascending id.

    Args:
        scores: (N, C) finite numbers, higher is more likely; need not be probabilities. N may be 0.
        labels: (N, C) in {0, 1}.
        empty: Rule for videos without labels: "skip" leaves them out, "zero" counts them as 0.

    Returns:
        Value in [0, 1]; 0.0 if no video counts.

    Raises:
        ShapeError: The arrays are not 2-D or differ in shape, a score is not finite, or a label is neither 0
            nor 1.
        ValueError: `empty` is neither "skip" nor "zero".

    Source: YouTube-8M, arXiv:1609.08675.
    """
    metric = Perr(empty=empty)
    metric.update(scores, labels)
    return metric.compute()


class Perr(MeanOverVideos):
    """Accumulates perr over batches; stores one counter per distinct label count of a video."""

    def _fractions(self, batch: RankedBatch) -> tuple[np.ndarray, np.ndarray]:
        in_top_k = np.arange(batch.hits.shape[1]) < batch.num_positives[:, None]  # (N, K)
        return np.count_nonzero(batch.hits & in_top_k, axis=1), batch.num_positives
