"""All metrics of single-label classification (TSN) in one pass over the scores."""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.topk import TopKAccuracy, label_ranks


class SingleLabelMetrics:
    """Accumulates top-1 and top-5 accuracy over batches in constant memory."""

    def __init__(self) -> None:
        self._top1 = TopKAccuracy(k=1)
        self._top5 = TopKAccuracy(k=5)

    def update(self, scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            label_ids: (N,) int class ids in [0, C).

        Raises:
            ShapeError: The shapes do not match, or a value is invalid.
        """
        ranks = label_ranks(scores, label_ids)
        self._top1.add(ranks)
        self._top5.add(ranks)

    def merge(self, other: SingleLabelMetrics) -> None:
        """Adds everything that `other` has accumulated, without changing `other`."""
        self._top1.merge(other._top1)
        self._top5.merge(other._top5)

    def compute(self) -> dict[str, float]:
        """top1 and top5 so far, in [0, 1], 0.0 without videos; and num_videos, an int.

        With fewer than 5 classes, top5 covers all of them and is 1.0.
        """
        return {
            "top1": self._top1.compute(),
            "top5": self._top5.compute(),
            "num_videos": self._top1.num_videos,
        }
