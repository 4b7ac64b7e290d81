"""Head, middle and tail: by hand, against plain sorting, and as parts of mAP."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.metrics import PerClass, PerClassTable, frequency_groups, mean_ap, mean_ap_by_group


def table_of(aps, support):
    unused = np.zeros(len(aps))
    return PerClassTable(np.array(aps), unused, unused, np.array(support))


@pytest.mark.parametrize(
    ("support", "expected"),
    [
        ([1, 9, 5], "tail head middle"),
        ([0, 9, 5, 0, 1], "- head middle - tail"),
        ([2, 2, 2], "head middle tail"),
        ([3, 3, 7, 3], "head middle head tail"),  # sorted: 2 0 1 3, the remainder to head
        ([1, 2, 3, 4, 5], "tail middle middle head head"),
        ([5, 5, 5, 1, 1, 1], "head head middle middle tail tail"),
        ([4, 0, 3], "- - -"),
        ([0, 0, 0], "- - -"),
        ([], ""),
    ],
)
def test_groups_by_hand(support, expected):
    names = [name.replace("-", "") for name in expected.split()]
    assert frequency_groups(np.array(support, np.int64)) == names


def test_means_by_hand():
    # Sorted by support: 4 (9), 0 (6), 2 (6), 1 (1); class 3 has none.
    means = mean_ap_by_group(table_of([0.5, 0.25, 0.75, np.nan, 1.0], [6, 1, 6, 0, 9]))
    assert means == {"mean_ap_head": 0.75, "mean_ap_middle": 0.75, "mean_ap_tail": 0.25}


@pytest.mark.parametrize("support", [[], [0], [5, 0, 1], [1, 1]])
def test_fewer_than_three_classes_with_positives_have_no_groups(support):
    assert mean_ap_by_group(table_of([0.5] * len(support), np.array(support, np.int64))) == {}


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40))
def test_groups_are_the_thirds_of_the_sorted_classes(support):
    known = sorted((-count, class_id) for class_id, count in enumerate(support) if count)
    groups = frequency_groups(np.array(support))
    if len(known) < 3:
        assert set(groups) == {""}
        return
    assert [i for i, name in enumerate(groups) if not name] == [i for i, n in enumerate(support) if n == 0]
    names = [groups[class_id] for _, class_id in known]
    sizes = [names.count(name) for name in ("head", "middle", "tail")]
    assert names == ["head"] * sizes[0] + ["middle"] * sizes[1] + ["tail"] * sizes[2]
    assert sizes == [(len(known) + 2) // 3, (len(known) + 1) // 3, len(known) // 3]


def test_mean_ap_is_the_mean_of_the_groups_weighted_by_their_classes():
    rng = np.random.default_rng(0)
    scores = rng.random((80, 41))
    labels = rng.random((80, 41)) < np.linspace(0.3, 0, 41)  # the last class has no positive
    metric = PerClass()
    metric.update(scores, labels)
    table = metric.compute()
    sizes = np.unique(frequency_groups(table.support), return_counts=True)
    sizes = {name: count for name, count in zip(*sizes, strict=True) if name}
    means = mean_ap_by_group(table)
    total = sum(means[f"mean_ap_{name}"] * count for name, count in sizes.items())
    assert total / sum(sizes.values()) == pytest.approx(mean_ap(scores, labels))


def test_a_group_is_the_map_of_its_classes_alone_where_top_k_cuts_nothing():
    rng = np.random.default_rng(1)
    scores, labels = rng.random((50, 12)), rng.random((50, 12)) < np.linspace(0.5, 0.05, 12)
    metric = PerClass(top_k=12)
    metric.update(scores, labels)
    by_count = np.argsort(-labels.sum(axis=0), kind="stable")
    assert (labels.sum(axis=0) > 0).all()
    expected = [mean_ap(scores[:, ids], labels[:, ids]) for ids in by_count.reshape(3, 4)]
    assert list(mean_ap_by_group(metric.compute()).values()) == pytest.approx(expected)
