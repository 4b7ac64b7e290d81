"""Compares two runs of a network on the same inputs: f32 with the layers, bf16 with f32.

Shapes: K frames, D feature width, N videos, C classes. Outputs are arrays by name; their first axis is the
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from videotag.registry import LOGITS, Task
from videotag.runtime.trained import Arrays

MAX_F32_ERROR = 1e-4  # of float32 features, relative to the reference
MAX_GPU_ERROR = 1e-2  # of float32 features on a GPU, relative to the reference
MAX_F32_PROBABILITY_ERROR = 1e-5  # of tags in float32
LEAST_COSINE = 0.99  # of bf16 features
LEAST_SPREAD = 0.1  # of frames, relative to their mean, below which a cosine is mostly noise
MAX_ALIKE_ERROR = 0.02  # relative, of features of frames that are too alike
MAX_PROBABILITY_ERROR = 1e-3  # of tags in bf16, and on a GPU


@dataclass(frozen=True)
class Agreement:
    """Result of comparing two runs.

    Attributes:
        ok: Whether the runs agree.
        text: Message with the measured number.
        bound: Message with the bound of the number.
        max_error: RMS error per frame that later lists may have, see max_feature_error; None without one.
    """

    ok: bool
    text: str
    bound: str
    max_error: float | None = None


#: Function from the outputs of the reference and of the other run to their agreement.
Compare: TypeAlias = Callable[[Arrays, Arrays], Agreement]


@dataclass(frozen=True)
class Tolerances:
    """Tolerances for the outputs of one kind of network.

    Attributes:
        f32_error: Function that returns the error of float32 outputs relative to the reference.
        max_f32_error: Maximum f32_error on a CPU.
        max_gpu_error: Maximum f32_error on a GPU, which may compute in TF32 with a 10-bit mantissa.
        compare_bf16: Function that compares bfloat16 outputs with float32 ones.
    """

    f32_error: Callable[[Arrays, Arrays], float]
    max_f32_error: float
    max_gpu_error: float
    compare_bf16: Compare


def relative_error(reference: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """The largest relative L2 error over all outputs, of any shape; infinite if an output is not finite."""
    errors = [_relative(reference[name], found[name]) for name in reference]
    return float(max(errors)) if np.isfinite(errors).all() else float("inf")


def compare_features(reference: Arrays, found: Arrays) -> Agreement:
    """Compares frame features (K, D), given as the only output of both runs.

    Uses the cosine similarity after subtracting the reference's mean over the frames from both: otherwise,
    features of any two frames have a cosine near 1. If the frames are too similar for that, uses the relative
    error.
    """
    (a,), (b,) = reference.values(), found.values()
    max_error = max_feature_error(a)
    if _are_alike(a):
        error = _relative(a, b)
        text, bound = f"relative error {error:.4f}", f"at most {MAX_ALIKE_ERROR}"
        return Agreement(error <= MAX_ALIKE_ERROR, text, bound, max_error)
    cosine = mean_removed_cosine(a, b)
    text, bound = f"mean-removed cosine {cosine:.4f}", f"at least {LEAST_COSINE}"
    return Agreement(cosine >= LEAST_COSINE, text, bound, max_error)


def _are_alike(features: np.ndarray) -> bool:
    """Whether features (K, D) are too similar for a cosine."""
    return _norm(features - features.mean(axis=0)) < LEAST_SPREAD * max(_norm(features), 1e-30)


def max_feature_error(reference: np.ndarray) -> float:
    """The RMS error per frame at which frame features (K, D) would only just agree with the reference.

    Later lists of the same folder are compared by it. At the same error, the cosine of a list of few similar
    videos is lower, but for what was learned from the folder's features the error alone matters.
    """
    if _are_alike(reference):
        norm = MAX_ALIKE_ERROR * _norm(reference)
    else:  # for small errors, the cosine is 1 - (error / spread)² / 2
        norm = (2 * (1 - LEAST_COSINE)) ** 0.5 * _norm(reference - reference.mean(axis=0))
    return float(norm / max(1, len(reference)) ** 0.5)


def compare_feature_errors(reference: Arrays, found: Arrays, max_error: float) -> Agreement:
    """Compares frame features (K, D) by their RMS error per frame, see max_feature_error."""
    (a,), (b,) = reference.values(), found.values()
    error = _norm(b - a) / max(1, len(a)) ** 0.5
    return Agreement(error <= max_error, f"RMS error {error:.3g}", f"at most {max_error:.3g}")


def mean_removed_cosine(reference: np.ndarray, found: np.ndarray) -> float:
    """The cosine of features (K, D) after subtracting the reference's mean over the frames from both."""
    mean = reference.mean(axis=0)
    a, b = ((x - mean).ravel().astype(np.float64) for x in (reference, found))
    return float(a @ b / max(_norm(a) * _norm(b), 1e-30))


#: The tolerances of a backbone.
FEATURES = Tolerances(relative_error, MAX_F32_ERROR, MAX_GPU_ERROR, compare_features)


def tags_tolerances(task: Task) -> Tolerances:
    """The tolerances of a tagger, which apply to the probabilities (N, C) of its logits."""

    def error(reference: Arrays, found: Arrays) -> float:
        return max_difference(*(scores_of(task, outputs[LOGITS]) for outputs in (reference, found)))

    def compare(reference: Arrays, found: Arrays) -> Agreement:
        worst = error(reference, found)
        text, bound = f"probabilities differ by up to {worst:.0e}", f"at most {MAX_PROBABILITY_ERROR:.0e}"
        return Agreement(worst <= MAX_PROBABILITY_ERROR, text, bound)

    return Tolerances(error, MAX_F32_PROBABILITY_ERROR, MAX_PROBABILITY_ERROR, compare)


def max_difference(reference: np.ndarray, found: np.ndarray) -> float:
    """The largest absolute difference of two arrays of the same shape; infinite if a value is not finite."""
    worst = float(np.abs(reference - found).max(initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


def scores_of(task: Task, logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of logits (N, C): sigmoid, or softmax for "single_label"."""
    if task == "multi_label":
        low = np.exp(-np.abs(logits))  # never overflows
        return np.where(logits >= 0, 1 / (1 + low), low / (1 + low)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _relative(reference: np.ndarray, found: np.ndarray) -> float:
    return _norm(found - reference) / max(_norm(reference), 1e-3)


def _norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x.astype(np.float64)))
