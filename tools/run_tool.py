"""Runs a tool like a videotag command: one line per mistake, exit codes, no traceback."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from videotag.cli.main import run_command


def run_tool(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: list[str] | None = None
) -> int:
    """Runs a tool's command line and returns its exit code.

    Args:
        parser: Parser of the tool's flags.
        work: Function that does the work and returns the exit code.
        argv: Arguments without the program's name; those of the process by default.
    """
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    return run_command(parser.prog, lambda: work(args))
