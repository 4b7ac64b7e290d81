"""Validates a batch of scores and labels and ranks each video's best classes.

Classes rank by descending score, ties by ascending class id. The ranking of a video depends on that video
alone, so the split into batches does not matter.

Shapes: N videos, C classes, K classes ranked per video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from videotag.errors import ShapeError


@dataclass(frozen=True)
class RankedBatch:
    """The best K classes of every video, from which the multi-label metrics are computed.

    Attributes:
        class_ids: (N, K) int64, best class first.
        scores: (N, K) float32 or float64, descending.
        hits: (N, K) bool, True where the class is a label of the video.
        num_positives: (N,) int64 labels per video, including those outside the K.
        positives_per_class: (C,) int64 videos per label, including those outside the K.
    """

    class_ids: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    num_positives: np.ndarray
    positives_per_class: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return int(self.positives_per_class.size)


def rank_batch(scores: npt.ArrayLike, labels: npt.ArrayLike, *, depth: int = 1) -> RankedBatch:
    """The `depth` best classes of every video, or more if a video has more labels than that.

    K = min(C, max(depth, the largest label count of a video)), since PERR needs as many classes as a video
    has labels.

    Args:
        scores: (N, C) finite numbers, higher is more likely: logits or probabilities. N may be 0.
        labels: (N, C) in {0, 1}, of any numeric dtype or bool.
        depth: Number of classes to rank, at least 1.

    Raises:
        ShapeError: The arrays are not 2-D or differ in shape, C is 0, a score is not finite, or a label is
            neither 0 nor 1.
    """
    scores = checked_scores(scores)
    positive = checked_labels(labels, scores.shape)
    num_positives = np.count_nonzero(positive, axis=1)  # (N,)
    depth = min(scores.shape[1], max(depth, int(num_positives.max(initial=0))))
    class_ids = _best_classes(scores, depth)
    return RankedBatch(
        class_ids=class_ids,
        scores=np.take_along_axis(scores, class_ids, axis=1),
        hits=np.take_along_axis(positive, class_ids, axis=1),
        num_positives=num_positives,
        positives_per_class=np.count_nonzero(positive, axis=0),
    )


def checked_scores(scores: npt.ArrayLike) -> np.ndarray:
    """The scores as (N, C) float32 if they are float32 or float16, else as float64.

    Raises:
        ShapeError: The scores are not real numbers, not (N, C) with C >= 1, or not finite.
    """
    scores = _checked_numbers("scores", scores)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ShapeError(f"scores: shape {scores.shape}, expected (N videos, C classes) with C >= 1")
    if scores.dtype != np.float32:
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64, copy=False)
    finite = np.isfinite(scores)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ShapeError(
            f"scores[{row}, {column}]: {scores[row, column]}, expected a finite number; did training diverge?"
        )
    return scores


def checked_labels(labels: npt.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The labels as (N, C) bool.

    Args:
        labels: (N, C) in {0, 1}, of any numeric dtype or bool.
        shape: Shape (N, C) of the scores.

    Raises:
        ShapeError: The shape differs, or a value is neither 0 nor 1.
    """
    labels = _checked_numbers("labels", labels)
    if labels.shape != shape:
        hint = "; class ids instead of a multi-hot row per video?" if labels.ndim == 1 else ""
        raise ShapeError(f"labels: shape {labels.shape}, expected that of the scores, {shape}{hint}")
    positive = labels.astype(bool, copy=False)
    wrong = labels != positive  # True for NaN too
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ShapeError(f"labels[{row}, {column}]: {labels[row, column]}, expected 0 or 1")
    return positive


def checked_label_ids(label_ids: npt.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The label ids of single-label videos as (N,) int64.

    Args:
        label_ids: (N,) int class ids in [0, C).
        shape: Shape (N, C) of the scores.

    Raises:
        ShapeError: The ids are not (N,), not integers, or outside [0, C).
    """
    label_ids = np.asarray(label_ids)
    num_videos, num_classes = shape
    if label_ids.shape != (num_videos,):
        raise ShapeError(
            f"label_ids: shape {label_ids.shape}, expected ({num_videos},), one class id per video"
        )
    if label_ids.size and not np.issubdtype(label_ids.dtype, np.integer):
        raise ShapeError(f"label_ids: dtype {label_ids.dtype}, expected integers")
    outside = np.flatnonzero((label_ids < 0) | (label_ids >= num_classes))
    if outside.size:
        first = outside[0]
        raise ShapeError(f"label_ids[{first}]: {label_ids[first]}, expected 0 to {num_classes - 1}")
    return label_ids.astype(np.int64, copy=False)


def multi_hot(labels: npt.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The labels of either task as (N, C) bool; class ids become one-hot rows.

    Args:
        labels: (N, C) in {0, 1}, or (N,) int class ids in [0, C).
        shape: Shape (N, C) of the scores.

    Raises:
        ShapeError: The labels do not match that shape, or a value is invalid.
    """
    if np.ndim(labels) != 1:
        return checked_labels(labels, shape)
    rows = np.zeros(shape, bool)
    np.put_along_axis(rows, checked_label_ids(labels, shape)[:, None], True, axis=1)
    return rows


def _checked_numbers(name: str, values: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if not any(np.issubdtype(array.dtype, real) for real in (np.floating, np.integer, np.bool_)):
        raise ShapeError(f"{name}: dtype {array.dtype}, expected real numbers")
    return array


def _best_classes(scores: np.ndarray, depth: int) -> np.ndarray:
    """(N, depth) class ids, best first; 1 <= depth <= C.

    np.partition alone would choose arbitrarily among the classes that tie for the last place.
    """
    worst_kept = scores.shape[1] - depth
    threshold = np.partition(scores, worst_kept, axis=1)[:, worst_kept, None]  # (N, 1)
    above = scores > threshold
    tied = scores == threshold
    num_tied_kept = depth - np.count_nonzero(above, axis=1, keepdims=True)  # (N, 1)
    kept = above | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= num_tied_kept))
    class_ids = np.nonzero(kept)[1].reshape(-1, depth)  # ascending in every row
    order = np.argsort(-np.take_along_axis(scores, class_ids, axis=1), axis=1, kind="stable")
    return np.take_along_axis(class_ids, order, axis=1)
