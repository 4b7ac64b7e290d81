"""Turns videos into frame features, one .npy of (seg_num, D) per video, and a list ready for training.

    python tsn_extractor.py --config=configs/tsn.yaml --weights=weights/tsn --filelist=data/TsnExtractor.list

Labels in the video list are carried into the feature list. What was extracted before, from the same file with
the same weights and sampling, is kept; so a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videotag.cli import arguments
from videotag.errors import ConfigError

SUMMARY = "turn videos into frame features (.npy)"
DEFAULT_FILELIST = "./data/TsnExtractor.list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag extract`."""
    arguments.add_model_arguments(parser)
    parser.add_argument("--weights", default="./weights/tsn", help="default: %(default)s")
    arguments.add_list_arguments(
        parser, default_filelist=DEFAULT_FILELIST, default_save_dir="./data/tsn_features"
    )
    parser.add_argument("--batch_size", type=arguments.natural, help="videos in work at once")


def run(args: argparse.Namespace) -> int:
    """Extracts, and prints what was done; 1 if some videos failed."""
    from videotag.engine.extract import extract_list
    from videotag.engine.extractor import FeatureExtractor

    weights = arguments.find_checkpoint(args.weights)
    config = arguments.read_config(
        args, {"INFER.batch_size": args.batch_size}, weights=weights, default="configs/tsn.yaml"
    )
    if config.entry.kind != "extractor":
        raise ConfigError(f"{config.entry.name} is no extractor; name one of `videotag models`")
    entries, list_name = arguments.listed_videos(args, none_named="features.list")
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
    return arguments.print_summary(summary, save_dir, done="extracted", listed="feature list")
