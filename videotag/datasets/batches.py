"""What data sets and their batches offer to training and evaluation, whatever their videos are."""

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

#: Called with a video and the error of what cannot be read of it.
OnError: TypeAlias = Callable[[str, VideotagError], None]


@dataclass(frozen=True)
class Batch:
    """N samples as named arrays; or as tensors, once they are on the device.

    Attributes:
        ids: N ids, for a classic list its paths as written.
        inputs: Arrays by name, whose first axis is N. Of a sequence NAME (N, T, ...), the mask NAME.mask
            (N, T) bool is True on real steps, which come first; zeros stand after them.
        labels: (N, C) float32 multi-hot, all zeros for a sample without labels; or (N,) int64 class ids for
            a single-label task, -1 without a label.
    """

    ids: list[str]
    inputs: dict[str, np.ndarray]
    labels: np.ndarray

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts of nearly the same size, in its order; fewer if it has fewer samples.

        Sequences are cut to the longest one of each part; one part is the batch itself.
        """
        if count == 1:
            yield self
            return
        for rows in slices(len(self.ids), count):
            yield Batch(self.ids[rows], cut_rows(self.inputs, rows), self.labels[rows])


def cut_rows(inputs: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Some samples of a batch, each sequence cut to the longest among them; one step at least.

    Args:
        inputs: Arrays or tensors by name, as of Batch.
        rows: Which of the N samples.
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
    """Videos with numbers from 0, of whose data nothing is held."""

    @property
    def digest(self) -> str:
        """Differs if the videos or their labels differ, as far as their list tells."""

    @property
    def sizes(self) -> np.ndarray | None:
        """(n,) how long each video is, in any unit; None where that is not known or makes no difference."""

    @property
    def made_by(self) -> Mapping[str, str]:
        """File -> what made it, of files that say so."""

    def __len__(self) -> int:
        """How many there are."""

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """(n,) int64, the videos in a random order in which they can be read at good speed."""

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
        """A batch for every group, read ahead in the background; None for one of which nothing can be read.

        Args:
            groups: numbers of videos.
            on_error: called with the video and the error of one that cannot be read, which is then left out
                of its batch; what it raises ends the batches.
            seed: of augmentation: of the run, and the epoch. None: no augmentation.
        """


def label_array(label_ids: Sequence[Sequence[int]], num_classes: int, task: Task) -> np.ndarray:
    """The labels of a batch.

    Args:
        label_ids: of N videos; for a single-label task one each, or none to predict only.
        num_classes: C.
        task: which of the two forms.

    Returns:
        (N, C) float32 of zeros and ones; or (N,) int64, -1 without a label.
    """
    if task == "single_label":
        return np.array([ids[0] if len(ids) else -1 for ids in label_ids], np.int64)
    labels = np.zeros((len(label_ids), num_classes), np.float32)
    for row, ids in zip(labels, label_ids, strict=True):
        row[list(ids)] = 1.0
    return labels


def slices(count: int, parts: int) -> Iterator[slice]:
    """`count` things in at most `parts` parts of nearly the same size, none empty."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round().astype(int)
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))


def check_single_labels(entries: Sequence[ListEntry], filelist: str | None) -> None:
    """Every entry of a single-label task must have one label; files of records hold theirs themselves.

    Raises:
        FileListError: all that have none or several, a line each.
    """
    problems = [
        f"{filelist}:{entry.line}: {len(entry.label_ids)} labels, expected 1; "
        "for several labels per video set MODEL.task=multi_label"
        for entry in entries
        if len(entry.label_ids) != 1 and not is_record_file(entry.path)
    ]
    if problems:
        raise one_error(FileListError, problems)
