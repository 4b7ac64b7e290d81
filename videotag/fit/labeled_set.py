"""Training and test set of a fit: videos with features in memory, labels and groups.

Shapes: N videos, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from videotag.datasets.memory_dataset import MemoryDataset
from videotag.errors import FileListError
from videotag.fit.samples import Sample
from videotag.registry import Task
from videotag.training.folds import NUM_FOLDS, group_folds

_MANY_VIDEOS, _FEW_FOLDS = 1500, 3


@dataclass(frozen=True)
class LabeledSet:
    """N labeled videos with their features.

    Attributes:
        samples: Paths, class ids and groups of the N videos.
        dataset: Features and labels of the same videos, in the same order.
        names: C class names by class id.
        task: Task, which is the same for all videos.
        width: Feature width D.
    """

    samples: list[Sample]
    dataset: MemoryDataset
    names: list[str]
    task: Task
    width: int

    def __len__(self) -> int:
        """The number of videos N."""
        return len(self.samples)

    @cached_property
    def groups(self) -> list[str]:
        """Group of each of the N videos."""
        return [sample.group for sample in self.samples]

    @cached_property
    def one_hot(self) -> np.ndarray:
        """Labels (N, C) in {0, 1} for either task, see the function one_hot for the dtype."""
        return one_hot(self.dataset.labels, len(self.names), self.task)


@dataclass(frozen=True)
class TrainingSet(LabeledSet):
    """The training set, with what identifies and divides it.

    Attributes:
        folds: (n,) indices of the videos of each fold; every video is in one fold.
        digest: SHA-256 of the method, and of labels, groups, mean features and class names of the set.
    """

    folds: Sequence[np.ndarray]
    digest: str


def one_hot(labels: np.ndarray, num_classes: int, task: Task) -> np.ndarray:
    """Labels as (N, C) in {0, 1}: bool for a single-label task, else of the dtype of `labels`.

    Args:
        labels: (N, C) in {0, 1}; (N,) class ids of a single-label task.
        num_classes: Number of classes C.
        task: Task, which tells the two forms apart.
    """
    return labels[:, None] == np.arange(num_classes) if task == "single_label" else labels


def training_folds(groups: Sequence[str], labels: np.ndarray, *, seed: int) -> list[np.ndarray]:
    """The folds of a training set for cross-validation; (n,) indices each.

    Args:
        groups: Group of each of the N videos.
        labels: Labels (N, C) or (N,), as in Batch.
        seed: Seed of the order among equally rare groups.

    Raises:
        FileListError: All videos are in one group.
    """
    if len(set(groups)) < 2:
        raise FileListError(
            f"all {len(groups)} training videos are in one group, {groups[0]}, but cross-validation "
            "needs at least two; name smaller groups, or add videos"
        )
    num_folds = NUM_FOLDS if len(groups) < _MANY_VIDEOS else _FEW_FOLDS
    return group_folds(groups, labels, num_folds=num_folds, seed=seed)
