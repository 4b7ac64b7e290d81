"""Augmentation of batches: temporal subsampling, mixup and modality dropout; of frames, mixup alone.

All random choices come from the generator passed in, so that the seed of a step determines them.
Shapes: N videos, T steps, S steps kept, D feature width, M modalities, C classes. Inputs are named tensors as
in Batch: per modality NAME (N, T, D), zero after a sequence's end, and NAME.mask (N, T) bool. Inputs of
mixup may have any shape (N, ...), such as clips of frames (N, T, H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import Tensor

from videotag.errors import ConfigError
from videotag.registry import MASK, ArraySpec
from videotag.train_section import FeatureTrainSection, TrainSection

Tensors: TypeAlias = dict[str, Tensor]
_MIXABLE = ("float16", "float32", "float64", "uint8", "bool")  # other integers are ids or counts


def has_augmentation(train: TrainSection) -> bool:
    """Whether the section enables any augmentation of `augment`.

    Args:
        train: TRAIN section.
    """
    of_features = isinstance(train, FeatureTrainSection) and (train.sample_steps or train.modality_dropout)
    return bool(train.mixup_alpha or of_features)


def check_mixable(train: TrainSection, inputs: Iterable[ArraySpec]) -> None:
    """Checks that mixup is off, or the model has no inputs that cannot be mixed, such as token ids.

    Args:
        train: TRAIN section.
        inputs: Inputs that the model declares.

    Raises:
        ConfigError: An input cannot be mixed.
    """
    for spec in inputs if train.mixup_alpha else ():
        if spec.dtype not in _MIXABLE:
            raise ConfigError(
                f"TRAIN.mixup_alpha: the input {spec.name} is {spec.dtype}, which cannot be mixed; "
                "leave it out"
            )


def augment(
    inputs: Tensors, labels: Tensor, *, train: TrainSection, rng: np.random.Generator
) -> tuple[Tensors, Tensor]:
    """Applies the enabled augmentations: temporal subsampling, then mixup, then modality dropout.

    Args:
        inputs: Features (N, T, D) and masks (N, T) by name, of the whole batch; or other inputs (N, ...).
        labels: (N, C) float.
        train: TRAIN section, which enables and configures them.
        rng: Generator of all random choices.

    Returns:
        Features (N, S, D) or (N, T, D) and masks by name, or other inputs (N, ...), and labels (N, C).
    """
    of_features = train if isinstance(train, FeatureTrainSection) else None
    if of_features and of_features.sample_steps:
        inputs = sample_steps(inputs, of_features.sample_steps, rng)
    if train.mixup_alpha:
        inputs, labels = mixup(inputs, labels, train.mixup_alpha, rng)
    if of_features and of_features.modality_dropout:
        inputs = drop_modalities(inputs, of_features.modality_dropout, rng)
    return inputs, labels


def sample_steps(inputs: Tensors, num_steps: int, rng: np.random.Generator) -> Tensors:
    """Samples num_steps random steps of every video, in their order; keeps all of a shorter one.

    Modalities of equal length keep the same steps, so that they stay aligned.

    Args:
        inputs: Features (N, T, D) and masks (N, T) by name.
        num_steps: Maximum number of steps per video.
        rng: Generator of the steps.

    Returns:
        Features (N, S, D) and masks (N, S); S is num_steps, or T of a modality whose T is smaller.
    """
    masks = {name.removesuffix(MASK): mask for name, mask in inputs.items() if name.endswith(MASK)}
    num_videos, longest = len(next(iter(masks.values()))), max(mask.shape[1] for mask in masks.values())
    ranks = rng.permuted(np.tile(np.arange(longest), (num_videos, 1)), axis=1)  # (N, T), no two equal
    kept = dict(inputs)
    for name, mask in masks.items():
        length = mask.shape[1]
        if length <= num_steps:
            continue
        # Padding ranks last, so that it is sampled only if a video is shorter than num_steps.
        rank = paddle.where(
            mask, paddle.to_tensor(ranks[:, :length]), paddle.full_like(mask, longest, "int64")
        )
        steps = paddle.argsort(rank, axis=1)[:, :num_steps].sort(axis=1)  # (N, S)
        rows = paddle.arange(num_videos).unsqueeze(1) * length
        picked = (rows + steps).flatten()  # (N * S,) indices into the flattened (N * T) steps
        x = inputs[name]
        kept[name] = paddle.gather(x.flatten(0, 1), picked).reshape([num_videos, num_steps, x.shape[-1]])
        kept[name + MASK] = mask[:, :num_steps]  # shorter videos keep all their steps
    return kept


def mixup(inputs: Tensors, labels: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensors, Tensor]:
    """Mixes inputs and labels of every video with those of a random partner in the batch.

    The mask of a mixed video is the union of both masks; the shorter video is padded with zeros. Frames stay
    uint8, as models declare them: the mixed values are rounded.

    Args:
        inputs: Inputs (N, ...) by name, float or uint8, zero on padded steps, and masks (N, T) bool.
        labels: (N, C) float.
        alpha: Parameter of Beta(alpha, alpha), which gives a video's own weight: mostly near 0 or 1 for a
            small alpha, near 0.5 for a large one.
        rng: Generator of weights and partners; a video may be its own partner.

    Returns:
        Inputs and masks by name, of the same shapes and dtypes, and labels (N, C).

    Source: arXiv:1710.09412.
    """
    num_videos = len(labels)
    share = paddle.to_tensor(rng.beta(alpha, alpha, num_videos).astype(np.float32))  # (N,)
    partner = paddle.to_tensor(rng.permutation(num_videos))

    def mixed(x: Tensor) -> Tensor:
        if x.dtype == paddle.bool:
            return x | paddle.index_select(x, partner)
        own = share.reshape([-1, *[1] * (x.ndim - 1)])
        if x.dtype == paddle.uint8:
            values = x.astype("float32")
            return (own * values + (1 - own) * paddle.gather(values, partner)).round().astype("uint8")
        return own * x + (1 - own) * paddle.gather(x, partner)

    return {name: mixed(x) for name, x in inputs.items()}, mixed(labels)


def drop_modalities(inputs: Tensors, probability: float, rng: np.random.Generator) -> Tensors:
    """Zeroes random modalities of every video, but always keeps at least one; masks do not change.

    Args:
        inputs: Features (N, T, D) and masks (N, T) by name, of M modalities.
        probability: Probability of zeroing a modality, in [0, 1]; 1 keeps exactly one per video.
        rng: Generator of the choices.

    Returns:
        Features (N, T, D) and masks (N, T) by name.
    """
    names = [name for name in inputs if not name.endswith(MASK)]
    num_videos = len(inputs[names[0]])
    draws = rng.random((num_videos, len(names)))
    is_kept = draws >= probability
    is_kept[np.arange(num_videos), draws.argmax(axis=1)] = True  # changes only rows that would keep none
    columns = paddle.to_tensor(is_kept.astype(np.float32))  # (N, M)
    return inputs | {name: inputs[name] * columns[:, i].reshape([-1, 1, 1]) for i, name in enumerate(names)}
