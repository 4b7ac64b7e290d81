"""What the tools share with `videotag`: one line per mistake, exit codes, no traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from videotag.errors import EXIT_INTERRUPTED, EXIT_USAGE, VideotagError, error_text


def run_tool(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: list[str] | None = None
) -> int:
    """The exit code of a tool's command line.

    Args:
        parser: of the tool's flags.
        work: does what they say and returns the exit code.
        argv: without the program's name; those of the process if not given.
    """
    try:
        return work(parser.parse_args(argv))
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (VideotagError, OSError) as error:
        print(f"{parser.prog}: {error_text(error)}", file=sys.stderr)
        return EXIT_USAGE
