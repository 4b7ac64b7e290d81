"""Feature files -> padded, masked sequences, each batch cut to its own longest one.

Shapes: N videos of a batch, T steps of its longest sequence per modality, D feature width, C classes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from videotag.errors import ConfigError, FeatureFileError, one_error
from videotag.formats.feature_files import (
    FEATURE_SUFFIXES,
    extractor_of,
    list_features,
    read_modalities,
    read_shapes_and_stamp,
)
from videotag.formats.record_files import is_record_file, list_record_files
from videotag.formats.yt8m_records import dequantize
from videotag.inputs.reader import Checked, Found, Reader
from videotag.registry import MASK, ArraySpec, register_reader, sequence_specs
from videotag.safe_text import escaped
from videotag.sections import FeatureTrainSection, InputOptions, Positive, SplitSection


class FeatureOptions(InputOptions):
    """An entry of INPUTS with `reader: features`.

    Attributes:
        width: D, the width of the features.
    """

    width: Positive


@register_reader("features", options=FeatureOptions)
class FeatureReader(Reader[FeatureOptions, SplitSection]):
    """Feature files: a sequence (T, D) for every modality, of one file."""

    train_section = FeatureTrainSection

    @property
    def dims(self) -> dict[str, int]:
        """The width of each modality."""
        return {name: options.width for name, options in self.inputs.items()}

    def specs(self) -> list[ArraySpec]:
        """Per modality NAME (N, T, D), and NAME.mask (N, T)."""
        return sequence_specs(self.dims)

    def check(self, fields: Sequence[str]) -> Checked:
        """Reads the header and the stamp of every file; see check_features."""
        return Checked(*check_features(fields, self.dims))

    def find(self, path: Path) -> Found:
        """The feature files in a folder, then its files of records; or the one file.

        Raises:
            ConfigError: It is neither, or there are none in the folder.
        """
        if path.is_dir():
            paths = list_features(path) + [str(file) for file in list_record_files(path)]
            if not paths:
                raise ConfigError(f"{path}: no features in this folder; for videos use `videotag tag`")
            return Found(paths)
        if path.suffix.lower() not in FEATURE_SUFFIXES and not is_record_file(path):
            raise ConfigError(f"{path}: the model reads features; for a video use `videotag tag {path}`")
        return Found([str(path)])

    def read(self, field: str, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Modality -> (T, D)."""
        return read_modalities(field, self.dims)

    def collate(self, samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The inputs, padded to the longest sequence; see padded_inputs."""
        return padded_inputs(samples)


def check_features(paths: Sequence[str], dims: dict[str, int]) -> tuple[np.ndarray, dict[str, str]]:
    """Reads the header and the stamp of every file, so that a wrong one is found before work starts.

    Files without a stamp, such as those of other tools, may come with any others.

    Returns:
        (n,) int64, the steps of each file's longest modality; and what made each file that says so.

    Raises:
        FeatureFileError: all files that are missing, damaged or of another width, a line each; or features
            of several extractors, of which a model would learn which one made a video.
    """
    problems = []
    steps = np.zeros(len(paths), np.int64)
    extractors: dict[str, str] = {}  # file -> what made it
    for place, path in enumerate(paths):
        try:
            shapes, stamp = read_shapes_and_stamp(path, dims)
        except FeatureFileError as error:
            problems.append(str(error))
            continue
        steps[place] = max(num_steps for num_steps, _ in shapes.values())
        if stamp is not None:
            extractors[path] = sys.intern(extractor_of(stamp))  # one text for a million files
    check_extractors(extractors, problems)
    return steps, extractors


def check_extractors(extractors: Mapping[str, str], others: Sequence[str] = ()) -> None:
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
