"""Batches, and the interface of datasets.

Shapes: N samples of a batch, n samples of a dataset, T steps, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from videotag.errors import FileListError, VideotagError, one_error
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.registry import MASK, Task

#: Called with the id of a sample that cannot be read, and the error.
OnError: TypeAlias = Callable[[str, VideotagError], None]


@dataclass(frozen=True)
class Batch:
    """N samples as named arrays, or as tensors once they are on the device.

    Attributes:
        ids: Ids of the N samples; for a list of paths, the paths as written.
        inputs: Arrays by name; their first axis is N. A sequence NAME (N, T, ...) has a mask NAME.mask (N, T)
            bool, which is True on the real steps; padding follows them and is zero.
        labels: (N, C) float32 multi-hot, all zeros for a sample without labels; for a single-label task,
            (N,) int64 class ids, -1 for a sample without a label.
    """

    ids: list[str]
    inputs: dict[str, np.ndarray]
    labels: np.ndarray

    def parts(self, count: int) -> Iterator[Batch]:
        """Splits the batch into `count` parts of nearly equal size, in order; fewer if it has fewer samples.

        Sequences are truncated to the longest one of each part. A single part is the batch itself.
        """
        if count == 1:
            yield self
            return
        for rows in slices(len(self.ids), count):
            yield Batch(self.ids[rows], cut_rows(self.inputs, rows), self.labels[rows])


def cut_rows(inputs: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Selects samples of a batch and truncates sequences to the longest among them, at least one step.

    Args:
        inputs: Arrays or tensors by name, as in Batch.
        rows: Slice of the N samples.
    """
    lengths = {
        name.removesuffix(MASK): slice(max(1, int(mask[rows].sum(1).max())))
        for name, mask in inputs.items()
        if name.endswith(MASK)
    }
    return {
        name: x[rows, lengths[own]] if (own := name.removesuffix(MASK)) in lengths else x[rows]
        for name, x in inputs.items()
    }


class Dataset(Protocol):
    """Interface of a dataset of n samples, numbered from 0, which are read on demand."""

    @property
    def digest(self) -> str:
        """Digest of the samples and the labels in the list."""

    @property
    def sizes(self) -> np.ndarray | None:
        """(n,) int64, length of every sample in any unit; None if unknown or irrelevant."""

    @property
    def made_by(self) -> Mapping[str, Mapping[str, str]]:
        """Per field, map from a file to the description of what made it, for files that record it."""

    def __len__(self) -> int:
        """The number of samples n."""

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """(n,) int64, sample numbers in a random order that can be read efficiently."""

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
        """Reads a batch per group, ahead in the background.

        Args:
            groups: Sample numbers of each batch, (N,) int64.
            on_error: Called for every sample that cannot be read, which its batch then omits; an error that
                it raises ends the iteration.
            seed: Seed of the run and epoch, for augmentation; None for no augmentation.

        Yields:
            Batches in the order of groups; None for a group of which no sample can be read.
        """


def raise_error(video: str, error: VideotagError) -> None:
    """An OnError that raises the error, for sets that must be whole."""
    raise error


def label_array(label_ids: Sequence[Sequence[int]], num_classes: int, task: Task) -> np.ndarray:
    """The label array of a batch.

    Args:
        label_ids: Class ids of each of N samples; for a single-label task, at most one each.
        num_classes: Number of classes C.
        task: Task, which selects the form of the labels.

    Returns:
        (N, C) float32 multi-hot; for a single-label task, (N,) int64, -1 for a sample without a label.
    """
    if task == "single_label":
        return np.array([ids[0] if len(ids) else -1 for ids in label_ids], np.int64)
    labels = np.zeros((len(label_ids), num_classes), np.float32)
    for row, ids in zip(labels, label_ids, strict=True):
        row[list(ids)] = 1.0
    return labels


def slices(count: int, parts: int) -> Iterator[slice]:
    """Slices that split `count` items into at most `parts` parts of nearly equal size, none empty."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round().astype(int)
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))


def check_single_labels(entries: Sequence[ListEntry], filelist: str | None) -> None:
    """Checks that every entry of a single-label task has exactly one label; skips record files.

    Raises:
        FileListError: Entries have no label or several; one line of the message per entry.
    """
    problems = [
        f"{filelist}:{entry.line}: {len(entry.label_ids)} labels, expected 1; "
        "for several labels per video set MODEL.task=multi_label"
        for entry in entries
        if len(entry.label_ids) != 1 and not is_record_file(entry.path)
    ]
    if problems:
        raise one_error(FileListError, problems)
