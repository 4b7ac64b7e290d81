"""Flags of the commands that read class folders or a CSV: groups and columns."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.errors import ConfigError

if TYPE_CHECKING:
    from videotag.fit.video_sources import CsvOptions

_CSV_FLAGS = ("path_column", "label_column", "separator", "group_column", "split_column", "root")


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--group_by",
        metavar="folder|REGEX",
        help="keep the videos of a folder (below the class folder) in one split, or those in whose paths "
        "the regular expression (its first group, if it has one) matches the same text",
    )
    parser.add_argument("--group_column", help="CSV: keep videos with the same value in one split")
    parser.add_argument("--split_column", help="CSV: column of splits: train, val or test")
    parser.add_argument("--path_column", help="CSV: column of paths (default: path)")
    parser.add_argument(
        "--label_column", action="append", help="CSV: column of labels, repeatable (default: labels)"
    )
    parser.add_argument("--separator", help="CSV: separator of labels in a cell (default: |)")
    parser.add_argument("--root", help="CSV: folder for relative paths (default: the working folder)")


def csv_options(args: argparse.Namespace) -> CsvOptions | None:
    """CsvOptions from the flags; None for a folder, and without any of the flags.

    Raises:
        ConfigError: Flags contradict each other or the source, or the separator is empty.
    """
    from videotag.fit.video_sources import CsvOptions

    given = {name: getattr(args, name) for name in _CSV_FLAGS if getattr(args, name) is not None}
    if Path(args.source).is_dir():
        if given:
            flags = ", ".join(f"--{name}" for name in given)
            raise ConfigError(f"{flags}: for a CSV, but {args.source} is a folder; remove it")
        return None
    if args.group_by and args.group_column:
        raise ConfigError("--group_by and --group_column: both define groups; remove one of them")
    if args.separator == "":
        raise ConfigError("--separator: empty; give a separator such as '|'")
    if "label_column" in given:
        given["label_columns"] = tuple(given.pop("label_column"))
    return CsvOptions(**given) if given else None
