"""Batches of features varied from step to step: fewer steps, two videos mixed, a modality blanked.

Every choice is drawn from the generator that is handed in, so that a step's seed decides all of them.
Shapes: N videos, T steps, S steps kept, D feature width, C classes. Inputs are named tensors as of Batch:
per modality NAME (N, T, D) with zeros after a sequence's end, and NAME.mask (N, T) bool.
"""

from __future__ import annotations

from typing import TypeAlias, TypeGuard

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import Tensor

from videotag.registry import MASK
from videotag.sections import FeatureTrainSection, TrainSection

Tensors: TypeAlias = dict[str, Tensor]


def is_augmented(train: TrainSection) -> TypeGuard[FeatureTrainSection]:
    """Whether `augment` changes anything."""
    if not isinstance(train, FeatureTrainSection):
        return False
    return bool(train.sample_steps or train.mixup_alpha or train.modality_dropout)


def augment(
    inputs: Tensors, labels: Tensor, *, train: FeatureTrainSection, rng: np.random.Generator
) -> tuple[Tensors, Tensor]:
    """The batch as a TRAIN section varies it: steps sampled, then videos mixed, then modalities blanked.

    Args:
        inputs: Tensors of the whole batch: videos are mixed with any other one of it.
        labels: (N, C) float.
        train: What is done.
        rng: Draws all choices.
    """
    if train.sample_steps:
        inputs = sample_steps(inputs, train.sample_steps, rng)
    if train.mixup_alpha:
        inputs, labels = mixup(inputs, labels, train.mixup_alpha, rng)
    if train.modality_dropout:
        inputs = drop_modalities(inputs, train.modality_dropout, rng)
    return inputs, labels


def sample_steps(inputs: Tensors, num_steps: int, rng: np.random.Generator) -> Tensors:
    """At most num_steps random steps of every video, in their order; a video with fewer stays whole.

    Modalities of one length keep the same steps, so that what was seen and heard together stays together.

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
        # Padding ranks last, so that it is taken only where a video is shorter than num_steps.
        rank = paddle.where(
            mask, paddle.to_tensor(ranks[:, :length]), paddle.full_like(mask, longest, "int64")
        )
        steps = paddle.argsort(rank, axis=1)[:, :num_steps].sort(axis=1)  # (N, S)
        rows = paddle.arange(num_videos).unsqueeze(1) * length
        picked = (rows + steps).flatten()  # (N * S,) places in the flattened (N * T) steps
        x = inputs[name]
        kept[name] = paddle.gather(x.flatten(0, 1), picked).reshape([num_videos, num_steps, x.shape[-1]])
        kept[name + MASK] = mask[:, :num_steps]  # all steps of a video with fewer are kept
    return kept


def mixup(inputs: Tensors, labels: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensors, Tensor]:
    """Every video mixed with another one of the batch: shares of both features and both labels.

    A step is real if it is in one of the two videos; after the shorter one's end it is mixed with zeros.

    Args:
        inputs: Features, zero on padded steps, and their masks.
        labels: (N, C) float.
        alpha: A video keeps a share of Beta(alpha, alpha): near 0 or 1 for a small alpha, near 0.5 for a
            large one.
        rng: Draws shares and partners; a video may be its own partner.

    Source: arXiv:1710.09412.
    """
    num_videos = len(labels)
    share = paddle.to_tensor(rng.beta(alpha, alpha, num_videos).astype(np.float32))  # (N,)
    partner = paddle.to_tensor(rng.permutation(num_videos))

    def mixed(x: Tensor) -> Tensor:
        if x.dtype == paddle.bool:
            return x | paddle.index_select(x, partner)
        own = share.reshape([-1, *[1] * (x.ndim - 1)])
        return own * x + (1 - own) * paddle.gather(x, partner)

    return {name: mixed(x) for name, x in inputs.items()}, mixed(labels)


def drop_modalities(inputs: Tensors, probability: float, rng: np.random.Generator) -> Tensors:
    """Features, zero throughout for every modality of a video with a probability; one of them always stays.

    Masks stay as they are: the network sees a modality of the same length that says nothing.

    Args:
        inputs: Features of M modalities, and their masks.
        probability: In [0, 1]; 1 leaves exactly one modality of every video.
        rng: Draws which are blanked.
    """
    names = [name for name in inputs if not name.endswith(MASK)]
    num_videos = len(inputs[names[0]])
    draws = rng.random((num_videos, len(names)))
    is_kept = draws >= probability
    is_kept[np.arange(num_videos), draws.argmax(axis=1)] = True  # kept anyway, unless all would go
    columns = paddle.to_tensor(is_kept.astype(np.float32))  # (N, M)
    return inputs | {name: inputs[name] * columns[:, i].reshape([-1, 1, 1]) for i, name in enumerate(names)}
