#!/usr/bin/env python3
"""Feeds damaged and hostile files to every reader, which must return a value or raise a short VideotagError.

    python tools/fuzz.py --seconds=60
    python tools/fuzz.py --inputs=1000000 --readers=labels,config --save_dir=data/fuzz

Every reader gets its seed files and the files of its folder below tests/fuzz, then mutations of them. Input
number i of a seed is always the same. Findings are saved: another exception, a crash, more than ten seconds,
too much memory, an error of many lines or with control characters.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from ctypes import c_ulong
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_mutations import mutated
from fuzz_readers import READERS, Reader
from run_tool import run_tool

from videotag.cli import values
from videotag.cli.main import Parser
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, VideotagError
from videotag.safe_text import is_plain
from videotag.system.atomic import check_may_write, open_atomic, temporary_folder

CORPUS = Path(__file__).parents[1] / "tests" / "fuzz"
TIME_LIMIT_SEC = 10  # per input
SILENCE_SEC = 40  # without progress until a worker is killed, as libraries may block signals
MEMORY_LIMIT = 2 * 2**30  # bytes of address space beyond what the process starts with
_MAX_FINDINGS = 20  # of a reader
_MAX_LINE = 1000  # characters of a line of an error
_MAX_LINES = 60  # lines of an error that lists problems; videotag.errors.one_error stops at 50


class TooSlow(BaseException):
    """A reader took too long; not an Exception, so that no reader catches it."""


@dataclass(frozen=True)
class Finding:
    """An input that a reader handled wrongly.

    Attributes:
        reader: Name of the reader.
        content: The input.
        what: What happened, in a line.
    """

    reader: str
    content: bytes
    what: str


def main(argv: list[str] | None = None) -> int:
    """Runs the harness; the exit code is 1 if it found anything."""
    return run_tool(build_parser(), fuzz, argv)


def build_parser() -> Parser:
    parser = Parser(prog="fuzz.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=values.natural, help="stop after so long; 60 if no --inputs are given"
    )
    parser.add_argument("--inputs", type=values.natural, help="stop after so many inputs")
    parser.add_argument("--seed", type=int, default=0, help="decides all inputs (default 0)")
    parser.add_argument(
        "--readers", help=f"those of {', '.join(READERS)}, separated by commas; all if not given"
    )
    parser.add_argument("--save_dir", default="data/fuzz", help="where inputs that were found go")
    return parser


def fuzz(args: argparse.Namespace) -> int:
    """Feeds the readers in turn and saves the findings of each."""
    names = args.readers.split(",") if args.readers else list(READERS)
    unknown = [name for name in names if name not in READERS]
    if unknown:
        raise ConfigError(
            f"--readers={args.readers}: no reader {', '.join(unknown)}; there are {', '.join(READERS)}"
        )
    check_may_write(Path(args.save_dir))
    seconds = 60 if args.seconds is None and args.inputs is None else args.seconds
    deadline = time.monotonic() + seconds if seconds else float("inf")
    total = num_findings = 0
    for number, name in enumerate(names):
        share = (deadline - time.monotonic()) / (len(names) - number)
        wanted = -(-args.inputs // len(names)) if args.inputs else None
        count, findings = run_reader(name, seed=args.seed, seconds=share, inputs=wanted)
        print(f"{name:16} {count:9,} inputs, {len(findings)} findings", flush=True)
        save(findings, Path(args.save_dir))
        total += count
        num_findings += len(findings)
    print(f"{total:,} inputs, {num_findings} findings")
    return EXIT_FAILURES if num_findings else EXIT_OK


def run_reader(name: str, *, seed: int, seconds: float, inputs: int | None) -> tuple[int, list[Finding]]:
    """Feeds one reader, in one worker process after the other; returns the number of inputs and the findings.

    Args:
        name: Name of the reader.
        seed: Seed of the mutations.
        seconds: Time after which no more mutations are made; the corpus is read in any case.
        inputs: Number of inputs; None for as many as there is time for.
    """
    findings: list[Finding] = []
    end = time.monotonic() + seconds
    done = 0
    with temporary_folder() as folder:
        current = folder / f"input{READERS[name].suffix}"
        while (inputs is None or done < inputs) and len(findings) < _MAX_FINDINGS:
            left = None if inputs is None else inputs - done
            count, finding = run_worker(name, current, seed=seed, first=done, inputs=left, end=end)
            done += count
            if finding is None:
                break
            findings.append(finding)
    return done, findings


def run_worker(
    name: str, current: Path, *, seed: int, first: int, inputs: int | None, end: float
) -> tuple[int, Finding | None]:
    """Feeds one reader in a worker process; returns the number of inputs and the first finding, which ends
    it.

    Args:
        name: Name of the reader.
        current: The file that holds one input after the other.
        seed: Seed of the mutations.
        first: Number of the first input.
        inputs: Number of inputs; None for as many as there is time for.
        end: Time, as of time.monotonic, after which no more mutations are made.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    begun = context.RawValue(c_ulong, 0)
    worker = context.Process(target=work, args=(theirs, begun, name, current, seed, first, inputs, end))
    worker.start()
    try:
        theirs.close()
        seen = None
        while not ours.poll(SILENCE_SEC) and begun.value != seen:
            seen = begun.value
        what = ours.recv() if ours.poll() else f"no answer within {SILENCE_SEC} s, not even to a signal"
    except EOFError:
        worker.join()
        what = f"the process died (exit code {worker.exitcode})"
    finally:
        worker.kill()
        worker.join()
    return begun.value, Finding(name, current.read_bytes(), what) if what else None


def work(
    report: Connection,
    begun: c_ulong,
    name: str,
    current: Path,
    seed: int,
    first: int,
    inputs: int | None,
    end: float,
) -> None:
    """What a worker process does, until its parent has gone.

    Args:
        report: Gets what is wrong with the last input, or None if nothing was found.
        begun: Gets the number of inputs so far.
        name: As of run_worker.
        current: As of run_worker.
        seed: As of run_worker.
        first: As of run_worker.
        inputs: As of run_worker.
        end: As of run_worker.
    """
    reader = READERS[name]
    parent = os.getppid()
    what = None
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        corpus = seeds_of(name, current.parent)
        current.write_bytes(corpus[0])  # in place of what may have killed the worker before
        fault(reader, current)  # imports what it needs before memory is limited
        limit_memory()
        for number, content in enumerate(contents(name, corpus, seed, first)):
            is_over = first + number >= len(corpus) and time.monotonic() > end
            if what or number == inputs or is_over or os.getppid() != parent:
                break
            begun.value = number + 1
            current.write_bytes(content)
            what = fault(reader, current)
        report.send(what)


def seeds_of(name: str, folder: Path) -> list[bytes]:
    """A reader's good files, and those of its corpus."""
    corpus = CORPUS / name
    files = sorted(corpus.iterdir()) if corpus.is_dir() else []
    return [*READERS[name].seeds(folder), *(path.read_bytes() for path in files)]


def contents(name: str, corpus: list[bytes], seed: int, first: int) -> Iterator[bytes]:
    """The inputs of a reader: its corpus, then mutations without end.

    Args:
        name: Name of the reader.
        corpus: Contents of its good files.
        seed: Seed of the mutations.
        first: Number of the first input.
    """
    yield from corpus[first:]
    number = max(first - len(corpus), 0)
    while True:
        yield mutated(corpus, random.Random(f"{name} {seed} {number}"), READERS[name].tokens)
        number += 1


def fault(reader: Reader, path: Path) -> str | None:
    """The problem with the response to an input; None if there is none."""

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_SEC)
    try:
        reader.read(path)
    except VideotagError as error:
        return bad_text(str(error))
    except TooSlow:
        return f"took more than {TIME_LIMIT_SEC} s"
    except BaseException as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    finally:
        signal.alarm(0)
    return None


def bad_text(text: str) -> str | None:
    """The problem with the text of an error; None if there is none."""
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        return f"an error of {len(lines)} lines"
    if any(len(line) > _MAX_LINE for line in lines):
        return f"an error with a line of {max(map(len, lines))} characters"
    if not all(is_plain(character) for line in lines for character in line):
        return "an error with control characters"
    return None


def limit_memory() -> None:
    """Limits the process to MEMORY_LIMIT more address space than it has, and disables core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def save(findings: list[Finding], folder: Path) -> None:
    """Writes every finding's input as READER_DIGEST, and prints what it did."""
    for finding in findings:
        digest = hashlib.sha256(finding.content).hexdigest()[:12]
        path = folder / f"{finding.reader}_{digest}{READERS[finding.reader].suffix}"
        with open_atomic(path) as file:
            file.write(finding.content)
        print(f"{path}: {finding.what}")


if __name__ == "__main__":
    exit_with(main())
