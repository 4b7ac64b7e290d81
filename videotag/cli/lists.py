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

from videotag.cli import arguments, source_flags, values
from videotag.errors import EXIT_OK
from videotag.safe_text import escaped

SUMMARY = "make lists and labels.txt from class folders or a CSV"


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
        "--seed",
        type=values.whole,
        help="seed of the hash (default: 0); not where the source fixes the splits",
    )
    source_flags.add_source_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the lists and prints a summary."""
    from videotag.fit.lists import class_names, find_videos, split_videos, summary, write_lists
    from videotag.media.suffixes import folder_text

    source, out_dir = Path(args.source), Path(args.out_dir)
    videos, left_out = find_videos(source, csv_options=source_flags.csv_options(args), group_by=args.group_by)
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
