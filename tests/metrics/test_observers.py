"""Confusions, curves and mistakes: by hand, against plain loops, and for any split into batches."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from videotag.errors import ShapeError
from videotag.metrics import Confusion, MissedTags, Mistakes, ScoreHistograms, confusion
from videotag.metrics.pr_curve import NUM_BINS


@st.composite
def arrays(draw):
    """scores (N, C) in [0, 1], often tied; labels (N, C) bool; class ids (N,)."""
    shape = draw(st.integers(0, 7)), draw(st.integers(1, 6))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
    ids = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return scores, draw(hnp.arrays(np.bool_, shape)), ids


def video_ids(rows):
    return [f"v{row}" for row in rows]


def in_parts(make, scores, labels, data):
    """One observer of everything, and one put together from parts by updates and merges."""
    whole, merged = make(), make()
    whole.update(scores, labels, video_ids(range(len(scores))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=4)))
    for part in np.split(data.draw(st.permutations(range(len(scores)))), cuts):
        part = np.asarray(part, int)
        if data.draw(st.booleans()):
            merged.update(scores[part], labels[part], video_ids(part))
        else:
            other = make()
            other.update(scores[part], labels[part], video_ids(part))
            merged.merge(other)
    return whole, merged


# ---------------------------------------------------------------- confusions


def test_the_confusion_matrix_by_hand():
    counts = Confusion()
    # Best-scored: 1, 1, 0, 2; true: 0, 0, 0, 2.
    counts.update([[0.1, 0.9, 0], [0.2, 0.7, 0], [0.9, 0, 0], [0, 0, 0.9]], np.array([0, 0, 0, 2]))
    np.testing.assert_array_equal(counts.matrix([0, 1, 2], [0, 1, 2]), [[1, 2, 0], [0, 0, 0], [0, 0, 1]])
    assert counts.pairs(5) == [(0, 1, 2)], "right ones are no confusion"


def test_missed_tags_by_hand():
    counts = MissedTags()
    # Video 0 misses 0 and 2, wrongly predicts 1 and 3; video 1 misses 0, predicts 1; video 2 misses 0 alone.
    counts.update(
        [[0.1, 0.9, 0.2, 0.8], [0.4, 0.6, 0.0, 0.0], [0.4, 0.4, 0.0, 0.0]],
        np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
    )
    assert counts.pairs(9) == [(0, 1, 2), (0, 3, 1), (2, 1, 1), (2, 3, 1)]
    assert counts.pairs(1) == [(0, 1, 2)]
    np.testing.assert_array_equal(counts.matrix([2, 0], [1, 0]), [[1, 0], [2, 0]])


def test_a_video_predicts_no_more_than_its_top_k():
    counts = MissedTags(top_k=1)
    counts.update([[0.7, 0.9, 0.8]], np.array([[1, 0, 0]]))
    assert counts.pairs(9) == [(0, 1, 1)], (
        "0 ranks third, so it is missed; 2 ranks second, so it is not predicted"
    )


@given(arrays(), st.integers(1, 7), st.data())
def test_missed_tags_equal_plain_loops_for_any_split(given_arrays, top_k, data):
    scores, labels, _ = given_arrays
    expected = Counter()
    for row, label_row in zip(scores.tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda c: (-row[c], c))[:top_k]
        predicted = [c for c in ranked if row[c] >= 0.5]
        for true in (c for c, is_true in enumerate(label_row) if is_true and c not in predicted):
            expected.update((true, c) for c in predicted if not label_row[c])
    whole, merged = in_parts(lambda: MissedTags(top_k=top_k), scores, labels, data)
    everything = sorted(((*pair, n) for pair, n in expected.items()), key=lambda p: (-p[2], p[:2]))
    assert whole.pairs(99) == merged.pairs(99) == everything


@given(arrays(), st.data())
def test_confusion_equals_plain_loops_for_any_split(given_arrays, data):
    scores, _, ids = given_arrays
    whole, merged = in_parts(Confusion, scores, ids, data)
    expected = np.zeros((scores.shape[1],) * 2, int)
    for row, true in zip(scores.tolist(), ids, strict=True):
        expected[true, row.index(max(row))] += 1
    everything = range(scores.shape[1])
    np.testing.assert_array_equal(whole.matrix(everything, everything), expected)
    np.testing.assert_array_equal(merged.matrix(everything, everything), expected)


def test_pairs_counted_in_steps_equal_pairs_counted_at_the_end(monkeypatch):
    rng = np.random.default_rng(0)
    scores, ids = rng.random((300, 8)), rng.integers(0, 8, 300)
    whole, often = Confusion(), Confusion()
    whole.update(scores, ids)
    monkeypatch.setattr(confusion, "_PENDING_PAIRS", 20)
    for start in range(0, 300, 7):
        often.update(scores[start : start + 7], ids[start : start + 7])
    assert often.pairs(99) == whole.pairs(99)
    assert sum(n for *_, n in whole.pairs(99)) + np.trace(whole.matrix(range(8), range(8))) == 300


def test_no_batches_give_no_pairs():
    assert Confusion().pairs(3) == []
    np.testing.assert_array_equal(MissedTags().matrix([0], [1, 2]), [[0, 0]])
    counts = Confusion()
    counts.merge(Confusion())
    assert counts.num_classes == 0


def test_counts_of_different_things_do_not_mix():
    counts = MissedTags()
    with pytest.raises(TypeError, match="merge of MissedTags with Confusion: expected the same"):
        counts.merge(Confusion())
    with pytest.raises(ShapeError, match=r"merge of threshold, top_k \(0.5, 20\) with \(0.4, 20\)"):
        counts.merge(MissedTags(threshold=0.4))
    counts.update([[0.1, 0.2]], [[0, 1]])
    with pytest.raises(ShapeError, match="batch of 3 classes, expected 2"):
        counts.update([[0.1, 0.2, 0.3]], [[0, 1, 0]])
    with pytest.raises(ValueError, match="top_k=0: expected at least 1"):
        MissedTags(top_k=0)


# ---------------------------------------------------------------- curves


def test_a_curve_by_hand():
    histograms = ScoreHistograms()
    histograms.update([[0.9, 0.6], [0.3, 0.1]], [[1, 0], [1, 0]])
    curve = histograms.curve()
    at = {t: (p, r) for t, p, r in zip(*curve, strict=True)}
    assert at[0.75] == (1, 1 / 2)  # .9+
    assert at[0.5] == (1 / 2, 1 / 2)  # .9+ .6
    assert at[0.25] == (2 / 3, 1)  # .9+ .6 .3+
    assert at[0.0] == (2 / 4, 1)
    assert max(at) == math.floor(0.9 * NUM_BINS) / NUM_BINS, "above, nothing is predicted"
    alone = histograms.curve([0])
    assert (alone.precision[-1], alone.recall[-1]) == (1, 1)


def test_every_point_is_exact_at_its_threshold():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 6), dtype=np.float32), rng.random((50, 6)) < 0.3
    scores[0] = [0, 1, 1 / 256, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 255 / 256]
    histograms = ScoreHistograms()
    histograms.update(scores, labels)
    np.testing.assert_array_equal(histograms.curve().thresholds, np.arange(256)[::-1] / 256)
    for threshold, precision, recall in zip(*histograms.curve([1, 3, 4]), strict=True):
        predicted, positive = scores[:, [1, 3, 4]] >= threshold, labels[:, [1, 3, 4]]
        assert precision == (predicted & positive).sum() / predicted.sum()
        assert recall == (predicted & positive).sum() / positive.sum()


@given(arrays(), st.data())
def test_curves_do_not_depend_on_the_split(given_arrays, data):
    scores, labels, _ = given_arrays
    whole, merged = in_parts(ScoreHistograms, scores, labels, data)
    for left, right in zip(whole.curve(), merged.curve(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert np.all(np.diff(whole.curve().recall) >= 0)


def test_class_ids_and_one_hot_rows_give_the_same_curve():
    rng = np.random.default_rng(1)
    scores, ids = rng.random((20, 5)), rng.integers(0, 5, 20)
    by_ids, by_rows = ScoreHistograms(), ScoreHistograms()
    by_ids.update(scores, ids)
    by_rows.update(scores, np.eye(5)[ids])
    np.testing.assert_array_equal(by_ids.curve().precision, by_rows.curve().precision)


def test_without_positives_there_is_no_curve():
    histograms = ScoreHistograms()
    assert histograms.curve().recall.size == 0
    histograms.update([[0.3, 0.4]], [[0, 1]])
    assert histograms.curve([0]).recall.size == 0


def test_logits_and_other_class_counts_are_rejected():
    histograms = ScoreHistograms()
    with pytest.raises(ShapeError, match=r"scores\[0, 1\]: 1.5, expected 0 to 1; logits\?"):
        histograms.update([[0.3, 1.5]], [[0, 1]])
    histograms.update([[0.3, 0.5]], [[0, 1]])
    with pytest.raises(ShapeError, match="batch of 1 classes, expected 2"):
        histograms.update([[0.3]], [[1]])


# ---------------------------------------------------------------- mistakes


def test_mistakes_by_hand():
    mistakes = Mistakes(limit=2, top_k=2)
    mistakes.update([[0.9, 0.1], [0.2, 0.8]], np.array([[1, 0], [1, 0]]), ["good", "bad"])
    mistakes.update([[0.5, 0.25], [0.0, 1.0]], np.array([[1, 1], [0, 0]]), ["middle", "no label"])
    bad, middle = mistakes.compute()
    assert (bad.video_id, middle.video_id) == ("bad", "middle")
    assert bad.loss == pytest.approx(-math.log(0.2) - math.log(0.2))
    assert middle.loss == pytest.approx(-math.log(0.5) - math.log(0.25))
    assert bad.true == ((0, 0.2),)
    assert bad.predicted == ((1, 0.8), (0, 0.2))
    assert middle.true == ((0, 0.5), (1, 0.25))


def test_the_loss_of_one_label_is_of_that_label_alone():
    mistakes = Mistakes()
    mistakes.update([[0.5, 0.3, 0.2]], np.array([1]), ["a"])
    assert mistakes.compute()[0].loss == pytest.approx(-math.log(0.3))


def test_a_probability_of_zero_has_a_finite_loss():
    mistakes = Mistakes()
    mistakes.update(np.array([[0.0, 1.0]], np.float32), np.array([[1, 0]]), ["a"])
    assert mistakes.compute()[0].loss == pytest.approx(-2 * math.log(1e-7))


@given(arrays(), st.integers(0, 4), st.data())
def test_mistakes_are_the_first_of_all_sorted_whatever_the_split(given_arrays, limit, data):
    scores, labels, _ = given_arrays
    whole, merged = in_parts(lambda: Mistakes(limit=limit, top_k=3), scores, labels, data)
    assert merged.compute() == whole.compute()
    every = Mistakes(limit=99, top_k=3)
    every.update(scores, labels, video_ids(range(len(scores))))
    assert len(every.compute()) == labels.any(axis=1).sum()
    assert whole.compute() == sorted(every.compute(), key=lambda m: (-m.loss, m.video_id))[:limit]


def test_mistakes_check_what_they_are_given():
    with pytest.raises(ShapeError, match="1 video_ids, expected 2, one per row"):
        Mistakes().update([[0.1], [0.2]], [[1], [0]], ["a"])
    with pytest.raises(ShapeError, match=r"merge of limit, top_k \(20, 5\) with \(3, 5\)"):
        Mistakes().merge(Mistakes(limit=3))
    with pytest.raises(ValueError, match="limit -1, top_k 5: expected at least 0 and 1"):
        Mistakes(limit=-1)
