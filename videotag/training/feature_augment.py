"""Batches of features varied from step to step: fewer steps, two videos mixed, a modality blanked.

Every choice is drawn from the generator that is handed in, so that a step's seed decides all of them.
Shapes: N videos, T steps, S steps kept, D feature width, C classes; features {modality: (N, T, D)}, zeros
after a sequence's end; masks {modality: (N, T)} bool, True on real steps, which come first.
"""

from __future__ import annotations

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import Tensor

from videotag.sections import TrainSection

Arrays = dict[str, Tensor]


def is_augmented(train: TrainSection) -> bool:
    """Whether `augment` changes anything."""
    return bool(train.sample_steps or train.mixup_alpha or train.modality_dropout)


def augment(
    features: Arrays, masks: Arrays, labels: Tensor, *, train: TrainSection, rng: np.random.Generator
) -> tuple[Arrays, Arrays, Tensor]:
    """The batch as a TRAIN section varies it: steps sampled, then videos mixed, then modalities blanked.

    Args:
        features: of the whole batch: videos are mixed with any other one of it.
        masks: of the same modalities.
        labels: (N, C) float.
        train: what is done.
        rng: draws all choices.
    """
    if train.sample_steps:
        features, masks = sample_steps(features, masks, train.sample_steps, rng)
    if train.mixup_alpha:
        features, masks, labels = mixup(features, masks, labels, train.mixup_alpha, rng)
    if train.modality_dropout:
        features = drop_modalities(features, train.modality_dropout, rng)
    return features, masks, labels


def sample_steps(
    features: Arrays, masks: Arrays, num_steps: int, rng: np.random.Generator
) -> tuple[Arrays, Arrays]:
    """At most num_steps random steps of every video, in their order; a video with fewer stays whole.

    Modalities of one length keep the same steps, so that what was seen and heard together stays together.

    Returns:
        Features (N, S, D) and masks (N, S); S is num_steps, or T of a modality whose T is smaller.
    """
    num_videos, longest = len(next(iter(masks.values()))), max(mask.shape[1] for mask in masks.values())
    ranks = rng.permuted(np.tile(np.arange(longest), (num_videos, 1)), axis=1)  # (N, T), no two equal
    kept: tuple[Arrays, Arrays] = ({}, {})
    for name, mask in masks.items():
        length = mask.shape[1]
        if length <= num_steps:
            kept[0][name], kept[1][name] = features[name], mask
            continue
        # Padding ranks last, so that it is taken only where a video is shorter than num_steps.
        rank = paddle.where(
            mask, paddle.to_tensor(ranks[:, :length]), paddle.full_like(mask, longest, "int64")
        )
        steps = paddle.argsort(rank, axis=1)[:, :num_steps].sort(axis=1)  # (N, S)
        rows = paddle.arange(num_videos).unsqueeze(1) * length
        picked = (rows + steps).flatten()  # (N * S,) places in the flattened (N * T) steps
        x = features[name]
        kept[0][name] = paddle.gather(x.flatten(0, 1), picked).reshape([num_videos, num_steps, x.shape[-1]])
        kept[1][name] = mask[:, :num_steps]  # of a video with fewer steps all are kept
    return kept


def mixup(
    features: Arrays, masks: Arrays, labels: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Arrays, Arrays, Tensor]:
    """Every video mixed with another one of the batch: shares of both features and both labels.

    A step is real if it is in one of the two videos; after the shorter one's end it is mixed with zeros.

    Args:
        features: zeros on padded steps.
        masks: of the same modalities.
        labels: (N, C) float.
        alpha: a video keeps a share of Beta(alpha, alpha): near 0 or 1 for a small alpha, near 0.5 for a
            large one.
        rng: draws shares and partners; a video may be its own partner.

    Source: arXiv:1710.09412.
    """
    num_videos = len(labels)
    share = paddle.to_tensor(rng.beta(alpha, alpha, num_videos).astype(np.float32))  # (N,)
    partner = paddle.to_tensor(rng.permutation(num_videos))

    def mixed(x: Tensor) -> Tensor:
        own = share.reshape([-1, *[1] * (x.ndim - 1)])
        return own * x + (1 - own) * paddle.gather(x, partner)

    masks_mixed = {name: mask | paddle.index_select(mask, partner) for name, mask in masks.items()}
    return {name: mixed(x) for name, x in features.items()}, masks_mixed, mixed(labels)


def drop_modalities(features: Arrays, probability: float, rng: np.random.Generator) -> Arrays:
    """Features, zero throughout for every modality of a video with a probability; one of them always stays.

    Masks stay as they are: the network sees a modality of the same length that says nothing.

    Args:
        features: of M modalities.
        probability: in [0, 1]; 1 leaves exactly one modality of every video.
        rng: draws which.
    """
    num_videos = len(next(iter(features.values())))
    draws = rng.random((num_videos, len(features)))
    is_kept = draws >= probability
    is_kept[np.arange(num_videos), draws.argmax(axis=1)] = True  # kept anyway, unless all would go
    columns = paddle.to_tensor(is_kept.astype(np.float32))  # (N, M)
    return {name: x * columns[:, i].reshape([-1, 1, 1]) for i, (name, x) in enumerate(features.items())}
