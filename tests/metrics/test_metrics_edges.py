"""Edge cases: nothing or little to count, and invalid input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from videotag.errors import ShapeError, VideotagError
from videotag.metrics import (
    Gap,
    HitAtOne,
    MeanAp,
    Perr,
    SingleLabelMetrics,
    TaggingMetrics,
    TopKAccuracy,
    gap,
    hit_at_one,
    mean_ap,
    perr,
    topk_accuracy,
)

MULTI_LABEL = (hit_at_one, perr, gap, mean_ap)
ACCUMULATORS = (HitAtOne, Perr, Gap, MeanAp)
NOTHING = {"hit_at_one": 0.0, "perr": 0.0, "gap": 0.0, "mean_ap": 0.0}


@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_no_videos_give_zero(metric):
    assert metric(np.zeros((0, 5)), np.zeros((0, 5))) == 0.0


@pytest.mark.parametrize("make", [*ACCUMULATORS, TopKAccuracy])
def test_an_accumulator_without_updates_gives_zero(make):
    assert make().compute() == 0.0


def test_metrics_without_updates_give_zero_and_count_no_videos():
    assert TaggingMetrics().compute() == {**NOTHING, "num_videos": 0, "num_without_labels": 0}
    assert SingleLabelMetrics().compute() == {"top1": 0.0, "mean_ap": 0.0, "num_videos": 0}


@pytest.mark.parametrize("empty", ["skip", "zero"])
def test_videos_without_any_label_give_zero_and_are_counted(empty):
    metrics = TaggingMetrics(empty=empty)
    metrics.update(np.ones((4, 3)), np.zeros((4, 3)))
    assert metrics.compute() == {**NOTHING, "num_videos": 4, "num_without_labels": 4}


@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_one_video_with_one_class_is_correct(metric):
    assert metric([[-3.0]], [[1]]) == 1.0


@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_a_video_with_every_class_as_label_is_correct(metric):
    assert metric(np.arange(8.0)[None], np.ones((1, 8))) == 1.0


def test_topk_accuracy_without_videos_is_zero():
    assert topk_accuracy(np.zeros((0, 5)), []) == 0.0


def test_a_video_with_more_labels_than_top_k_keeps_top_k_entries():
    # 30 labels, the 20 kept entries all hit: 20 times precision 1, of 30 positives.
    assert gap(np.arange(40.0)[None], (np.arange(40) >= 10)[None]) == pytest.approx(20 / 30)
    assert perr(np.arange(40.0)[None], (np.arange(40) >= 10)[None]) == 1.0


def test_merging_with_an_unused_accumulator_changes_nothing():
    used, unused = TaggingMetrics(), TaggingMetrics()
    used.update([[0.3, 0.2]], [[0, 1]])
    before = used.compute()
    used.merge(unused)
    assert used.compute() == before
    unused.merge(used)
    assert unused.compute() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_scores_that_are_not_finite_are_rejected_with_their_position(metric, value):
    scores = np.zeros((3, 4), np.float32)
    scores[2, 1] = value
    with pytest.raises(ShapeError, match=r"^scores\[2, 1\]: -?(nan|inf), expected a finite number"):
        metric(scores, np.zeros((3, 4)))
    with pytest.raises(ShapeError, match=r"^scores\[2, 1\]"):
        topk_accuracy(scores, [0, 0, 0])


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, np.nan])
@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_labels_besides_zero_and_one_are_rejected_with_their_position(metric, value):
    labels = np.zeros((3, 4))
    labels[1, 3] = value
    with pytest.raises(ShapeError, match=rf"^labels\[1, 3\]: {value}, expected 0 or 1$"):
        metric(np.zeros((3, 4)), labels)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (3, 0), ()])
@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_scores_that_are_not_videos_by_classes_are_rejected(metric, shape):
    with pytest.raises(ShapeError, match=r"^scores: shape \(.*\), expected \(N videos, C classes\)"):
        metric(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("metric", MULTI_LABEL)
def test_labels_of_another_shape_are_rejected(metric):
    with pytest.raises(ShapeError, match=r"^labels: shape \(3, 5\), expected that of the scores, \(3, 4\)$"):
        metric(np.zeros((3, 4)), np.zeros((3, 5)))


def test_class_ids_in_place_of_multi_hot_labels_are_recognized():
    with pytest.raises(ShapeError, match=r"class ids instead of a multi-hot row per video"):
        gap(np.zeros((3, 4)), [0, 1, 2])


def test_arrays_that_are_not_numbers_are_rejected():
    with pytest.raises(ShapeError, match=r"^scores: dtype <U1, expected real numbers"):
        gap([["a"]], [[1]])
    with pytest.raises(ShapeError, match=r"^labels: dtype object, expected real numbers"):
        gap([[1.0]], [[None]])


@pytest.mark.parametrize(
    ("label_ids", "message"),
    [
        ([0, 1], r"^label_ids: shape \(2,\), expected \(3,\), one class id per video$"),
        ([[0], [1], [2]], r"^label_ids: shape \(3, 1\), expected \(3,\)"),
        ([0.0, 1.0, 2.0], r"^label_ids: dtype float64, expected integers$"),
        ([0, 4, 1], r"^label_ids\[1\]: 4, expected 0 to 3$"),
        ([0, 1, -1], r"^label_ids\[2\]: -1, expected 0 to 3$"),
    ],
)
def test_invalid_label_ids_are_rejected(label_ids, message):
    with pytest.raises(ShapeError, match=message):
        topk_accuracy(np.zeros((3, 4)), label_ids)


@pytest.mark.parametrize("make", [Gap, MeanAp, TaggingMetrics])
def test_a_batch_with_another_number_of_classes_is_rejected_and_not_added(make):
    metric = make()
    metric.update([[0.3, 0.2]], [[0, 1]])
    before = metric.compute()
    with pytest.raises(ShapeError, match=r"^batch of 3 classes, expected 2 as in earlier batches$"):
        metric.update(np.zeros((1, 3)), np.zeros((1, 3)))
    assert metric.compute() == before


def test_accumulators_with_other_settings_do_not_merge():
    with pytest.raises(ShapeError, match=r"^merge of top_k=20 with top_k=5: expected the same$"):
        Gap().merge(Gap(top_k=5))
    with pytest.raises(ShapeError, match=r"^merge of empty='skip' with empty='zero': expected the same$"):
        HitAtOne().merge(HitAtOne(empty="zero"))
    with pytest.raises(ShapeError, match=r"^merge of k=1 with k=5: expected the same$"):
        TopKAccuracy().merge(TopKAccuracy(k=5))
    with pytest.raises(TypeError, match=r"^merge of HitAtOne with Perr: expected the same$"):
        HitAtOne().merge(Perr())


def test_settings_out_of_range_are_rejected():
    with pytest.raises(ValueError, match=r"^top_k=0: expected at least 1$"):
        TaggingMetrics(top_k=0)
    with pytest.raises(ValueError, match=r"^k=0: expected at least 1$"):
        topk_accuracy([[1.0]], [0], k=0)
    with pytest.raises(ValueError, match=r"^empty='drop': expected 'skip' or 'zero'$"):
        hit_at_one([[1.0]], [[1]], empty="drop")


def test_errors_are_both_videotag_errors_and_value_errors():
    assert issubclass(ShapeError, VideotagError)
    assert issubclass(ShapeError, ValueError)


def test_inputs_are_not_written_to():
    scores, labels = np.array([[0.1, 0.9, 0.5]]), np.array([[1, 0, 1]])
    scores.flags.writeable = labels.flags.writeable = False
    metrics = TaggingMetrics(top_k=2)
    metrics.update(scores, labels)
    metrics.compute()


def test_metrics_load_neither_paddle_nor_scipy_nor_pandas():
    code = "import sys, videotag.metrics; print({'paddle', 'scipy', 'pandas', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
