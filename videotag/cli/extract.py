"""Extracts frame features of videos, one .npy (seg_num, D) per video, and writes a list for training.

    python tsn_extractor.py --config=configs/tsn.yaml --weights=weights/tsn --filelist=data/TsnExtractor.list

Without --filelist and --video_path, your config's INFER.filelist names the list. With MODEL.format=frames, it
is a list of folders as written by `videotag frames`.

Labels are copied to the feature list. Existing features of the same file, weights and sampling are kept, so
that an interrupted run resumes where it stopped, in the precision recorded in SAVE_DIR/runtime.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.cli import arguments, values
from videotag.errors import ConfigError
from videotag.system.resources import find_resource, list_configs

if TYPE_CHECKING:
    from videotag.config import Config

SUMMARY = "extract frame features of videos (.npy)"
DEFAULT_WEIGHTS = "./weights/tsn"
PUBLISHED_WEIGHTS = "videotag_tsn"
DEFAULT_FILELIST = "./data/TsnExtractor.list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag extract`."""
    arguments.add_model_arguments(parser)
    parser.add_argument(
        "--weights", help=f"default: {DEFAULT_WEIGHTS}, else {PUBLISHED_WEIGHTS}, which is downloaded"
    )
    arguments.add_list_arguments(
        parser, default_filelist=DEFAULT_FILELIST, default_save_dir="./data/tsn_features"
    )
    parser.add_argument("--batch_size", type=values.natural, help="videos processed concurrently")
    arguments.add_runtime_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Extracts features and prints a summary; returns 1 if some videos failed."""
    from videotag.inference.data import count_names_of
    from videotag.inference.extract import ExtractJob
    from videotag.inference.extractor import load_extractor
    from videotag.inference.jobs import run_job

    weights = arguments.find_checkpoint(args.weights, default=DEFAULT_WEIGHTS, published=PUBLISHED_WEIGHTS)
    flags = {"INFER.batch_size": args.batch_size, **arguments.runtime_flags(args)}
    config = arguments.read_source(args, flags, weights, default="configs/tsn.yaml").config
    if not config.entry.two_stage:
        raise ConfigError(
            f"{weights.path}: {config.entry.name} is not an extractor; give one of `videotag models`"
        )
    videos = arguments.listed_videos(
        args,
        none_named="features.list",
        default_filelist=_default_filelist(args, config),
        count_names=count_names_of(config, config.infer),
    )
    destination = arguments.destination(args, videos)
    job = ExtractJob(load_extractor(config, weights))
    summary = run_job(job, videos.entries, destination, log_interval=args.log_interval)
    return arguments.print_summary(
        summary, videos, destination.save_dir, done="extracted", listed="feature list"
    )


def _default_filelist(args: argparse.Namespace, config: Config) -> str:
    """INFER.filelist if the user set it or the file exists; else the default of the classic command."""
    filelist: str | None = config.infer.filelist
    if filelist is None:
        return DEFAULT_FILELIST
    by_set = any(text.partition("=")[0].strip().lower() == "infer.filelist" for text in args.set)
    by_file = args.config is not None and find_resource(args.config) not in list_configs()
    return filelist if by_set or by_file or Path(filelist).exists() else DEFAULT_FILELIST
