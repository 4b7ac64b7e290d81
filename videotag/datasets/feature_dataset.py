"""Lists of feature files -> padded, masked batches, each cut to its own longest sequence.

Shapes: N videos of a batch, T steps of its longest sequence per modality, D feature width, C classes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from videotag.datasets.batches import ListedVideos, OnError, label_array, slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import FeatureFileError, one_error
from videotag.formats.feature_files import extractor_of, read_modalities, read_shapes_and_stamp
from videotag.formats.filelist import ListEntry
from videotag.formats.yt8m_records import dequantize
from videotag.registry import Task
from videotag.safe_text import escaped

READER_THREADS = 2  # reading .npy files is waiting for the disk; more threads gain nothing measurable


@dataclass(frozen=True)
class FeatureBatch:
    """Some videos as arrays, or as tensors once they are varied on the device.

    Attributes:
        video_ids: the list's paths as written, N of them.
        features: per modality (N, T, D) float32, or quantised uint8; zeros after a sequence's end.
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
        """The batch in `count` parts of nearly the same size, each cut to its own longest; one part is it."""
        if count == 1:
            yield self
            return
        for rows in slices(len(self.video_ids), count):
            features, masks = cut_rows(self.features, self.masks, rows)
            yield FeatureBatch(self.video_ids[rows], features, masks, self.labels[rows])


class FeatureFiles(ListedVideos):
    """A list of feature files, a video each; every one is looked at, as of `check_features`.

    Args:
        entries: of read_filelist.
        dims: width of each modality.
        num_classes: C.
        task: decides the form of the labels.
    """

    def __init__(
        self, entries: Sequence[ListEntry], *, dims: dict[str, int], num_classes: int, task: Task
    ) -> None:
        super().__init__(entries)
        self._load = partial(_load_batch, dims=dims, num_classes=num_classes, task=task)
        self.sizes, self._extractors = check_features(entries, dims)

    def check_same_extractor(self, other: FeatureFiles) -> None:
        """Two lists of one training must be made alike.

        Raises:
            FeatureFileError: they are of several extractors, a line for each but the first.
        """
        _check_extractors(self._extractors | other._extractors)

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[FeatureBatch | None]:
        lists = ([self._entries[video] for video in group] for group in groups)
        load = partial(self._load, on_error=on_error)
        return prefetch(load, lists, num_threads=READER_THREADS, ahead=READER_THREADS)


def check_features(entries: Sequence[ListEntry], dims: dict[str, int]) -> tuple[np.ndarray, dict[str, str]]:
    """Reads the header and the stamp of every file, so that a wrong one is found before work starts.

    Files without a stamp, such as those of other tools, may come with any others.

    Returns:
        (n,) int64, the steps of each file's longest modality; and what made each file that says so.

    Raises:
        FeatureFileError: all files that are missing, damaged or of another width, a line each; or features
            of several extractors, of which a model would learn which one made a video.
    """
    problems = []
    steps = np.zeros(len(entries), np.int64)
    extractors: dict[str, str] = {}  # file -> what made it
    for place, entry in enumerate(entries):
        try:
            shapes, stamp = read_shapes_and_stamp(entry.path, dims)
        except FeatureFileError as error:
            problems.append(str(error))
            continue
        steps[place] = max(num_steps for num_steps, _ in shapes.values())
        if stamp is not None:
            extractors[entry.path] = sys.intern(extractor_of(stamp))  # one text for a million files
    _check_extractors(extractors, problems)
    return steps, extractors


def _check_extractors(extractors: Mapping[str, str], others: Sequence[str] = ()) -> None:
    problems = [*others, *mixed_extractors(extractors).values()]
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


def pad(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (T_i, D) as one array (N, T, D) with zeros after their ends, and the mask (N, T).

    Bytes stay bytes, all else becomes float32.
    """
    lengths = np.array([len(s) for s in sequences])
    dtype = np.uint8 if sequences[0].dtype == np.uint8 else np.float32
    padded = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, np.arange(lengths.max()) < lengths[:, None]


def cut_rows(
    features: Mapping[str, Any], masks: Mapping[str, Any], rows: slice
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Some videos of a batch, each modality cut to the longest sequence among them; one step at least.

    Args:
        features: per modality (N, T, D), arrays or tensors.
        masks: per modality (N, T) bool, True on real steps, which come first.
        rows: of the N.
    """
    cuts = {name: (rows, slice(max(1, int(mask[rows].sum(1).max())))) for name, mask in masks.items()}
    return {name: features[name][cut] for name, cut in cuts.items()}, {
        name: masks[name][cut] for name, cut in cuts.items()
    }


def padded_batch(
    video_ids: list[str], samples: Sequence[Mapping[str, np.ndarray]], labels: np.ndarray
) -> FeatureBatch:
    """Some videos as a batch.

    Args:
        video_ids: N of them.
        samples: N times modality -> (T_i, D); one at least, all of the same modalities.
        labels: as of `label_array`.
    """
    arrays = {name: pad([sample[name] for sample in samples]) for name in samples[0]}
    return FeatureBatch(
        video_ids=video_ids,
        features={name: padded for name, (padded, _) in arrays.items()},
        masks={name: mask for name, (_, mask) in arrays.items()},
        labels=labels,
    )


def as_numbers(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N, T, D) float32 of a batch's features: bytes dequantised, zero where masked; others as they are.

    Args:
        x: (N, T, D) uint8 or float32.
        mask: (N, T) bool.
    """
    if x.dtype != np.uint8:
        return x
    numbers = dequantize(x)  # by a table: a twentieth of the time that arithmetic takes
    numbers[~mask] = 0
    return numbers


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
    return escaped(json.dumps(values[key], ensure_ascii=False), limit=80) if key in values else "(not there)"


def _load_batch(
    entries: Sequence[ListEntry],
    *,
    dims: dict[str, int],
    num_classes: int,
    task: Task,
    on_error: OnError,
) -> FeatureBatch | None:
    """One batch, or None if no file of it can be read."""
    loaded = []
    for entry in entries:
        try:
            loaded.append((entry, read_modalities(entry.path, dims)))
        except FeatureFileError as error:
            on_error(entry.path, error)
    if not loaded:
        return None
    return padded_batch(
        [entry.path for entry, _ in loaded],
        [sample for _, sample in loaded],
        label_array([entry.label_ids for entry, _ in loaded], num_classes, task),
    )
