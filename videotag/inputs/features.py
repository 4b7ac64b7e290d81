"""Feature files -> padded, masked sequences; each batch is as long as its longest sequence.

Shapes: N videos of a batch, T steps of the longest sequence of a modality, D feature width, C classes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from videotag.errors import ConfigError, FeatureFileError, FeatureWidthError, grouped, one_error
from videotag.formats.feature_files import (
    FEATURE_SUFFIXES,
    extractor_of,
    list_features,
    read_modalities,
    read_shapes_and_stamp,
)
from videotag.formats.record_files import is_record_file, list_record_files
from videotag.formats.yt8m_records import dequantize
from videotag.inputs.reader import CheckResult, FileScan, Reader, is_quantized
from videotag.registry import MASK, ArraySpec, register_reader, sequence_specs
from videotag.safe_text import escaped
from videotag.sections import InputOptions, Positive, SplitSection
from videotag.train_section import FeatureTrainSection


class FeatureOptions(InputOptions):
    """An entry of INPUTS with `reader: features`.

    Attributes:
        width: Feature width D.
    """

    width: Positive


@register_reader("features", options=FeatureOptions)
class FeatureReader(Reader[FeatureOptions, SplitSection]):
    """Reads feature files; each file holds a sequence (T, D) for every modality."""

    train_section = FeatureTrainSection
    quantizes = True

    @property
    def dims(self) -> dict[str, int]:
        """The width of each modality."""
        return {name: options.width for name, options in self.inputs.items()}

    def specs(self) -> list[ArraySpec]:
        """Per modality NAME (N, T, D) float32 and NAME.mask (N, T) bool."""
        return sequence_specs(self.dims)

    def check(self, fields: Sequence[str]) -> CheckResult:
        """Reads the header and the stamp of every file; see check_features."""
        return CheckResult(*check_features(fields, self.dims))

    def find(self, path: Path) -> FileScan:
        """The feature files of a folder followed by its record files; or the given file itself.

        Raises:
            ConfigError: The file is neither kind, or the folder holds none of them.
        """
        if path.is_dir():
            paths = list_features(path) + [str(file) for file in list_record_files(path)]
            if not paths:
                raise ConfigError(f"{path}: no features in this folder; for videos use `videotag tag`")
            return FileScan(paths)
        if path.suffix.lower() not in FEATURE_SUFFIXES and not is_record_file(path):
            raise ConfigError(f"{path}: the model reads features; for a video use `videotag tag {path}`")
        return FileScan([str(path)])

    def read(self, field: str, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Modality -> features (T, D) float32; see read_modalities."""
        return read_modalities(field, self.dims)

    def collate(self, samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Inputs padded to the longest sequence; see padded_inputs."""
        return padded_inputs(samples)


def check_features(paths: Sequence[str], dims: dict[str, int]) -> tuple[np.ndarray, dict[str, str]]:
    """Reads the header and the stamp of every file, to find bad files before work starts.

    Files without a stamp, such as those of other tools, mix with any others.

    Args:
        paths: Paths of n feature files.
        dims: Expected width of each modality.

    Returns:
        Steps of each file's longest modality, (n,) int64; and the extractor of each file that records it.

    Raises:
        FeatureFileError: Files are missing, damaged or of another width, or come from different
            extractors, which a model would learn to tell apart. The message has one line per problem, or
            for all files of one wrong width.
    """
    problems: list[tuple[str, str]] = []
    wrong: dict[tuple[int, int], list[FeatureWidthError]] = {}
    steps = np.zeros(len(paths), np.int64)
    extractors: dict[str, str] = {}  # file -> description of its extractor
    for place, path in enumerate(paths):
        try:
            shapes, stamp = read_shapes_and_stamp(path, dims)
        except FeatureWidthError as error:
            wrong.setdefault(error.widths, []).append(error)
            continue
        except FeatureFileError as error:
            problems.append(_split(path, error))
            continue
        steps[place] = max(num_steps for num_steps, _ in shapes.values())
        if stamp is not None:
            extractors[path] = sys.intern(extractor_of(stamp))  # one string object, shared by a million files
    check_extractors(extractors, [*_width_problems(wrong), *grouped(problems)])
    return steps, extractors


def _split(path: str, error: FeatureFileError) -> tuple[str, str]:
    """The place and the problem in the text of an error about a file; the place may be an array of it."""
    start = len(path) if str(error).startswith(path) else 0
    array, _, problem = str(error)[start:].partition(": ")
    return str(error)[:start] + array, problem


def _width_problems(wrong: Mapping[tuple[int, int], Sequence[FeatureWidthError]]) -> list[str]:
    """A line per wrong width."""
    lines = []
    for first, *others in wrong.values():
        text = str(first)
        if others:
            shape = text.rpartition("; ")[0]
            text = (
                f"{shape}, and {len(others):,} more of this width; were they extracted with another backbone?"
            )
        lines.append(text)
    return lines


def check_extractors(extractors: Mapping[str, str], others: Sequence[str] = ()) -> None:
    """Refuses features of different extractors.

    Args:
        extractors: Feature file -> its extractor, as returned by `extractor_of`.
        others: Problems found before, which the error lists first.

    Raises:
        FeatureFileError: The extractors differ, or there are other problems; one line per problem.
    """
    problems = [*others, *mixed_extractors(extractors).values()]
    if problems:
        raise one_error(FeatureFileError, problems)


def mixed_extractors(extractors: Mapping[str, str]) -> dict[str, str]:
    """For every extractor but the first: one of its files, and a line on how it differs from the first.

    Args:
        extractors: Feature file -> its extractor, as returned by `extractor_of`.

    Returns:
        Feature file -> line of an error message; empty if all files share one extractor.
    """
    counts = Counter(extractors.values())
    examples: dict[str, str] = {}
    for path, extractor in extractors.items():
        examples.setdefault(extractor, path)
    (first, first_path), *others = examples.items() or [("", "")]
    return {
        path: f"{path}: made by a different extractor than {first_path}: {_differences(extractor, first)};"
        f" {counts[extractor]} of the former, {counts[first]} of the latter;"
        " extract all files again with one of the two"
        + (", such as --precision=f32" if _differ_in_precision(extractor, first) else "")
        for extractor, path in others
    }


def pad(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences as one zero-padded array, and its mask.

    Args:
        sequences: N >= 1 arrays (T_i, D) of one dtype.

    Returns:
        Padded array (N, T, D), uint8 if the first sequence is, else float32; and the mask (N, T) bool, True
        for real steps.
    """
    lengths = np.array([len(s) for s in sequences])
    dtype = np.uint8 if sequences[0].dtype == np.uint8 else np.float32
    padded = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, np.arange(lengths.max()) < lengths[:, None]


def padded_inputs(samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The inputs of a batch: per modality NAME zero-padded (N, T, D), and NAME.mask (N, T) bool.

    Args:
        samples: N >= 1 samples, each modality -> (T_i, D); all have the same modalities.
    """
    inputs: dict[str, np.ndarray] = {}
    for name in samples[0]:
        inputs[name], inputs[name + MASK] = pad([sample[name] for sample in samples])
    return inputs


def as_declared(inputs: Mapping[str, np.ndarray], specs: Iterable[ArraySpec]) -> dict[str, np.ndarray]:
    """The arrays of a batch that a model declares; quantized features become float32.

    Args:
        inputs: Arrays (N, ...) of a batch by name; undeclared ones are dropped.
        specs: Inputs that the model declares.

    Raises:
        KeyError: The batch lacks a declared input, or the mask of a quantized one.
    """
    return {
        spec.name: as_numbers(inputs[spec.name], inputs[spec.name + MASK])
        if is_quantized(inputs[spec.name], spec)
        else inputs[spec.name]
        for spec in specs
    }


def as_numbers(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A batch's features (N, T, D) float32: uint8 is dequantized and zero where masked.

    Args:
        x: Features (N, T, D), uint8 or float32; float32 is returned unchanged.
        mask: Mask (N, T) bool, True for real steps.
    """
    if x.dtype != np.uint8:
        return x
    numbers = dequantize(x)  # a table lookup, 20 times faster than arithmetic
    numbers[~mask] = 0
    return numbers


def _differences(extractor: str, other: str) -> str:
    """The keys that differ, with both values."""
    values, other_values = ({"precision": "f32", **json.loads(text)} for text in (extractor, other))
    return ", ".join(
        f"{key} {_shown(values, key)} vs. {_shown(other_values, key)}"
        for key in sorted(values.keys() | other_values.keys())
        if values.get(key, ...) != other_values.get(key, ...)
    )


def _differ_in_precision(extractor: str, other: str) -> bool:
    precisions = {json.loads(text).get("precision", "f32") for text in (extractor, other)}
    return len(precisions) > 1


def _shown(values: Mapping[str, object], key: str) -> str:
    """A value on one line; 80 characters hold a SHA-256."""
    return escaped(json.dumps(values[key], ensure_ascii=False), limit=80) if key in values else "(missing)"
