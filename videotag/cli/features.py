"""Extracts the features of posts: one .npy per sample and kind of input, and a list to train on.

    videotag features posts.jsonl --save_dir=data/features --inputs=video,image,audio,text,ocr,speech

A line of posts.jsonl is a sample: {"id": "1", "video": "a.mp4", "cover": "a.jpg", "text": "words"}.
Other sources are a list of videos, a folder of videos, and a video. Finished features are kept, so that an
interrupted run resumes where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videotag.cli import arguments, values
from videotag.errors import ConfigError

SUMMARY = "extract features of video, pictures, sound and texts"
DEFAULT_INPUTS = "video,audio"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag features`."""
    parser.add_argument(
        "source", metavar="SOURCE", help="posts.jsonl, a list of videos, a folder, or a video"
    )
    parser.add_argument("--save_dir", required=True, help="folder of the features")
    parser.add_argument(
        "--inputs",
        default=DEFAULT_INPUTS,
        help="comma-separated: video, embedding, image, audio, text, ocr, speech (default: %(default)s)",
    )
    parser.add_argument(
        "--config", help="YAML with the options of INPUTS (default: networks of installed packages)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="option, such as INPUTS.video.fps=3"
    )
    parser.add_argument("--root", help="folder that absolute paths are relative to when mirrored in SAVE_DIR")
    arguments.add_overwrite(parser)
    parser.add_argument(
        "--log_interval", type=values.natural, default=1, help="samples per log line (default: 1)"
    )
    parser.add_argument("--use_gpu", type=values.boolean_or_auto, help="True, False or auto (default: auto)")
    arguments.add_runtime_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Extracts features and prints a summary; returns 1 if some samples or inputs failed."""
    from videotag.config_file import parse_overrides
    from videotag.inference.feature_networks import FeatureNetworks
    from videotag.inference.feature_options import check_inputs, read_options
    from videotag.inference.features import FeaturesJob
    from videotag.inference.jobs import run_job

    inputs = check_inputs([name.strip() for name in args.inputs.split(",") if name.strip()])
    options = read_options(args.config, parse_overrides(args.set))
    samples = _samples(args.source)
    destination = arguments.destination(args, samples)
    networks = FeatureNetworks(
        inputs,
        options,
        use_gpu=args.use_gpu,
        backend=args.backend,
        precision=args.precision,
    )
    job = FeaturesJob(networks, destination.save_dir, samples.list_name, args.overwrite)
    summary = run_job(job, samples.entries, destination, log_interval=args.log_interval)
    return arguments.print_summary(
        summary, samples, destination.save_dir, done="extracted", listed="feature list"
    )


def _samples(source: str) -> arguments.ListedVideos:
    """The samples of SOURCE.

    Raises:
        ConfigError: There is no such file.
        FileListError: The list is invalid.
    """
    from videotag.formats.filelist import ListEntry, read_filelist
    from videotag.formats.json_lists import is_json_list
    from videotag.inference.posts import read_posts
    from videotag.media.suffixes import PICTURE_SUFFIXES, VIDEO_SUFFIXES

    path = Path(source)
    if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
        videos, left_out = arguments.videos_in(source)
        return arguments.ListedVideos([ListEntry(video) for video in videos], "features.jsonl", left_out)
    if not path.is_file():
        raise ConfigError(f"{source}: no such file or folder; give a list, a folder of videos, or a video")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise ConfigError(
            f'{source}: a picture; write a JSON list with {{"id": "1", "cover": "{path.name}"}}'
        )
    entries = read_posts(path) if is_json_list(path) else read_filelist(path, must_exist=False)
    return arguments.ListedVideos(entries, f"{path.stem}.jsonl", filelist=source)
