"""Numbers per class: by hand, against plain loops, and for any split into batches."""

from __future__ import annotations

import math
import tracemalloc

import metrics_oracle as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from videotag.errors import ShapeError
from videotag.metrics import PerClass, mean_ap

# Three videos, four classes; (+) marks a label:
#   video 0: 0(+) .9   1 .5   2(+) .3   3 .1
#   video 1: 0 .2      1 .8   2(+) .7   3(+) .05
#   video 2: 0 .4      1 .35  2 .15     3 .6          (no label)
SCORES = np.array([[0.9, 0.5, 0.3, 0.1], [0.2, 0.8, 0.7, 0.05], [0.4, 0.35, 0.15, 0.6]])
LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]])


def table_of(scores, labels, **options):
    metric = PerClass(**options)
    metric.update(scores, labels)
    return metric.compute()


def assert_same(one, two):
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_table_by_hand_at_half():
    table = table_of(SCORES, LABELS)
    # AP as in mean_ap: class 0: .9+ first -> 1. Class 2: .7+ .3+ -> 1. Class 3: .6 .1 .05+ -> 1/3.
    np.testing.assert_allclose(table.average_precision, [1, np.nan, 1, 1 / 3])
    # Predicted at .5 and above: 0 once, right; 1 twice, wrong; 2 once, right; 3 once, wrong.
    np.testing.assert_array_equal(table.precision, [1, 0, 1, 0])
    # Of the videos that have it, found: 0 1 of 1; 1 has none; 2 1 of 2; 3 0 of 1.
    np.testing.assert_array_equal(table.recall, [1, np.nan, 1 / 2, 0])
    np.testing.assert_array_equal(table.support, [1, 0, 2, 1])


def test_a_score_equal_to_the_threshold_is_predicted():
    assert table_of([[0.25]], [[1]], threshold=0.25).recall == [1.0]
    assert table_of([[0.25]], [[1]], threshold=0.26).recall == [0.0]


def test_a_class_that_is_never_predicted_has_no_precision():
    table = table_of(SCORES, LABELS, threshold=0.85)
    np.testing.assert_array_equal(table.precision, [1, np.nan, np.nan, np.nan])


def test_one_label_per_video_by_hand():
    # Best-scored: 0, 1, 0, 2. True: 0, 0, 2, 2.
    scores = [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]]
    table = table_of(scores, np.array([0, 0, 2, 2]), threshold=None)
    np.testing.assert_array_equal(table.precision, [1 / 2, 0, 1])
    np.testing.assert_array_equal(table.recall, [1 / 2, np.nan, 1 / 2])
    np.testing.assert_array_equal(table.support, [2, 0, 2])
    # Class 0: .6+ .5 .2 .1+ -> (1 + 2/4) / 2. Class 2: .6+ .4+ .1 .1 -> 1.
    np.testing.assert_allclose(table.average_precision, [3 / 4, np.nan, 1])


def test_of_tied_best_classes_the_lowest_id_is_predicted():
    table = table_of([[0.4, 0.4, 0.2]], np.array([1]), threshold=None)
    np.testing.assert_array_equal(table.precision, [0, np.nan, np.nan])


def oracle_table(scores, labels, threshold, top_k):
    entries = oracle.top_entries(scores, labels, top_k)
    for class_id in range(len(scores[0])):
        support = int(sum(row[class_id] for row in labels))
        predicted = [bool(row[class_id] >= threshold) for row in scores]
        right = sum(s and bool(row[class_id]) for s, row in zip(predicted, labels, strict=True))
        ap = oracle.average_precision([e for e in entries if e[0] == class_id], support)
        yield (
            ap if support else math.nan,
            right / sum(predicted) if any(predicted) else math.nan,
            right / support if support else math.nan,
            support,
        )


@st.composite
def arrays(draw, least=1):
    """scores (N, C) in [0, 1], often tied; labels (N, C)."""
    shape = draw(st.integers(least, 7)), draw(st.integers(1, 6))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
    return scores, draw(hnp.arrays(np.bool_, shape))


@given(arrays(), st.sampled_from([0.0, 0.25, 0.4, 1.0]), st.integers(1, 7))
def test_the_table_equals_plain_loops(given_arrays, threshold, top_k):
    scores, labels = given_arrays
    rows = list(zip(*table_of(scores, labels, threshold=threshold, top_k=top_k), strict=True))
    expected = list(oracle_table(scores.tolist(), labels.tolist(), threshold, top_k))
    np.testing.assert_allclose(rows, expected)


@given(arrays(), st.sampled_from([0.5, None]), st.data())
def test_split_and_merges_do_not_change_a_bit(given_arrays, threshold, data):
    scores, labels = given_arrays
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=4)))
    merged = PerClass(threshold=threshold, top_k=3)
    for part in np.split(np.arange(len(scores)), cuts):
        other = PerClass(threshold=threshold, top_k=3)
        other.update(scores[part], labels[part])
        if data.draw(st.booleans()):
            merged.update(scores[part], labels[part])
        else:
            merged.merge(other)
    assert_same(merged.compute(), table_of(scores, labels, threshold=threshold, top_k=3))


def test_the_mean_of_the_average_precisions_is_map():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((60, 40)), rng.random((60, 40)) < 0.05
    assert np.nanmean(table_of(scores, labels).average_precision) == pytest.approx(mean_ap(scores, labels))


def test_class_ids_and_one_hot_rows_give_the_same():
    rng = np.random.default_rng(1)
    scores, ids = rng.random((20, 5)), rng.integers(0, 5, 20)
    assert_same(table_of(scores, ids, threshold=None), table_of(scores, np.eye(5)[ids], threshold=None))


def test_before_the_first_batch_the_table_is_empty_and_merging_nothing_changes_nothing():
    assert [column.size for column in PerClass().compute()] == [0, 0, 0, 0]
    metric = PerClass()
    metric.update(SCORES, LABELS)
    metric.merge(PerClass())
    empty = PerClass()
    empty.merge(metric)
    empty.update(np.zeros((0, 4)), np.zeros((0, 4)))
    assert_same(empty.compute(), table_of(SCORES, LABELS))


def test_merging_does_not_change_the_other():
    first, second = PerClass(), PerClass()
    second.update(SCORES, LABELS)
    first.merge(second)
    first.update(SCORES, LABELS)
    assert_same(second.compute(), table_of(SCORES, LABELS))


def test_memory_does_not_grow_with_the_number_of_classes_per_video():
    rng = np.random.default_rng(2)
    metric = PerClass()
    scores, labels = rng.random((50, 3862), dtype=np.float32), np.zeros((50, 3862), bool)
    metric.update(scores, labels)
    tracemalloc.start()
    for _ in range(40):
        metric.update(scores, labels)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / (40 * 50) < 20 * 7 + 60, "7 bytes per entry, and little per batch"


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[0.5, np.nan]], [[0, 1]], "nan, expected a finite number"),
        ([[0.5, 0.5]], [[0, 2]], r"labels\[0, 1\]: 2, expected 0 or 1"),
        ([[0.5, 0.5]], [[0]], "expected that of the scores"),
        ([[0.5, 0.5]], [2], r"label_ids\[0\]: 2, expected 0 to 1"),
        ([0.5], [0], "expected \\(N videos, C classes\\)"),
    ],
)
def test_invalid_arrays_are_rejected(scores, labels, message):
    with pytest.raises(ShapeError, match=message):
        PerClass().update(np.array(scores), np.array(labels))


def test_other_classes_and_other_thresholds_do_not_mix():
    metric = PerClass()
    metric.update(SCORES, LABELS)
    with pytest.raises(ShapeError, match="batch of 3 classes, expected 4"):
        metric.update(SCORES[:, :3], LABELS[:, :3])
    with pytest.raises(ShapeError, match=r"merge of threshold=0.5 with threshold=0.4: expected the same"):
        metric.merge(PerClass(threshold=0.4))
    assert_same(metric.compute(), table_of(SCORES, LABELS))
