"""Folds: whole groups, all samples once, classes spread."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.training.folds import group_folds


def test_every_sample_is_in_one_fold_and_no_group_in_two():
    rng = np.random.default_rng(0)
    groups = [f"g{number}" for number in rng.integers(12, size=60)]
    folds = group_folds(groups, rng.integers(3, size=60))
    assert sorted(np.concatenate(folds).tolist()) == list(range(60))
    assert len(folds) == 5
    for group in set(groups):
        assert sum(any(groups[i] == group for i in fold) for fold in folds) == 1


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_class_of_five_groups_has_one_in_each_fold(task):
    labels = np.array([0] * 5 + [1] * 45)
    if task == "multi_label":
        labels = np.eye(2)[labels]
    folds = group_folds([str(i) for i in range(50)], labels)
    assert [sum(i < 5 for i in fold) for fold in folds] == [1] * 5
    assert [len(fold) for fold in folds] == [10] * 5


def test_there_are_no_more_folds_than_groups_and_one_group_is_an_error():
    assert len(group_folds(["a", "b", "b"], np.array([0, 1, 1]))) == 2
    with pytest.raises(ValueError, match="at least two"):
        group_folds(["a", "a"], np.array([0, 1]))


def test_samples_without_labels_are_in_folds_too():
    folds = group_folds([str(i) for i in range(10)], np.zeros((10, 3)))
    assert sorted(np.concatenate(folds).tolist()) == list(range(10))
