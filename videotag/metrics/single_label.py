"""All metrics of single-label classification (TSN) in one pass over the scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videotag.metrics.mean_ap import MeanAp
from videotag.metrics.ranking import checked_scores, multi_hot
from videotag.metrics.topk import TopKAccuracy, label_ranks


class SingleLabelMetrics:
    """Accumulates top-1 and top-5 accuracy and mAP over batches; see TopEntries for its memory use.

    The mAP is that of mean_ap on one-hot labels: the mean, over the classes that have a video, of the average
    precision with which the scores of that class rank the videos. With more than 20 classes, a class ranks
    only the videos that have it among their 20 best-scored classes; the other videos of the class count as
    never found. It equals the mean of PerClass's average_precision.
    """

    def __init__(self) -> None:
        self._top1 = TopKAccuracy(k=1)
        self._top5 = TopKAccuracy(k=5)
        self._mean_ap = MeanAp()

    def update(self, scores: npt.ArrayLike, label_ids: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            label_ids: (N,) int class ids in [0, C).

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid; nothing
                is added then.
        """
        scores, label_ids = checked_scores(scores), np.asarray(label_ids)
        ranks = label_ranks(scores, label_ids)
        self._mean_ap.update(scores, multi_hot(label_ids, scores.shape))  # first, as only it may still raise
        self._top1.add(ranks)
        self._top5.add(ranks)

    def merge(self, other: SingleLabelMetrics) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in the number of classes.
        """
        self._mean_ap.merge(other._mean_ap)
        self._top1.merge(other._top1)
        self._top5.merge(other._top5)

    def compute(self) -> dict[str, float]:
        """top1, top5 and mean_ap so far, in [0, 1], 0.0 without videos; and num_videos, an int.

        top5 is left out unless there are more than 5 classes: with fewer, it is always 1.0.
        """
        num_classes = self._mean_ap.positives_per_class.size
        top5 = {"top5": self._top5.compute()} if num_classes > self._top5.k else {}
        return {
            "top1": self._top1.compute(),
            **top5,
            "mean_ap": self._mean_ap.compute(),
            "num_videos": self._top1.num_videos,
        }
