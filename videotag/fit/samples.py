"""The videos that `videotag fit` is given, with labels, groups and splits, from any kind of source."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from videotag.errors import ConfigError, FileListError
from videotag.fit.lists import class_names, find_videos
from videotag.fit.video_sources import FRAMES_REMEDY, CsvOptions, group_of
from videotag.formats.feature_files import FEATURE_SUFFIXES
from videotag.formats.filelist import ListEntry, read_filelist
from videotag.formats.record_files import is_record_file
from videotag.labels import read_labels
from videotag.media.suffixes import folder_text
from videotag.registry import Task
from videotag.safe_text import safe_repr
from videotag.training.folds import group_folds

LABELS_FILE = "labels.txt"
TEST_SHARE = 0.2
MIN_GROUPS = 3
_LISTS = {"train": "train", "val": "train", "test": "test"}  # name of a list -> split
_LIST_SUFFIXES = {".list", ".txt"}


@dataclass(frozen=True)
class Sample:
    """A video or feature file with its labels.

    Attributes:
        path: Path of the file.
        label_ids: Class ids, ascending.
        group: Samples of a group stay in one split and one fold.
        split: "train" or "test"; "" as long as it is open.
        video: The video that the features at `path` were extracted from; "" without an extraction.
    """

    path: str
    label_ids: tuple[int, ...]
    group: str
    split: str = ""
    video: str = ""

    @property
    def source(self) -> str:
        """The file that the user gave, for messages."""
        return self.video or self.path

    @property
    def is_features(self) -> bool:
        """Whether the file holds features, which are not extracted."""
        return PurePath(self.path).suffix.lower() in FEATURE_SUFFIXES


@dataclass(frozen=True)
class SampleSet:
    """All samples of a source.

    Attributes:
        samples: Samples, at least one.
        names: Class names by class id.
        notes: Lines for the user about the source.
        files: Lists, CSV and label file that the samples were read from.
        source: Path that the user gave; "" for samples from Python.
    """

    samples: list[Sample]
    names: list[str]
    notes: list[str]
    files: list[Path] = field(default_factory=list)
    source: str = ""

    def task(self) -> Task:
        """The task: "single_label" if every sample has exactly one label, else "multi_label"."""
        is_single = all(len(sample.label_ids) == 1 for sample in self.samples)
        return "single_label" if is_single else "multi_label"


def read_samples(
    source: str | Path,
    *,
    label_file: str | None = None,
    group_by: str | None = None,
    csv_options: CsvOptions | None = None,
) -> SampleSet:
    """The samples of a source.

    Args:
        source: Folder with a folder per class; CSV, in which a video may have no label; list; or folder with
            train.list, test.list and optionally val.list. Videos of val are added to the training set. A
            source without test videos leaves the split open.
        label_file: Class names; by default those of the source, or labels.txt beside the lists.
        group_by: "folder", or a regular expression for paths; None for one group per video.
        csv_options: Columns of a CSV.

    Raises:
        ConfigError, FileListError, LabelFileError: The source is missing or has errors.
    """
    path = Path(source)
    lists = {name: path / f"{name}.list" for name in _LISTS if (path / f"{name}.list").is_file()}
    if path.is_file() and path.suffix.lower() in _LIST_SUFFIXES:
        lists = {"": path}
    if lists:
        if csv_options is not None:
            raise ConfigError(f"{source}: lists, but options of a CSV are given; remove them")
        return replace(_from_lists(lists, label_file, group_by), source=str(source))
    if csv_options is None and path.is_file():
        csv_options = CsvOptions()
    if csv_options is not None:
        csv_options = replace(csv_options, allow_unlabeled=True)
    videos, left_out = find_videos(path, csv_options=csv_options, group_by=group_by)
    names = class_names(videos, label_file=label_file)
    ids = {name: index for index, name in enumerate(names)}
    samples = _without_half_a_split(
        Sample(
            video.path,
            tuple(sorted(ids[label] for label in video.labels)),
            video.group,
            _LISTS[video.split] if video.split else "",
        )
        for video in videos
    )
    noun = "feature file" if samples[0].is_features else "video"
    notes = [folder_text(path, len(samples), left_out, noun=noun)] if left_out else []
    files = [Path(file) for file in (path, label_file) if file and Path(file).is_file()]
    return SampleSet(samples, names, notes, files, str(source))


def _without_half_a_split(samples: Iterable[Sample]) -> list[Sample]:
    """The samples, whose split is open if it names no test videos."""
    samples = list(samples)
    is_split = any(sample.split == "test" for sample in samples)
    return samples if is_split else [replace(sample, split="") for sample in samples]


def _from_lists(lists: dict[str, Path], label_file: str | None, group_by: str | None) -> SampleSet:
    """The samples of lists by name; "" is a list whose samples have no split yet."""
    if "test" in lists and len(lists) == 1:
        raise FileListError(f"{lists['test']}: no train.list beside it; add one")
    first = next(iter(lists.values()))
    label_path = Path(label_file or first.with_name(LABELS_FILE))
    names = read_labels(label_path)
    samples: dict[str, Sample] = {}
    for name, path in lists.items():
        _check_files(path)
        for entry in read_filelist(path, labels="optional", num_classes=len(names)):
            sample = Sample(entry.path, entry.label_ids, _group(entry, group_by), _LISTS.get(name, ""))
            other = samples.setdefault(entry.path, sample)
            if other != sample:
                what = "splits" if other.split != sample.split else "labels"
                raise FileListError(
                    f"{path}: {entry.path} is listed twice with different {what}; keep one line"
                )
    _check_kinds([sample.path for sample in samples.values()])
    return SampleSet(_without_half_a_split(samples.values()), names, [], [*lists.values(), label_path])


def _check_files(path: Path) -> None:
    """Rejects a list of folders; before labels are read, as a number of frames takes the place of a label."""
    for entry in read_filelist(path, must_exist=False):
        if os.path.isdir(entry.path):  # noqa: PTH112 - Path.is_dir raises OSError of a name that is too long
            raise FileListError(
                f"{path}:{entry.line}: {entry.path}: a folder, expected a video or features; {FRAMES_REMEDY}"
            )


def _check_kinds(paths: Sequence[str]) -> None:
    """Rejects record files, and lists that mix features with videos."""
    records = [path for path in paths if is_record_file(path)]
    if records:
        raise FileListError(
            f"{records[0]}: a record file; `videotag fit` takes videos or feature files, one per line"
        )
    features = [path for path in paths if PurePath(path).suffix.lower() in FEATURE_SUFFIXES]
    if features and len(features) < len(paths):
        other = next(path for path in paths if path not in set(features))
        raise FileListError(f"{features[0]}: features, but {other} is a video; make a list for each")


def _group(entry: ListEntry, group_by: str | None) -> str:
    path = PurePath(entry.path)
    try:
        return group_of(path.as_posix(), group_by, path.parent, path)
    except ValueError as error:
        raise FileListError(f"{entry.path}: {error}") from error


def assign(samples: Sequence[Sample], *, share: float, seed: int) -> list[Sample]:
    """The samples with their splits; those that the source fixes are kept.

    The test set is a fold of groups over which the classes are spread evenly, without the only group of a
    class, which is needed for training.

    Args:
        samples: Samples.
        share: Share of the test set, above 0 and at most 0.5; rounded to one over a whole number.
        seed: Seed of the split.

    Raises:
        FileListError: The training or the test set would be empty, or no training video has a label.
    """
    groups = [sample.group for sample in samples]
    if not any(sample.split for sample in samples) and len(set(groups)) > 1:
        labels = np.zeros((len(samples), 1 + max((max(s.label_ids, default=0) for s in samples), default=0)))
        for row, sample in zip(labels, samples, strict=True):
            row[list(sample.label_ids)] = 1
        folds = group_folds(groups, labels, num_folds=max(2, round(min(1 / share, len(samples)))), seed=seed)
        groups_of: dict[int, set[str]] = defaultdict(set)
        for sample in samples:
            for label_id in sample.label_ids:
                groups_of[label_id].add(sample.group)
        only = {group for found in groups_of.values() if len(found) == 1 for group in found}
        tests = [{groups[index] for index in fold} - only for fold in folds]
        chosen = max(tests, key=len)
        samples = [replace(s, split="test" if s.group in chosen else "train") for s in samples]
    counts = Counter(sample.split for sample in samples)
    for split in ("train", "test"):
        if not counts[split]:
            raise FileListError(
                f"no video for the {split} set: {len(samples)} videos in {len(set(groups))} groups; add "
                "videos, name smaller groups, or split them by hand (folders train and test, or train.list "
                "and test.list)"
            )
    if not any(sample.label_ids for sample in samples if sample.split == "train"):
        raise FileListError("no training video has a label; move labeled ones into the training set")
    return list(samples)


def check_classes(sample_set: SampleSet, task: Task) -> None:
    """Checks that there is something to learn.

    Args:
        sample_set: All samples.
        task: Task of the model.

    Raises:
        FileListError: There are too few groups, no labeled video, or only one class; or a video of a
            single-label task has none or several labels.
    """
    wrong = [s for s in sample_set.samples if task == "single_label" and len(s.label_ids) != 1]
    if wrong:
        raise FileListError(
            f"{wrong[0].path}: {len(wrong[0].label_ids)} labels; {len(wrong)} of the videos do not have "
            "exactly one, as a single_label task needs; leave --task out"
        )
    groups = {sample.group for sample in sample_set.samples}
    if len(groups) < MIN_GROUPS:
        raise FileListError(
            f"{len(sample_set.samples)} videos in {len(groups)} groups, expected at least {MIN_GROUPS}: "
            "one to test, two to compare models; add videos, or name smaller groups"
        )
    counts = Counter(i for sample in sample_set.samples for i in sample.label_ids)
    if not counts:
        raise FileListError(
            "no video has a label; sort them into a folder per class, or give a CSV of labels"
        )
    is_on_all = next(iter(counts.values())) == len(sample_set.samples)
    if len(counts) == 1 and (task == "single_label" or is_on_all):
        name = sample_set.names[next(iter(counts))]
        raise FileListError(
            f"all videos have the one label {safe_repr(name)}; add videos without it, such as a folder "
            "`other`"
        )
