"""Lists of feature files -> padded, masked batches, each cut to its own longest sequence.

Shapes: N videos of a batch, T steps of its longest sequence per modality, D feature width, C classes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from videotag.datasets.batches import Batch, ListedVideos, OnError, label_array
from videotag.datasets.prefetch import prefetch
from videotag.errors import FeatureFileError, one_error
from videotag.formats.feature_files import extractor_of, read_modalities, read_shapes_and_stamp
from videotag.formats.filelist import ListEntry
from videotag.formats.yt8m_records import dequantize
from videotag.registry import MASK, ArraySpec, Task
from videotag.safe_text import escaped

READER_THREADS = 2  # reading .npy files is waiting for the disk; more threads gain nothing measurable


class FeatureDataset(ListedVideos):
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

    def check_same_extractor(self, other: FeatureDataset) -> None:
        """Two lists of one training must be made alike.

        Raises:
            FeatureFileError: they are of several extractors, a line for each but the first.
        """
        _check_extractors(self._extractors | other._extractors)

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
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


def padded_batch(ids: list[str], samples: Sequence[Mapping[str, np.ndarray]], labels: np.ndarray) -> Batch:
    """Samples as a batch.

    Args:
        ids: N ids.
        samples: N times modality -> (T_i, D); one at least, all of the same modalities.
        labels: As of `label_array`.
    """
    return Batch(ids, padded_inputs(samples), labels)


def padded_inputs(samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The inputs of a batch: per modality (N, T, D) with zeros after a sequence's end, and its mask (N, T).

    Args:
        samples: N times modality -> (T_i, D); one at least, all of the same modalities.
    """
    inputs: dict[str, np.ndarray] = {}
    for name in samples[0]:
        inputs[name], inputs[name + MASK] = pad([sample[name] for sample in samples])
    return inputs


def as_declared(inputs: Mapping[str, np.ndarray], specs: Iterable[ArraySpec]) -> dict[str, np.ndarray]:
    """The arrays that a model declares, of a batch that may hold more; quantised features become numbers.

    Args:
        inputs: Arrays of a batch by name.
        specs: Inputs of the model.
    """
    return {
        spec.name: as_numbers(inputs[spec.name], inputs[spec.name + MASK])
        if is_quantised(inputs[spec.name], spec)
        else inputs[spec.name]
        for spec in specs
    }


def is_quantised(x: np.ndarray, spec: ArraySpec) -> bool:
    """Whether an array holds features as bytes, where its model declares numbers."""
    return bool(x.dtype == np.uint8) and spec.dtype == "float32"


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
) -> Batch | None:
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
