"""Logistic regression, solved to the optimum, with its penalty chosen by cross-validation.

L-BFGS over the whole set, in NumPy: scikit-learn and SciPy are not dependencies of this project, and Paddle's
L-BFGS needs minutes for what takes a second here. The features are rotated to their principal axes first, in
which the problem is nearly isotropic, so that about ten iterations suffice; with fewer videos than features
this also shrinks the problem to N columns. The optimum is the same, as the penalty is invariant to rotations.
Shapes: N videos, P features, R = rank at most min(N, P), C classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from videotag.registry import Task

#: Penalties that cross-validation tries, strongest first: halves of decades.
PENALTIES = tuple(float(10**exponent) for exponent in np.arange(2.5, -5.1, -0.5))
_PATIENCE = 2  # weaker penalties tried after the best one
_HISTORY = 10  # pairs of steps and gradient changes
_MAX_ITERATIONS = 500
_TOLERANCE = 1e-4  # norm of the gradient relative to its norm at zero
_ARMIJO = 1e-4  # share of the predicted decrease that a step must reach
_SMALLEST_STEP = 1e-10
_MAX_ROTATED = 2000  # a larger eigenvalue problem takes longer than the iterations it saves
_SMALLEST_EIGENVALUE = 1e-10  # relative to the largest; axes below it have no data
_MAX_FLOAT64 = 5_000_000  # values N * P that are computed in float64
_SMALLEST_VARIANCE = 1e-3  # of a class, for the scale of its variables
_SMALLEST_PROBABILITY = 1e-6

Objective: TypeAlias = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation.

    Attributes:
        penalty: Penalty with the smallest held-out loss.
        loss: Held-out loss of that penalty, a mean over the videos.
        scores: Held-out probabilities (N, C) float64 of that penalty; every video is scored by a model that
            was not trained on its fold.
    """

    penalty: float
    loss: float
    scores: np.ndarray


class LogisticRegression:
    """Logistic regression of fixed features and labels, for any number of fits.

    Args:
        x: (N, P) float, standardized features.
        labels: (N, C) in [0, 1]; for a single-label task, (N,) class ids.
        task: "multi_label" for C independent logistic regressions, "single_label" for a softmax.
        num_classes: Number of classes C.
        class_weights: (C,) weight of the loss of a class's positive videos; None weights all equally.
    """

    def __init__(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        *,
        task: Task,
        num_classes: int,
        class_weights: np.ndarray | None = None,
    ) -> None:
        self._task = task
        self._num_classes = num_classes
        y = labels.astype(np.float64)
        if task == "single_label":
            y = (labels[:, None] == np.arange(num_classes)).astype(np.float64)
        self._y = y  # (N, C)
        self._weights: np.ndarray | None = None
        if class_weights is not None:
            positive = y * class_weights  # (N, C)
            self._weights = positive.sum(1, keepdims=True) if task == "single_label" else positive + 1 - y
        x = x.astype(np.float64 if x.size <= _MAX_FLOAT64 else np.float32)
        self._z, self._axes, self._variances = _rotated(x)  # (N, R), (P, R) or None, (R,)

    def fit(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """The weights that minimize mean loss + penalty / 2 * (squared norm of the weights).

        The loss of a video is summed over the classes of a multi-label task; biases have no penalty.

        Args:
            penalty: Penalty above 0; 1 / (C * N) for the C of scikit-learn.

        Returns:
            Weights (P, C) and biases (C,), float64.
        """
        w = self._fit(penalty, np.arange(len(self._z)), None)
        weights = w[:-1] if self._axes is None else self._axes @ w[:-1]
        return weights, w[-1]

    def cross_validate(
        self, folds: Sequence[np.ndarray], penalties: Sequence[float] = PENALTIES
    ) -> CrossValidation:
        """Chooses the penalty with the smallest held-out loss.

        Each fit starts from the optimum of the previous penalty; the search stops after two penalties in a
        row without improvement.

        Args:
            folds: Per fold, the (n,) indices of the videos that are held out; every video is in one fold.
            penalties: Penalties to try, strongest first.
        """
        everyone = np.arange(len(self._z))
        kept = [np.setdiff1d(everyone, fold) for fold in folds]
        starts: list[np.ndarray | None] = [None] * len(folds)
        best: CrossValidation | None = None
        since_best = 0
        for penalty in penalties:
            logits = np.zeros_like(self._y)
            for number, (fold, rows) in enumerate(zip(folds, kept, strict=True)):
                w = starts[number] = self._fit(penalty, rows, starts[number])
                logits[fold] = self._z[fold] @ w[:-1].astype(self._z.dtype) + w[-1]
            scores = probabilities(logits, self._task)
            loss = cross_entropy(scores, self._y, self._task, weights=self._weights)
            if best is None or loss < best.loss:
                best, since_best = CrossValidation(penalty, loss, scores), 0
            else:
                since_best += 1
                if since_best >= _PATIENCE:
                    break
        assert best is not None, "penalties is not empty"
        return best

    def _fit(self, penalty: float, rows: np.ndarray, start: np.ndarray | None) -> np.ndarray:
        """Weights and, as the last row, biases (R + 1, C) for some of the videos, in the rotated space."""
        is_all = len(rows) == len(self._z)
        z, y = (self._z, self._y) if is_all else (self._z[rows], self._y[rows])
        weights = None if self._weights is None else self._weights[rows]
        count, share = len(z), y.mean(axis=0)
        curvature = np.maximum(share * (1 - share), _SMALLEST_VARIANCE)  # (C,), of the loss at the bias
        scale = 1 / np.sqrt(penalty + self._variances[:, None] * curvature)  # (R, C)
        scale = np.vstack([scale, 1 / np.sqrt(curvature)])  # (R + 1, C)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = flat.reshape(scale.shape) * scale
            losses, difference = _losses(z @ w[:-1].astype(z.dtype) + w[-1], y, self._task)
            if weights is not None:
                losses, difference = losses * weights, difference * weights
            gradient = np.empty_like(w)
            gradient[:-1] = z.T @ difference.astype(z.dtype) / count + penalty * w[:-1]
            gradient[-1] = difference.mean(axis=0)
            value = float(losses.sum()) / count + penalty / 2 * float((w[:-1] ** 2).sum())
            return value, (gradient * scale).ravel()

        first = np.zeros_like(scale) if start is None else start / scale
        return minimize(objective, first.ravel()).reshape(scale.shape) * scale


def probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """The probabilities of logits, (N, C) of the same dtype.

    Args:
        logits: (N, C) float.
        task: "multi_label" takes the sigmoid, "single_label" the softmax.
    """
    if task == "multi_label":
        return 0.5 * (1 + np.tanh(0.5 * logits))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def cross_entropy(
    scores: np.ndarray, labels: np.ndarray, task: Task, *, weights: np.ndarray | None = None
) -> float:
    """Cross-entropy of probabilities, summed over classes and averaged over videos; 0.0 without videos.

    Args:
        scores: Probabilities (N, C).
        labels: (N, C) in [0, 1]; one-hot for a single-label task.
        task: Task of the model.
        weights: Weights of the losses, (N, C) or (N, 1); None weights all equally.
    """
    if not len(scores):
        return 0.0
    p = np.clip(scores, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    losses = -labels * np.log(p)
    if task == "multi_label":
        losses -= (1 - labels) * np.log1p(-p)
    if weights is not None:
        losses = losses * weights
    return float(losses.sum(axis=1).mean())


def _losses(logits: np.ndarray, y: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Losses (N, C) or (N, 1), and their derivatives by the logits (N, C), for labels y (N, C)."""
    if task == "multi_label":
        return np.logaddexp(0, logits) - y * logits, probabilities(logits, task) - y
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_sum - (shifted * y).sum(axis=1, keepdims=True), np.exp(shifted - log_sum) - y


def _rotated(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Features (N, R) in their principal axes, the axes (P, R), and the mean square (R,) of each column.

    A large problem is left as it is, without axes.
    """
    count, width = x.shape
    if min(count, width) > _MAX_ROTATED:
        return x, None, (x**2).mean(axis=0, dtype=np.float64)
    is_wide = count <= width
    values, vectors = np.linalg.eigh((x @ x.T if is_wide else x.T @ x).astype(np.float64))
    kept = values > max(values[-1], 0.0) * _SMALLEST_EIGENVALUE
    values, vectors = values[kept], vectors[:, kept]
    if is_wide:
        return vectors * np.sqrt(values), x.T @ (vectors / np.sqrt(values)), values / count
    return x @ vectors, vectors, values / count


def minimize(objective: Objective, start: np.ndarray) -> np.ndarray:
    """The minimum of a smooth convex function by L-BFGS with backtracking.

    Args:
        objective: Function from a point (n,) to its value and gradient (n,).
        start: First point, (n,) float64.

    Returns:
        The point (n,) float64 at which the gradient is _TOLERANCE of that at zero, or the last one reached.

    Source: Nocedal, Updating quasi-Newton matrices with limited storage, 1980.
    """
    x = start
    value, gradient = objective(x)
    smallest = _TOLERANCE * float(np.linalg.norm(objective(np.zeros_like(x))[1]))
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_HISTORY)
    for _ in range(_MAX_ITERATIONS):
        if np.linalg.norm(gradient) <= smallest:
            break
        direction = _direction(gradient, pairs)
        slope, step = float(direction @ gradient), 1.0
        while True:
            new_x = x + step * direction
            new_value, new_gradient = objective(new_x)
            if new_value <= value + _ARMIJO * step * slope:
                break
            step /= 2
            if step < _SMALLEST_STEP:  # rounding errors exceed what is left to gain
                return x
        moved, changed = new_x - x, new_gradient - gradient
        if float(moved @ changed) > 0:
            pairs.append((moved, changed))
        x, value, gradient = new_x, new_value, new_gradient
    return x


def _direction(gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The descent direction (n,) of the two-loop recursion; minus the gradient without pairs."""
    direction = -gradient
    if not pairs:
        return direction
    factors = []
    for moved, changed in reversed(pairs):
        factor = float(moved @ direction) / float(moved @ changed)
        direction = direction - factor * changed
        factors.append(factor)
    moved, changed = pairs[-1]
    direction = direction * (float(moved @ changed) / float(changed @ changed))
    for (moved, changed), factor in zip(pairs, reversed(factors), strict=True):
        direction = direction + moved * (factor - float(changed @ direction) / float(moved @ changed))
    return direction
