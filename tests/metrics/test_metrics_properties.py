"""Any scores, any split, any merge order: against the oracle and against themselves."""

from __future__ import annotations

import copy
import pickle
import random
import tracemalloc

import metrics_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from videotag.metrics import (
    Gap,
    HitAtOne,
    MeanAp,
    Perr,
    SingleLabelMetrics,
    TaggingMetrics,
    gap,
    hit_at_one,
    mean_ap,
    perr,
    topk_accuracy,
)
from videotag.metrics.accumulators import _BATCHES_PER_BLOCK

# Five values for up to 7 x 7 scores: ties within a video, between videos, and negative scores.
TIED = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0])
ANY = st.floats(-1e6, 1e6)


@st.composite
def scores_and_labels(draw):
    """scores (N, C) float32 or float64, often tied; labels (N, C) bool; 0 <= N <= 7, 1 <= C <= 7."""
    shape = draw(st.integers(0, 7)), draw(st.integers(1, 7))
    scores = draw(hnp.arrays(np.float64, shape, elements=draw(st.sampled_from([TIED, ANY]))))
    labels = draw(hnp.arrays(np.bool_, shape))
    return scores.astype(draw(st.sampled_from([np.float32, np.float64]))), labels


@st.composite
def splits(draw, num_videos):
    """A list of index arrays: the videos in a random order, cut at random places, parts may be empty."""
    order = draw(st.permutations(range(num_videos)))
    cuts = sorted(draw(st.lists(st.integers(0, num_videos), max_size=4)))
    return [part.astype(int) for part in np.split(np.array(order, dtype=int), cuts)]


@given(scores_and_labels(), st.integers(1, 8), st.sampled_from(["skip", "zero"]))
def test_metrics_equal_the_oracle(arrays, top_k, empty):
    scores, labels = arrays
    plain = scores.tolist(), labels.tolist()
    assert hit_at_one(scores, labels, empty=empty) == pytest.approx(oracle.hit_at_one(*plain, empty))
    assert perr(scores, labels, empty=empty) == pytest.approx(oracle.perr(*plain, empty))
    assert gap(scores, labels, top_k=top_k) == pytest.approx(oracle.gap(*plain, top_k))
    assert mean_ap(scores, labels, top_k=top_k) == pytest.approx(oracle.mean_ap(*plain, top_k))


def test_metrics_equal_the_oracle_where_long_rows_are_full_of_ties():
    # NumPy sorts short rows stably whatever it is asked for; these are long enough to show a wrong choice.
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (30, 200)), rng.random((30, 200)) < 0.3
    plain = scores.tolist(), labels.tolist()
    assert perr(scores, labels) == pytest.approx(oracle.perr(*plain, "skip"))
    assert gap(scores, labels) == pytest.approx(oracle.gap(*plain, 20))
    assert mean_ap(scores, labels) == pytest.approx(oracle.mean_ap(*plain, 20))


@given(scores_and_labels(), st.integers(1, 8), st.data())
def test_topk_accuracy_equals_the_oracle(arrays, k, data):
    scores, _ = arrays
    ids = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    assert topk_accuracy(scores, ids, k=k) == oracle.topk_accuracy(scores.tolist(), ids.tolist(), k)


@given(scores_and_labels(), st.integers(1, 8), st.sampled_from(["skip", "zero"]), st.data())
def test_split_order_and_merges_do_not_change_a_bit(arrays, top_k, empty, data):
    scores, labels = arrays
    whole = TaggingMetrics(top_k=top_k, empty=empty)
    whole.update(scores, labels)
    merged = TaggingMetrics(top_k=top_k, empty=empty)
    for part in data.draw(splits(len(scores))):
        if data.draw(st.booleans()):
            merged.update(scores[part], labels[part])
        else:
            other = TaggingMetrics(top_k=top_k, empty=empty)
            other.update(scores[part], labels[part])
            merged.merge(other)
    assert merged.compute() == whole.compute()


def test_perr_is_the_same_to_the_last_bit_in_any_order_of_videos():
    # 1 of 10, 1 of 5 and 6 of 20 labels found: 0.1 + 0.2 + 0.3 depends on the order when summed naively.
    scores = np.tile(np.arange(40, 0, -1), (3, 1))
    labels = np.zeros((3, 40), bool)
    for row, (found, num_labels) in enumerate([(1, 10), (1, 5), (6, 20)]):
        labels[row, :found] = True
        labels[row, 40 - (num_labels - found) :] = True
    forward, backward = Perr(), Perr()
    for row in range(3):
        forward.update(scores[[row]], labels[[row]])
        backward.update(scores[[2 - row]], labels[[2 - row]])
    assert forward.compute() == backward.compute() == pytest.approx(0.2)


@given(scores_and_labels(), st.data())
def test_single_label_metrics_do_not_depend_on_split_or_merges(arrays, data):
    scores, _ = arrays
    ids = data.draw(hnp.arrays(np.int32, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    whole, merged = SingleLabelMetrics(), SingleLabelMetrics()
    whole.update(scores, ids)
    for part in data.draw(splits(len(scores))):
        other = SingleLabelMetrics()
        other.update(scores[part], ids[part])
        other.merge(merged)
        merged = other
    assert merged.compute() == whole.compute()


@given(scores_and_labels())
def test_an_increasing_map_of_the_scores_changes_nothing(arrays):
    scores, labels = arrays
    scores = np.round(scores.astype(np.float64) % 7, 2)  # so that halving cannot merge two scores
    before, after = TaggingMetrics(top_k=3), TaggingMetrics(top_k=3)
    before.update(scores, labels)
    after.update(scores / 2 - 8, labels)
    assert before.compute() == pytest.approx(after.compute())


@pytest.mark.parametrize("make", [HitAtOne, Perr, Gap, MeanAp, TaggingMetrics])
def test_more_single_video_batches_than_a_block_holds_equal_one_batch(make):
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(2 * _BATCHES_PER_BLOCK + 3, 30)), rng.random((515, 30)) < 0.1
    whole, single = make(), make()
    whole.update(scores, labels)
    for i in range(len(scores)):
        single.update(scores[i : i + 1], labels[i : i + 1])
    assert single.compute() == whole.compute()
    assert single.compute() == whole.compute()  # and again, on the joined entries


def test_compute_between_updates_changes_nothing():
    rng = np.random.default_rng(2)
    scores, labels = rng.random((40, 25), dtype=np.float32), rng.random((40, 25)) < 0.1
    asked, quiet = TaggingMetrics(), TaggingMetrics()
    for start in range(0, 40, 10):
        for metrics in (asked, quiet):
            metrics.update(scores[start : start + 10], labels[start : start + 10])
        asked.compute()
    assert asked.compute() == quiet.compute()


def test_merge_does_not_change_the_other():
    rng = np.random.default_rng(3)
    scores, labels = rng.random((20, 9)), rng.random((20, 9)) < 0.3
    first, second = TaggingMetrics(), TaggingMetrics()
    first.update(scores[:10], labels[:10])
    second.update(scores[10:], labels[10:])
    before = copy.deepcopy(second).compute()
    first.merge(second)
    first.update(scores, labels)
    assert second.compute() == before


def test_accumulators_survive_pickling():
    metrics = TaggingMetrics()
    metrics.update([[0.2, 0.7, 0.1]], [[0, 1, 1]])
    assert pickle.loads(pickle.dumps(metrics)).compute() == metrics.compute()


def test_rows_of_another_float_type_merge_exactly():
    # 0.1 as float32 is above 0.1 as float64: the float32 miss ranks before the float64 hit.
    metric = Gap()
    metric.update(np.array([[0.1]], np.float32), [[0]])
    metric.update(np.array([[0.1]], np.float64), [[1]])
    assert metric.compute() == 1 / 2
    metric = Gap()
    metric.update(np.array([[0.1]], np.float32), [[1]])
    metric.update(np.array([[0.1]], np.float64), [[0]])
    assert metric.compute() == 1.0


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_labels_of_any_type_give_the_same(dtype):
    rng = np.random.default_rng(4)
    scores, labels = rng.random((20, 9)), rng.random((20, 9)) < 0.3
    assert gap(scores, labels.astype(dtype)) == gap(scores, labels)


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.float32])
def test_scores_of_any_type_give_the_same(dtype):
    rng = np.random.default_rng(5)
    scores, labels = rng.permuted(np.tile(np.arange(9), (20, 1)), axis=1), rng.random((20, 9)) < 0.3
    assert mean_ap(scores.astype(dtype), labels) == mean_ap(scores.astype(np.float64), labels)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_no_global_random_state_is_read_or_touched(seed):
    random.seed(seed)
    np.random.seed(seed)
    before = random.getstate(), np.random.get_state()[1].tolist()
    metrics = TaggingMetrics(top_k=2)
    metrics.update(np.zeros((4, 3)), np.eye(4, 3))
    # Class 0, 1 and 2 are labels once each; top_k 2 keeps classes 0 and 1 of every video: 8 entries, all of
    # one score, the 2 hits last: (1/7 + 2/8) / 3 positives.
    assert metrics.compute()["gap"] == pytest.approx((1 / 7 + 2 / 8) / 3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def held_bytes(num_videos, num_classes, labels_per_video=3):
    """Bytes that the arrays inside TaggingMetrics hold after num_videos float32 videos."""
    rng = np.random.default_rng(6)
    scores = rng.random((50, num_classes), dtype=np.float32)
    labels = np.zeros((50, num_classes), bool)
    labels[:, :labels_per_video] = True
    metrics = TaggingMetrics()
    tracemalloc.start()
    try:
        for _ in range(num_videos // 50):
            metrics.update(scores, labels)
        metrics.compute()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("num_classes", [300, 3862])
@pytest.mark.parametrize("labels_per_video", [3, 200])
def test_memory_per_video_is_seven_bytes_per_entry_whatever_the_classes(num_classes, labels_per_video):
    held_bytes(50, num_classes)  # so that what is loaded once is not counted
    few, many = (held_bytes(n, num_classes, labels_per_video) for n in (500, 2500))
    assert (many - few) / 2000 == pytest.approx(20 * 7, abs=5)
