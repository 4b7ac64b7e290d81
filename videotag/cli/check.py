"""Checks features before training: values, duplicates, leaks between splits, extractors.

    videotag check data/lists/train.list data/lists/val.list --dim=2048
    videotag check data/features --json

Prints one line per problem: missing and unusable files, other widths, NaN or infinity, zero rows, videos
whose rows are all equal, equal values in two files, a video in two lists, features of several extractors.
Nearly the same videos in two lists, such as copies at another bitrate or clips of one scene, are a warning.
Exit codes: 0 no problems, 1 problems found, 2 a mistake in the command line or in a list.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from videotag.cli import arguments, values
from videotag.errors import EXIT_FAILURES, EXIT_OK
from videotag.safe_text import escaped, safe_repr

SUMMARY = "check features for damage, duplicates and leaks between lists"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag check`."""
    parser.add_argument(
        "sources", nargs="+", metavar="LIST|FOLDER", help="one per split, to find videos in two splits"
    )
    parser.add_argument(
        "--dim",
        type=parse_dims,
        metavar="D|NAME=D,...",
        help="expected width, for .npz by modality (default: the most common width)",
    )
    parser.add_argument(
        "--threads",
        type=values.natural,
        help="files that are read at a time (default: one per core, at most 8)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Prints the table and the problems; returns 1 if there are problems."""
    from videotag.fit.check import MAX_THREADS, check

    num_threads = args.threads or min(MAX_THREADS, os.cpu_count() or 1)
    result = check(args.sources, dims=args.dim, num_threads=num_threads)
    lines = [arguments.json_text(result, indent=2)] if args.json else table(result)
    for line in lines:
        arguments.show(line if args.json else escaped(line, limit=2000))
    return EXIT_FAILURES if result["problems"] else EXIT_OK


def table(found: Mapping[str, Any]) -> list[str]:
    """The report of videotag.fit.check as lines of text."""
    from videotag.fit.check import near_duplicates_text

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
    if found["near_duplicates"]:
        lines.append(near_duplicates_text(found["near_duplicates"]))
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
