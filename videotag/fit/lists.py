"""Writes train, val and test lists and labels.txt from class folders or from a CSV.

video_sources.py describes the folder and the CSV; splits.py says how videos are assigned to splits, unless
the source fixes them. Class ids come from a label file, or from the alphabetical order of the labels.
OUT_DIR/.lists.json holds digests of the written files; files that differ are replaced only on request.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from videotag.errors import ConfigError, FileListError, LabelFileError, OutputError, one_error
from videotag.fit.splits import SPLITS, assign_splits
from videotag.fit.video_sources import SUFFIXES, CsvOptions, Video, videos_in_csv, videos_in_folder
from videotag.formats.filelist import ListEntry, filelist_text, quote_path
from videotag.inference.input_files import InputFiles
from videotag.labels import labels_text, read_labels
from videotag.safe_text import safe_repr
from videotag.system.atomic import write_text
from videotag.system.download import file_digest
from videotag.system.json_text import read_json

RECORD_FILE = ".lists.json"
OLD_RECORD_FILE = ".make_filelist.json"  # of the tool that this module replaces
DEFAULT_RATIOS = (0.8, 0.1, 0.1)


def find_videos(
    source: str | Path, *, csv_options: CsvOptions | None = None, group_by: str | None = None
) -> tuple[list[Video], Counter[str]]:
    """The videos or feature files of a source, with their labels and groups.

    Args:
        source: Folder of class folders, folder of split folders, or a CSV; see video_sources.py.
        csv_options: Columns of a CSV; must be None for a folder.
        group_by: "folder", a regular expression for paths, or None for one group per video.

    Returns:
        The videos, at least one, and the number of skipped files of a folder by suffix, as in FolderContent.

    Raises:
        ConfigError: The source does not exist or is a single video, or an option does not fit it.
        FileListError: The source has errors; one line of the message per problem.
    """
    source = Path(source)
    left_out: Counter[str] = Counter()
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder; check the path")
    if source.is_dir():
        if csv_options is not None:
            raise ConfigError(f"{source}: a folder, but options of a CSV are given; remove them")
        videos, left_out, problems = videos_in_folder(source, group_by=group_by)
    elif source.suffix.lower() in SUFFIXES:
        raise ConfigError(f"{source}: a single file; give a CSV, or the folder with the class folders")
    else:
        videos, problems = videos_in_csv(source, csv_options or CsvOptions(), group_by=group_by)
    problems += check_videos(videos)
    if problems:
        raise one_error(FileListError, problems)
    return videos, left_out


def check_videos(videos: Sequence[Video]) -> list[str]:
    """Problems that a list cannot represent: a path twice, videos and features, a name with a line break.

    Args:
        videos: Videos of all splits.
    """
    problems = []
    places: dict[str, str] = {}
    for video in videos:
        try:
            quote_path(video.path)
        except FileListError as error:
            problems.append(str(error))
        path = os.path.normpath(video.path)
        if path in places:
            problems.append(f"{video.place}: {video.path} is also at {places[path]}; merge their labels")
        places.setdefault(path, video.place)
    features = [video for video in videos if video.is_features]
    others = [video for video in videos if not video.is_features]
    if features and others:
        problems.append(
            f"{features[0].place}: features, but {others[0].place} is a video; make a list for each"
        )
    return problems


def class_names(videos: Sequence[Video], *, label_file: str | Path | None = None) -> list[str]:
    """The names of the classes; the index is the class id.

    Args:
        videos: Videos with their labels.
        label_file: File with the names in order; None sorts the labels of the videos.

    Raises:
        FileListError: The label file lacks labels of the videos, or has one of them twice.
        LabelFileError: The label file cannot be read.
    """
    if label_file is None:
        return sorted({label for video in videos for label in video.labels})
    names = read_labels(label_file)
    used = {label: video.place for video in reversed(videos) for label in video.labels}  # first place
    problems = []
    unknown = sorted(used.keys() - set(names))
    if unknown:
        listed = [f"{safe_repr(label)} ({used[label]}{_nearest(label, names)})" for label in unknown]
        problems.append(
            f"{label_file}: lacks {len(unknown)} labels: {', '.join(listed)};"
            " correct them, or append them to the file"
        )
    for name, count in Counter(names).items():
        if count > 1 and name in used:
            problems.append(
                f"{label_file}: {safe_repr(name)} names {count} classes; rename all but one of them"
            )
    if problems:
        raise one_error(FileListError, problems)
    return names


def split_videos(
    videos: Sequence[Video],
    ratios: tuple[float, float, float] | None = None,
    *,
    seed: int | None = None,
) -> dict[str, list[Video]]:
    """The videos of every split that has any, in their order.

    Splits that the source fixes are kept, also if a group is in several of them; see groups_in_several.
    Otherwise every group is in one split.

    Args:
        videos: Videos; all or none have a fixed split.
        ratios: Shares of train, val and test, which sum to 1; None is DEFAULT_RATIOS.
        seed: Seed of the hash that assigns groups to splits; None is 0.

    Raises:
        ConfigError: The source fixes the splits, and ratios or a seed are given.
        FileListError: A split with a share gets no video.
    """
    fixed = next((video for video in videos if video.split is not None), None)
    if fixed is not None:
        given = [name for name, value in (("--split", ratios), ("--seed", seed)) if value is not None]
        if given:
            raise ConfigError(
                f"{', '.join(given)}: the source fixes the splits ({fixed.place} is in {fixed.split});"
                " remove the flag"
            )
        found = {split: [video for video in videos if video.split == split] for split in SPLITS}
        return {split: members for split, members in found.items() if members}
    ratios = DEFAULT_RATIOS if ratios is None else ratios
    labels: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        labels[video.group].update(video.labels)
    splits = assign_splits(labels, ratios, seed=seed or 0)
    lists: dict[str, list[Video]] = {
        split: [] for split, ratio in zip(SPLITS, ratios, strict=True) if ratio > 0
    }
    for video in videos:
        lists[splits[video.group]].append(video)
    empty = [
        f"{split}: empty, as the first group of every label goes to train and there are only"
        f" {len(labels)} groups; add videos, or give {split} no share, as in --split 1,0,0"
        for split, members in lists.items()
        if not members
    ]
    if empty:
        raise one_error(FileListError, empty)
    return lists


def groups_in_several(lists: Mapping[str, Sequence[Video]]) -> dict[str, list[Video]]:
    """Group -> its first video of each list, for the groups that are in several lists.

    Args:
        lists: Split -> its videos.
    """
    first: dict[str, list[Video]] = defaultdict(list)
    for videos in lists.values():
        for group, video in {video.group: video for video in reversed(videos)}.items():
            first[group].append(video)
    return {group: videos for group, videos in first.items() if len(videos) > 1}


def write_lists(
    out_dir: Path,
    lists: Mapping[str, Sequence[Video]],
    names: Sequence[str],
    *,
    may_replace_labels: bool,
    inputs: Iterable[str | Path | None] = (),
    overwrite: bool = False,
) -> None:
    """Writes labels.txt and a list per split.

    Args:
        out_dir: Folder of the lists.
        lists: Split -> videos.
        names: Class names; the index is the class id.
        may_replace_labels: Whether a labels.txt with other classes may be replaced.
        inputs: Files that the lists are made from; they are never replaced.
        overwrite: Whether to replace files that no earlier call wrote.

    Raises:
        LabelFileError: A labels.txt with other classes exists and must not be replaced.
        OutputError: There is a list for a split that `lists` lacks, an input or a foreign file would be
            replaced, or out_dir cannot be written.
    """
    label_path = out_dir / "labels.txt"
    if label_path.exists() and not may_replace_labels and read_labels(label_path) != list(names):
        raise LabelFileError(
            f"{label_path}: holds other classes; keep their ids with --label_file {label_path}, or remove it"
        )
    for split in SPLITS:
        path = out_dir / f"{split}.list"
        if split not in lists and path.exists():
            raise OutputError(f"{path}: from an earlier run, but now {split} gets no videos; remove it")
    ids = {name: index for index, name in enumerate(names)}
    texts = {
        out_dir / f"{split}.list": filelist_text(
            ListEntry(video.path, tuple(sorted(ids[name] for name in video.labels))) for video in videos
        )
        for split, videos in lists.items()
    }
    if not label_path.exists() or read_labels(label_path) != list(names):
        texts[label_path] = labels_text(names, path=label_path)
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
    record = read_record(out_dir)
    if problems := list(_replaced(digests, record, InputFiles(inputs), overwrite=overwrite)):
        raise one_error(OutputError, problems)
    for path, digest in digests.items():  # keeps the previous one: a kill may come before the file is written
        record[path.name] = list(dict.fromkeys([digest, *record.get(path.name, [])]))[:2]
    write_text(out_dir / RECORD_FILE, json.dumps(record, indent=2) + "\n")
    (out_dir / OLD_RECORD_FILE).unlink(missing_ok=True)
    for path, text in texts.items():
        write_text(path, text)


def _replaced(
    digests: Mapping[Path, str], record: Mapping[str, list[str]], inputs: InputFiles, *, overwrite: bool
) -> Iterator[str]:
    """Yields a message for every input and every foreign file that would be replaced."""
    for path, digest in digests.items():
        if not os.path.lexists(path):
            continue
        if text := inputs.refusal(path):
            yield f"{path}: {text}; give another OUT_DIR"
        elif not overwrite and file_digest(path) not in (digest, *record.get(path.name, [])):
            yield (
                f"{path}: exists and is not as `videotag lists` wrote it; give another OUT_DIR,"
                " or --overwrite"
            )


def read_record(out_dir: Path) -> dict[str, list[str]]:
    """File name -> sha256 of what the last calls wrote, newest first; empty without a readable record.

    Args:
        out_dir: Folder of the lists.
    """
    name = RECORD_FILE if os.path.lexists(out_dir / RECORD_FILE) else OLD_RECORD_FILE
    try:
        record = read_json(out_dir / name, error=OutputError, remedy="it is written again")
    except OutputError:
        return {}
    if not isinstance(record, dict) or not all(isinstance(digests, list) for digests in record.values()):
        return {}
    return record


def summary(lists: Mapping[str, Sequence[Video]], names: Sequence[str], out_dir: Path) -> list[str]:
    """Lines with videos per label and split, labels that a split lacks, videos and groups per split.

    Args:
        lists: Split -> its videos.
        names: Class names by class id.
        out_dir: Folder of the lists.
    """
    counts = Counter(
        (label, split) for split, videos in lists.items() for video in videos for label in video.labels
    )
    used = [name for name in names if any(counts[name, split] for split in lists)]
    lines = ["".join([f"{'id':>6}", *(f"{split:>8}" for split in lists), "  label"])]
    for index, name in enumerate(names):
        if any(counts[name, split] for split in lists):
            lines.append(
                "".join([f"{index:>6}", *(f"{counts[name, split]:>8}" for split in lists), f"  {name}"])
            )
    for split in lists:
        missing = [name for name in used if not counts[name, split]]
        lines.append(f"labels without a video in {split}: {_count_and_names(missing)}")
    if len(used) < len(names):
        unused = sorted(set(names) - set(used))
        lines.append(f"labels without any video: {_count_and_names(unused)}")
    lines += _warnings(lists)
    for split, videos in lists.items():
        groups = len({video.group for video in videos})
        lines.append(f"{out_dir / f'{split}.list'}: {len(videos)} videos in {groups} groups")
    lines.append(f"{out_dir / 'labels.txt'}: {len(names)} classes")
    return lines


def _warnings(lists: Mapping[str, Sequence[Video]]) -> Iterator[str]:
    """Yields a line if groups are in several lists, which only a source with fixed splits can cause."""
    split_groups = groups_in_several(lists)
    if split_groups:
        group, videos = next(iter(split_groups.items()))
        noun = "group is" if len(split_groups) == 1 else "groups are"
        among = " and ".join(f"{video.split} ({video.place})" for video in videos)
        yield (
            f"warning: {len(split_groups)} {noun} in several splits, the first is {safe_repr(group)} in"
            f" {among}; the metrics may be too good; move each group to one split"
        )


def _nearest(label: str, names: list[str]) -> str:
    near = difflib.get_close_matches(label, names, n=1)
    return f", did you mean {safe_repr(near[0])}?" if near else ""


def _count_and_names(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"
