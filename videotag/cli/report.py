"""Writes an HTML report of predictions: thumbnails over time, attention, tags.

videotag tag clips/ --json > predictions.json
videotag report predictions.json --out report.html --filelist clips/test.list --label_file clips/labels.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videotag.cli import arguments
from videotag.errors import EXIT_OK, ConfigError

SUMMARY = "write an HTML report of predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag report`."""
    parser.add_argument(
        "predictions",
        help="predictions.json of `videotag tag`, or of `predict`, without thumbnails for .npy files",
    )
    parser.add_argument("--out", default="report.html", help="default: %(default)s")
    arguments.add_overwrite(parser)
    parser.add_argument("--title", default="Video tags")
    parser.add_argument("--note", default="", help="a note at the top of the page")
    parser.add_argument("--metrics", help="metrics.json of `videotag eval`, shown as a table")
    parser.add_argument("--filelist", help="labelled list of the same videos: marks which tags are true")
    parser.add_argument("--label_file", help="class names, needed with --filelist")


def run(args: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from videotag.formats.predictions import read_metrics, read_predictions
    from videotag.inference.outputs import FileOutput, check_files
    from videotag.reports.tags_report import PAGE_HEAD, write_report

    results = read_predictions(args.predictions)
    metrics = read_metrics(args.metrics) if args.metrics else None
    videos = (str(result["video_id"]) for result in results)
    check_files(
        [FileOutput(Path(args.out), "--out", PAGE_HEAD)],
        inputs=[args.predictions, args.metrics, args.filelist, args.label_file, *videos],
        overwrite=args.overwrite,
    )
    write_report(args.out, results, title=args.title, note=args.note, metrics=metrics, truth=_truth(args))
    arguments.show(f"report: {args.out}")
    return EXIT_OK


def _truth(args: argparse.Namespace) -> dict[str, list[str]] | None:
    """The true tags of --filelist by video_id; None without a list."""
    from videotag.formats.filelist import read_filelist
    from videotag.formats.json_lists import is_json_list, read_json_list
    from videotag.labels import read_labels

    if args.filelist is None:
        return None
    if args.label_file is None:
        raise ConfigError("--label_file: needed with --filelist, to name its label ids")
    labels = read_labels(args.label_file)
    if is_json_list(args.filelist):
        entries = read_json_list(args.filelist, num_classes=len(labels))
    else:
        entries = read_filelist(args.filelist, num_classes=len(labels), must_exist=False)
    return {entry.path: [labels[i] for i in entry.label_ids] for entry in entries}
