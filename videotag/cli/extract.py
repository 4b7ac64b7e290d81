"""Turns videos into frame features, one .npy of (seg_num, D) per video, and a list ready for training.

    python tsn_extractor.py --config=configs/tsn.yaml --weights=weights/tsn --filelist=data/TsnExtractor.list

Labels in the video list are carried into the feature list. What was extracted before, from the same file with
the same weights and sampling, is kept; so a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videotag.cli import arguments
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError
from videotag.formats.filelist import ListEntry, read_filelist

SUMMARY = "turn videos into frame features (.npy)"
DEFAULT_FILELIST = "./data/TsnExtractor.list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag extract`."""
    arguments.add_model_arguments(parser)
    parser.add_argument("--weights", default="./weights/tsn", help="default: %(default)s")
    parser.add_argument("--filelist", help=f"videos, a line each (default: {DEFAULT_FILELIST})")
    parser.add_argument("--video_path", help="a video, or a folder of videos, in place of --filelist")
    parser.add_argument("--save_dir", default="./data/tsn_features", help="default: %(default)s")
    parser.add_argument("--root", help="folder that absolute paths are mirrored relative to")
    parser.add_argument("--batch_size", type=arguments.natural, help="videos in work at once")
    parser.add_argument(
        "--log_interval", type=arguments.natural, default=1, help="videos between log lines (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Extracts, and prints what was done; 1 if some videos failed."""
    from videotag.engine.extract import extract_list
    from videotag.engine.extractor import FeatureExtractor
    from videotag.engine.outputs import FAILURES_FILE

    if args.video_path and args.filelist:
        raise ConfigError("--video_path and --filelist: give one of them")
    weights = arguments.find_checkpoint(args.weights)
    config = arguments.read_config(
        args, {"INFER.batch_size": args.batch_size}, weights=weights, default="configs/tsn.yaml"
    )
    if config.entry.kind != "extractor":
        raise ConfigError(f"{config.entry.name} is no extractor; name one of `videotag models`")
    entries, list_name = _videos(args.video_path, args.filelist or DEFAULT_FILELIST)
    extractor = FeatureExtractor(config, weights.path)
    save_dir = Path(args.save_dir)
    summary = extract_list(
        entries,
        extractor,
        save_dir=save_dir,
        list_name=list_name,
        root=Path(args.root) if args.root else None,
        log_interval=args.log_interval,
    )
    print(
        f"extracted {summary.written} (in part {len(summary.partial)}), kept {summary.kept}, "
        f"failed {len(summary.failed)}"
    )
    if summary.list_path:
        print(f"feature list: {summary.list_path}")
    if summary.failed:
        print(f"failures: {save_dir / FAILURES_FILE}")
        return EXIT_FAILURES
    return EXIT_OK


def _videos(video_path: str | None, filelist: str) -> tuple[list[ListEntry], str]:
    """What to extract, and the name of the feature list.

    A file that the list names but that is not there is a failure of that video, not of the list.
    """
    if video_path is None:
        return read_filelist(filelist, must_exist=False), f"{Path(filelist).stem}.list"
    return [ListEntry(path) for path in arguments.videos_in(video_path)], "features.list"
