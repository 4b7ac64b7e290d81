"""Sends a command SIGINT and SIGTERM at many moments of its life and lists every ending that is not clean.

    python tools/signal_sweep.py --moments 60 -- python -m videotag models
    python tools/signal_sweep.py --folder inputs --to group -- python train.py --epoch 1 --save_dir ck

The command runs once to its end, which shows how long it takes, and then once for each moment, in a copy of
--folder. Clean is: exit code 130 or 143 with one line on stderr, or the command's own end; no traceback,
no process left, no unfinished file. While Python starts, before a line of this project has run, death by the
signal itself is counted apart, as "early". Exit code 1: an ending was not clean. Linux only: it reads /proc.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from run_tool import run_tool

from videotag.cli import values
from videotag.cli.main import Parser
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError

_MARK = "VIDEOTAG_SWEEP"  # in the environment of every process that a run starts
_LINES = {130: "interrupted", 143: "terminated"}
_LIMIT_SEC = 120.0  # for a run; one that takes longer hangs
_REAP_SEC = 3.0  # for children to end after their parent


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        code: Exit code; negative if a signal ended the process itself.
        stderr: All it wrote there.
        children: Command lines of processes that outlived it.
        unfinished: Files that it left unfinished.
        took_sec: Seconds from the signal to the end.
    """

    code: int
    stderr: bytes
    children: list[str]
    unfinished: list[str]
    took_sec: float

    def verdict(self, allowed: set[int]) -> str:
        """Judges the ending: "clean", "early", or what is wrong.

        Args:
            allowed: Exit codes of the command's own end.
        """
        if self.children:
            return f"children left: {self.children}"
        if self.unfinished:
            return f"unfinished files: {self.unfinished}"
        lines = self.stderr.decode(errors="replace").splitlines()
        if self.code in allowed and not any("Traceback" in line for line in lines):
            return "clean"
        has_ended_python = self.code < 0 or (self.code == 1 and b"KeyboardInterrupt" in self.stderr)
        if has_ended_python and b"videotag" not in self.stderr and not _is_ours(self.stderr):
            return "early"
        said = [line for line in lines if line.endswith(tuple(_LINES.values()))]
        if (
            self.code in _LINES
            and len(said) == 1
            and said[0].endswith(_LINES[self.code])
            and said == lines[-1:]
        ):
            extra = [line for line in lines[:-1] if "Traceback" in line or "Exception ignored" in line]
            return f"more than a line: {lines[:6]}" if extra else "clean"
        return f"code {self.code}, stderr: {lines[-4:]}"


def _is_ours(stderr: bytes) -> bool:
    """Whether a traceback names code of this project."""
    return str(Path(__file__).resolve().parents[1]).encode() in stderr


def run_once(
    command: Sequence[str], folder: Path, number: int | None, delay_sec: float, *, to_group: bool
) -> Ending:
    """Runs the command in `folder` and sends it a signal after delay_sec.

    Args:
        command: The command line.
        folder: Working folder of the run.
        number: The signal; None lets the command end by itself.
        delay_sec: Seconds from the start to the signal.
        to_group: Whether all processes of its group get the signal, as by Ctrl-C.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {_MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            restore_signals=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        start = time.monotonic()
        if number is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay_sec)
            start = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if to_group else os.kill)(process.pid, number)
        try:
            code = process.wait(_LIMIT_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -99
        took_sec = time.monotonic() - start
        children = _left(mark)
        stderr.seek(0)
        unfinished = [str(path.relative_to(folder)) for path in folder.rglob("*.partial")]
        return Ending(code, stderr.read(), children, unfinished, took_sec)


def _left(mark: str) -> list[str]:
    """Command lines of processes with this mark that do not end by themselves soon; they are killed."""
    end = time.monotonic() + _REAP_SEC
    while (found := list(_marked(mark))) and time.monotonic() < end:
        time.sleep(0.02)
    for number, _ in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return [command for _, command in found]


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    yield int(entry.name), command.decode(errors="replace")[:120]


def sweep(args: argparse.Namespace) -> int:
    """Prints what came out at every moment that was not clean, and how many endings were of which kind."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise ConfigError("no command; give it behind --")
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="videotag-sweep-") as work:

        def run(number: int | None, delay_sec: float, *, to_group: bool) -> Ending:
            folder = Path(work, uuid.uuid4().hex)
            shutil.copytree(args.folder, folder, symlinks=True) if args.folder else folder.mkdir()
            try:
                return run_once(command, folder, number, delay_sec, to_group=to_group)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        run(None, 0, to_group=False)  # fills the system's caches
        whole = run(None, 0, to_group=False)
        print(f"to its end: {whole.took_sec:.2f} s, exit code {whole.code}", flush=True)
        length_sec = args.until or whole.took_sec * 1.03
        for number in (signal.SIGINT, signal.SIGTERM):
            for to_group in {"process": (False,), "group": (True,), "both": (False, True)}[args.to]:
                for index in range(args.moments):
                    delay_sec = args.since + (length_sec - args.since) * index / args.moments
                    ending = run(number, delay_sec, to_group=to_group)
                    verdict = ending.verdict({whole.code})
                    kind = verdict if verdict in ("clean", "early") else "NOT CLEAN"
                    counts[f"{kind} {ending.code}"] += 1
                    slowest = max(slowest, ending.took_sec if ending.code != whole.code else 0.0)
                    if kind == "NOT CLEAN" or (args.verbose and kind == "early"):
                        target = "group" if to_group else "process"
                        print(
                            f"{signal.Signals(number).name} {target} {delay_sec:.4f} s: {verdict}", flush=True
                        )
                        if args.verbose:
                            print(ending.stderr.decode(errors="replace"), flush=True)
    print(f"slowest answer {slowest:.2f} s;", dict(sorted(counts.items())))
    return EXIT_FAILURES if any(kind.startswith("NOT") for kind in counts) else EXIT_OK


def build_parser() -> Parser:
    parser = Parser(
        prog="signal_sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=values.natural, default=60, help="of each signal (default: 60)")
    parser.add_argument("--since", type=float, default=0.0, help="first moment in seconds (default: 0)")
    parser.add_argument("--until", type=float, help="last moment in seconds (default: the command's end)")
    parser.add_argument("--to", choices=("process", "group", "both"), default="both", help="default: both")
    parser.add_argument("--folder", type=Path, help="copied for each run, which works in it")
    parser.add_argument("--verbose", action="store_true", help="print all that a run wrote to stderr")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_tool(build_parser(), sweep, argv)


if __name__ == "__main__":
    exit_with(main())
