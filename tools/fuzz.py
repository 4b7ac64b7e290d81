#!/usr/bin/env python3
"""Damaged and hostile files through every reader: the answer is a value, or a short error of videotag's own.

    python tools/fuzz.py --seconds=60
    python tools/fuzz.py --inputs=1000000 --readers=labels,config --save_dir=data/fuzz

Every reader gets its seeds and the files of its folder below tests/fuzz as they are, then mutations of them;
input number i of a seed is always the same. What ends otherwise is saved: another exception, a crash, more
than ten seconds, more memory than allowed, an error of many lines or with control characters.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import random
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_mutations import mutated
from fuzz_readers import READERS, Reader

from videotag.errors import VideotagError
from videotag.shown import is_plain

CORPUS = Path(__file__).parents[1] / "tests" / "fuzz"
TIME_LIMIT_SEC = 10
MEMORY_LIMIT = 2 * 2**30  # bytes of address space above what the process has when it begins
_MAX_LINE = 1000  # characters of a line of an error
_MAX_LINES = 60  # lines of an error that lists problems; videotag.errors.one_error stops at 50
_AT_ONCE = 200  # inputs between two reports of a worker


@dataclass(frozen=True)
class Finding:
    """An input that no reader may answer so.

    Attributes:
        reader: Name of the reader.
        content: The input.
        what: What happened, in a line.
    """

    reader: str
    content: bytes
    what: str


def main(argv: list[str] | None = None) -> int:
    """Runs the harness; 1 if it found anything."""
    args = parse_args(argv)
    names = args.readers.split(",") if args.readers else list(READERS)
    unknown = [name for name in names if name not in READERS]
    if unknown:
        print(f"--readers={args.readers}: no reader {', '.join(unknown)}; there are {', '.join(READERS)}")
        return 2
    deadline = time.monotonic() + args.seconds if args.seconds else float("inf")
    findings: list[Finding] = []
    total = 0
    for number, name in enumerate(names):
        share = (deadline - time.monotonic()) / (len(names) - number)
        wanted = -(-args.inputs // len(names)) if args.inputs else None
        count, found = run_reader(name, seed=args.seed, seconds=share, inputs=wanted)
        print(f"{name:16} {count:9,} inputs, {len(found)} findings", flush=True)
        total += count
        findings += found
    save(findings, Path(args.save_dir))
    print(f"{total:,} inputs, {len(findings)} findings")
    return 1 if findings else 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="stop after so long; 60 if no --inputs are given")
    parser.add_argument("--inputs", type=int, help="stop after so many inputs")
    parser.add_argument("--seed", type=int, default=0, help="decides all inputs (default 0)")
    parser.add_argument(
        "--readers", help=f"those of {', '.join(READERS)}, separated by commas; all if not given"
    )
    parser.add_argument("--save_dir", default="data/fuzz", help="where inputs that were found go")
    args = parser.parse_args(argv)
    if args.seconds is None and args.inputs is None:
        args.seconds = 60.0
    return args


def run_reader(name: str, *, seed: int, seconds: float, inputs: int | None) -> tuple[int, list[Finding]]:
    """The number of inputs that a reader got, and what was found, in worker processes one after the other."""
    findings: list[Finding] = []
    start = time.monotonic()
    done = 0
    with tempfile.TemporaryDirectory(prefix="videotag-fuzz-") as folder:
        current = Path(folder, f"input{READERS[name].suffix}")
        while time.monotonic() - start < seconds and (inputs is None or done < inputs) and len(findings) < 20:
            left = None if inputs is None else inputs - done
            count, finding = run_worker(
                name,
                current,
                seed=seed,
                first=done,
                inputs=left,
                seconds=seconds - (time.monotonic() - start),
            )
            done += count
            if finding is None:
                break
            findings.append(finding)
    return done, findings


def run_worker(
    name: str, current: Path, *, seed: int, first: int, inputs: int | None, seconds: float
) -> tuple[int, Finding | None]:
    """Inputs from number `first` on in a process of their own, up to the first finding."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=work, args=(theirs, name, current, seed, first, inputs, seconds))
    worker.start()
    theirs.close()
    count = 0
    try:
        while ours.poll(TIME_LIMIT_SEC * 2 + 20):
            report = ours.recv()
            if report is None:
                worker.join()
                return count, None
            count, what = report
            if what:
                worker.join()
                return count, Finding(name, current.read_bytes(), what)
        what = f"no answer within {TIME_LIMIT_SEC} s, not even to a signal"
    except EOFError:
        worker.join()
        what = f"the process died (exit code {worker.exitcode})"
    finally:
        worker.kill()
        worker.join()
    return count + 1, Finding(name, current.read_bytes(), what)


def work(
    report: Connection, name: str, current: Path, seed: int, first: int, inputs: int | None, seconds: float
) -> None:
    """What a worker process does; reports (inputs done, what was found) now and then, None at the end."""
    reader = READERS[name]
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        corpus = seeds_of(name, current.parent)
        fault(reader, current)  # imports what it needs before memory is limited
        limit_memory()
        end = time.monotonic() + seconds
        last = 0
        for number, content in enumerate(contents(name, corpus, seed, first)):
            if number == inputs or (first + number >= len(corpus) and time.monotonic() > end):
                break
            current.write_bytes(content)
            what = fault(reader, current)
            if what or number % _AT_ONCE == 0:
                report.send((number + 1, what))
            if what:
                return
            last = number + 1
        report.send((last, None))
        report.send(None)


def seeds_of(name: str, folder: Path) -> list[bytes]:
    """A reader's good files, and those of its corpus."""
    corpus = CORPUS / name
    files = sorted(corpus.iterdir()) if corpus.is_dir() else []
    return [*READERS[name].seeds(folder), *(path.read_bytes() for path in files)]


def contents(name: str, corpus: list[bytes], seed: int, first: int) -> Iterator[bytes]:
    """The inputs of a reader from number `first` on: its corpus, then mutations without end."""
    yield from corpus[first:]
    number = max(first - len(corpus), 0)
    while True:
        yield mutated(corpus, random.Random(f"{name} {seed} {number}"), READERS[name].tokens)
        number += 1


def fault(reader: Reader, path: Path) -> str | None:
    """What is wrong with the answer to an input; None if nothing."""

    def too_slow(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_SEC)
    try:
        reader.read(path)
    except VideotagError as error:
        return bad_text(str(error))
    except TimeoutError:
        return f"took more than {TIME_LIMIT_SEC} s"
    except BaseException as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    finally:
        signal.alarm(0)
    return None


def bad_text(text: str) -> str | None:
    """What is wrong with the text of an error; None if nothing."""
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        return f"an error of {len(lines)} lines"
    if any(len(line) > _MAX_LINE for line in lines):
        return f"an error with a line of {max(map(len, lines))} characters"
    if not all(is_plain(character) for line in lines for character in line):
        return "an error with control characters"
    return None


def limit_memory() -> None:
    """Lets the process have MEMORY_LIMIT more address space than it has, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def save(findings: list[Finding], folder: Path) -> None:
    """Writes every finding's input as READER_DIGEST, and prints what it did."""
    for finding in findings:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(finding.content).hexdigest()[:12]
        path = folder / f"{finding.reader}_{digest}{READERS[finding.reader].suffix}"
        path.write_bytes(finding.content)
        print(f"{path}: {finding.what}")


if __name__ == "__main__":
    raise SystemExit(main())
