"""Lists of feature files -> padded, masked batches, each cut to its own longest sequence.

Shapes: N videos of a batch, T steps of its longest sequence per modality, D feature width, C classes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from videotag.datasets.batches import chunks, label_array, slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import FeatureFileError, one_error
from videotag.formats.features import extractor_of, read_modalities, read_shapes_and_stamp
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
    """Reads the header and the stamp of every file, so that a wrong one is found before work starts.

    Files without a stamp, such as those of other tools, may come with any others.

    Raises:
        FeatureFileError: all files that are missing, damaged or of another width, a line each; or features
            of several extractors, of which a model would learn which one made a video.
    """
    problems = []
    extractors: dict[str, str] = {}  # file -> what made it
    for entry in entries:
        try:
            _, stamp = read_shapes_and_stamp(entry.path, dims)
        except FeatureFileError as error:
            problems.append(str(error))
            continue
        if stamp is not None:
            extractors[entry.path] = sys.intern(extractor_of(stamp))  # one text for a million files
    problems += mixed_extractors(extractors).values()
    if problems:
        raise one_error(FeatureFileError, problems)


def mixed_extractors(extractors: Mapping[str, str]) -> dict[str, str]:
    """For every extractor but the first: a file of it, and a line that says what differs from the first.

    Args:
        extractors: what made it, as of `extractor_of`, by file.
    """
    counts = Counter(extractors.values())
    examples: dict[str, str] = {}
    for path, extractor in extractors.items():
        examples.setdefault(extractor, path)
    (first, first_path), *others = examples.items() or [("", "")]
    return {
        path: f"{path}: made by another extractor than {first_path}: {_differences(extractor, first)};"
        f" {counts[extractor]} of the former, {counts[first]} of the latter;"
        " extract all again with one of the two"
        for extractor, path in others
    }


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


def _differences(extractor: str, other: str) -> str:
    """The keys that differ, with both values."""
    values, other_values = json.loads(extractor), json.loads(other)
    return ", ".join(
        f"{key} {_shown(values, key)} against {_shown(other_values, key)}"
        for key in sorted(values.keys() | other_values.keys())
        if values.get(key, ...) != other_values.get(key, ...)
    )


def _shown(values: Mapping[str, object], key: str) -> str:
    """A value on one line; 80 characters hold a SHA-256."""
    return json.dumps(values[key], ensure_ascii=False)[:80] if key in values else "(not there)"


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
