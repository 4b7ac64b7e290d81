"""Videos with their labels and groups, from class folders or from a CSV.

Folder: SOURCE/CLASS/any/depth/NAME.mp4; the first folder names the class. If all folders of SOURCE are named
as in SPLIT_NAMES, they fix the splits: SOURCE/SPLIT/CLASS/any/depth/NAME.mp4.
CSV: UTF-8, comma-separated, with a header and a row per video; labels in one cell, separated, or in several
columns; a column may fix the splits.
Feature files (.npy, .npz) are accepted instead of videos. By default a group is the path without its suffix,
so that a video and its features are in the same split. Problems are returned as lines, to be reported
together.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath

from videotag.errors import ConfigError, FileListError, one_error
from videotag.formats.feature_files import FEATURE_SUFFIXES
from videotag.media.suffixes import VIDEO_SUFFIXES, left_out_text, scan_folder
from videotag.safe_text import escaped, safe_repr
from videotag.system.text import MAX_LIST_BYTES, read_text

SUFFIXES = VIDEO_SUFFIXES | {*FEATURE_SUFFIXES}
#: Names of splits in a source, in lower case -> split.
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
#: What to do with a folder of JPEGs per clip.
FRAMES_REMEDY = (
    "for folders of frames, give the features that `videotag extract --set MODEL.format=frames` makes of them"
)
_PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}  # that some programs write


@dataclass(frozen=True)
class Video:
    """A video or feature file, as a future line of a list."""

    path: str  # as written to the list
    labels: tuple[str, ...]
    group: str  # videos of a group stay in one split
    place: str  # where it was found, for messages
    split: str | None = None  # train, val or test if the source fixes it

    @property
    def is_features(self) -> bool:
        """Whether it is a feature file; videos and features do not share a list."""
        return PurePath(self.path).suffix.lower() in FEATURE_SUFFIXES


@dataclass(frozen=True)
class CsvOptions:
    """Options for reading a CSV.

    Attributes:
        path_column: Name of the path column.
        label_columns: Names of the label columns; all columns with these names are read.
        separator: Separator of labels in a cell.
        group_column: Name of the group column; None uses group_by.
        split_column: Name of the column that fixes the splits; None for none.
        root: Folder for relative paths; None is the working folder.
        allow_unlabeled: Whether a video may have no label: it has none of the tags.
    """

    path_column: str = "path"
    label_columns: tuple[str, ...] = ("labels",)
    separator: str = "|"
    group_column: str | None = None
    split_column: str | None = None
    root: str | None = None
    allow_unlabeled: bool = False


def videos_in_folder(
    folder: Path, *, group_by: str | None = None
) -> tuple[list[Video], Counter[str], list[str]]:
    """The videos or feature files below class folders, sorted by path.

    Skips hidden files and folders, and files that are neither videos nor features.

    Args:
        folder: Folder with one folder per class, of any depth; or with split folders that hold these.
        group_by: "folder", a regular expression for paths relative to `folder` or to the split folder, or
            None for one group per video.

    Returns:
        The videos, the number of skipped files by suffix as in FolderContent, and one message per problem.
    """
    splits = split_folders(folder)
    if not splits:
        return _videos_in_classes(folder, group_by)
    videos: list[Video] = []
    left_out, problems = _files_beside(folder, "not in the folder of a split; move it into one")
    for top, split in splits.items():
        found, others, more = _videos_in_classes(top, group_by, split)
        videos += found
        left_out += others
        problems += more
    return videos, left_out, problems


def split_folders(folder: Path) -> dict[Path, str]:
    """Folder -> split of a source whose folders are all named as in SPLIT_NAMES; else empty.

    Args:
        folder: Folder of the source.
    """
    splits = {path: SPLIT_NAMES.get(path.name.lower()) for path in _visible(folder) if path.is_dir()}
    return {path: split for path, split in splits.items() if split} if all(splits.values()) else {}


def _videos_in_classes(
    folder: Path, group_by: str | None, split: str | None = None
) -> tuple[list[Video], Counter[str], list[str]]:
    """What videos_in_folder returns, for a folder of class folders that may be the folder of a split."""
    why = f"; {folder} is the folder of a split by its name" if split else ""
    left_out, misplaced = _files_beside(folder, f"not in a class folder; move it into one{why}")
    videos: list[Video] = []
    problems: list[str] = []
    for top in filter(Path.is_dir, _visible(folder)):
        content = scan_folder(top, SUFFIXES)
        left_out += content.left_out
        if not content.taken:
            others = left_out_text(content.left_out) or "no files"
            remedy = _frames_remedy(content.left_out) or "add some, or move the folder away"
            problems.append(f"{top}: no videos or features of this class, {others}; {remedy}")
        for path in content.taken:
            inside = path.relative_to(folder)
            # Equal names in two splits are mostly numbers, such as cat/001.mp4, so these are two groups.
            own = PurePath(folder.name, inside) if split else inside
            try:
                group = group_of(inside.as_posix(), group_by, inside.relative_to(top.name).parent, own)
            except ValueError as problem:
                problems.append(f"{path}: {problem}")
            else:
                videos.append(Video(str(path), (top.name,), group, str(path), split))
    problems += misplaced
    if not videos and not problems:
        others = left_out_text(left_out) or "no files"
        remedy = _frames_remedy(left_out) or f"expected {folder}/CLASS/NAME.mp4"
        problems.append(f"{folder}: no videos or features, {others}; {remedy}")
    return videos, left_out, problems


def _frames_remedy(left_out: Counter[str]) -> str:
    """What to do if files that are not read are pictures; "" if they are not."""
    return FRAMES_REMEDY if _PICTURE_SUFFIXES & left_out.keys() else ""


def _files_beside(folder: Path, problem: str) -> tuple[Counter[str], list[str]]:
    """Number of other files per suffix directly in a folder of folders, and a message per video there."""
    files = [path for path in _visible(folder) if not path.is_dir()]
    suffixes = Counter(path.suffix.lower() for path in files)
    left_out = Counter({suffix: count for suffix, count in suffixes.items() if suffix not in SUFFIXES})
    return left_out, [f"{path}: {problem}" for path in files if path.suffix.lower() in SUFFIXES]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def videos_in_csv(
    path: Path, options: CsvOptions, *, group_by: str | None = None
) -> tuple[list[Video], list[str]]:
    """The videos of a CSV in file order, and one message per bad row.

    Args:
        path: CSV with a header; UTF-8, with or without a byte order mark.
        options: Columns and separators.
        group_by: "folder", a regular expression for paths as written, or None for one group per video.

    Raises:
        FileListError: The file is not UTF-8 or not a CSV, or a column is missing.
    """
    missing = "give a CSV with a header and a row per video"
    text = read_text(path, error=FileListError, missing=missing, max_bytes=MAX_LIST_BYTES)
    header_line = text.partition("\n")[0].strip("\r")
    separator = _other_separator(header_line)
    if separator:
        raise FileListError(
            f"{path}:1: {separator} between the columns in {safe_repr(header_line)}; save the CSV with commas"
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    videos, problems = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = _find_columns(path, header, options)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            place = f"{path}:{reader.line_num}"
            try:
                videos.append(_video_of_row(row, len(header), columns, options, group_by, place))
            except ValueError as problem:
                problems.append(f"{place}: {problem}")
    except csv.Error as error:
        raise FileListError(
            f"{path}:{reader.line_num}: not a CSV ({error}); check the quotes around"
        ) from error
    if not videos and not problems:
        problems.append(f"{path}: no rows below the header; write a row per video")
    return videos, problems


def _find_columns(path: Path, header: list[str], options: CsvOptions) -> dict[str, list[int]]:
    """Column name -> indices of the columns with that name."""
    wanted = [options.path_column, *options.label_columns]
    wanted += [name for name in (options.group_column, options.split_column) if name is not None]
    columns = {name: [i for i, found in enumerate(header) if found == name] for name in wanted}
    problems = [
        f"{path}:1: no column {safe_repr(name)}; the header is {safe_repr(','.join(header))}; correct it, or"
        " name the columns with --path_column, --label_column, --group_column and --split_column"
        for name, found in columns.items()
        if not found
    ]
    problems += [
        f"{path}:1: {len(columns[name])} columns {safe_repr(name)}; rename all but one of them"
        for name in (options.path_column, options.group_column, options.split_column)
        if name is not None and len(columns[name]) > 1
    ]
    if problems:
        raise one_error(FileListError, problems)
    return columns


def _video_of_row(
    row: list[str],
    width: int,
    columns: dict[str, list[int]],
    options: CsvOptions,
    group_by: str | None,
    place: str,
) -> Video:
    """The video in a row of `width` cells; ValueError for a bad row."""
    separator = _other_separator(row[0]) if len(row) == 1 < width else None
    if separator:
        raise ValueError(f"{separator} between the cells in {safe_repr(row[0])}; save the CSV with commas")
    if len(row) != width:
        raise ValueError(
            f"{len(row)} cells, expected {width} as in the header; quote cells that hold a comma"
        )
    written = row[columns[options.path_column][0]].strip()
    if not written:
        raise ValueError(f"column {safe_repr(options.path_column)} is empty; write the path of the video")
    path = str(Path(options.root, written)) if options.root else written
    if os.path.isdir(path):  # noqa: PTH112 - as below
        raise ValueError(f"{escaped(path)}: a folder, expected a video or features; {FRAMES_REMEDY}")
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises OSError of a name that is too long
        raise ValueError(
            f"{escaped(path)}: no such file; relative paths start at {options.root or Path.cwd()}, see --root"
        )
    cells = [row[index] for name in options.label_columns for index in columns[name]]
    labels = [part.strip() for cell in cells for part in cell.split(options.separator)]
    labels = [label for label in dict.fromkeys(labels) if label]
    if not labels and not options.allow_unlabeled:
        raise ValueError(
            f"{escaped(path)}: no label in {', '.join(options.label_columns)}; write one, or remove the row"
        )
    split = None
    if options.split_column is not None:
        split = _split(row[columns[options.split_column][0]], options.split_column)
    if options.group_column is None:
        group = group_of(written, group_by, PurePath(written).parent, PurePath(written))
    else:
        group = unicodedata.normalize("NFC", row[columns[options.group_column][0]].strip())
        if not group:
            column = safe_repr(options.group_column)
            raise ValueError(f"column {column} is empty; write the group of the video")
    return Video(path, tuple(labels), group, place, split)


def _split(cell: str, column: str) -> str:
    """The split that a cell of the split column names; ValueError if it names none."""
    split = SPLIT_NAMES.get(cell.strip().lower())
    if split is None:
        seen = f": {safe_repr(cell.strip())} is no split" if cell.strip() else " is empty"
        raise ValueError(f"column {safe_repr(column)}{seen}; write train, val or test")
    return split


def _other_separator(text: str) -> str | None:
    """Name of the separator in a line without commas; None if there is none, or if there is a comma."""
    if "," in text:
        return None
    return next((name for separator, name in _OTHER_SEPARATORS.items() if separator in text), None)


def group_of(path: str, group_by: str | None, folder: PurePath, own: PurePath) -> str:
    """The group of a video, normalized to NFC, as macOS decomposes characters in file names.

    Args:
        path: Path that an expression is searched in.
        group_by: "folder", an expression, or None.
        folder: Group by "folder"; without parts, the video is a group of its own.
        own: Path whose text without the suffix is a group of its own.

    Raises:
        ValueError: The expression does not match.
    """
    group = own.with_suffix("").as_posix()
    if group_by == "folder":
        group = folder.as_posix() if folder.parts else group
    elif group_by is not None:
        match = _compiled(group_by).search(path)
        group = (match[1] if match.re.groups else match[0]) if match else ""
        if not group:
            raise ValueError(
                f"--group_by {safe_repr(group_by)}: no match in {safe_repr(path)}; correct the expression"
            )
    return unicodedata.normalize("NFC", group)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"--group_by {safe_repr(pattern)}: not a regular expression ({error}); or write folder"
        ) from None
