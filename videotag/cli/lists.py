"""Makes train, val and test lists and labels.txt from class folders or from a CSV.

    videotag lists clips data/lists                    # clips/cat/a.mp4, clips/dog/film1/b.mp4
    videotag lists clips data/lists --group_by=folder  # all clips of film1 in one split
    videotag lists videos.csv data/lists --label_column=tags --group_column=film
    videotag lists ucf data/lists                      # ucf/train/cat/a.mp4: its folders are the splits

A hash of the group assigns a video to its split, unless the source fixes the splits: a CSV by --split_column,
a folder if all its folders are named train, val (valid, validation) or test and hold the class folders. A
video is a group of its own by default. Feature files (.npy, .npz) work like videos.
Class ids come from --label_file, or from the alphabetical order of the labels.
OUT_DIR/.lists.json holds digests of the written files; only --overwrite replaces files that differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.cli import arguments, values
from videotag.errors import EXIT_OK, ConfigError
from videotag.safe_text import escaped

if TYPE_CHECKING:
    from videotag.fit.video_sources import CsvOptions

SUMMARY = "make lists and labels.txt from class folders or a CSV"
_CSV_FLAGS = ("path_column", "label_column", "separator", "group_column", "split_column", "root")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag lists`."""
    parser.add_argument("source", metavar="SOURCE", help="folder of class folders, or a CSV")
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", help="folder for train.list, val.list, test.list, labels.txt"
    )
    arguments.add_overwrite(parser)
    parser.add_argument("--label_file", help="keep its class ids; any other label is an error")
    parser.add_argument(
        "--split",
        type=values.shares,
        help="shares of train,val,test (default: 0.8,0.1,0.1); not where the source fixes the splits",
    )
    parser.add_argument(
        "--seed", type=values.whole, help="of the hash (default: 0); not where the source fixes the splits"
    )
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


def run(args: argparse.Namespace) -> int:
    """Writes the lists and prints a summary."""
    from videotag.fit.lists import class_names, find_videos, split_videos, summary, write_lists
    from videotag.media.suffixes import folder_text

    source, out_dir = Path(args.source), Path(args.out_dir)
    videos, left_out = find_videos(source, csv_options=_csv_options(args), group_by=args.group_by)
    names = class_names(videos, label_file=args.label_file)
    lists = split_videos(videos, args.split, seed=args.seed)
    write_lists(
        out_dir,
        lists,
        names,
        may_replace_labels=args.label_file is not None,
        inputs=[source, args.label_file, *(video.path for video in videos)],
        overwrite=args.overwrite,
    )
    if videos[0].split is not None:
        what = "the names of its folders" if source.is_dir() else f"column {args.split_column}"
        arguments.show(escaped(f"{source}: splits fixed by {what}"))
    for line in summary(lists, names, out_dir):
        arguments.show(escaped(line, limit=2000))
    if left_out:
        noun = "feature file" if videos[0].is_features else "video"
        arguments.show(folder_text(source, len(videos), left_out, noun=noun))
    return EXIT_OK


def _csv_options(args: argparse.Namespace) -> CsvOptions | None:
    """CsvOptions from the flags; None for a folder.

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
    return CsvOptions(**given)
