"""Checks features before training: values, duplicates, leaks between lists, extractors.

Finds missing and unusable files, other widths, NaN or infinity, zero rows, videos whose rows are all equal,
equal values in two files, a video in two lists, features of several extractors; and, as a warning, nearly the
same videos in two lists.
Shapes: T steps, D feature width.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from videotag.datasets.prefetch import prefetch
from videotag.errors import ConfigError, FeatureFileError
from videotag.fit.near_duplicates import MAX_PAIRS, near_duplicates
from videotag.formats.feature_files import (
    FEATURE_SUFFIXES,
    extractor_of,
    list_features,
    list_modalities,
    read_modalities,
    read_shapes_and_stamp,
)
from videotag.formats.filelist import read_filelist
from videotag.inputs.features import mixed_extractors
from videotag.system.progress import track

#: Kinds of problems, in the order of the report.
KINDS = (
    *("missing", "unusable", "width", "not_finite", "dead_rows", "constant"),
    *("duplicate", "leak", "mixed_extractors"),
)
MAX_THREADS = 8  # every thread holds a file in memory, and a disk does not serve more at once
_NUM_EXAMPLES = 3  # pairs of near-duplicates that the warning names


@dataclass(frozen=True)
class Problem:
    """A problem: one of KINDS, the file, and a line with what, where and the remedy."""

    category: str
    path: str
    text: str


@dataclass(frozen=True)
class FileReport:
    """Result of checking one file.

    Attributes:
        path: Path as written in the first list that names it.
        shapes: Modality ("" for a .npy) -> (T, D); empty if the file is unusable.
        digest: Digest of the values as float32, equal for equal values; None if the file is unusable.
        extractor: Extractor from `extractor_of`; None without a stamp.
        problems: Problems within this file.
        mean: (D,) float32, mean over the steps, of several modalities one after the other; None if the file
            is unusable or the mean is not needed.
    """

    path: str
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    digest: str | None = None
    extractor: str | None = None
    problems: tuple[Problem, ...] = ()
    mean: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class NearDuplicates:
    """Two files in different lists or folders whose features are nearly the same.

    Attributes:
        paths: Their paths, as first written.
        places: Where they are listed, for messages.
        similarity: Similarity in [-1, 1], see near_duplicates.
    """

    paths: tuple[str, str]
    places: tuple[str, str]
    similarity: float


@dataclass
class Files:
    """Files to check, by absolute path.

    Attributes:
        paths: Path as first written.
        places: (list or folder, place for messages) for every mention of the file.
    """

    paths: dict[str, str] = field(default_factory=dict)
    places: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, path: str, source: str, place: str) -> None:
        """Adds a mention of a file.

        Args:
            path: Path as written.
            source: List or folder that names it.
            place: Where it is named, for messages.
        """
        key = os.path.abspath(path)  # noqa: PTH100 - keeps symlinks
        self.paths.setdefault(key, path)
        self.places[key].append((source, place))


def check(
    sources: Sequence[str], *, dims: Mapping[str, int] | None = None, num_threads: int = 1
) -> dict[str, Any]:
    """Checks the features of lists and folders; returns the report as JSON holds it, see summarize.

    Args:
        sources: Lists and folders, one per split to find videos in two splits.
        dims: Modality -> expected width; {"": D} expects D for every array; None expects the most common
            width of each modality.
        num_threads: Number of files that are read at a time.

    Raises:
        ConfigError: A source does not exist, or a folder holds no features.
        FileListError: A list has errors, see read_filelist.
    """
    files = find_files(sources)
    check_one = partial(check_file, dims=dims, keep_mean=len(sources) > 1)
    found = prefetch(check_one, files.paths.values(), num_threads=num_threads, ahead=2 * num_threads)
    reports = dict(zip(files.paths, track(found, "check", len(files.paths)), strict=True))
    problems = find_problems(files, reports, find_widths=dims is None)
    return summarize(list(reports.values()), problems, find_near_duplicates(files, reports))


def find_files(sources: Iterable[str]) -> Files:
    """The feature files in lists and folders; entries of a list may be missing on disk.

    Args:
        sources: Lists and folders.

    Raises:
        ConfigError: A source does not exist, or a folder holds no features.
        FileListError: A list has errors, see read_filelist.
    """
    files = Files()
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise ConfigError(f"{source}: no such file or folder; check the path")
        if path.is_dir():
            found = list_features(path)
            if not found:
                raise ConfigError(f"{source}: no .npy or .npz in this folder or below it; extract some first")
            for name in found:
                files.add(name, source, source)
        elif path.suffix.lower() in FEATURE_SUFFIXES:
            raise ConfigError(f"{source}: a feature file; give its folder, or a list of such files")
        else:
            for entry in read_filelist(path, must_exist=False):
                files.add(entry.path, source, f"{source}:{entry.line}")
    return files


def check_file(path: str, *, dims: Mapping[str, int] | None, keep_mean: bool = False) -> FileReport:
    """The result of reading and checking one file, whose problems are part of it.

    Args:
        path: A .npy or .npz.
        dims: Modality -> expected width; {"": D} expects D for every array; None accepts any.
        keep_mean: Whether the report holds the mean features.
    """
    wanted: Mapping[str, int | None] = dims or {"": None}
    try:
        if "" in wanted:
            wanted = {name: wanted[""] for name in list_modalities(path) or [""]}
        features = read_modalities(path, wanted)
        shapes, stamp = read_shapes_and_stamp(path, wanted)
    except FeatureFileError as error:
        return FileReport(path, problems=(Problem(_kind_of_failure(path, wanted), path, str(error)),))
    digest = hashlib.blake2b(digest_size=16)
    problems = []
    for name, array in sorted(features.items()):
        digest.update(str(array.shape).encode())
        digest.update(array.data)
        problems += check_values(array, path, place=f"{path}[{name}]" if len(features) > 1 else path)
    extractor = sys.intern(extractor_of(stamp)) if stamp is not None else None
    mean = mean_features(features) if keep_mean else None
    return FileReport(path, shapes, digest.hexdigest(), extractor, tuple(problems), mean)


def mean_features(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """(D,) float32, the mean over the steps of modalities (T, D), one after the other.

    The means of several modalities are scaled to length 1, so that each has the same weight.

    Args:
        features: Modality -> (T, D) numbers; the modalities are taken in the order of their names.
    """
    means = [array.mean(axis=0, dtype=np.float64) for _, array in sorted(features.items())]
    if len(means) > 1:
        means = [mean / (np.linalg.norm(mean) or 1.0) for mean in means]
    return np.concatenate(means).astype(np.float32)


def check_values(features: np.ndarray, path: str, *, place: str) -> list[Problem]:
    """Problems with zero rows or constant rows; at most one.

    Args:
        features: (T, D), finite.
        path: Path of the file.
        place: Start of the message; names the modality if there are several.
    """
    dead = np.flatnonzero(~features.any(axis=1))
    if len(dead):
        text = f"{place}: {len(dead)} of {len(features)} rows are all zero, the first is row {dead[0]}"
        return [Problem("dead_rows", path, f"{text}; remove them, or extract it again")]
    if len(features) > 1 and (features == features[0]).all():
        text = f"{place}: all {len(features)} rows are equal, as for a still image"
        return [Problem("constant", path, f"{text}; check the video")]
    return []


def find_problems(files: Files, reports: Mapping[str, FileReport], *, find_widths: bool) -> list[Problem]:
    """All problems, within and between files, in the order of KINDS.

    Args:
        files: The files and where they were named.
        reports: Absolute path -> report, for every file of `files`.
        find_widths: Whether to expect the most common width of each modality.
    """
    problems = [problem for report in reports.values() for problem in report.problems]
    if find_widths:
        problems += _other_widths(list(reports.values()))
    problems += [*_named_twice(files), *_equal_values(files, reports)]
    extractors = {
        report.path: report.extractor for report in reports.values() if report.extractor is not None
    }
    problems += [
        Problem("mixed_extractors", path, text) for path, text in mixed_extractors(extractors).items()
    ]
    return sorted(problems, key=lambda problem: KINDS.index(problem.category))  # stable: files stay in order


def find_near_duplicates(files: Files, reports: Mapping[str, FileReport]) -> list[NearDuplicates]:
    """Files of the same widths in different lists that are nearly the same, most similar first.

    Equal files are a leak, not near-duplicates. A file in several lists counts for the first.

    Args:
        files: The files and where they were named.
        reports: Absolute path -> report, for every file of `files`.
    """
    kinds: dict[tuple[tuple[str, int], ...], list[str]] = defaultdict(list)
    for key, report in reports.items():
        if report.mean is not None:
            kinds[tuple((name, width) for name, (_, width) in sorted(report.shapes.items()))].append(key)
    found = []
    for keys in kinds.values():
        means = np.stack([reports[key].mean for key in keys])  # type: ignore[misc]
        sources = [files.places[key][0][0] for key in keys]
        for i, j, similarity in near_duplicates(means, sources):
            pair = keys[i], keys[j]
            if reports[pair[0]].digest != reports[pair[1]].digest:
                first, second = (files.paths[key] for key in pair)
                place, other = (files.places[key][0][1] for key in pair)
                found.append(NearDuplicates((first, second), (place, other), similarity))
    return sorted(found, key=lambda near: -near.similarity)


def near_duplicates_text(found: Sequence[Mapping[str, Any]]) -> str:
    """A line on near-duplicates, with their number and the first ones.

    Args:
        found: Entries of `near_duplicates` in a report of `summarize`.
    """
    count = f"at least {len(found)}" if len(found) >= MAX_PAIRS else str(len(found))
    examples = [
        " and ".join(f"{path} ({place})" for path, place in zip(near["paths"], near["places"], strict=True))
        for near in found[:_NUM_EXAMPLES]
    ]
    more = ", ..." if len(found) > len(examples) else ""
    return (
        f"warning: {count} pair{'' if count == '1' else 's'} of nearly the same videos in different lists:"
        f" {', '.join(examples)}{more}; the metrics may be too good; keep copies and clips of one scene in"
        " one list, as --group_by of `videotag lists` does"
    )


def summarize(
    reports: Sequence[FileReport], problems: Sequence[Problem], near: Sequence[NearDuplicates]
) -> dict[str, Any]:
    """The report as JSON holds it.

    Args:
        reports: Result of every file.
        problems: Problems in the order of the report.
        near: Near-duplicates in the order of the report.
    """
    lengths: dict[str, list[int]] = defaultdict(list)
    widths: dict[str, Counter[int]] = defaultdict(Counter)
    for report in reports:
        for name, (num_rows, width) in report.shapes.items():
            lengths[name].append(num_rows)
            widths[name][width] += 1
    extractors = Counter(report.extractor for report in reports if report.shapes)
    return {
        "num_files": len(reports),
        "num_usable": sum(1 for report in reports if report.shapes),
        "num_problems": dict(sorted(Counter(problem.category for problem in problems).items())),
        "modalities": {
            name: {
                "num_files": len(found),
                "num_rows": {"min": min(found), "median": statistics.median(found), "max": max(found)},
                "widths": {str(width): count for width, count in sorted(widths[name].items())},
            }
            for name, found in sorted(lengths.items())
        },
        "extractors": [
            {"num_files": count, "stamp": None if extractor is None else json.loads(extractor)}
            for extractor, count in extractors.most_common()
        ],
        "problems": [{"kind": p.category, "path": p.path, "text": p.text} for p in problems],
        "near_duplicates": [
            {"paths": list(n.paths), "places": list(n.places), "similarity": round(n.similarity, 4)}
            for n in near
        ],
    }


def _kind_of_failure(path: str, dims: Mapping[str, int | None]) -> str:
    """The kind of problem that makes `read_modalities` fail."""
    if not Path(path).exists():
        return "missing"
    for kind, checked in (("unusable", dict.fromkeys(dims)), ("width", dims)):
        try:
            read_shapes_and_stamp(path, checked)
        except FeatureFileError:
            return kind
    return "not_finite"


def _other_widths(reports: Sequence[FileReport]) -> Iterable[Problem]:
    """A problem for every file whose width is not the most common one."""
    widths: dict[str, Counter[int]] = defaultdict(Counter)
    for report in reports:
        for name, (_, width) in report.shapes.items():
            widths[name][width] += 1
    usual = {name: counts.most_common(1)[0] for name, counts in widths.items()}
    for report in reports:
        for name, shape in report.shapes.items():
            width, count = usual[name]
            if shape[1] != width:
                text = f"{report.path}: shape {shape}, but {count} of {sum(widths[name].values())} files are"
                yield Problem("width", report.path, f"{text} {width} wide; extract it with the same backbone")


def _named_twice(files: Files) -> Iterable[Problem]:
    """A problem for every file that is listed more than once."""
    for key, places in files.places.items():
        if len(places) > 1:
            path, among = files.paths[key], ", ".join(place for _, place in places)
            if len({source for source, _ in places}) > 1:
                text = f"{path}: in several splits: {among}; keep it in one"
                yield Problem("leak", path, text)
            else:
                yield Problem("duplicate", path, f"{path}: listed {len(places)} times: {among}; keep one")


def _equal_values(files: Files, reports: Mapping[str, FileReport]) -> Iterable[Problem]:
    """A problem for every file with the same values as an earlier one."""
    first: dict[str, str] = {}
    for key, report in reports.items():
        if report.digest is None:
            continue
        other = first.setdefault(report.digest, key)
        if other == key:
            continue
        (source, place), (other_source, other_place) = files.places[key][0], files.places[other][0]
        text = f"{report.path} ({place}): the same values as {files.paths[other]} ({other_place})"
        if source == other_source:
            yield Problem("duplicate", report.path, f"{text}; remove one of the two")
        else:
            yield Problem("leak", report.path, f"{text}, in another split; keep one of the two")
