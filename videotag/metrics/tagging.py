"""All metrics of multi-label tagging from one pass over the scores."""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.accumulators import DEFAULT_TOP_K, Empty, TopEntries
from videotag.metrics.gap import gap_of
from videotag.metrics.hit_at_one import HitAtOne
from videotag.metrics.mean_ap import mean_ap_of
from videotag.metrics.perr import Perr
from videotag.metrics.ranking import rank_batch


class TaggingMetrics:
    """Accumulates Hit@1, PERR, GAP and mAP; each batch is ranked once, each entry is kept once.

    Args:
        top_k: predictions per video that GAP and mAP look at; at least 1.
        empty: "skip" leaves videos without labels out of Hit@1 and PERR, "zero" counts them as 0.
    """

    def __init__(self, *, top_k: int = DEFAULT_TOP_K, empty: Empty = "skip") -> None:
        self._hit_at_one = HitAtOne(empty=empty)
        self._perr = Perr(empty=empty)
        self._entries = TopEntries(top_k=top_k)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch: scores (N, C) finite, labels (N, C) in {0, 1}; N may be 0.

        Raises:
            ShapeError: the arrays do not fit each other or the batches before, or hold values that are
                not allowed; nothing of the batch is added.
        """
        batch = rank_batch(scores, labels, depth=self._entries.top_k)
        self._entries.add(batch)  # first, since it alone may refuse
        self._hit_at_one.add(batch)
        self._perr.add(batch)

    def merge(self, other: TaggingMetrics) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two differ in top_k, empty or the number of classes.
        """
        self._hit_at_one.merge(other._hit_at_one)
        self._perr.merge(other._perr)
        self._entries.merge(other._entries)

    def compute(self) -> dict[str, float]:
        """All values so far: metrics in [0, 1], 0.0 where nothing counts; num_ values are int.

        num_without_labels is counted under either rule for them.
        """
        return {
            "hit_at_one": self._hit_at_one.compute(),
            "perr": self._perr.compute(),
            "gap": gap_of(self._entries),
            "mean_ap": mean_ap_of(self._entries),
            "num_videos": self._entries.num_videos,
            "num_without_labels": self._perr.num_without_labels,
        }
