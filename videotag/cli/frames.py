"""Converts videos into folders of JPEGs, and writes a list of them: `folder num_frames label label ...`.

    videotag frames --filelist=videos.list --save_dir=data/frames --fps=5

Frames are named img_00001.jpg, img_00002.jpg, and so on. Existing folders made from the same file with the
same options are kept, so that an interrupted run resumes where it stopped.
"""

from __future__ import annotations

import argparse

from videotag.cli import arguments, values
from videotag.errors import ConfigError
from videotag.system.cores import num_cores

SUMMARY = "convert videos into folders of JPEGs"
MAX_FPS = 1_000_000  # rate of the fastest cameras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag frames`."""
    arguments.add_list_arguments(parser, default_filelist=None, default_save_dir="./data/frames")
    parser.add_argument(
        "--batch_size", type=values.natural, help="videos processed concurrently (default: one per core)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--num_frames",
        type=values.natural,
        help="frames per video, at most 1,000,000; shorter videos repeat frames (default: all)",
    )
    which.add_argument("--fps", type=float, help="frames per second; slower videos keep all frames")
    parser.add_argument(
        "--short_size",
        type=values.whole,
        default=256,
        help="short side in pixels; 0 keeps the size (default: %(default)s)",
    )
    parser.add_argument(
        "--quality", type=values.natural, default=90, help="JPEG quality, 1 to 100 (default: %(default)s)"
    )
    parser.add_argument(
        "--stall_limit_sec",
        type=float,
        default=300.0,
        help="seconds to wait for a frame before the video fails; 0 for no limit (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the frames and prints a summary; returns 1 if some videos failed."""
    from videotag.inference.frame_folders import FramesJob, JpegOptions
    from videotag.inference.jobs import run_job
    from videotag.sections import MAX_FRAMES, MAX_SECONDS

    if args.num_frames and args.num_frames > MAX_FRAMES:
        raise ConfigError(f"--num_frames {args.num_frames}: expected at most {MAX_FRAMES}")
    if args.quality > 100:
        raise ConfigError(f"--quality {args.quality}: expected 1 to 100")
    if args.fps is not None and not 0 < args.fps <= MAX_FPS:
        raise ConfigError(f"--fps {args.fps}: expected a number above 0, at most {MAX_FPS}")
    if not 0 <= args.stall_limit_sec <= MAX_SECONDS:
        raise ConfigError(
            f"--stall_limit_sec {args.stall_limit_sec}: expected 0 (no limit) to {MAX_SECONDS:.0f} seconds"
        )
    videos = arguments.listed_videos(args, none_named="frames.list")
    options = JpegOptions(args.num_frames, args.fps, args.short_size, args.quality)
    videos_at_once = min(args.batch_size or num_cores(), len(videos.entries))
    job = FramesJob(options, videos_at_once, args.stall_limit_sec)
    destination = arguments.destination(args, videos)
    summary = run_job(job, videos.entries, destination, log_interval=args.log_interval)
    return arguments.print_summary(summary, videos, destination.save_dir, done="written", listed="frame list")
