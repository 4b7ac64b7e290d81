"""All metrics of single-label classification (TSN) from one pass over the scores."""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.topk import TopKAccuracy, label_ranks


class SingleLabelMetrics:
    """Accumulates top-1 and top-5 accuracy; a few numbers in memory."""

    def __init__(self) -> None:
        self._top1 = TopKAccuracy(k=1)
        self._top5 = TopKAccuracy(k=5)

    def update(self, scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> None:
        """Adds a batch: scores (N, C) finite, label_ids (N,) int in [0, C); N may be 0.

        Raises:
            ShapeError: the arrays do not fit, or hold values that are not allowed.
        """
        ranks = label_ranks(scores, label_ids)
        self._top1.add(ranks)
        self._top5.add(ranks)

    def merge(self, other: SingleLabelMetrics) -> None:
        """Adds all that `other` has seen; `other` stays as it is."""
        self._top1.merge(other._top1)
        self._top5.merge(other._top5)

    def compute(self) -> dict[str, float]:
        """top1 and top5 so far, in [0, 1], 0.0 without videos; num_videos is int.

        With fewer than 5 classes, top5 means all of them and is 1.0.
        """
        return {
            "top1": self._top1.compute(),
            "top5": self._top5.compute(),
            "num_videos": self._top1.num_videos,
        }
