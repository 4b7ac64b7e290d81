"""The videos with the highest loss, with their labels and the tags that were predicted.

Shapes: N videos, C classes, K tags kept per video.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError
from videotag.metrics.ranking import checked_scores, multi_hot, rank_batch

# Probabilities are clipped to this: float32 scores may round to 0 or 1, where the loss is infinite.
_MIN_PROBABILITY = 1e-7


class Mistake(NamedTuple):
    """A video and its loss; mistakes of equal loss are sorted by the other fields, in this order.

    Attributes:
        loss: Multi-label: cross-entropy summed over classes. Single-label: -log of the label's probability.
        video_id: The video's id as written in the list.
        true: (class id, probability) of its labels, by class id.
        predicted: (class id, probability) of its best-scored classes, best first.
    """

    loss: float
    video_id: str
    true: tuple[tuple[int, float], ...]
    predicted: tuple[tuple[int, float], ...]


class Mistakes:
    """Keeps the videos with the highest loss; skips videos without labels, whose content is unknown.

    Args:
        limit: Number of videos kept, at least 0.
        top_k: Number of best-scored classes kept per video, at least 1.

    Raises:
        ValueError: Argument limit is below 0, or top_k below 1.
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
            scores: (N, C) probabilities in [0, 1]; N may be 0.
            labels: (N, C) in {0, 1}, or (N,) class ids; the shape selects the loss.
            video_ids: Ids of the N videos.

        Raises:
            ShapeError: The shapes or lengths do not match, or a value is invalid.
        """
        scores = checked_scores(scores)
        positive = multi_hot(labels, scores.shape)
        if len(video_ids) != len(scores):
            raise ShapeError(f"{len(video_ids)} video_ids, expected {len(scores)}, one per row of the scores")
        losses = _losses(scores, positive, single_label=np.ndim(labels) == 1)
        losses[~positive.any(axis=1)] = -1.0
        order = np.argsort(-losses, kind="stable")
        # Includes all ties with the last place: the order within the batch must not decide among them.
        lowest = losses[order[: self.limit][-1]] if self.limit and order.size else np.inf
        chosen = np.flatnonzero((losses >= lowest) & (losses >= 0))
        new = [self._mistake(losses[i], video_ids[i], scores[i], positive[i]) for i in chosen.tolist()]
        self._keep([*self._worst, *new])

    def merge(self, other: Mistakes) -> None:
        """Adds everything that `other` has accumulated, without changing `other`.

        Raises:
            ShapeError: The two differ in limit or top_k.
        """
        mine, theirs = (self.limit, self.top_k), (other.limit, other.top_k)
        if mine != theirs:
            raise ShapeError(f"merge of limit, top_k {mine} with {theirs}: expected the same")
        self._keep([*self._worst, *other._worst])

    def compute(self) -> list[Mistake]:
        """At most `limit` mistakes by descending loss, ties by video_id; empty if no video has labels."""
        return list(self._worst)

    def _keep(self, mistakes: list[Mistake]) -> None:
        self._worst = heapq.nsmallest(self.limit, mistakes, key=lambda m: (-m.loss, *m[1:]))

    def _mistake(self, loss: float, video_id: str, scores: np.ndarray, positive: np.ndarray) -> Mistake:
        best = rank_batch(scores[None], positive[None], depth=self.top_k)
        predicted = zip(best.class_ids[0, : self.top_k].tolist(), best.scores[0].tolist(), strict=False)
        true = np.flatnonzero(positive)
        return Mistake(
            loss=float(loss),
            video_id=video_id,
            true=tuple(zip(true.tolist(), scores[true].tolist(), strict=True)),
            predicted=tuple(predicted),
        )


def _losses(scores: np.ndarray, positive: np.ndarray, *, single_label: bool) -> np.ndarray:
    """(N,) float64 cross-entropy of every video."""
    likelihood = np.where(positive, scores, 1 - scores).astype(np.float64)  # (N, C)
    losses = -np.log(np.clip(likelihood, _MIN_PROBABILITY, 1.0))
    if single_label:
        losses[~positive] = 0.0
    return np.asarray(losses.sum(axis=1))
