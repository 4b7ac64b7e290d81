"""Compares the outputs of an exported network with those of its original layers.

Uses the bounds of videotag.runtime.agreement. Samples are padded batches of sequences of different lengths,
including a single step, and samples that the user provides.
Shapes: N videos, T steps, D feature width, C classes, K frames, S side of a frame in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videotag.media.synthetic import random_specs, render
from videotag.registry import ATTENTION, LOGITS, MASK, ArraySpec, Task
from videotag.runtime.agreement import (
    FEATURES,
    LEAST_COSINE,
    MAX_ALIKE_ERROR,
    MAX_F32_ERROR,
    MAX_F32_PROBABILITY_ERROR,
    MAX_PROBABILITY_ERROR,
    compare_features,
    max_difference,
    mean_removed_cosine,
    relative_error,
    tags_tolerances,
)
from videotag.runtime.trained import Arrays, Network, TrainedNetwork

#: Factor between the bounds of attention weights and probabilities; attention is only displayed.
_ATTENTION_FACTOR = 10
#: Per batch: lengths of the sequences, and number of steps after padding.
_BATCHES = (([1], 1), ([3, 40, 17, 1], 40), ([64, 2], 70))
_VARYING = 32  # size of other axes that may vary, besides batch and steps
_FRAME_BATCHES = (8, 1, 3)


@dataclass(frozen=True)
class Parity:
    """Differences between an export and its original layers.

    Attributes:
        ok: Whether every number is within its bound.
        text: Message with the measurements.
        measurements: Numbers and their bounds by name.
        shapes: Shapes of the outputs by name, with None for sizes that varied between batches.
    """

    ok: bool
    text: str
    measurements: dict[str, float | int]
    shapes: dict[str, list[int | None]]


def random_samples(inputs: Sequence[ArraySpec], *, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Batches of random inputs for a model, with padded sequences of different lengths.

    Args:
        inputs: Specifications of the inputs; other sizes that may vary, besides batch and steps, are 32.
        seed: Seed of the random measurements.

    Returns:
        Batches of arrays by name, such as sequences (N, T, D) with masks (N, T).
    """
    rng = np.random.default_rng(seed)
    batches = []
    for number, (lengths, steps) in enumerate(_BATCHES):
        arrays: dict[str, np.ndarray] = {}
        masked = {spec.name.removesuffix(MASK) for spec in inputs if spec.name.endswith(MASK)}
        for index, spec in enumerate(spec for spec in inputs if not spec.name.endswith(MASK)):
            # One sequence may have fewer steps than another, and is then padded to fewer.
            share = 2 if number == len(_BATCHES) - 1 and index % 2 else 1
            defaults = [len(lengths), steps // share, *[_VARYING] * len(spec.shape)]
            shape = [size or default for size, default in zip(spec.shape, defaults, strict=False)]
            x = _random(rng, spec, shape)
            if spec.name not in masked:
                arrays[spec.name] = x
                continue
            mask = np.arange(shape[1]) < np.array(lengths)[:, None] // share  # (N, T)
            if number % 2 and spec.dtype == "float32":
                x = np.abs(x)  # as after a ReLU, or of YouTube-8M
            x = x * mask.reshape([*mask.shape, *[1] * (x.ndim - 2)])
            arrays |= {spec.name: x.astype(spec.dtype), spec.name + MASK: mask}
        batches.append(arrays)
    return batches


def _random(rng: np.random.Generator, spec: ArraySpec, shape: Sequence[int]) -> np.ndarray:
    if spec.dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, spec.below, shape).astype(spec.dtype)


def frame_samples(size_px: int) -> np.ndarray:
    """Frames (K, S, S, 3) uint8 of generated clips, whose content varies."""
    specs = random_specs(8, seed=0)[::2]  # every other one is the same clip in reverse
    clips = [render(spec, num_frames=2, size_px=size_px) for spec in specs]
    return np.concatenate(clips)


def frame_batches(frames: np.ndarray) -> list[np.ndarray]:
    """Frames (K, S, S, 3) in batches of several sizes."""
    return [frames[:count] for count in _FRAME_BATCHES]


def tagger_parity(
    trained: TrainedNetwork, network: Network, samples: Sequence[Arrays], *, task: Task, precision: str
) -> Parity:
    """Compares a tagger's probabilities (N, C), attention (N, T) and other outputs with those of its layers.

    Args:
        trained: Original network.
        network: Exported network.
        samples: Batches of inputs by name.
        task: Task, which decides how logits become probabilities.
        precision: Precision of the exported network, "f32" or "bf16".
    """
    runs = [(trained.run_layers(arrays), network(arrays)) for arrays in samples]
    is_f32 = precision == "f32"
    bound = MAX_F32_PROBABILITY_ERROR if is_f32 else MAX_PROBABILITY_ERROR
    probability_error = tags_tolerances(task).f32_error
    found = {"probability": (max(probability_error(*run) for run in runs), bound)}
    attention = [name for name in trained.outputs if name.endswith(ATTENTION)]
    if attention:
        worst = max(max_difference(a[name], b[name]) for a, b in runs for name in attention)
        found["attention"] = (worst, _ATTENTION_FACTOR * bound)
    for name in trained.outputs:
        if name != LOGITS and name not in attention:
            worst = max(relative_error({name: a[name]}, {name: b[name]}) for a, b in runs)
            found[name] = (worst, MAX_F32_ERROR if is_f32 else MAX_ALIKE_ERROR)
    measurements: dict[str, float | int] = {}
    for name, (worst, allowed) in found.items():
        measurements |= {f"max_{name}_difference": worst, f"max_{name}_difference_allowed": allowed}
    text = "; ".join(
        f"{name} differs by up to {worst:.1e}, at most {allowed:.0e} is allowed"
        for name, (worst, allowed) in found.items()
    )
    ok = all(worst <= allowed for worst, allowed in found.values())
    return _parity(ok, text, measurements, runs)


def feature_parity(
    trained: TrainedNetwork, network: Network, samples: Sequence[Arrays], *, precision: str
) -> Parity:
    """Compares a backbone's features (K, D) with those of its layers; in bf16, by mean-removed cosine.

    Args:
        trained: Original network.
        network: Exported network.
        samples: Batches of inputs by name, frames (K, S, S, 3) uint8.
        precision: Precision of the exported network, "f32" or "bf16".
    """
    runs = [(trained.run_layers(arrays), network(arrays)) for arrays in samples]
    (name,) = trained.outputs
    expected, found = (np.concatenate([run[side][name] for run in runs]) for side in (0, 1))
    error = FEATURES.f32_error({name: expected}, {name: found})
    cosine = mean_removed_cosine(expected, found)
    agreement = compare_features({name: expected}, {name: found})
    measurements: dict[str, float | int] = {"relative_error": error, "mean_removed_cosine": cosine}
    text = f"features: mean-removed cosine {cosine:.6f}, relative error {error:.1e}"
    if precision == "f32":
        measurements["relative_error_allowed"] = MAX_F32_ERROR
        return _parity(
            error <= MAX_F32_ERROR, f"{text}, at most {MAX_F32_ERROR:.0e} is allowed", measurements, runs
        )
    measurements["least_mean_removed_cosine"] = LEAST_COSINE
    return _parity(agreement.ok, f"{text}; held to: {agreement.text}", measurements, runs)


def _parity(
    ok: bool, text: str, measurements: dict[str, float | int], runs: Sequence[tuple[Arrays, Arrays]]
) -> Parity:
    outputs = [found for _, found in runs]
    shapes = {}
    for name in outputs[0]:
        sizes = zip(*(array[name].shape for array in outputs), strict=True)
        shapes[name] = [size[0] if len(set(size)) == 1 else None for size in sizes]
        shapes[name][0] = None
    rows = sum(len(next(iter(found.values()))) for found in outputs)
    return Parity(ok, text, {**measurements, "batches": len(runs), "rows": rows}, shapes)
