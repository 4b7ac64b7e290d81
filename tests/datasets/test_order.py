"""The order of an epoch: every video once, near ones mixed, like lengths together, all from the seed."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.datasets.order import near_shuffle, ordered_groups, shuffled_groups


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("count", "reach"), [(0, 5), (1, 5), (7, 100), (1000, 10), (1000, 1)])
def test_near_shuffle_is_a_permutation_in_which_nothing_moves_further_than_reach(count, reach):
    order = near_shuffle(count, rng(), reach=reach)
    assert sorted(order.tolist()) == list(range(count))
    assert np.abs(order - np.arange(count)).max(initial=0) <= reach


def test_near_shuffle_mixes_as_far_as_it_reaches():
    order = near_shuffle(10_000, rng(), reach=100)
    moved = np.abs(order - np.arange(10_000))
    # Each is put off by 0 to 100 places, all by 50 on average, so that they move by 0 to 50, evenly.
    assert moved.max() > 50
    assert moved.mean() == pytest.approx(25, rel=0.05)


def test_beyond_the_end_every_order_is_equally_likely():
    counts = {}
    for seed in range(6000):
        order = tuple(near_shuffle(3, rng(seed), reach=3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 150 for count in counts.values())


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [3, 8, 403])
def test_every_video_is_in_one_batch_and_only_the_last_is_smaller(count, drop_last):
    sizes = rng(1).integers(1, 300, count)
    groups = shuffled_groups(rng().permutation(count), 4, rng(), sizes=sizes, drop_last=drop_last)
    full, rest = divmod(count, 4)
    assert [len(group) for group in groups] == [4] * full + ([rest] if rest and not drop_last else [])
    videos = np.concatenate([*groups, np.empty(0, int)]).tolist()
    assert len(set(videos)) == len(videos)


def test_batches_hold_like_lengths_in_random_order():
    sizes = rng(1).integers(1, 301, 3200)
    order = rng().permutation(3200)

    def padding(groups):
        return sum(len(g) * sizes[g].max() for g in groups) / sizes.sum()

    plain = shuffled_groups(order.copy(), 20, rng())
    by_length = shuffled_groups(order.copy(), 20, rng(), sizes=sizes)
    assert padding(plain) > 1.8
    assert padding(by_length) < 1.12
    longest = [sizes[group].max() for group in by_length]
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.25


def test_the_videos_of_a_batch_come_by_length():
    sizes = rng(1).integers(1, 301, 45)
    for group in shuffled_groups(rng().permutation(45), 10, rng(), sizes=sizes):
        assert np.all(np.diff(sizes[group]) >= 0)


def test_a_small_set_is_not_sorted_whole():
    sizes = np.repeat([1, 2], 16)  # 8 batches of 4: one at a time is sorted, which changes no batch
    order = rng().permutation(32)
    plain = shuffled_groups(order.copy(), 4, rng())
    by_length = shuffled_groups(order.copy(), 4, rng(), sizes=sizes)
    assert [set(group.tolist()) for group in plain] == [set(group.tolist()) for group in by_length]


def test_the_order_follows_from_the_generator_alone():
    one = shuffled_groups(np.arange(500), 7, rng(5), sizes=np.arange(500))
    same = shuffled_groups(np.arange(500), 7, rng(5), sizes=np.arange(500))
    other = shuffled_groups(np.arange(500), 7, rng(6), sizes=np.arange(500))
    assert np.array_equal(np.concatenate(one), np.concatenate(same))
    assert not np.array_equal(np.concatenate(one), np.concatenate(other))


def test_ordered_groups_keep_the_order():
    assert [group.tolist() for group in ordered_groups(5, 2)] == [[0, 1], [2, 3], [4]]
    assert ordered_groups(0, 2) == []
