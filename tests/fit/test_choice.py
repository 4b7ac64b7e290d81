"""The rule of choice: the best by more than one standard error, ties to the simpler."""

from __future__ import annotations

import numpy as np

from videotag.datasets.batches import Batch
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.fit.bootstrap import bootstrap_rows, mean_ap_of, resampled_mean_ap
from videotag.fit.choice import select_candidate
from videotag.fit.labeled_set import LabeledSet, one_hot
from videotag.fit.samples import Sample

RNG = np.random.default_rng(0)
LABELS = RNG.integers(2, size=80)
GROUPS = [str(index // 2) for index in range(80)]


def labeled_set(labels, groups, num_classes=2):
    """Videos without features."""
    samples = [Sample(str(index), (), group) for index, group in enumerate(groups)]
    dataset = MemoryDataset([Batch([sample.path for sample in samples], {}, labels)])
    task = "single_label" if labels.ndim == 1 else "multi_label"
    return LabeledSet(samples, dataset, [str(index) for index in range(num_classes)], task, 1)


def scores_of(signal, seed):
    """Scores (80, 2) that know the label as well as `signal` says."""
    noise = np.random.default_rng(seed).normal(size=(80, 2))
    x = signal * np.eye(2)[LABELS] + noise
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def chosen(**held_out):
    judged, best = select_candidate(held_out, labeled_set(LABELS, GROUPS))
    assert [one.name for one in judged][: len(held_out)] == list(held_out)
    return best.name


def test_a_clearly_better_candidate_is_chosen():
    assert chosen(simple=scores_of(0.5, 1), complex=scores_of(6, 2)).endswith("complex")


def test_a_tie_goes_to_the_simpler():
    same = scores_of(1, 1)
    assert chosen(simple=same, complex=same.copy()) == "simple"
    assert chosen(simple=scores_of(2, 1), complex=scores_of(0.5, 2)) == "simple"


def test_a_mean_of_two_with_independent_errors_is_chosen():
    assert chosen(one=scores_of(1.2, 3), two=scores_of(1.2, 4)) == "one + two"


def test_the_interval_contains_the_score_and_shrinks_with_certainty():
    judged, _ = select_candidate(
        {"weak": scores_of(0.3, 1), "sure": scores_of(9, 2)}, labeled_set(LABELS, GROUPS)
    )
    weak, sure = judged[:2]
    assert weak.low < weak.mean_ap < weak.high
    assert sure.high - sure.low < weak.high - weak.low


def test_bootstrap_samples_draw_whole_groups():
    for rows in bootstrap_rows(GROUPS, 160, seed=0)[:5]:
        counts = np.bincount(rows, minlength=80)
        np.testing.assert_array_equal(counts[::2], counts[1::2])


def test_scores_by_hand():
    labels = np.array([[1, 0], [0, 1], [0, 0]])
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.5, 0.1]])
    assert mean_ap_of(scores, labels) == (1 + 1 / 2) / 2
    np.testing.assert_array_equal(one_hot(np.array([1, 0]), 2, "single_label"), [[0, 1], [1, 0]])


def test_a_sample_scores_the_classes_that_it_has():
    """Class 0 is ranked perfectly, class 1 worst: AP 1 and 1/6."""
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0], [0, 1]])
    scores = np.array([[0.9, 0.6], [0.8, 0.5], [0.7, 0.4], [0.3, 0.3], [0.2, 0.2], [0.1, 0.1]])
    samples = [np.arange(6), np.array([0, 1, 2, 3, 4, 4]), np.array([3, 3, 3, 4, 4, 4])]
    np.testing.assert_allclose(resampled_mean_ap(scores, labels, samples), [7 / 12, 1, 0])
