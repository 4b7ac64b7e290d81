"""Converts YouTube-8M's TFRecord files to pickles, .npz feature files or shards, without TensorFlow.

    python tools/tf2pkl.py yt8m/frame yt8m/pkl                        # yt8m/pkl/train00.pkl ... and lists
    python tools/tf2pkl.py 'yt8m/frame/train*.tfrecord' yt8m/shards --format shard
    python tools/tf2pkl.py yt8m/frame/validate00.tfrecord some --format npy   # for train.py, with labels

SRC is a folder (searched recursively and mirrored in DST), a file, or a quoted pattern. Files may be plain,
gzip or zlib, and hold frame-level features, video-level features or the segments of 2019; --format npy takes
frame-level features only. Run it again to resume: an output is kept while the options and the size and time
of its source stay the same.

Lists in DST name all outputs of this format, by the names of their sources: train* goes to train.list;
validate* to val.list and to test.list, as YouTube-8M's test part has no labels; test* to infer.list, which
names validate* if there are none; others to all.list. Lists of .npz files carry the labels; the other formats
hold them in the files.

Only --overwrite replaces files in DST that this tool did not write, and nothing replaces a source. A damaged
file is listed in DST/failures.jsonl with the record and its byte offset; the other files are converted.
Exit codes: 0 all done, 1 some files failed, 2 a mistake in the command line, 130 Ctrl-C.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import glob
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from record_conversion import (
    NOTES,
    SUFFIXES,
    Job,
    Mode,
    Outcome,
    convert,
    is_done,
    is_from,
    outputs_there,
    read_note,
)
from run_tool import run_tool
from worker_processes import run_jobs

from videotag.cli import arguments, values
from videotag.cli.main import Parser
from videotag.errors import (
    EXIT_FAILURES,
    EXIT_OK,
    ConfigError,
    OutputError,
    RecordError,
    one_error,
)
from videotag.formats.filelist import ListEntry, quote_path, write_filelist
from videotag.formats.record_files import TFRECORD_SUFFIXES
from videotag.inference.input_files import InputFiles
from videotag.inference.outputs import FileOutput, check_files, is_own_list
from videotag.safe_text import escaped
from videotag.system.atomic import check_writable, remove_partial
from videotag.system.cores import num_cores
from videotag.system.failures import FAILURES_FILE, FAILURES_HEAD, FailureList
from videotag.system.folder_lock import folder_lock
from videotag.system.progress import track_records

LISTS = ("train", "val", "test", "infer", "all")
_PARTS = ("train", "validate", "test")  # parts of YouTube-8M, and prefixes of their file names


def build_parser() -> Parser:
    parser = Parser(
        prog="tf2pkl.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", metavar="SRC", help="folder, file, or pattern such as 'data/train*.tfrecord'"
    )
    parser.add_argument("folder", metavar="DST", help="output folder, other than SRC")
    parser.add_argument("--format", choices=("pkl", "npy", "shard"), default="pkl", help="default: pkl")
    arguments.add_switch(parser, "--split", help="pkl: write one file per video, BASE_split_INDEX.pkl")
    parser.add_argument("--keys", choices=("str", "bytes"), help="pkl: type of keys and ids (default: str)")
    parser.add_argument("--jobs", type=values.natural, help="number of processes (default: number of cores)")
    arguments.add_switch(parser, "--keep_partial", help="keep the records before a damaged one")
    arguments.add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Converts what is not done yet, writes the lists and prints a summary."""
    if args.format != "pkl" and (args.split or args.keys):
        flag = "--split" if args.split else "--keys"
        raise ConfigError(f"{flag}: for --format pkl, but it is {args.format}; remove it")
    jobs = plan_jobs(args)
    folder = Path(args.folder)
    check_places(jobs, folder, overwrite=args.overwrite)
    check_writable(folder)
    with folder_lock(folder, named_by="DST"):
        remove_unfinished(jobs)
        todo = [job for job in jobs if not is_done(job)]
        failures = FailureList(folder, named_by="DST", key="source")
        if todo:
            for name in LISTS:  # stale while outputs are rebuilt
                (folder / f"{name}.list").unlink(missing_ok=True)
        try:
            outcomes = convert_all(jobs, todo, args.jobs or num_cores(), failures)
        finally:
            remove_unfinished(todo)
        written = write_lists(folder, jobs[0].mode)
    return summarize(folder, outcomes, num_kept=len(jobs) - len(todo), lists=written)


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """One job per source.

    Raises:
        ConfigError: There is no source, or DST is SRC.
        OutputError: Two sources would have the same output.
        FileListError: A list cannot hold the path of an output.
    """
    root, sources = find_sources(args.source)
    if Path(args.folder).resolve() == root.resolve():
        raise ConfigError(f"{args.folder}: holds the sources themselves; give another DST")
    mode: Mode = "split" if args.split else args.format
    jobs, owners, problems = [], dict[str, str](), []
    for source in sources:
        name = source.relative_to(root).as_posix()
        suffix = next((s for s in TFRECORD_SUFFIXES if _is_named(name, s)), "")
        job = Job(
            str(source), name.removesuffix(suffix), args.folder, mode, args.keys or "str", args.keep_partial
        )
        if job.base in owners:
            output = job.path(SUFFIXES[mode])
            problems.append(
                f"{source}: would write {output}, the output of {owners[job.base]}; rename one of the two"
            )
        owners[job.base] = str(source)
        jobs.append(job)
    if problems:
        raise one_error(OutputError, problems)
    for job in jobs:
        quote_path(str(job.path("")))
    return jobs


def check_places(jobs: Sequence[Job], folder: Path, *, overwrite: bool) -> None:
    """Refuses to replace sources, and files that were not made from these sources.

    Raises:
        OutputError: Files would be replaced; one line per file.
    """
    sources = InputFiles([job.source for job in jobs])
    problems = []
    for job in jobs:
        note = read_note(job.note_path) or read_note(job.begun_path)
        if note is None and job.note_path.exists():
            continue  # damaged, but written by this tool
        if note is not None and is_from(job, note):
            continue
        found = list(outputs_there(job))
        refusals = [
            f"{escaped(str(path))}: {text}; give another DST"
            for path in found
            if (text := sources.refusal(path))
        ]
        problems += refusals
        if found and not refusals and not overwrite:
            text = "exists and was not written by tf2pkl.py"
            if note is not None:
                text = f"was made from another file than {escaped(job.source)}"
            problems.append(f"{escaped(str(found[0]))}: {text}; give another DST, or --overwrite")
    has_notes = (folder / NOTES).is_dir()
    for path in (folder / f"{name}.list" for name in LISTS):
        if not os.path.lexists(path):
            continue
        if text := sources.refusal(path):
            problems.append(f"{path}: {text}; give another DST")
        elif not overwrite and not (has_notes and is_own_list(path, folder, is_listed=_is_output)):
            problems.append(
                f"{path}: a list that tf2pkl.py did not write for this folder; give another DST, or "
                "--overwrite"
            )
    if problems:
        raise one_error(OutputError, problems)
    failures = FileOutput(folder / FAILURES_FILE, "DST", FAILURES_HEAD)
    check_files([failures], inputs=(), overwrite=overwrite)


def _is_output(path: Path) -> bool:
    return path.suffix in (".pkl", ".npz", ".safetensors")


def find_sources(source: str) -> tuple[Path, list[Path]]:
    """The folder that is mirrored, and the files below it, sorted.

    Raises:
        ConfigError: There are no files.
    """
    path = Path(source)
    if path.is_dir():
        # Includes broken links, which fail and are listed.
        found = [p for p in path.rglob("*") if p.name.lower().endswith(TFRECORD_SUFFIXES) and not p.is_dir()]
        root, what = path, f"no *{TFRECORD_SUFFIXES[0]} in this folder or below it"
    elif path.exists():
        return path.parent, [path]
    else:
        found = [p for p in map(Path, glob.glob(source, recursive=True)) if p.is_file()]  # noqa: PTH207
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        what = "no file matches" if glob.has_magic(source) else "no such file or folder"
    if not found:
        raise ConfigError(f"{source}: {what}; download YouTube-8M's files first, or correct the path")
    return root, sorted(found)


def _is_named(name: str, suffix: str) -> bool:
    """Whether a file name ends in `suffix` and has something before it."""
    return name.lower().endswith(suffix) and Path(name).name.lower() != suffix


def convert_all(
    jobs: Sequence[Job], todo: Sequence[Job], num_workers: int, failures: FailureList
) -> dict[str, Outcome]:
    """Source -> outcome for the jobs in `todo`; prints and lists failures as they happen."""
    sizes = {job.source: Path(job.source).stat().st_size for job in jobs}
    total, left = sum(sizes.values()), sum(sizes[job.source] for job in todo)
    outcomes = {}
    with (
        track_records("convert", done=total - left, total=total) as advance,
        run_jobs(convert, todo, num_workers=num_workers) as done,
    ):
        for job, outcome in done:
            outcomes[job.source] = outcome
            advance(sizes[job.source], outcome.num_records)
            if outcome.failure is not None:
                failures.add(job.source, RecordError(outcome.failure))
                kept = f"; its first {outcome.num_records} records are kept" if outcome.num_records else ""
                print(f"tf2pkl.py: {escaped(outcome.failure)}{kept}", file=sys.stderr)
    return outcomes


def write_lists(folder: Path, mode: str) -> dict[Path, int]:
    """Writes lists of all outputs in the folder, except empty ones; returns list -> number of entries."""
    notes = folder / NOTES / mode
    entries: dict[str, list[ListEntry]] = {part: [] for part in (*_PARTS, "all")}
    for path in sorted(notes.rglob("*.json")):
        part = next((part for part in _PARTS if path.name.startswith(part)), "all")
        if (note := read_note(path)) is not None:
            entries[part] += note.entries(folder)
    lists = {
        "train": entries["train"],
        "val": entries["validate"],
        "test": entries["validate"],
        "infer": entries["test"] or entries["validate"],
        "all": entries["all"],
    }
    written = {}
    for name in LISTS:
        path = folder / f"{name}.list"
        if lists[name]:
            write_filelist(path, lists[name])
            written[path] = len(lists[name])
        else:
            path.unlink(missing_ok=True)
    return written


def summarize(folder: Path, outcomes: dict[str, Outcome], *, num_kept: int, lists: dict[Path, int]) -> int:
    """Prints a summary and returns the exit code."""
    failed = sum(outcome.failure is not None for outcome in outcomes.values())
    records = sum(outcome.num_records for outcome in outcomes.values())
    empty = sum(outcome.num_empty for outcome in outcomes.values())
    arguments.show(
        f"converted {len(outcomes) - failed} files, kept {num_kept}, failed {failed}; {records:,} records"
        + (f", {empty} without steps skipped" if empty else "")
    )
    for path, count in lists.items():
        arguments.show(f"{path}: {count} files")
    if failed:
        arguments.show(f"failures: {folder / FAILURES_FILE}")
        return EXIT_FAILURES
    return EXIT_OK


def remove_unfinished(jobs: Iterable[Job]) -> None:
    """Deletes unfinished files of killed processes where the jobs write."""
    folders = {job.note_path.parent for job in jobs}
    folders |= {job.path("") if job.mode == "npy" else job.path("").parent for job in jobs}
    for folder in folders:
        remove_partial(folder)


def main(argv: list[str] | None = None) -> int:
    return run_tool(build_parser(), run, argv)


if __name__ == "__main__":
    exit_with(main())
