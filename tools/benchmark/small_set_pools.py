"""A small tagging problem as feature files and lists, made once: what small_sets.py measures on.

A problem is a pool of clips whose features EfficientNet-Lite0 extracts. A seed draws the training set from
the pool; a group (a pair of time-reversed twins, a stretch of film) is never in both train and test.
Shapes: T frames, D feature width.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from order_tags import call

from videotag.errors import OutputError
from videotag.formats.feature_files import read_features, write_features
from videotag.formats.filelist import ListEntry, read_filelist, write_filelist
from videotag.labels import write_labels
from videotag.media.writer import write_video
from videotag.registry import Task
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
PROBLEM_FILE = "problem.json"


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
