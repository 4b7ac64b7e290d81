"""Does a change to the code change what users get? Run this before and after; every bit is compared.

    python tools/benchmark/same_results.py --compare tools/benchmark/same_results.json
    python tools/benchmark/same_results.py --compare before.json --quick    # some cases, less than 2 minutes
    python tools/benchmark/same_results.py --out before.json                # with the old code, on your CPU

It runs the commands that users run, on made-up inputs: every shipped YAML at a small size (losses of three
steps, weights, predictions, exports to all backends), the demo's path, and other ways to train. The commands
compute on one thread and in float32, so that all numbers are the same in every run on one machine. Other CPUs
and other versions of packages give other bits, so a file from another machine is refused.

It prints a line for each difference. Exit codes: 0 no difference; 1 differences, or a command failed; 2 a
mistake in the command line, or a file from another machine; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from same_cases import Case, all_cases
from tiny_inputs import write_inputs
from user_commands import CommandFailedError, sha256

FAILED = "failed"  # the only key of a case in which a command failed
PACKAGES = ("paddlepaddle", "openvino", "onnxruntime", "paddle2onnx", "av", "numpy", "pillow")
_MISSING = "nothing"


class ResultsFileError(Exception):
    """A file of results cannot be used for comparison."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="same_results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results to a JSON file")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with a file of --out")
    parser.add_argument("--quick", action="store_true", help="run only some of the cases")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time, one core each (default: 2)")
    parser.add_argument("--work_dir", type=Path, help="a new folder for all files of the run, which is kept")
    args = parser.parse_args(argv)
    if not (args.out or args.compare):
        parser.error("nothing to do; give --out or --compare")
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: no folder {args.out.parent}; make it first")
    if args.work_dir and args.work_dir.exists():
        parser.error(f"--work_dir {args.work_dir}: already exists; name a new folder")
    try:
        return compare_results(args)
    except ResultsFileError as error:
        print(f"same_results: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("same_results: interrupted", file=sys.stderr)
        return 130


def compare_results(args: argparse.Namespace) -> int:
    """Runs the cases, writes their results and prints what differs; returns the exit code.

    Raises:
        ResultsFileError: As read_results.
    """
    before = read_results(args.compare) if args.compare else None
    with contextlib.ExitStack() as stack:
        work = args.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        results = run_cases(work.resolve(), all_cases(quick=args.quick), jobs=args.jobs)
    if args.out:
        write_results(args.out, results)
    lines = [f"{name}: {found[FAILED]}" for name, found in results.items() if FAILED in found]
    if before is not None:
        lines = list(differences(before, results, is_part=args.quick))
    for line in lines:
        print(line)
    if before is not None:
        print(f"{len(lines)} differences in {len(results)} cases")
    return 1 if lines else 0


def run_cases(work: Path, cases: Mapping[str, Case], *, jobs: int) -> dict[str, Any]:
    """The results of all cases by name; {"failed": why} for a case in which a command fails.

    Args:
        work: Folder in which each case gets a working folder of its own with the inputs.
        cases: The cases to run.
        jobs: Number of cases that run at the same time.
    """

    def run_case(name: str) -> dict[str, Any]:
        started, folder = time.monotonic(), work / name
        folder.mkdir(parents=True)
        write_inputs(folder)
        made = sha256(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
        try:
            found = {"inputs": made, **cases[name](folder)}
        except CommandFailedError as error:
            found = {FAILED: str(error)}
        except (OSError, LookupError, ValueError) as error:  # a command wrote other files than expected
            found = {FAILED: f"{type(error).__name__}: {error}"}
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return found

    pool = ThreadPoolExecutor(jobs)
    try:
        return dict(zip(cases, pool.map(run_case, cases), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], *, is_part: bool = False
) -> Iterator[str]:
    """A line for every value that differs, and one for each case that failed or that only one side has.

    Args:
        before: Results of the old code by case.
        after: Results of the new code.
        is_part: Skip cases that `after` lacks, because it holds only some of them.
    """
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            if not is_part:
                yield f"{name}: no such case in the new results"
            continue
        if FAILED in after[name]:
            yield f"{name}: {after[name][FAILED]}"
            continue
        if name not in before:
            yield f"{name}: no such case in the old results"
            continue
        old, new = (dict(leaves(side[name])) for side in (before, after))
        for key in dict.fromkeys([*old, *new]):
            was, found = old.get(key, _MISSING), new.get(key, _MISSING)
            if was != found:
                yield f"{name}: {key}: was {was}, is {found}"


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(path, JSON text) of every value in nested dicts and lists; a path is "exports/onnx/losses/0"."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from leaves(part, f"{place}/{key}" if place else str(key))
    else:
        yield place, json.dumps(value, ensure_ascii=False)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes the results and a description of this machine, atomically."""
    text = json.dumps({"machine": describe_machine(), "results": results}, ensure_ascii=False, indent=1)
    partial_path = path.with_name(f"{path.name}.partial")
    partial_path.write_text(text + "\n", encoding="utf-8")
    partial_path.replace(path)


def read_results(path: Path) -> dict[str, Any]:
    """The results in a file that was written on this machine.

    Raises:
        ResultsFileError: The file cannot be read, is not one of --out, or comes from another machine.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results: dict[str, Any] = content["results"]
        made_on = dict(content["machine"])
    except OSError as error:
        raise ResultsFileError(f"{path}: cannot read ({error.strerror}); write it with --out") from error
    except (ValueError, TypeError, KeyError):
        raise ResultsFileError(f"{path}: not written by --out; write it anew") from None
    for key, here in describe_machine().items():
        if made_on.get(key) != here:
            raise ResultsFileError(
                f"{path}: made with {key} {made_on.get(key)}, but this machine has {here}, and results "
                "depend on it; write a file with --out and the old code here, and compare with that"
            )
    return results


def describe_machine() -> dict[str, str | None]:
    """What the bits depend on: CPU, its vector instructions, versions; None for packages not installed."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    vector = [flag for flag in flags[1].split() if re.match("avx|amx|fma|sse4", flag)] if flags else []
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "vector instructions": " ".join(sorted(vector)),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
