"""What every batch offers to training and evaluation, whatever its videos are: features or frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from videotag.errors import FileListError, one_error
from videotag.formats.filelist import ListEntry
from videotag.registry import Task


class Batch(Protocol):
    """N videos."""

    @property
    def video_ids(self) -> list[str]:
        """N paths, as their list wrote them."""

    @property
    def labels(self) -> np.ndarray:
        """(N, C) float32 in {0, 1}, or (N,) int64 class ids for a single-label task."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The network's arguments: arrays whose first axis is N, or dicts of them."""

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts of nearly the same size; fewer if it has fewer videos."""


def label_array(entries: Sequence[ListEntry], num_classes: int, task: Task) -> np.ndarray:
    """The labels of a batch.

    Args:
        entries: N list entries; for a single-label task with one label each, or none to predict only.
        num_classes: C.
        task: which of the two forms.

    Returns:
        (N, C) float32 of zeros and ones; or (N,) int64, -1 without a label.
    """
    if task == "single_label":
        return np.array([entry.label_ids[0] if entry.label_ids else -1 for entry in entries], np.int64)
    labels = np.zeros((len(entries), num_classes), np.float32)
    for row, entry in zip(labels, entries, strict=True):
        row[list(entry.label_ids)] = 1.0
    return labels


def chunks(
    entries: Sequence[ListEntry], batch_size: int, order: np.ndarray | None, *, drop_last: bool
) -> Iterator[list[int]]:
    """The places in `entries` of every batch's videos.

    Args:
        entries: of a list.
        batch_size: videos per batch; the last one may be smaller.
        order: (len(entries),) int, a permutation; the list's own order if not given.
        drop_last: leaves out the last batch if it is not full.
    """
    order = np.arange(len(entries)) if order is None else order
    stop = len(order) - (len(order) % batch_size if drop_last else 0)
    return (order[start : start + batch_size].tolist() for start in range(0, stop, batch_size))


def slices(count: int, parts: int) -> Iterator[slice]:
    """`count` things in at most `parts` parts of nearly the same size, none empty."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round().astype(int)
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))


def check_single_labels(entries: Sequence[ListEntry], filelist: str | None) -> None:
    """Every entry of a single-label task must have one label.

    Raises:
        FileListError: all that have none or several, a line each.
    """
    problems = [
        f"{filelist}:{entry.line}: {len(entry.label_ids)} labels, expected 1; "
        "for several labels per video set MODEL.task=multi_label"
        for entry in entries
        if len(entry.label_ids) != 1
    ]
    if problems:
        raise one_error(FileListError, problems)
