"""Small tagging problems as feature files and lists, made once from seeds: what small_sets.py measures on.

A problem is a pool of clips whose features EfficientNet-Lite0 extracts. A seed draws the training set from
the pool; a group (a pair of time-reversed twins, a stretch of film) is never in both train and test. Problems
of film have one fixed split, by time.
Shapes: T frames, S pixels a side, D feature width.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import demo
from order_tags import call

from videotag.errors import OutputError, VideotagError
from videotag.formats.feature_files import read_features, write_features
from videotag.formats.filelist import ListEntry, read_filelist, write_filelist
from videotag.labels import write_labels
from videotag.media.suffixes import VIDEO_SUFFIXES
from videotag.media.synthetic import (
    BACKGROUNDS,
    COLORS,
    ORDER_TAGS,
    ORDERS,
    SHAPES,
    ClipSpec,
    draw_shape,
    random_specs,
    render,
)
from videotag.media.writer import write_video
from videotag.registry import Task
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
PROBLEM_FILE = "problem.json"
FPS = 12  # of generated clips
FILM_BLOCK = 50  # frames of a group; windows across the border of two groups are left out
WORD_FRAMES, WORD_STRIDE, WORD_BLOCK = 8, 2, 12  # frames
WORD_TRAIN_SHARE = 0.6  # of every video, its beginning
_MIDDLE_GRAY = 128
_CONTENT_TAGS = (*SHAPES, *COLORS, *(f"{name} background" for name in BACKGROUNDS))
_FLASH_RADIUS = 0.25  # of the square, as a fraction of the side
_FLASH_SEED = 1  # of the flash of a clip, beside the seed of its content
_NOISE_SEED = 2  # of its pixel noise


@dataclass(frozen=True)
class Sample:
    """One clip of a pool.

    Attributes:
        path: Path of its features, relative to the problem's folder.
        label_ids: Class ids.
        group: Group that is never divided.
        stratum: Part of the pool from which a fixed number of groups is trained on.
        split: Split of a problem whose split is fixed; None if a seed decides.
    """

    path: str
    label_ids: tuple[int, ...]
    group: str
    stratum: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class Clip:
    """A clip before extraction: its sample, with the path of the clip without suffix, and its frames.

    Attributes:
        sample: The sample.
        frames: (T, H, W, 3) uint8 RGB.
        fps: Frames per second.
    """

    sample: Sample
    frames: np.ndarray
    fps: float


@dataclass(frozen=True)
class Problem(ABC):
    """A tagging problem; equal problems make equal clips.

    Attributes:
        name: Name, which is also that of its folder.
        about: What it is, a phrase.
        task: Whether a clip has one class or any number of tags.
        labels: Class names.
    """

    name: str
    about: str
    task: Task
    labels: tuple[str, ...]

    def train_groups(self) -> Mapping[str, int]:
        """Stratum -> number of groups that a seed draws for training; empty if the split is fixed."""
        return {}

    def class_ids(self, names: Collection[str]) -> tuple[int, ...]:
        """Ids of the classes that are among the names, ascending."""
        return tuple(index for index, label in enumerate(self.labels) if label in names)

    @abstractmethod
    def make(self, folder: Path) -> list[Sample]:
        """Writes the features below `folder`; returns their samples."""


@dataclass(frozen=True)
class ClipProblem(Problem):
    """A problem of clips that are written as videos and extracted.

    Attributes:
        num_frames: Frames that are extracted from a clip.
        size_px: Side of the network's input in pixels.
    """

    num_frames: int = 12
    size_px: int = 64

    @abstractmethod
    def clips(self) -> Iterator[Clip]:
        """Yields all clips of the pool."""

    def make(self, folder: Path) -> list[Sample]:
        """Writes the clips, extracts their features and removes the clips."""
        samples, entries, root = [], [], (folder / "clips").resolve()
        for clip in self.clips():
            path = root / f"{clip.sample.path}.mp4"
            write_video(path, clip.frames, fps=clip.fps)
            samples.append(clip.sample)
            entries.append(ListEntry(path.as_posix(), clip.sample.label_ids))
        write_filelist(folder / "clips.list", entries)
        size = self.size_px
        call(
            "extract", "--config=configs/tsn_efficientnet_lite0.yaml",
            "--weights=efficientnet_lite0_imagenet", "--precision=f32",
            f"--filelist={folder / 'clips.list'}", f"--root={root}", f"--save_dir={folder / 'features'}",
            f"--set=INFER.seg_num={self.num_frames}", f"--set=INFER.short_size={size}",
            f"--set=INFER.target_size={size}", "--log_interval=500",
        )  # fmt: skip
        shutil.rmtree(folder / "clips")
        features = read_filelist(folder / "features" / "clips.list")
        return [
            replace(sample, path=Path(entry.path).relative_to(folder).as_posix())
            for sample, entry in zip(samples, features, strict=True)
        ]


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
        for number, spec in enumerate(_endless_specs(self.seed)):
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


@dataclass(frozen=True)
class NoisyProblem(Problem):
    """The features of another problem with Gaussian noise.

    Attributes:
        source: The other problem.
        level: Standard deviation of the noise, relative to that of each feature over all frames.
    """

    source: Problem
    level: float

    def train_groups(self) -> Mapping[str, int]:
        """Those of the other problem."""
        return self.source.train_groups()

    def make(self, folder: Path) -> list[Sample]:
        """Writes the features of the other problem, which is made first, with noise."""
        source_dir = folder.parent / self.source.name
        samples = make_problem(self.source, source_dir)
        features = [read_features(source_dir / sample.path) for sample in samples]
        std = np.concatenate(features).std(axis=0)  # (D,)
        rng = np.random.default_rng(0)
        for sample, x in zip(samples, features, strict=True):
            noise = self.level * std * rng.standard_normal(x.shape)
            write_features(folder / sample.path, (x + noise).astype(np.float32))
        return samples


def make_problem(problem: Problem, folder: Path) -> list[Sample]:
    """The samples of a problem, whose features are below `folder`; made by the first call, then reused.

    Raises:
        OutputError: The folder has another problem, or cannot be written.
        VideotagError: The features cannot be made.
    """
    path = folder / PROBLEM_FILE
    definition = json.loads(json.dumps(asdict(problem)))
    if path.exists():
        stored = read_json(path, error=OutputError, remedy="delete its folder")
        if stored["definition"] != definition:
            raise OutputError(f"{path}: made by other definitions; delete its folder, or change --out_dir")
        return [Sample(**{**fields, "label_ids": tuple(fields["label_ids"])}) for fields in stored["samples"]]
    samples = problem.make(folder)
    content = {"definition": definition, "samples": [asdict(sample) for sample in samples]}
    write_text(path, json.dumps(content) + "\n")
    return samples


def split_samples(problem: Problem, samples: Sequence[Sample], seed: int) -> dict[Split, list[Sample]]:
    """The samples to train on and to test on, in the order of the pool; a group is in one of them.

    Args:
        problem: Problem of the samples.
        samples: All samples of the pool.
        seed: Seed of the groups that are drawn for training; without effect if the split is fixed.
    """
    rng = np.random.default_rng(seed)
    drawn: set[str] = set()
    for stratum, count in problem.train_groups().items():
        groups = list(dict.fromkeys(sample.group for sample in samples if sample.stratum == stratum))
        drawn |= {groups[index] for index in rng.permutation(len(groups))[:count]}
    parts: dict[Split, list[Sample]] = {split: [] for split in SPLITS}
    for sample in samples:
        parts[sample.split or ("train" if sample.group in drawn else "test")].append(sample)
    return parts


def write_split(
    problem: Problem, parts: Mapping[Split, Sequence[Sample]], folder: Path, out_dir: Path
) -> dict[Split, list[ListEntry]]:
    """Writes train.list, test.list and labels.txt into out_dir; returns the entries of the lists.

    Args:
        problem: Problem of the samples.
        parts: Samples of each split.
        folder: Folder of the problem, which the samples' paths are relative to.
        out_dir: Folder of the lists.
    """
    entries = {
        split: [ListEntry((folder / sample.path).as_posix(), sample.label_ids) for sample in samples]
        for split, samples in parts.items()
    }
    for split, listed in entries.items():
        write_filelist(out_dir / f"{split}.list", listed)
    write_labels(out_dir / "labels.txt", list(problem.labels))
    return entries


def word_videos(folder: Path) -> list[Path]:
    """The videos of a folder of words, by name.

    Raises:
        VideotagError: The folder has less than two videos.
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
        VideotagError: The folder has less than two videos.
    """
    labels = tuple(path.stem for path in word_videos(folder))
    return WordProblem("words", "signed words in film", "single_label", labels, folder=folder.as_posix())


def _endless_specs(seed: int) -> Iterator[ClipSpec]:
    """Random specs without their twins."""
    for part in itertools.count():
        yield from random_specs(1000, seed * 1000 + part)[::2]


_ALL_TAGS = GeneratedProblem(
    "all_tags",
    "all tags of moving shapes",
    "multi_label",
    (*_CONTENT_TAGS, *ORDER_TAGS),
    groups={"": (120, 80)},
    seed=1,
    contrast=0.4,
    noise=40,
)
_RARE_COUNTS = (60, 45, 34, 25, 19, 14, 11, 8, 6, 5)
_RARE_LABELS = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)[: len(_RARE_COUNTS)]
_CHANGES = tuple(f"changes {name}" for name in ORDERS)

#: All problems that need no other files.
PROBLEMS: tuple[Problem, ...] = (
    _ALL_TAGS,
    NoisyProblem(
        "all_tags_noise_1", "all_tags, features with noise", "multi_label", _ALL_TAGS.labels, _ALL_TAGS, 1.0
    ),
    NoisyProblem(
        "all_tags_noise_3",
        "all_tags, features with more noise",
        "multi_label",
        _ALL_TAGS.labels,
        _ALL_TAGS,
        3.0,
    ),
    GeneratedProblem(
        "many_clips",
        "all tags at low contrast, 1,000 clips",
        "multi_label",
        _ALL_TAGS.labels,
        groups={"": (500, 150)},
        seed=2,
        contrast=0.2,
        noise=50,
    ),
    GeneratedProblem(
        "order",
        "the order of events, which no statistic of single frames tells",
        "single_label",
        ORDER_TAGS,
        groups={name: (40, 27) for name in _CHANGES},
        seed=3,
    ),
    GeneratedProblem(
        "change",
        "what changes: size, color or place",
        "single_label",
        _CHANGES,
        groups={name: (15, 25) for name in _CHANGES},
        seed=4,
        contrast=0.5,
        noise=60,
    ),
    GeneratedProblem(
        "noisy_shapes",
        "shapes in noise",
        "single_label",
        SHAPES,
        groups={"circle": (14, 50), "square": (13, 50), "triangle": (13, 50)},
        twins=False,
        seed=5,
        contrast=0.5,
        noise=40,
    ),
    GeneratedProblem(
        "tiny",
        "circle or square, 20 clips",
        "single_label",
        ("circle", "square"),
        groups={"circle": (10, 60), "square": (10, 60)},
        twins=False,
        seed=6,
        noise=20,
    ),
    GeneratedProblem(
        "rare_classes",
        "shapes of a color, 5 to 60 clips a class",
        "single_label",
        _RARE_LABELS,
        groups={name: (count, 20) for name, count in zip(_RARE_LABELS, _RARE_COUNTS, strict=True)},
        twins=False,
        seed=7,
        contrast=0.4,
        noise=40,
    ),
    GeneratedProblem(
        "flash",
        "the color of a square that is visible in 4 of 12 frames",
        "single_label",
        tuple(f"{color} flash" for color in COLORS),
        groups={f"{color} flash": (60, 40) for color in COLORS},
        twins=False,
        seed=8,
        flash_frames=4,
    ),
    FilmProblem("film", "what film shows, and drawn shapes", "multi_label", tuple(demo.LABELS)),
)
