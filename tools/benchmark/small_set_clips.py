"""The clips of small tagging problems: drawn shapes, windows of film, windows of sign-language videos.

Problems of film and of words have one fixed split, by time.
Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from small_set_pools import Clip, ClipProblem, Sample, Split

from videotag.errors import VideotagError
from videotag.media.suffixes import VIDEO_SUFFIXES
from videotag.media.synthetic import COLORS, ClipSpec, draw_shape, random_specs, render

FPS = 12  # of generated clips
FILM_BLOCK = 50  # frames of a group; windows across the border of two groups are left out
WORD_FRAMES, WORD_STRIDE, WORD_BLOCK = 8, 2, 12  # frames
WORD_TRAIN_SHARE = 0.6  # of every video, its beginning
_MIDDLE_GRAY = 128
_FLASH_RADIUS = 0.25  # of the square, as a fraction of the side
_FLASH_SEED = 1  # of the flash of a clip, beside the seed of its content
_NOISE_SEED = 2  # of its pixel noise


@dataclass(frozen=True)
class GeneratedProblem(ClipProblem):
    """A problem of generated clips of moving shapes.

    Attributes:
        groups: Stratum -> numbers of groups to train on and to test on. A stratum is a name of its clips, as
            `names` gives them; "" takes any clip.
        twins: Whether a group is a clip and its time-reversed twin, not one clip.
        seed: Seed of the clips' content.
        side_px: Side S of the clips in pixels, even.
        contrast: Factor of the differences from middle gray.
        noise: Standard deviation of the noise of each pixel in gray levels, before encoding.
        flash_frames: Number of successive frames in which a square is visible; 0 for no square.
    """

    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    twins: bool = True
    seed: int = 0
    side_px: int = 64
    contrast: float = 1.0
    noise: float = 0.0
    flash_frames: int = 0

    def train_groups(self) -> Mapping[str, int]:
        """Stratum -> number of groups that a seed draws for training."""
        return {stratum: train for stratum, (train, _) in self.groups.items()}

    def clips(self) -> Iterator[Clip]:
        """Yields the clips of every stratum until it has its number of groups."""
        missing = {stratum: train + test for stratum, (train, test) in self.groups.items()}
        for number, spec in enumerate(endless_specs(self.seed)):
            names = self.names(spec)
            stratum = next((s for s, count in missing.items() if count and s in ("", *names)), None)
            if stratum is not None:
                missing[stratum] -= 1
                group = f"g{number:05d}"
                for version, one in zip("ab", (spec, spec.twin()) if self.twins else (spec,), strict=False):
                    sample = Sample(f"{group}/{version}", self.class_ids(self.names(one)), group, stratum)
                    yield Clip(sample, self.frames(one), FPS)
            if not any(missing.values()):
                return

    def names(self, spec: ClipSpec) -> set[str]:
        """All that labels and strata may name: tags, the kind of change, color with shape, flash."""
        names = {*spec.tags, f"changes {spec.change}"}
        if spec.change != "colour":
            names.add(f"{spec.color} {spec.shape}")
        if self.flash_frames:
            names.add(f"{self._flash(spec)[0]} flash")
        return names

    def frames(self, spec: ClipSpec) -> np.ndarray:
        """Frames (T, S, S, 3) uint8 of a clip; those of its twin are the same in reverse order."""
        forward = replace(spec, reverse=False)
        frames = render(forward, num_frames=self.num_frames, size_px=self.side_px)
        if self.flash_frames:
            color, center, first = self._flash(spec)
            for frame in frames[first : first + self.flash_frames]:
                draw_shape(frame, "square", color, center=center, radius=_FLASH_RADIUS)
        x = _MIDDLE_GRAY + self.contrast * (frames.astype(np.float32) - _MIDDLE_GRAY)
        rng = np.random.default_rng((spec.seed, _NOISE_SEED))
        x += self.noise * rng.standard_normal(x.shape, np.float32)
        frames = np.round(x).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(frames[::-1]) if spec.reverse else frames

    def _flash(self, spec: ClipSpec) -> tuple[str, tuple[float, float], int]:
        """Color, center and first frame of the square of a clip."""
        rng = np.random.default_rng((spec.seed, _FLASH_SEED))
        x, y = rng.uniform(0.12, 0.88, size=2)
        first = int(rng.integers(self.num_frames - self.flash_frames + 1))
        return list(COLORS)[rng.integers(len(COLORS))], (x, y), first


@dataclass(frozen=True)
class FilmProblem(ClipProblem):
    """A problem of the demo's films: windows of them, most with a shape drawn over some frames.

    Attributes:
        copies: Copies of every window; all but the first show a random shape.
    """

    num_frames: int = 12
    size_px: int = 224
    copies: int = 3

    def clips(self) -> Iterator[Clip]:
        """Yields the windows of all films; the first 60 % of a film is for training."""
        rng = np.random.default_rng(0)
        for film, path in demo.films().items():
            frames, fps = demo.read_film(path)
            for window in demo.windows(film, len(frames), fps):
                if window.first % FILM_BLOCK > FILM_BLOCK - demo.FRAMES_PER_CLIP:
                    continue
                split: Split = "train" if window.split == "train" else "test"
                group = f"{Path(film).stem}_{split}_{window.first // FILM_BLOCK:02d}"
                for copy in range(self.copies):
                    shown = frames[window.first : window.first + demo.FRAMES_PER_CLIP].copy()
                    tags = [*window.tags, *(demo.draw_random_shape(shown, rng) if copy else [])]
                    name = f"{group}/{window.first:03d}_{copy}"
                    yield Clip(Sample(name, self.class_ids(tags), group, "", split), shown, round(fps))


@dataclass(frozen=True)
class WordProblem(ClipProblem):
    """A problem of short windows of sign-language videos, one video per word.

    Attributes:
        folder: Folder of the videos, named by their words.
    """

    num_frames: int = WORD_FRAMES
    size_px: int = 224
    folder: str = ""

    def clips(self) -> Iterator[Clip]:
        """Yields the windows of all videos; the first 60 % of a video is for training."""
        for path in word_videos(Path(self.folder)):
            frames, fps = demo.read_film(path)
            for start in range(0, len(frames), WORD_BLOCK):
                end = min(start + WORD_BLOCK, len(frames))
                group = f"{path.stem}_{start // WORD_BLOCK:02d}"
                split: Split = "train" if end <= WORD_TRAIN_SHARE * len(frames) else "test"
                for first in range(start, end - WORD_FRAMES + 1, WORD_STRIDE):
                    sample = Sample(f"{group}/{first:03d}", self.class_ids([path.stem]), group, "", split)
                    yield Clip(sample, frames[first : first + WORD_FRAMES], round(fps))


def word_videos(folder: Path) -> list[Path]:
    """The videos of a folder of words, by name.

    Raises:
        VideotagError: The folder has fewer than two videos.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if len(found) < 2:
        raise VideotagError(
            f"--words={folder}: expected two or more videos, named by their words, found {len(found)}"
        )
    return found


def word_problem(folder: Path) -> WordProblem:
    """The problem of the words of a folder.

    Raises:
        VideotagError: The folder has fewer than two videos.
    """
    labels = tuple(path.stem for path in word_videos(folder))
    return WordProblem("words", "signed words in film", "single_label", labels, folder=folder.as_posix())


def endless_specs(seed: int) -> Iterator[ClipSpec]:
    """Yields random specs without their twins, without end."""
    for part in itertools.count():
        yield from random_specs(1000, seed * 1000 + part)[::2]
