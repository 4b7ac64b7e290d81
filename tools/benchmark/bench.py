"""`make bench`: compares every stage with the baseline on this machine; writes a table and JSON.

    python tools/benchmark/bench.py                      # 45 minutes; writes docs/performance.md and .json
    python tools/benchmark/bench.py --quick              # 3 minutes, small sizes; writes into data/bench
    python tools/benchmark/bench.py --only decode,extraction --videos my_videos --output data/bench

The baseline is baseline.py. Contestants run in separate processes and take turns, round by round. The table
has the median of each and the median of the rounds' ratios; the JSON has every number. --only keeps the other
parts of an earlier run on the same machine. Exit code 1: parts failed and are named; the others are written.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import datetime
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bench_decode
import bench_extraction
import bench_functions
import bench_metrics
import bench_profile
import bench_records
import bench_stage_one
import bench_stage_two
import bench_training
from bench_machine import describe_machine
from bench_options import Options
from bench_report import Part, check_marks, markdown, read_results, write_results
from run_tool import run_tool

from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, VideotagError
from videotag.media.suffixes import folder_text, left_out_text, scan_folder

#: Part -> function that measures it, in the order of the table.
PARTS: dict[str, Callable[[Options], Part]] = {
    "extraction": bench_extraction.run,  # first, as it empties and refills the cache of compiled networks
    "decode": bench_decode.run,
    "stage_one": bench_stage_one.run,
    "functions": bench_functions.run,
    "profile": bench_profile.run,
    "stage_two": bench_stage_two.run,
    "training": bench_training.run,
    "records": bench_records.run,
    "metrics": bench_metrics.run,
}
DOCS_DIR, WORK_DIR = Path("docs"), Path("data/bench")


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table and writes it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, under 3 minutes")
    parser.add_argument("--only", metavar="PART,...", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--rounds", type=int, help="rounds per part (default: 5, or 2 where a round takes minutes)"
    )
    parser.add_argument("--videos", type=Path, metavar="DIR", help="also measure your own videos")
    parser.add_argument("--long", action="store_true", help="also extract a video of one hour")
    parser.add_argument("--output", type=Path, help="folder (default: docs; with --quick data/bench)")
    parser.add_argument(
        "--work_dir", type=Path, default=WORK_DIR, help="folder for clips and caches (default: %(default)s)"
    )
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    names = _selected(args.only)
    if args.rounds is not None and args.rounds < 1:
        raise ConfigError(f"--rounds={args.rounds}: expected at least 1")
    args.work_dir.mkdir(parents=True, exist_ok=True)
    options = Options(args.work_dir, args.quick, args.rounds, args.videos, args.long)
    if args.videos:
        _check_videos(args.videos, options)
    folder = args.output or (WORK_DIR if args.quick else DOCS_DIR)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output={folder}: not a folder; name a folder")
    check_marks(folder)
    results = _results(folder, names, quick=args.quick)
    failed = []
    for name in names:
        options.say(f"part {name}")
        try:
            part = PARTS[name](options)
        except (VideotagError, OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name}: {error}")
            print(f"bench: {failed[-1]}", file=sys.stderr)
            continue
        if args.quick:
            part = without_goals(part)
        today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
        results["parts"][name] = {**part.to_dict(), "date": today, "rounds": args.rounds}
        results["parts"] = {name: results["parts"][name] for name in PARTS if name in results["parts"]}
        write_results(folder, results)  # after every part, so that an interruption loses only one
    print(markdown(results))
    for line in failed:
        print(f"bench: failed: {line}", file=sys.stderr)
    return EXIT_FAILURES if failed else EXIT_OK


def _check_videos(folder: Path, options: Options) -> None:
    """Prints which files of the user's folder are skipped; ConfigError if all are."""
    content = scan_folder(folder)
    if not content.taken:
        others = left_out_text(content.left_out) or "no files"
        raise ConfigError(f"--videos={folder}: no video in it, {others}; name a folder that holds some")
    if content.left_out:
        options.say(folder_text(folder, len(content.taken), content.left_out))


def without_goals(part: Part) -> Part:
    """The part without goals, which mean nothing at small sizes."""
    return replace(part, lines=[replace(line, goals={}) for line in part.lines])


def _selected(only: str | None) -> list[str]:
    """The parts to measure, in the table's order."""
    asked = list(PARTS) if only is None else [name.strip() for name in only.split(",")]
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise ConfigError(
            f"--only={only}: unknown part {', '.join(map(repr, unknown))}; there are {', '.join(PARTS)}"
        )
    return [name for name in PARTS if name in asked]


def _results(folder: Path, names: list[str], *, quick: bool) -> dict[str, Any]:
    """Results to fill in; with the parts of an earlier run, if only some are measured.

    Raises:
        ConfigError: The earlier run was on another machine, or of another kind.
    """
    new = {
        "command": "make bench-quick" if quick else "make bench",
        "machine": describe_machine(),
        "parts": {},
    }
    old = read_results(folder) if len(names) < len(PARTS) else {}
    if not old:
        return new
    for key in ("machine", "command"):
        if old[key] != new[key]:
            raise ConfigError(
                f"{folder}: its numbers come from another {key}; measure all parts, without --only, or "
                "give another --output"
            )
    return {**new, "parts": old["parts"]}


if __name__ == "__main__":
    exit_with(main())
