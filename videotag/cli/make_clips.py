"""Generates short clips of moving shapes with several tags each, lists and a label file.

    videotag make-clips data/clips --num_clips=60

Some tags depend on the ORDER of events (grows or shrinks); such clips come in time-reversed twins.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videotag.cli import arguments, values
from videotag.errors import EXIT_OK, ConfigError

SUMMARY = "generate tagged clips for experiments"
MAX_CLIPS = 100_000  # clip names have five digits
MAX_FRAMES = 10_000  # a clip is kept in memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag make-clips`."""
    parser.add_argument("out_dir", metavar="OUT_DIR")
    parser.add_argument("--num_clips", type=values.natural, default=60, help="default: %(default)s")
    parser.add_argument("--seed", type=values.whole, default=0, help="default: %(default)s")
    parser.add_argument(
        "--duration_sec", type=float, default=2.0, help="seconds per clip (default: %(default)s)"
    )
    parser.add_argument("--fps", type=values.natural, default=12, help="default: %(default)s")
    parser.add_argument(
        "--size", type=values.natural, default=128, help="side in pixels, even (default: %(default)s)"
    )
    arguments.add_switch(parser, "--tone", help="with sound")
    arguments.add_switch(parser, "--text", help="with words")
    parser.add_argument(
        "--split",
        type=values.shares,
        default=(0.6, 0.2, 0.2),
        help="train,val,test (default: 0.6,0.2,0.2)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the clips and prints the paths of the lists."""
    from videotag.datasets.clip_set import ClipSetOptions, write_clips
    from videotag.sections import MAX_SIDE_PX

    if args.num_clips > MAX_CLIPS:
        raise ConfigError(f"--num_clips {args.num_clips}: expected at most {MAX_CLIPS}")
    if args.size % 2 or not 16 <= args.size <= MAX_SIDE_PX:
        raise ConfigError(f"--size {args.size}: expected an even number of pixels from 16 to {MAX_SIDE_PX}")
    if not 2 <= args.duration_sec * args.fps <= MAX_FRAMES:
        raise ConfigError(
            f"--duration_sec {args.duration_sec} at --fps {args.fps}: a clip has 2 to {MAX_FRAMES} frames"
        )
    options = ClipSetOptions(
        num_clips=args.num_clips,
        seed=args.seed,
        fps=args.fps,
        duration_sec=args.duration_sec,
        size_px=args.size,
        tone=args.tone,
        text=args.text,
        split=args.split,
    )
    out_dir = Path(args.out_dir)
    for path in write_clips(out_dir, options):
        arguments.show(f"{path}: {len(path.read_text(encoding='utf-8').splitlines())} clips")
    arguments.show(f"{out_dir / 'labels.txt'}: class names")
    return EXIT_OK
