"""Head, middle and tail: mAP over frequent, less frequent and rare classes.

Tags of videos are long-tailed: a few classes have most of the positives, so the mAP over all classes does not
tell whether a network knows the rare ones.

Shapes: C classes.
"""

from __future__ import annotations

import numpy as np

from videotag.metrics.per_class import PerClassTable

GROUPS = ("head", "middle", "tail")


def frequency_groups(support: np.ndarray) -> list[str]:
    """The group of each class, one of GROUPS, or "" for a class without positives.

    The classes with positives, sorted by their number of positives (most first, of equal ones the lower class
    id first), are cut into thirds; of a remainder head gets one class, then middle. Fewer than 3 such classes
    have no groups.

    Args:
        support: (C,) int, positives per class.
    """
    order = np.argsort(-support, kind="stable")
    known = order[support[order] > 0]
    groups = [""] * support.size
    if known.size < len(GROUPS):
        return groups
    for name, class_ids in zip(GROUPS, np.array_split(known, len(GROUPS)), strict=True):
        for class_id in class_ids:
            groups[class_id] = name
    return groups


def mean_ap_by_group(table: PerClassTable) -> dict[str, float]:
    """mean_ap_head, mean_ap_middle and mean_ap_tail, in [0, 1]; empty if fewer than 3 classes have positives.

    Each is the plain mean over the group's classes of the average precision in the table, the one that
    mean_ap is the mean of: a class is ranked over the videos that have it in their top_k.
    """
    groups = np.array(frequency_groups(table.support))
    if not np.isin(groups, GROUPS).any():
        return {}
    return {f"mean_ap_{name}": float(np.mean(table.average_precision[groups == name])) for name in GROUPS}
