"""Checks features before training: values, duplicates, leaks between splits, extractors.

    python tools/check_features.py data/lists/train.list data/lists/val.list --dim 2048
    python tools/check_features.py data/features --json

Prints one line per problem: missing and unusable files, other widths, NaN or infinity, zero rows, videos
whose rows are all equal, equal values in two files, a video in two lists, features of several extractors.
Exit codes: 0 no problems, 1 problems found, 2 a mistake in the command line or in a list.
Shapes: T steps, D feature width.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
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
from run_tool import run_tool

from videotag.cli import arguments, values
from videotag.cli.main import Parser
from videotag.datasets.prefetch import prefetch
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, FeatureFileError
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
from videotag.safe_text import escaped, safe_repr
from videotag.system.progress import track

#: Kinds of problems, in the order of the report.
KINDS = (
    *("missing", "unusable", "width", "not_finite", "dead_rows", "constant"),
    *("duplicate", "leak", "mixed_extractors"),
)
_MAX_THREADS = 8  # every thread holds a file in memory, and a disk does not serve more at once


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
    """

    path: str
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    digest: str | None = None
    extractor: str | None = None
    problems: tuple[Problem, ...] = ()


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
        key = os.path.abspath(path)  # noqa: PTH100 - keeps symlinks
        self.paths.setdefault(key, path)
        self.places[key].append((source, place))


def build_parser() -> Parser:
    parser = Parser(
        prog="check_features.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources", nargs="+", metavar="LIST|FOLDER", help="one per split, to find videos in two splits"
    )
    parser.add_argument(
        "--dim",
        type=parse_dims,
        metavar="D|NAME=D,...",
        help="expected width, for .npz by modality (default: the most common width)",
    )
    parser.add_argument("--threads", type=values.natural, default=min(_MAX_THREADS, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Prints the table and the problems."""
    files = find_files(args.sources)
    check = partial(check_file, dims=args.dim)
    found = prefetch(check, files.paths.values(), num_threads=args.threads, ahead=2 * args.threads)
    reports = dict(zip(files.paths, track(found, "check", len(files.paths)), strict=True))
    problems = find_problems(files, reports, find_widths=args.dim is None)
    result = summarize(list(reports.values()), problems)
    lines = [arguments.json_text(result, indent=2)] if args.json else table(result)
    for line in lines:
        arguments.show(line if args.json else escaped(line, limit=2000))
    return EXIT_FAILURES if problems else EXIT_OK


def find_files(sources: Iterable[str]) -> Files:
    """The feature files in lists and folders; entries of a list may be missing on disk.

    Raises:
        ConfigError: A source does not exist, or a folder holds no features.
        FileListError: A list has errors, see read_filelist.
    """
    files = Files()
    for source in sources:
        path = arguments.check_readable(source)
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


def check_file(path: str, *, dims: Mapping[str, int] | None) -> FileReport:
    """Reads and checks one file.

    Args:
        path: A .npy or .npz.
        dims: Modality -> expected width; {"": D} expects D for every array; None accepts any.
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
    return FileReport(path, shapes, digest.hexdigest(), extractor, tuple(problems))


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


def summarize(reports: Sequence[FileReport], problems: Sequence[Problem]) -> dict[str, Any]:
    """The report as JSON holds it."""
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
    }


def table(found: Mapping[str, Any]) -> list[str]:
    """The result of `summarize` as lines of text."""
    lines = [f"files {found['num_files']}, usable {found['num_usable']}", ""]
    if found["modalities"]:
        lines.append(f"{'modality':<12}{'files':>8}{'T min':>8}{'median':>8}{'max':>8}  widths (files)")
    for name, row in found["modalities"].items():
        rows = row["num_rows"]
        widths = ", ".join(f"{width} ({count})" for width, count in row["widths"].items())
        counts = f"{row['num_files']:>8}{rows['min']:>8}{rows['median']:>8g}{rows['max']:>8}"
        lines.append(f"{name or '-':<12}{counts}  {widths}")
    for row in found["extractors"]:
        stamp = "no stamp" if row["stamp"] is None else json.dumps(row["stamp"], ensure_ascii=False)
        lines.append(f"made by: {stamp}: {row['num_files']} files")
    lines += ["", *(problem["text"] for problem in found["problems"])]
    counts = ", ".join(f"{kind} {count}" for kind, count in found["num_problems"].items())
    return [*lines, f"problems: {counts or 'none'}"]


def parse_dims(text: str) -> dict[str, int]:
    """Parses --dim: `2048` gives {"": 2048} for every array, `rgb=2048,audio=128` widths by modality."""
    try:
        pairs = [part.rpartition("=") for part in text.split(",")]
        dims = {name: int(width) for name, _, width in pairs}
    except ValueError:
        dims = {}
    if not dims or min(dims.values()) < 1 or len(dims) < len(pairs) or ("" in dims and len(dims) > 1):
        raise argparse.ArgumentTypeError(
            f"{safe_repr(text)}: expected widths such as 2048 or rgb=2048,audio=128"
        )
    return dims


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


def main(argv: list[str] | None = None) -> int:
    return run_tool(build_parser(), run, argv)


if __name__ == "__main__":
    exit_with(main())
