"""Splits samples into folds for cross-validation; a group is never in two folds.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_FOLDS = 5


def group_folds(
    groups: Sequence[str], labels: np.ndarray, *, num_folds: int = NUM_FOLDS, seed: int = 0
) -> list[np.ndarray]:
    """Indices of the samples of each fold, ascending; the classes are spread over the folds.

    Groups are assigned one by one, those of the rarest classes first, each to the fold that has the smallest
    share of its classes.

    Args:
        groups: Group of each of N samples, at least two different ones.
        labels: (N, C) in {0, 1}; or (N,) class ids of a single-label task, negative for none.
        num_folds: Maximum number of folds; fewer if there are fewer groups.
        seed: Seed of the order among equally rare groups.

    Returns:
        min(num_folds, number of groups) arrays, each (n,) int64, n >= 1.

    Raises:
        ValueError: All samples are in one group.
    """
    names, member_of = np.unique(np.asarray(groups), return_inverse=True)  # (G,), (N,)
    if len(names) < 2:
        raise ValueError(f"{len(names)} groups: cross-validation needs at least two")
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(labels.max(initial=0) + 1)
    sizes = np.bincount(member_of)  # (G,)
    counts = np.zeros((len(names), labels.shape[1]))  # (G, C), samples per group and class
    np.add.at(counts, member_of, labels)
    per_class = np.maximum(counts.sum(axis=0), 1)  # (C,)
    rarest = np.where(counts > 0, per_class, np.inf).min(axis=1, initial=np.inf)  # (G,)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.lexsort((-sizes[shuffled], rarest[shuffled]))]
    num_folds = min(num_folds, len(names))
    in_fold = np.zeros((num_folds, labels.shape[1]))  # (F, C)
    filled = np.zeros(num_folds)
    fold_of = np.zeros(len(names), np.int64)
    for group in order:
        # Of its classes, rare ones count more; the number of samples breaks ties.
        load = (in_fold * (counts[group] > 0) / per_class).sum(axis=1) + filled / len(member_of)
        fold = int(np.argmin(load))
        fold_of[group] = fold
        in_fold[fold] += counts[group]
        filled[fold] += sizes[group]
    return [np.flatnonzero(fold_of[member_of] == fold) for fold in range(num_folds)]
