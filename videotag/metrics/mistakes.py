"""The videos that a network is worst at: those of the highest loss, with what they are and what was said.

Shapes: N videos, C classes, K tags kept per video.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_scores, label_rows, rank_batch

# Probabilities are kept so far from 0 and 1, since float32 rounds to both and their logarithm is infinite.
_LEAST_PROBABILITY = 1e-7


class Mistake(NamedTuple):
    """A video and its loss; fields in the order in which mistakes of equal loss are sorted.

    Attributes:
        loss: multi-label: cross-entropy summed over classes; single-label: -log of the label's probability.
        video_id: as the list wrote it.
        true: (class id, probability) of its labels, by class id.
        said: (class id, probability) of its best-scored classes, the best first.
    """

    loss: float
    video_id: str
    true: tuple[tuple[int, float], ...]
    said: tuple[tuple[int, float], ...]


class Mistakes:
    """Keeps the videos of the highest loss. Videos without labels are left out: what they show is not known.

    Args:
        limit: videos kept, at least 0.
        top_k: best-scored classes kept of each, at least 1.
    """

    def __init__(self, *, limit: int = 20, top_k: int = 5) -> None:
        if limit < 0 or top_k < 1:
            raise ValueError(f"limit {limit}, top_k {top_k}: expected at least 0 and 1")
        self.limit = limit
        self.top_k = top_k
        self._worst: list[Mistake] = []

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike, video_ids: Sequence[str]) -> None:
        """Adds a batch.

        Args:
            scores: (N, C) in [0, 1]; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids, which also chooses the loss.
            video_ids: N of them.

        Raises:
            ShapeError: the arrays do not fit each other, or hold values that are not allowed.
        """
        scores = checked_scores(scores)
        positive = label_rows(labels, scores.shape)
        if len(video_ids) != len(scores):
            raise ShapeError(f"{len(video_ids)} video_ids, expected {len(scores)}, one per row of the scores")
        losses = _losses(scores, positive, single_label=np.ndim(labels) == 1)
        losses[~positive.any(axis=1)] = -1.0
        order = np.argsort(-losses, kind="stable")
        # Ties with the last place are looked at too: the batch's order must not choose among them.
        last = losses[order[: self.limit][-1]] if self.limit and order.size else np.inf
        chosen = np.flatnonzero((losses >= last) & (losses >= 0))
        new = [self._mistake(losses[i], video_ids[i], scores[i], positive[i]) for i in chosen.tolist()]
        self._keep([*self._worst, *new])

    def merge(self, other: Mistakes) -> None:
        """Adds all that `other` has seen; `other` stays as it is.

        Raises:
            ShapeError: the two keep another number of videos or of tags.
        """
        mine, theirs = (self.limit, self.top_k), (other.limit, other.top_k)
        if mine != theirs:
            raise ShapeError(f"merge of limit, top_k {mine} with {theirs}: expected the same")
        self._keep([*self._worst, *other._worst])

    def compute(self) -> list[Mistake]:
        """At most `limit` mistakes, the highest loss first; of equal losses the lowest video_id."""
        return list(self._worst)

    def _keep(self, mistakes: list[Mistake]) -> None:
        self._worst = heapq.nsmallest(self.limit, mistakes, key=lambda m: (-m.loss, *m[1:]))

    def _mistake(self, loss: float, video_id: str, scores: np.ndarray, positive: np.ndarray) -> Mistake:
        best = rank_batch(scores[None], positive[None], depth=self.top_k)
        said = zip(best.class_ids[0, : self.top_k].tolist(), best.scores[0].tolist(), strict=False)
        true = np.flatnonzero(positive)
        return Mistake(
            loss=float(loss),
            video_id=video_id,
            true=tuple(zip(true.tolist(), scores[true].tolist(), strict=True)),
            said=tuple(said),
        )


def _losses(scores: np.ndarray, positive: np.ndarray, *, single_label: bool) -> np.ndarray:
    """(N,) float64 cross-entropy of every video."""
    of_truth = np.where(positive, scores, 1 - scores).astype(np.float64)  # (N, C)
    surprise = -np.log(np.clip(of_truth, _LEAST_PROBABILITY, 1.0))
    if single_label:
        surprise[~positive] = 0.0
    return np.asarray(surprise.sum(axis=1))
