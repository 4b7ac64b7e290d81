"""Near-duplicates among the videos of a fit: kept in one group, and reported between training and test set.

Shapes: N videos, D feature width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from videotag.fit.near_duplicates import THRESHOLD, near_duplicates
from videotag.fit.samples import MIN_GROUPS, Sample

_GROUP_SIMILARITY = 0.99  # similarity from which two videos are kept in one group
_MAX_MERGED_SHARE = 0.2  # share of the videos that such a group may hold
_MIN_TRAIN_GROUPS = 2  # as training_folds


def merge_copies(samples: Sequence[Sample], means: np.ndarray) -> tuple[list[Sample], list[str]]:
    """The samples, of which groups with nearly equal videos are one group; and notes for the user.

    Nothing is merged if a merged group would be too large, as with clips of one scene, or if too few groups
    would be left.

    Args:
        samples: N samples.
        means: (N, D) mean features.
    """
    parent = {sample.group: sample.group for sample in samples}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    for i, j, _ in near_duplicates(means, [sample.group for sample in samples], threshold=_GROUP_SIMILARITY):
        parent[root(samples[i].group)] = root(samples[j].group)
    merged = [replace(sample, group=root(sample.group)) for sample in samples]
    before, sizes = len(parent), Counter(sample.group for sample in merged)
    largest = max(Counter(sample.group for sample in samples).values())
    if len(sizes) == before:
        return list(samples), []
    if max(sizes.values()) > max(largest, _MAX_MERGED_SHARE * len(samples)):
        return list(samples), [
            f"many of the videos look nearly the same (up to {max(sizes.values())} of {len(samples)}), as "
            "clips of one scene do, so scores may be too good; name the scenes with --group_by or a group "
            "column"
        ]
    num_train = len({sample.group for sample in merged if sample.split != "test"})
    if len(sizes) < MIN_GROUPS or num_train < _MIN_TRAIN_GROUPS:
        return list(samples), [
            f"near-duplicates are in different groups, as merging them would leave {len(sizes)} groups, too "
            "few to compare and test models, so scores may be too good; add other videos"
        ]
    return merged, [f"near-duplicates share a group: {before - len(sizes)} of {before} groups were merged"]


def leak_notes(samples: Sequence[Sample], means: np.ndarray) -> list[str]:
    """A note if videos of the test set look nearly the same as videos of the training set.

    Args:
        samples: N samples with their splits.
        means: (N, D) mean features.
    """
    pairs = near_duplicates(means, [sample.split for sample in samples], threshold=THRESHOLD)
    tests = {i if samples[i].split == "test" else j for i, j, _ in pairs}
    if not tests:
        return []
    i, j, similarity = pairs[0]
    return [
        f"{len(tests)} videos of the test set are near-duplicates of training videos, such as "
        f"{samples[i].source} and {samples[j].source} ({similarity:.2f}), so test scores may be too good; "
        "group them with --group_by or a group column"
    ]
