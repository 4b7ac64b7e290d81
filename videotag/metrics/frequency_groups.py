"""Head, middle and tail: mAP over frequent, less frequent and rare classes.

Video tags are long-tailed: a few classes have most of the positives, so the mAP over all classes does not
show whether a network has learned the rare ones.

Shapes: C classes.
"""

from __future__ import annotations

import numpy as np

from videotag.metrics.per_class import PerClassTable

GROUPS = ("head", "middle", "tail")


def frequency_groups(support: np.ndarray) -> list[str]:
    """The group of each class: one of GROUPS, or "" for a class without positives.

    The classes with positives are sorted by descending number of positives, ties by class id, and split into
    thirds; head takes the first class of a remainder, middle the second. With fewer than 3 such classes no
    class has a group.

    Args:
        support: (C,) int, number of positives per class.

    Returns:
        C group names, by class id.
    """
    order = np.argsort(-support, kind="stable")
    with_positives = order[support[order] > 0]
    groups = [""] * support.size
    if with_positives.size < len(GROUPS):
        return groups
    for name, class_ids in zip(GROUPS, np.array_split(with_positives, len(GROUPS)), strict=True):
        for class_id in class_ids:
            groups[class_id] = name
    return groups


def mean_ap_by_group(table: PerClassTable) -> dict[str, float]:
    """mean_ap_head, mean_ap_middle and mean_ap_tail, in [0, 1]; empty if fewer than 3 classes have positives.

    Each is the unweighted mean over the group's classes of the table's average precision, which is the one
    that mean_ap averages: a class is ranked over the videos that have it in their top_k.
    """
    groups = np.array(frequency_groups(table.support))
    if not np.isin(groups, GROUPS).any():
        return {}
    return {f"mean_ap_{name}": float(np.mean(table.average_precision[groups == name])) for name in GROUPS}
