"""The `videotag` command: finds the subcommand's file, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import logging
import pkgutil
import sys
import traceback
from types import ModuleType
from typing import NoReturn

import videotag
from videotag import cli
from videotag.cli import arguments
from videotag.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, VideotagError

EXIT_BUG = 70
_NOT_COMMANDS = ("main", "arguments")


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, no guessing of shortened flags, and exit code 2."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """One line on stderr, then exit code 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (without the program's name) and returns its exit code."""
    argv = [_underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        parser, commands = _build_parser()
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its line, or the help
        return int(stop.code or EXIT_OK)
    name = f"videotag {args.command}"
    _log_to_stderr()
    try:
        return int(commands[args.command].run(args))
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; nothing is wrong
        arguments.mute_stdout()
        return EXIT_OK
    except (VideotagError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        text = " ".join(str(error).split())[:500]
        print(
            f"{name}: a bug in videotag: {type(error).__name__}: {text}; "
            "run again with --debug and report it",
            file=sys.stderr,
        )
        return EXIT_BUG


class _StderrHandler(logging.Handler):
    """Looks sys.stderr up for every line, so that a progress bar can print the line above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _log_to_stderr() -> None:
    """Shows videotag's own messages, and leaves other packages' loggers alone."""
    logger = logging.getLogger("videotag")
    logger.setLevel(logging.INFO)
    logger.handlers = [_StderrHandler()]


def run() -> NoReturn:
    """Entry point of the installed command."""
    sys.exit(main())


def _build_parser() -> tuple[Parser, dict[str, ModuleType]]:
    parser = Parser(prog="videotag", description="Tags videos: TSN frame features, then a tagger over time.")
    parser.add_argument("--version", action="version", version=f"videotag {videotag.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = {}
    for info in pkgutil.iter_modules(cli.__path__):
        if info.name in _NOT_COMMANDS:
            continue
        module = importlib.import_module(f"videotag.cli.{info.name}")
        name = info.name.replace("_", "-")
        subparser = subparsers.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.add_argument("--debug", action="store_true", help="show a traceback with an error")
        commands[name] = module
    return parser, commands


def _underscored(word: str) -> str:
    """`--save-dir=x` as `--save_dir=x`: both spellings of a flag are taken."""
    flag, sign, value = word.partition("=")
    if flag.startswith("--") and len(flag) > 2:
        flag = "--" + flag[2:].replace("-", "_")
    return flag + sign + value


if __name__ == "__main__":
    run()
