"""Lists of feature files -> padded, masked batches, each cut to its own longest sequence.

Shapes: N videos of a batch, T steps of its longest sequence per modality, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from videotag.datasets.batches import chunks, label_array, slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import FeatureFileError, one_error
from videotag.formats.features import read_modalities, read_shapes
from videotag.formats.filelist import ListEntry
from videotag.registry import Task

READER_THREADS = 2  # reading .npy files is waiting for the disk; more threads gain nothing measurable


@dataclass(frozen=True)
class FeatureBatch:
    """Some videos as arrays.

    Attributes:
        video_ids: the list's paths as written, N of them.
        features: per modality (N, T, D) float32, zeros after a sequence's end.
        masks: per modality (N, T) bool, True on real steps.
        labels: (N, C) float32 multi-hot, all zeros for a video without labels; (N,) int64 for a
            single-label task.
    """

    video_ids: list[str]
    features: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    labels: np.ndarray

    @property
    def inputs(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The arguments of a tagger."""
        return self.features, self.masks

    def parts(self, count: int) -> Iterator[FeatureBatch]:
        """The batch in `count` parts of nearly the same size; fewer if it has fewer videos."""
        for rows in slices(len(self.video_ids), count):
            yield FeatureBatch(
                self.video_ids[rows],
                {name: x[rows] for name, x in self.features.items()},
                {name: x[rows] for name, x in self.masks.items()},
                self.labels[rows],
            )


def check_features(entries: Sequence[ListEntry], dims: dict[str, int]) -> None:
    """Reads the header of every file, so that a wrong one is found before work starts.

    Raises:
        FeatureFileError: all files that are missing, damaged or of another width, a line each.
    """
    problems = []
    for entry in entries:
        try:
            read_shapes(entry.path, dims)
        except FeatureFileError as error:
            problems.append(str(error))
    if problems:
        raise one_error(FeatureFileError, problems)


def feature_batches(
    entries: Sequence[ListEntry],
    *,
    dims: dict[str, int],
    num_classes: int,
    batch_size: int,
    task: Task = "multi_label",
    order: np.ndarray | None = None,
    drop_last: bool = False,
    on_error: Callable[[str, FeatureFileError], None] | None = None,
) -> Iterator[FeatureBatch]:
    """The batches of one pass over a list, read ahead in the background.

    Args:
        entries: of read_filelist.
        dims: width of each modality.
        num_classes: C.
        batch_size: videos per batch; the last one may be smaller.
        task: decides the form of the labels.
        order: (len(entries),) int, a permutation; the list's own order if not given.
        drop_last: leaves out the last batch if it is not full.
        on_error: called with the video id and the error of a file that cannot be read, which is then left
            out; without it the error is raised.
    """
    places = chunks(entries, batch_size, order, drop_last=drop_last)
    groups = ([entries[i] for i in group] for group in places)
    load = partial(_load_batch, dims=dims, num_classes=num_classes, task=task, on_error=on_error)
    for batch in prefetch(load, groups, num_threads=READER_THREADS, ahead=READER_THREADS):
        if batch is not None:
            yield batch


def pad(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (T_i, D) as one array (N, T, D) with zeros after their ends, and the mask (N, T)."""
    lengths = np.array([len(s) for s in sequences])
    padded = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), np.float32)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, np.arange(lengths.max()) < lengths[:, None]


def _load_batch(
    entries: Sequence[ListEntry],
    *,
    dims: dict[str, int],
    num_classes: int,
    task: Task,
    on_error: Callable[[str, FeatureFileError], None] | None,
) -> FeatureBatch | None:
    """One batch, or None if no file of it can be read."""
    loaded = []
    for entry in entries:
        try:
            loaded.append((entry, read_modalities(entry.path, dims)))
        except FeatureFileError as error:
            if on_error is None:
                raise
            on_error(entry.path, error)
    if not loaded:
        return None
    arrays = {name: pad([sample[name] for _, sample in loaded]) for name in dims}
    return FeatureBatch(
        video_ids=[entry.path for entry, _ in loaded],
        features={name: padded for name, (padded, _) in arrays.items()},
        masks={name: mask for name, (_, mask) in arrays.items()},
        labels=label_array([entry for entry, _ in loaded], num_classes, task),
    )
