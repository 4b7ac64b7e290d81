"""Near-duplicates of a fit: merged into one group, unless that harms the split, and reported."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.fit.copies import leak_notes, merge_copies
from videotag.fit.samples import Sample


def samples_of(groups, splits=None):
    """A sample per letter, in the group that the letter names."""
    splits = splits or [""] * len(groups)
    return [
        Sample(f"{index}.npy", (0,), group, split)
        for index, (group, split) in enumerate(zip(groups, splits, strict=True))
    ]


def means_of(kinds):
    """Means (N, D) that are orthogonal for different letters and equal for equal ones."""
    letters = sorted(set(kinds))
    return np.eye(len(letters), dtype=np.float32)[[letters.index(kind) for kind in kinds]]


def test_groups_with_equal_videos_become_one():
    merged, notes = merge_copies(samples_of("abcdefghijk"), means_of("aacdefghijk"))
    assert [sample.group for sample in merged] == list("bbcdefghijk")
    assert notes == ["near-duplicates share a group: 1 of 11 groups were merged"]


def test_without_equal_videos_nothing_is_merged():
    samples = samples_of("aabc")
    assert merge_copies(samples, means_of("pprs")) == (samples, [])


def test_clips_of_one_scene_are_not_merged():
    samples = samples_of("abcdefghij")
    merged, (note,) = merge_copies(samples, means_of("aaadefghij"))
    assert merged == samples
    assert note.startswith(
        "many of the videos look nearly the same (up to 3 of 10), as clips of one scene do"
    )
    assert note.endswith("name the scenes with --group_by or a group column")


@pytest.mark.parametrize(
    ("groups", "kinds", "splits"),
    [
        ("aaaaaaaabc", "klmnopqryy", None),  # 8, 1 and 1 videos, the last two equal
        ("abcdefghij", "yyklmnopqr", ["train"] * 2 + ["test"] * 8),
    ],
)
def test_nothing_is_merged_if_too_few_groups_would_be_left(groups, kinds, splits):
    samples = samples_of(groups, splits)
    merged, (note,) = merge_copies(samples, means_of(kinds))
    assert merged == samples
    assert "as merging them would leave" in note
    assert note.endswith("add other videos")


def test_notes_name_clips_not_the_features_that_were_extracted_from_them():
    samples = [
        Sample(f"out/features/{name}.npy", (0,), name, split, video=f"{name}.mp4")
        for name, split in (("a", "train"), ("b", "test"), ("c", "train"), ("d", "train"))
    ]
    means = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    (note,) = leak_notes(samples, means)
    assert "such as a.mp4 and b.mp4 (1.00)" in note
