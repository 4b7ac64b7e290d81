"""Assigns videos to splits by a hash of their group, so that videos added later do not move old ones.

A group is what must stay together, such as all clips cut from one film. Seed and name map every group to a
point in [0, 1), and the ratios cut [0, 1) into train, val and test. A larger share of train only takes groups
from val and test. A shuffle, stratified or not, would follow the ratios more closely, but each added video
would redistribute all of them: training videos of one model would be test videos of the next.

A hash alone leaves small sets and rare labels to chance. Two repairs follow; only they depend on other
groups:
1. The group of every label at the lowest point is in train. (If the hash put any there, this one is already.)
2. If the share of a label in val (or test) rounds to at least one group, and it has none there, the group
   nearest to that split moves there, unless some label would then be missing where the group was. Rarest
   labels first. Finally all videos count as one label, so a split stays empty only if too few groups are
   left.
A group may therefore still move when others are added: of 40,000 groups with three of 3,396 long-tailed
labels each, 2.3 % moved when 10,000 were added. `videotag check OLD/test.list NEW/train.list` reports
them, as videos in two splits.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

SPLITS = ("train", "val", "test")
_ANY = ""  # the label that all groups have; no real one is empty


def assign_splits(
    labels: Mapping[str, Collection[str]], ratios: tuple[float, float, float], *, seed: int = 0
) -> dict[str, str]:
    """Assigns every group to a split.

    Args:
        labels: Group name -> labels of all its videos; no label is empty.
        ratios: Shares of train, val and test in [0, 1], which sum to 1. A share of 0 gets nothing.
        seed: Seed of the hash; another seed gives other splits.

    Returns:
        Group name -> "train", "val" or "test"; {} for no groups.
    """
    all_labels = {group: {*found, _ANY} for group, found in labels.items()}
    groups: dict[str, list[str]] = defaultdict(list)
    points = {group: hash_point(group, seed) for group in labels}
    for group in sorted(all_labels, key=lambda group: (points[group], group)):
        for label in all_labels[group]:
            groups[label].append(group)
    bounds = _bounds(ratios)
    splits = {
        group: next(split for split, (_, end) in bounds.items() if point < end)
        for group, point in points.items()
    }
    if "train" in bounds:
        splits |= {of_label[0]: "train" for of_label in groups.values()}
    _cover(splits, all_labels, groups, points, bounds)
    return splits


def hash_point(group: str, seed: int) -> float:
    """A number in [0, 1) that depends only on seed and name, on any machine.

    Args:
        group: Name of the group.
        seed: Seed of the hash.
    """
    digest = hashlib.sha256(f"{seed}\0{group}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits fit a float, so it is never 1.0


def _bounds(ratios: tuple[float, float, float]) -> dict[str, tuple[float, float]]:
    """Start and end of every split with a share; the last one ends at exactly 1 despite rounding."""
    bounds = {}
    start = 0.0
    for split, ratio in zip(SPLITS, ratios, strict=True):
        if ratio > 0:
            bounds[split] = (start, start + ratio)
            start += ratio
    last = list(bounds)[-1]
    bounds[last] = (bounds[last][0], 1.0)
    return bounds


def _cover(
    splits: dict[str, str],
    labels: Mapping[str, Collection[str]],
    groups: Mapping[str, list[str]],
    points: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> None:
    """Repair 2 of the module docstring, in place."""
    counts = Counter((label, splits[group]) for group, found in labels.items() for label in found)
    for label in sorted(groups, key=lambda label: (len(groups[label]), label)):
        for split in [name for name in bounds if name != "train"]:
            start, end = bounds[split]
            if counts[label, split] or (end - start) * len(groups[label]) < 0.5 - 1e-9:
                continue
            movable = [
                group
                for group in groups[label]
                if all(counts[other, splits[group]] > 1 for other in labels[group])
            ]
            if not movable:
                continue
            group = min(movable, key=lambda name: max(start - points[name], points[name] - end))
            counts.subtract((other, splits[group]) for other in labels[group])
            splits[group] = split
            counts.update((other, split) for other in labels[group])
