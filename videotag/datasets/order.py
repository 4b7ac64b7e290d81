"""Order of the samples in an epoch and their grouping into batches.

Both are determined by a random generator before anything is read. A run can therefore be resumed in the
middle of an epoch, and several processes can split every batch.
Shapes: n samples.
"""

from __future__ import annotations

import numpy as np

#: Number of batches whose samples are sorted by length together, which reduces padding.
BATCHES_SORTED = 16
#: At most 1 / this fraction of the epoch is sorted together: otherwise, samples of equal length would share a
#: batch in every epoch of a small dataset, which hurts training.
_SHARE_SORTED = 8


def near_shuffle(count: int, rng: np.random.Generator, *, reach: int) -> np.ndarray:
    """A random order that moves no item by more than `reach` positions.

    Equivalent to a shuffle buffer of that size, but known in advance. Files can be read from front to back.

    Args:
        count: Number of items.
        rng: Generator of the order.
        reach: Maximum distance; from `count` on, all orders are equally likely.

    Returns:
        (count,) int64, a permutation of 0..count-1.
    """
    if reach >= count:
        return rng.permutation(count)
    return np.argsort(np.arange(count) + rng.random(count) * reach, kind="stable")


def shuffled_groups(
    order: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    sizes: np.ndarray | None = None,
    drop_last: bool = False,
) -> list[np.ndarray]:
    """Groups samples into the batches of an epoch.

    Args:
        order: (n,) int64, sample numbers in random order.
        batch_size: Number of samples per batch.
        rng: Generator of the order of the batches.
        sizes: (n,) int64, length of every sample by its number; samples that are close in `order` are then
            batched by length, to reduce padding, and sorted by length in each batch. None for no sorting.
        drop_last: Whether to drop an incomplete last batch.

    Returns:
        Sample numbers of every batch, (batch_size,) int64 each; the last may be smaller.
    """
    num_full = len(order) // batch_size * batch_size
    groups = order[:num_full].reshape(-1, batch_size)
    if sizes is not None:
        together = min(BATCHES_SORTED, max(1, len(groups) // _SHARE_SORTED))
        for start in range(0, len(groups), together):
            near = groups[start : start + together].ravel()
            by_length = near[np.argsort(sizes[near], kind="stable")].reshape(-1, batch_size)
            groups[start : start + together] = rng.permutation(by_length)
    if drop_last or num_full == len(order):
        return list(groups)
    rest = order[num_full:]
    return [*groups, rest if sizes is None else rest[np.argsort(sizes[rest], kind="stable")]]


def ordered_groups(count: int, batch_size: int) -> list[np.ndarray]:
    """Sample numbers of every batch in ascending order, (batch_size,) int64 each; the last may be smaller."""
    return [np.arange(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
