"""Generated features: their tags follow the rules, and twins are the same steps in reverse."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.datasets.synthetic_features import FeatureSet, SyntheticOptions
from videotag.errors import ConfigError
from videotag.formats.yt8m_records import dequantize, read_yt8m, write_yt8m

SMALL = SyntheticOptions(
    num_steps=(6, 9), dims={"rgb": 24, "audio": 10}, num_content=8, num_cooccurrence=4, num_order_pairs=2
)
#: Without noise and nearly without overlap, so that a test can read a video's tags off its steps.
CLEAR = SyntheticOptions(
    num_steps=(10, 20),
    dims={"rgb": 2000, "audio": 800},
    num_content=8,
    num_cooccurrence=4,
    num_order_pairs=2,
    noise=0.0,
)


def same(one, other):
    return (
        one.video_id == other.video_id
        and np.array_equal(one.labels, other.labels)
        and all(np.array_equal(one.features[m], other.features[m]) for m in ("rgb", "audio"))
    )


def seen(feature_set, record):
    """(T, V) how strongly every content tag and event shows in every step, as inner products."""
    return sum(
        dequantize(record.features[name]).astype(np.float64) @ vectors.T
        for name, vectors in feature_set.vectors.items()
    )


def test_a_seed_gives_the_same_videos_again_and_another_seed_or_split_others():
    records = list(FeatureSet(SMALL, seed=5).records(6, split="train"))
    again = list(FeatureSet(SMALL, seed=5).records(6, split="train"))
    assert all(map(same, records, again))
    for other in (
        FeatureSet(SMALL, seed=6).records(6, split="train"),
        FeatureSet(SMALL, seed=5).records(6, split="test"),
    ):
        pairs = zip(records, other, strict=True)
        assert all(not np.array_equal(a.features["rgb"], b.features["rgb"]) for a, b in pairs)


def test_more_videos_begin_with_the_same_ones_and_an_odd_number_leaves_one_alone():
    feature_set = FeatureSet(SMALL, seed=5)
    few, many = list(feature_set.records(5, split="a")), list(feature_set.records(12, split="a"))
    assert (len(few), len(many)) == (5, 12)
    assert all(map(same, few, many[:5]))
    assert len({record.video_id for record in many}) == 12


def test_records_have_the_sizes_asked_for_and_pass_through_a_file(tmp_path):
    feature_set = FeatureSet(SMALL, seed=1)
    records = list(feature_set.records(40, split="train"))
    lengths = set()
    for record in records:
        rgb, audio = record.features["rgb"], record.features["audio"]
        assert rgb.dtype == audio.dtype == np.uint8
        assert (rgb.shape[1], audio.shape[1]) == (24, 10)
        assert len(rgb) == len(audio)
        lengths.add(len(rgb))
        assert record.labels.size >= 1
        assert 0 <= record.labels.min() <= record.labels.max() < feature_set.num_classes
    assert lengths == {6, 7, 8, 9}
    write_yt8m(tmp_path / "a.tfrecord", records)
    read = list(read_yt8m(tmp_path / "a.tfrecord", dims={"rgb": 24, "audio": 10}))
    assert all(map(same, records, read))


def test_twins_are_the_same_steps_in_reverse_with_the_other_tag_of_order():
    feature_set = FeatureSet(SMALL, seed=2)
    records = list(feature_set.records(200, split="train"))
    order = set(feature_set.classes_of("order").tolist())
    opposite = {12: 13, 13: 12, 14: 15, 15: 14}  # 8 content, 4 cooccurrence, then two pairs
    assert order == set(opposite)
    num_ordered = 0
    for first, second in zip(records[::2], records[1::2], strict=True):
        steps, reverse = (np.hstack([r.features["rgb"], r.features["audio"]]) for r in (first, second))
        assert sorted(map(bytes, steps)) == sorted(map(bytes, reverse)), "the same multiset of steps"
        assert np.array_equal(steps[::-1], reverse)
        own, other = set(first.labels.tolist()), set(second.labels.tolist())
        assert own - order == other - order
        assert {opposite[i] for i in own & order} == other & order
        num_ordered += len(own & order)
    assert 60 <= num_ordered <= 90, "three of four twins have an order: 75 of 100 expected"


def test_tags_of_cooccurrence_follow_from_two_content_tags_each():
    feature_set = FeatureSet(SMALL, seed=3)
    assert [rule.exactly_one for rule in feature_set.rules] == [False, True, False, True]
    assert len({(rule.first, rule.second) for rule in feature_set.rules}) == 4
    counts = np.zeros(4)
    for record in feature_set.records(400, split="train"):
        labels = set(record.labels.tolist())
        for index, rule in enumerate(feature_set.rules):
            there = (rule.first in labels) + (rule.second in labels)
            assert (8 + index in labels) == (there == (1 if rule.exactly_one else 2))
            counts[index] += 8 + index in labels
    assert (counts > 0).all()


def test_a_content_tag_shows_in_its_share_of_the_steps_and_in_no_video_without_it():
    feature_set = FeatureSet(CLEAR, seed=4)
    for record in feature_set.records(30, split="train"):
        shown = seen(feature_set, record)[:, :8] > 0.45  # (T, content); strengths begin at 0.7
        share = shown.mean(axis=0)
        has = np.isin(np.arange(8), record.labels)
        assert ((share > 0) == has).all()
        assert share[has].max(initial=0) <= 0.5 + 0.5 / len(shown)


def test_a_heard_tag_leaves_no_trace_in_rgb_and_a_seen_one_none_in_audio():
    feature_set = FeatureSet(CLEAR, seed=4)
    in_rgb, in_audio = (feature_set.vectors[name].any(axis=1) for name in ("rgb", "audio"))
    assert in_audio.tolist() == [False, False, False, True] * 2 + [False] * 4
    assert (in_rgb != in_audio).all()
    assert feature_set.names[:4] == (
        "content 0 (rgb)",
        "content 1 (rgb)",
        "content 2 (rgb)",
        "content 3 (audio)",
    )


def test_the_tag_of_order_says_which_event_ends_before_the_other_begins():
    feature_set = FeatureSet(CLEAR, seed=7)
    assert feature_set.names[-4:] == ("A0 before B0", "B0 before A0", "A1 before B1", "B1 before A1")
    told = set()
    for record in feature_set.records(60, split="train"):
        shown = seen(feature_set, record)[:, 8:] > 0.45  # (T, A0 B0 A1 B1)
        tags = record.labels[record.labels >= 12] - 12
        assert shown.any(axis=0).sum() == 2 * tags.size
        for tag in tags:
            pair, reverse = divmod(int(tag), 2)
            a, b = (np.flatnonzero(shown[:, 2 * pair + which]) for which in (0, 1))
            early, late = (b, a) if reverse else (a, b)
            assert early.max() < late.min()
            told.add(int(tag))
    assert told == {0, 1, 2, 3}


def test_content_tags_lie_along_a_long_tail():
    feature_set = FeatureSet(SyntheticOptions(), seed=0)
    counts = np.zeros(feature_set.num_classes)
    for record in feature_set.records(4000, split="train"):
        counts[record.labels] += 1
    content = counts[feature_set.classes_of("content")] / 4000
    # Twins share their content, so that these are 2,000 draws; 5 standard deviations, and a little for the
    # videos that drew nothing and were given a tag.
    expected = feature_set.shares
    assert (np.abs(content - expected) <= 5 * np.sqrt(expected / 2000) + 0.02).all()
    assert content[:4].mean() > 8 * content[-4:].mean()
    assert len(feature_set.names) == len(feature_set.types) == 32 + 8 + 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": (3, 9)}, r"num_steps \(3, 9\): expected minimum and maximum, at least 4"),
        ({"num_steps": (9, 8)}, r"num_steps \(9, 8\): expected minimum and maximum"),
        ({"dims": {"rgb": 4}}, r"dims \{'rgb': 4\}: expected a width of at least 1 for rgb and for audio"),
        ({"num_content": 3}, "num_content 3: expected 4 or more"),
        ({"num_content": 8, "num_cooccurrence": 7}, "num_cooccurrence 7: expected 0 to 6, the number"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticOptions(**options)
