"""Makes train, val and test lists and labels.txt from class folders or from a CSV.

    python tools/make_filelist.py clips data/lists                    # clips/cat/a.mp4, clips/dog/film1/b.mp4
    python tools/make_filelist.py clips data/lists --group_by folder  # all clips of film1 in one split
    python tools/make_filelist.py videos.csv data/lists --label_column tags --group_column film

tools/video_sources.py describes the folder and the CSV; tools/splits.py says how videos are assigned to
splits. Class ids come from --label_file, or from the alphabetical order of the labels.
OUT_DIR/.make_filelist.json holds digests of the written files; only --overwrite replaces files that differ.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import difflib
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from run_tool import run_tool
from splits import SPLITS, assign_splits
from video_sources import SUFFIXES, CsvOptions, Video, videos_in_csv, videos_in_folder

from videotag.cli import arguments, values
from videotag.cli.main import Parser
from videotag.errors import EXIT_OK, ConfigError, FileListError, LabelFileError, OutputError, one_error
from videotag.formats.filelist import ListEntry, filelist_text, quote_path
from videotag.inference.input_files import InputFiles
from videotag.labels import labels_text, read_labels
from videotag.media.suffixes import folder_text
from videotag.safe_text import escaped, safe_repr
from videotag.system.atomic import write_text
from videotag.system.download import file_digest
from videotag.system.json_text import read_json

RECORD_FILE = ".make_filelist.json"
_CSV_FLAGS = ("path_column", "label_column", "separator", "group_column", "root")


def build_parser() -> Parser:
    parser = Parser(
        prog="make_filelist.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder of class folders, or a CSV")
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", help="folder for train.list, val.list, test.list, labels.txt"
    )
    arguments.add_overwrite(parser)
    parser.add_argument("--label_file", help="keep its class ids; any other label is an error")
    parser.add_argument(
        "--split",
        type=values.shares,
        default=(0.8, 0.1, 0.1),
        help="train,val,test (default: 0.8,0.1,0.1)",
    )
    parser.add_argument("--seed", type=values.whole, default=0, help="default: %(default)s")
    parser.add_argument(
        "--group_by",
        metavar="folder|REGEX",
        help="keep the videos of a folder (below the class folder) in one split, or those in whose paths "
        "the regular expression (its first group, if it has one) matches the same text",
    )
    parser.add_argument("--group_column", help="CSV: keep videos with the same value in one split")
    parser.add_argument("--path_column", help="CSV: column of paths (default: path)")
    parser.add_argument(
        "--label_column", action="append", help="CSV: column of labels, repeatable (default: labels)"
    )
    parser.add_argument("--separator", help="CSV: separator of labels in a cell (default: |)")
    parser.add_argument("--root", help="CSV: folder for relative paths (default: the working folder)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Writes the lists and prints a summary."""
    source, out_dir = arguments.check_readable(args.source), Path(args.out_dir)
    left_out: Counter[str] = Counter()
    if source.is_dir():
        given = [f"--{name}" for name in _CSV_FLAGS if getattr(args, name) is not None]
        if given:
            raise ConfigError(f"{', '.join(given)}: for a CSV, but {source} is a folder; remove it")
        videos, left_out, problems = videos_in_folder(source, group_by=args.group_by)
    elif source.suffix.lower() in SUFFIXES:
        raise ConfigError(f"{source}: a single file; give a CSV, or the folder with the class folders")
    else:
        videos, problems = videos_in_csv(source, _csv_options(args), group_by=args.group_by)
    problems += check_videos(videos)
    names = read_labels(args.label_file) if args.label_file else None
    problems += unknown_labels(videos, names, args.label_file)
    if problems:
        raise one_error(FileListError, problems)
    if names is None:
        names = sorted({label for video in videos for label in video.labels})
    lists = split_videos(videos, args.split, seed=args.seed)
    write_lists(
        out_dir,
        lists,
        names,
        may_replace_labels=args.label_file is not None,
        inputs=[source, args.label_file, *(video.path for video in videos)],
        overwrite=args.overwrite,
    )
    for line in summary(lists, names, out_dir):
        arguments.show(escaped(line, limit=2000))
    if left_out:
        noun = "feature file" if videos[0].is_features else "video"
        arguments.show(folder_text(source, len(videos), left_out, noun=noun))
    return EXIT_OK


def check_videos(videos: Sequence[Video]) -> list[str]:
    """Problems that a list cannot represent: a path twice, videos and features, a name with a line break."""
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


def unknown_labels(videos: Sequence[Video], names: list[str] | None, label_file: str | None) -> list[str]:
    """A message with all labels that the label file lacks, and one per used name that it has twice."""
    if names is None:
        return []
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
    return problems


def split_videos(
    videos: Sequence[Video], ratios: tuple[float, float, float], *, seed: int
) -> dict[str, list[Video]]:
    """The videos of every split with a share, in their order; every group is in one split.

    Raises:
        FileListError: A split with a share gets no video.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        labels[video.group].update(video.labels)
    splits = assign_splits(labels, ratios, seed=seed)
    lists: dict[str, list[Video]] = {
        split: [] for split, ratio in zip(SPLITS, ratios, strict=True) if ratio > 0
    }
    for video in videos:
        lists[splits[video.group]].append(video)
    empty = [
        f"{split}: empty, as the first group of every label goes to train and there are only"
        f" {len(labels)} groups; add videos, or give {split} no share, as in --split 1,0,0"
        for split, found in lists.items()
        if not found
    ]
    if empty:
        raise one_error(FileListError, empty)
    return lists


def write_lists(
    out_dir: Path,
    lists: dict[str, list[Video]],
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
        OutputError: There is a list for a split without a share, an input or a foreign file would be
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
            raise OutputError(f"{path}: from an earlier run, and --split gives {split} no share; remove it")
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
            yield f"{path}: exists and is not as this tool wrote it; give another OUT_DIR, or --overwrite"


def read_record(out_dir: Path) -> dict[str, list[str]]:
    """File name -> sha256 of what the last calls wrote, newest first; empty without a readable record."""
    try:
        record = read_json(out_dir / RECORD_FILE, error=OutputError, remedy="it is written again")
    except OutputError:
        return {}
    if not isinstance(record, dict) or not all(isinstance(digests, list) for digests in record.values()):
        return {}
    return record


def summary(lists: dict[str, list[Video]], names: Sequence[str], out_dir: Path) -> list[str]:
    """Lines with videos per label and split, labels that a split lacks, videos and groups per split."""
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
    for split, videos in lists.items():
        groups = len({video.group for video in videos})
        lines.append(f"{out_dir / f'{split}.list'}: {len(videos)} videos in {groups} groups")
    lines.append(f"{out_dir / 'labels.txt'}: {len(names)} classes")
    return lines


def _csv_options(args: argparse.Namespace) -> CsvOptions:
    """CsvOptions from the flags.

    Raises:
        ConfigError: Flags contradict each other, or the separator is empty.
    """
    if args.group_by and args.group_column:
        raise ConfigError("--group_by and --group_column: both define groups; remove one of them")
    if args.separator == "":
        raise ConfigError("--separator: empty; give a separator such as '|'")
    given = {name: getattr(args, name) for name in _CSV_FLAGS if getattr(args, name) is not None}
    if "label_column" in given:
        given["label_columns"] = tuple(given.pop("label_column"))
    return CsvOptions(**given)


def _nearest(label: str, names: list[str]) -> str:
    near = difflib.get_close_matches(label, names, n=1)
    return f", did you mean {safe_repr(near[0])}?" if near else ""


def _count_and_names(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def main(argv: list[str] | None = None) -> int:
    return run_tool(build_parser(), run, argv)


if __name__ == "__main__":
    exit_with(main())
