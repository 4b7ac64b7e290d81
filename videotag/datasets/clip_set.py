"""Writes a folder of generated clips with a label file and lists, ready for extraction and training."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videotag.errors import OutputError
from videotag.formats.filelist import quote_path
from videotag.media.synthetic import TAGS, ClipSpec, random_specs, render, sound
from videotag.media.writer import write_video
from videotag.safe_text import safe_repr
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

PARAMETERS_FILE = "clips.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ClipSetOptions:
    """Parameters of a set of clips; equal options generate equal sets.

    Attributes:
        num_clips: Number of clips in all splits together.
        seed: Seed of the clips' content.
        fps: Frames per second.
        duration_sec: Duration of every clip in seconds.
        size_px: Side of the square frames in pixels, even.
        tone: Whether about two thirds of the clips have a tone.
        text: Whether about three quarters of the clips show a word.
        split: Shares of train, val and test, which sum to 1.
    """

    num_clips: int = 60
    seed: int = 0
    fps: int = 12
    duration_sec: float = 2.0
    size_px: int = 128
    tone: bool = False
    text: bool = False
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)

    @property
    def num_frames(self) -> int:
        """Number of frames of every clip, at least 1."""
        return max(1, round(self.fps * self.duration_sec))


def write_clips(out_dir: Path, options: ClipSetOptions) -> list[Path]:
    """Writes out_dir/clips/*.mp4, labels.txt, train.list, val.list, test.list and clips.json.

    Existing clips are kept, so that an interrupted call resumes. Twins are in the same split.

    Args:
        out_dir: Output folder; created if it does not exist.
        options: Parameters of the set.

    Returns:
        Paths of the lists, in the order of SPLITS.

    Raises:
        OutputError: The folder has clips made with other options, has files that would be overwritten, or
            cannot be written.
    """
    _write_or_check_options(out_dir, options)
    specs = random_specs(options.num_clips, options.seed, tone=options.tone, text=options.text)
    lines: dict[str, list[str]] = {name: [] for name in SPLITS}
    for index, (spec, split) in enumerate(zip(specs, assign_splits(specs, options.split), strict=True)):
        path = out_dir / "clips" / f"clip{index:05d}.mp4"
        if not path.exists():
            frames = render(spec, num_frames=options.num_frames, size_px=options.size_px)
            write_video(path, frames, fps=options.fps, sound=sound(spec, options.duration_sec))
        lines[split].append(" ".join([quote_path(path.as_posix()), *map(str, spec.label_ids)]))
    write_text(out_dir / "labels.txt", "\n".join(TAGS) + "\n")
    for name in SPLITS:
        write_text(out_dir / f"{name}.list", "".join(f"{line}\n" for line in lines[name]))
    return [out_dir / f"{name}.list" for name in SPLITS]


def assign_splits(specs: Sequence[ClipSpec], shares: tuple[float, float, float]) -> list[str]:
    """The split of every clip; a clip and its twin are in the same split.

    The kinds of change alternate from pair to pair, so that every split of three or more pairs has every
    order tag.

    Args:
        specs: Specs of the clips, twins side by side.
        shares: Shares of train, val and test, which sum to 1.

    Returns:
        One of SPLITS per clip.
    """
    pairs = -(-len(specs) // 2)
    bounds = [round(pairs * shares[0]), round(pairs * (shares[0] + shares[1]))]
    return [SPLITS[sum(index // 2 >= bound for bound in bounds)] for index in range(len(specs))]


def _write_or_check_options(out_dir: Path, options: ClipSetOptions) -> None:
    """Writes clips.json, or checks that an existing one has the same options."""
    path = out_dir / PARAMETERS_FILE
    clips = out_dir / "clips"
    if not path.exists():
        if clips.is_dir() and any(clips.iterdir()):
            raise OutputError(f"{clips}: contains files although {path} is missing; choose another folder")
        for name in ("labels.txt", *(f"{split}.list" for split in SPLITS)):
            if os.path.lexists(out_dir / name):
                raise OutputError(
                    f"{out_dir / name}: exists although {path} is missing; choose another folder"
                )
    wanted: dict[str, Any] = json.loads(json.dumps(options.__dict__))
    if path.exists():
        try:
            stored = read_json(path, error=OutputError, remedy="choose another folder")
        except OutputError:
            stored = None
        if stored != wanted:
            raise OutputError(
                f"{out_dir}: has clips made with other options ({safe_repr(stored)}); choose another folder"
            )
        return
    write_text(path, json.dumps(wanted, indent=2) + "\n")
