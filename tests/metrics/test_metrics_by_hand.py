"""Values worked out by hand, each derived in a comment."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.metrics import (
    PerClass,
    SingleLabelMetrics,
    TaggingMetrics,
    gap,
    hit_at_one,
    mean_ap,
    perr,
    topk_accuracy,
)

# Three videos, four classes. Best first, (+) marks a label:
#   video 0: 0(+) .9   1 .5     2(+) .3   3 .1
#   video 1: 1 .8      2(+) .7  0 .2      3(+) .05
#   video 2: 3 .6      0 .4     1 .35     2 .15      (no label)
SCORES = np.array([[0.9, 0.5, 0.3, 0.1], [0.2, 0.8, 0.7, 0.05], [0.4, 0.35, 0.15, 0.6]])
LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]])


def test_hit_at_one_leaves_out_videos_without_labels_by_default():
    assert hit_at_one(SCORES, LABELS) == 1 / 2  # video 0 hits, video 1 misses


def test_hit_at_one_counts_videos_without_labels_as_misses_on_request():
    assert hit_at_one(SCORES, LABELS, empty="zero") == 1 / 3


def test_perr_looks_at_as_many_classes_as_a_video_has_labels():
    # Video 0: of {0, 1}, 0 is a label: 1/2. Video 1: of {1, 2}, 2 is: 1/2.
    assert perr(SCORES, LABELS) == 1 / 2


def test_perr_counts_videos_without_labels_as_zero_on_request():
    assert perr(SCORES, LABELS, empty="zero") == pytest.approx(1 / 3)


def test_perr_counts_videos_equally_whatever_their_number_of_labels():
    # Video 0 has one label, found: 1. Video 1 has three, one of them in its first three: 1/3. Mean 2/3.
    scores = [[5, 4, 3, 2, 1], [5, 4, 3, 2, 1]]
    labels = [[1, 0, 0, 0, 0], [1, 0, 0, 1, 1]]
    assert perr(scores, labels) == pytest.approx(2 / 3)


def test_perr_counts_labels_with_negative_scores():
    # Logits of one video with two labels, both ranked first; p > 0 as in the starter code would give 0.
    assert perr([[-1.0, -2.0, -3.0]], [[1, 1, 0]]) == 1.0


def test_gap_ranks_the_entries_of_all_videos_together():
    # .9+ .8 .7+ .6 .5 .4 .35 .3+ .2 .15 .1 .05+: precision 1/1, 2/3, 3/8, 4/12 at the hits; 4 positives.
    assert gap(SCORES, LABELS) == pytest.approx((1 + 2 / 3 + 3 / 8 + 4 / 12) / 4)


def test_gap_counts_positives_outside_top_k():
    # top_k 2 keeps .9+ .8 .7+ .6 .5 .4: precision 1/1 and 2/3; the denominator stays 4.
    assert gap(SCORES, LABELS, top_k=2) == pytest.approx((1 + 2 / 3) / 4)


def test_mean_ap_averages_over_classes_with_a_positive():
    # Class 0: .9+ .4 .2 -> 1. Class 1 has no positive. Class 2: .7+ .3+ .15 -> 1. Class 3: .6 .1 .05+ -> 1/3.
    assert mean_ap(SCORES, LABELS) == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_mean_ap_counts_positives_outside_top_k():
    # top_k 2 keeps of class 0: .9+ .4 -> 1; of class 2: .7+, of 2 positives -> 1/2; of class 3: .6 -> 0.
    assert mean_ap(SCORES, LABELS, top_k=2) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_tagging_metrics_name_each_value_and_count_videos():
    metrics = TaggingMetrics(top_k=2)
    metrics.update(SCORES, LABELS)
    result = metrics.compute()
    assert result == pytest.approx(
        {
            "hit_at_one": 1 / 2,
            "perr": 1 / 2,
            "gap": (1 + 2 / 3) / 4,
            "mean_ap": 1 / 2,
            "num_videos": 3,
            "num_without_labels": 1,
        }
    )
    assert isinstance(result["num_videos"], int)
    assert isinstance(result["num_without_labels"], int)


def test_topk_accuracy_looks_for_the_label_among_the_k_best():
    # Ranks of the labels, 0 = best: class 0 in video 0 is 0, class 0 in video 1 is 2, class 0 in 2 is 1.
    assert topk_accuracy(SCORES, [0, 0, 0]) == 1 / 3
    assert topk_accuracy(SCORES, [0, 0, 0], k=2) == 2 / 3
    assert topk_accuracy(SCORES, [0, 0, 0], k=3) == 1.0


def test_single_label_metrics_name_each_value_and_count_videos():
    # Seven classes, scores descending by id: the label is the rank. 0 is in the top 1, 0 and 4 in the top 5.
    # Every class has the same score in all videos, and misses rank before hits: precision 1 / 4 at rank 4.
    metrics = SingleLabelMetrics()
    metrics.update(np.tile(np.arange(7, 0, -1), (4, 1)), np.array([0, 4, 5, 6]))
    assert metrics.compute() == {"top1": 1 / 4, "top5": 2 / 4, "mean_ap": 1 / 4, "num_videos": 4}


def test_the_map_of_single_labels_ranks_the_videos_of_each_class_that_has_one():
    # Class 0 ranks its videos 0 and 2 first and third: (1 + 2/3) / 2. Class 1 ranks video 1 second: 1/2.
    # Class 2 has no video and is left out.
    metrics = SingleLabelMetrics()
    metrics.update(np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.3, 0.7, 0]]), np.array([0, 1, 0]))
    assert metrics.compute()["mean_ap"] == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_the_map_of_single_labels_is_the_mean_of_the_table_per_class():
    rng = np.random.default_rng(0)
    scores, ids = rng.random((60, 30)), rng.integers(0, 25, 60)  # more classes than the 20 that are kept
    metrics, table = SingleLabelMetrics(), PerClass(threshold=None)
    metrics.update(scores, ids)
    table.update(scores, ids)
    assert metrics.compute()["mean_ap"] == pytest.approx(np.nanmean(table.compute().average_precision))


@pytest.mark.parametrize(("num_classes", "is_there"), [(2, False), (5, False), (6, True)])
def test_top5_is_left_out_where_it_covers_all_classes(num_classes, is_there):
    metrics = SingleLabelMetrics()
    metrics.update(np.eye(num_classes), np.arange(num_classes))
    assert ("top5" in metrics.compute()) == is_there


def test_hit_at_one_takes_the_first_of_tied_classes():
    assert hit_at_one([[0.5, 0.5]], [[1, 0]]) == 1.0
    assert hit_at_one([[0.5, 0.5]], [[0, 1]]) == 0.0


def test_topk_accuracy_takes_the_first_of_tied_classes():
    assert topk_accuracy([[1.0, 2.0, 2.0, 2.0]], [2], k=1) == 0.0
    assert topk_accuracy([[1.0, 2.0, 2.0, 2.0]], [2], k=2) == 1.0


def test_the_first_of_tied_classes_fill_the_last_places_of_top_k():
    # Kept: 3 (.9) and 0 (.5), so the label 0 counts and the label 1 does not.
    scores = [[0.5, 0.5, 0.5, 0.9]]
    assert gap(scores, [[1, 0, 0, 0]], top_k=2) == 1 / 2
    assert gap(scores, [[0, 1, 0, 0]], top_k=2) == 0.0


def test_a_tie_between_videos_ranks_misses_first():
    # One hit among four entries of one score ranks last: 1/4, wherever it stands.
    for hit in range(4):
        labels = np.zeros((4, 1))
        labels[hit] = 1
        assert gap(np.full((4, 1), 0.5), labels) == 1 / 4
        assert mean_ap(np.full((4, 1), 0.5), labels) == 1 / 4


def test_perfect_scores_give_one_everywhere():
    metrics = TaggingMetrics(top_k=2)
    metrics.update(LABELS, LABELS)
    result = metrics.compute()
    assert [result[name] for name in ("hit_at_one", "perr", "gap", "mean_ap")] == [1.0] * 4
