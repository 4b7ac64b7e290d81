"""What the tools share with `videotag`: one line per mistake, exit codes, no traceback."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from videotag.cli.main import run_command


def run_tool(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: list[str] | None = None
) -> int:
    """The exit code of a tool's command line.

    Args:
        parser: Parser of the tool's flags.
        work: Does what they say and returns the exit code.
        argv: Words without the program's name; those of the process if not given.
    """
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    return run_command(parser.prog, lambda: work(args))
