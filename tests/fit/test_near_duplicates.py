"""Which pairs of mean features count as nearly the same."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import ShapeError
from videotag.fit import near_duplicates as engine
from videotag.fit.near_duplicates import near_duplicates


def relu_means(num_videos, width=256, seed=0):
    """Means (N, D) as behind a ReLU: all videos share the large features, and differ in the others."""
    rng = np.random.default_rng(seed)
    common = 3 * rng.random(width)
    return np.maximum(common + rng.standard_normal((num_videos, width)), 0).astype(np.float32)


def copied(means, noise=0.1, seed=1):
    rng = np.random.default_rng(seed)
    return (means + noise * rng.standard_normal(means.shape)).astype(np.float32)


def brute_force(means, groups, threshold):
    x = np.asarray(means, np.float64)
    x = x - x.mean(axis=0)
    pairs = []
    for i, j in itertools.combinations(range(len(x)), 2):
        length = np.linalg.norm(x[i]) * np.linalg.norm(x[j])
        similarity = x[i] @ x[j] / length if length else 0.0
        if groups[i] != groups[j] and similarity > threshold:
            pairs.append((i, j, similarity))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


@pytest.mark.parametrize("block", [1, 3, 7, 1024])
def test_pairs_are_those_of_a_plain_loop_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(engine, "_BLOCK", block)
    means = relu_means(20, width=5)
    groups = list("aabbbcaabccbabcabcaa")
    expected = brute_force(means, groups, 0.5)
    found = near_duplicates(means, groups, threshold=0.5)
    assert len(expected) > 10
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in expected], abs=1e-5)


def test_copies_in_another_list_are_found_though_all_videos_look_alike():
    means = relu_means(40)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.6, "the plain cosine is high for all pairs"
    means = np.concatenate([means, copied(means[[3, 7]])])
    found = near_duplicates(means, ["train"] * 40 + ["val"] * 2)
    assert {pair[:2] for pair in found} == {(3, 40), (7, 41)}
    assert near_duplicates(means, ["train"] * 42) == []


@pytest.mark.parametrize("num_videos", [2, 3, 5, 12])
def test_few_different_videos_are_no_near_duplicates(num_videos):
    for seed in range(20):
        assert near_duplicates(relu_means(num_videos, seed=seed), ["a", *"b" * (num_videos - 1)]) == []


def test_a_copy_is_found_among_five_videos():
    means = relu_means(4)
    assert [pair[:2] for pair in near_duplicates(np.vstack([means, copied(means[:1])]), list("aaaab"))] == [
        (0, 4)
    ]


@given(scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), sign=st.sampled_from([1, -1]))
def test_the_scale_of_features_decides_nothing(scale, sign):
    means = np.concatenate([relu_means(10), copied(relu_means(10))])
    groups = ["a"] * 10 + ["b"] * 10
    scaled = near_duplicates((sign * scale * means).astype(np.float32), groups)
    assert {pair[:2] for pair in scaled} == {(i, i + 10) for i in range(10)}


def test_only_the_most_similar_pairs_are_kept(monkeypatch):
    monkeypatch.setattr(engine, "_BLOCK", 4)
    means, groups = relu_means(20, width=5), list("ab" * 10)
    everything = near_duplicates(means, groups, threshold=0.3)
    assert near_duplicates(means, groups, threshold=0.3, max_pairs=6) == everything[:6]


@pytest.mark.parametrize("means", [np.zeros((4, 3)), np.ones((4, 3)), np.zeros((0, 3))])
def test_videos_without_any_difference_are_no_pairs(means):
    assert near_duplicates(means, list("aabb")[: len(means)]) == []


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ShapeError, match=r"means of shape \(3, 2\), expected \(N, D\) with N = 2 groups"):
        near_duplicates(np.ones((3, 2)), ["a", "b"])


def test_memory_is_a_copy_of_the_means_and_a_block():
    means, groups = relu_means(6000, width=64), ["a", "b"] * 3000  # all similarities take 144 MB
    tracemalloc.start()
    near_duplicates(means, groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * means.nbytes + 8 * 4 * engine._BLOCK**2
