"""In which order videos are learned, and which of them stand in a batch.

All of it follows from a random generator alone, before anything is read: so a run can be resumed in the
middle of an epoch, and several processes can each take their part of every batch.
"""

from __future__ import annotations

import numpy as np

#: So many batches are sorted by length together: long and short videos then seldom share a batch. But no more
#: than a share of the epoch: in a small set, videos of one length would meet in every epoch, and learn worse.
BATCHES_SORTED = 16
_SHARE_SORTED = 8


def near_shuffle(count: int, rng: np.random.Generator, *, reach: int) -> np.ndarray:
    """A random order of `count` things, (count,) int64, in which none moves further than `reach` places.

    What a shuffle buffer of that size does, but known in advance: reading goes through files from front to
    back, a part at a time.

    Args:
        count: of the things.
        rng: what the order follows from.
        reach: from `count` on, every order is equally likely.
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
    """The videos of every batch of an epoch, each (batch_size,) int64; the last one may be smaller.

    With `sizes`, those of a batch come by length, so that its parts are of like length, too.

    Args:
        order: (n,) int64, the videos in random order.
        batch_size: videos per batch.
        rng: what the order of batches follows from.
        sizes: (n,) lengths of the videos by their number: those near each other in `order` are put into
            batches of like length, since a batch is as long as its longest video.
        drop_last: leaves out the last batch if it is not full.
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
    """The videos of every batch in their own order; the last batch may be smaller."""
    return [np.arange(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
