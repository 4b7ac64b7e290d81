"""All metrics of multi-label tagging in one pass over the scores."""

from __future__ import annotations

import numpy.typing as npt

from videotag.metrics.accumulators import DEFAULT_TOP_K, Empty, TopEntries
from videotag.metrics.gap import gap_from_entries
from videotag.metrics.hit_at_one import HitAtOne
from videotag.metrics.mean_ap import mean_ap_from_entries
from videotag.metrics.perr import Perr
from videotag.metrics.ranking import rank_batch


class TaggingMetrics:
    """Accumulates Hit@1, PERR, GAP and mAP; each batch is ranked once and each entry stored once.

    Args:
        top_k: Number of predictions per video that GAP and mAP are computed from, at least 1.
        empty: Rule of Hit@1 and PERR for videos without labels: "skip" leaves them out, "zero" counts them
            as 0.

    Raises:
        ValueError: Argument top_k is below 1, or `empty` is neither "skip" nor "zero".
    """

    def __init__(self, *, top_k: int = DEFAULT_TOP_K, empty: Empty = "skip") -> None:
        self._hit_at_one = HitAtOne(empty=empty)
        self._perr = Perr(empty=empty)
        self._entries = TopEntries(top_k=top_k)

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) finite numbers, higher is more likely; N may be 0.
            labels: (N, C) in {0, 1}.

        Raises:
            ShapeError: The shapes do not match each other or earlier batches, or a value is invalid; nothing
                is added then.
        """
        batch = rank_batch(scores, labels, depth=self._entries.top_k)
        self._entries.add(batch)  # first, as it is the only one that may raise
        self._hit_at_one.add(batch)
        self._perr.add(batch)

    def merge(self, other: TaggingMetrics) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in top_k, empty or the number of classes.
        """
        self._hit_at_one.merge(other._hit_at_one)
        self._perr.merge(other._perr)
        self._entries.merge(other._entries)

    def compute(self) -> dict[str, float]:
        """All values so far: metrics in [0, 1], 0.0 if no video counts; num_ values are int.

        num_without_labels is counted under either rule.
        """
        return {
            "hit_at_one": self._hit_at_one.compute(),
            "perr": self._perr.compute(),
            "gap": gap_from_entries(self._entries),
            "mean_ap": mean_ap_from_entries(self._entries),
            "num_videos": self._entries.num_videos,
            "num_without_labels": self._perr.num_without_labels,
        }
