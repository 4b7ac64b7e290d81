"""The `videotag` command: dispatches to subcommands, and turns errors into one line and an exit code."""

from __future__ import annotations

from videotag.system.signals import exit_with, run_with_signals

import argparse
import codecs
import copy
import difflib
import importlib
import io
import itertools
import json
import logging
import numbers
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

import videotag
from videotag import cli
from videotag.cli import arguments
from videotag.errors import (
    EXIT_OK,
    EXIT_USAGE,
    ConfigError,
    VideotagError,
    error_text,
    lacks_memory,
)
from videotag.plugins import load_plugin, plugin_line
from videotag.safe_text import escaped
from videotag.system.cores import is_launched

EXIT_BUG = 70
_MAX_TEXT = 1000  # characters of a usage error, or of an argument of a log line
_NOT_COMMANDS = ("main", "arguments", "source_flags", "tables", "values")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, no abbreviated flags, and exit code 2."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Like argparse's, but this parser, which knows its command, rejects unrecognized arguments."""
        self._words = list(args or ())
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Prints one line to stderr and exits with code 2."""
        text = escaped(message, limit=_MAX_TEXT)
        self.exit(EXIT_USAGE, f"{self.prog}: {text}{self._hint()}; see {self.prog} --help\n")

    def _hint(self) -> str:
        """A suggestion for the first unknown flag; empty if there is none."""
        flags = self._option_string_actions
        words = itertools.takewhile(lambda word: word != "--", self._words)
        if self._subparsers:  # arguments after the command belong to its parser
            words = itertools.takewhile(lambda word: word.startswith("-"), words)
        for word in words:
            flag = word.partition("=")[0]
            if not word.startswith("-") or flag in flags or len(word) < 3:
                continue
            near = difflib.get_close_matches("--" + flag.lstrip("-"), flags, n=1)
            if near and "." not in flag:  # a word with a dot is probably a file
                return f"; did you mean {near[0]}?"
            if not word.startswith("--"):
                return f"; a path that begins with a dash is written ./{word}"
            if self._subparsers:
                return "; flags stand behind the command"
        return ""


def main(argv: list[str] | None = None) -> int:
    """Runs a command line, without the program's name, and returns its exit code."""
    _import_numpy()
    argv = [_underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    _escape_stdout()
    try:
        parser, commands = _build_parser()
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has already printed its message
        return int(stop.code or EXIT_OK)
    name = f"videotag {args.command}"

    def work() -> int:
        _check_processes(name, commands[args.command])
        for plugin in args.plugin:
            load_plugin(plugin)
        return int(commands[args.command].run(args))

    return run_command(name, work, debug=args.debug)


def run_command(name: str, work: Callable[[], int], *, debug: bool = False) -> int:
    """Runs a command and returns its exit code; signals and errors end it with one line on stderr.

    Args:
        name: Name of the command, the prefix of that line.
        work: Function that executes the command and returns its exit code.
        debug: Whether to print the traceback of an error.
    """
    _log_to_stderr()

    def flushed() -> int:
        code = work()
        arguments.show("", end="")  # flushes the output of print
        return code

    def explain(error: BaseException) -> int:
        # A reader that closes our output is no error.
        if isinstance(error, BrokenPipeError) and plugin_line(error) is None:
            arguments.mute_stdout()
            return EXIT_OK
        if debug:
            traceback.print_exception(error)
        text, code = _explained(error)
        print(f"{name}: {text}", file=sys.stderr)
        return code

    return run_with_signals(name, flushed, explain)


def _check_processes(name: str, command: ModuleType) -> None:
    """Rejects several processes of a command that cannot split its work: they would write the same files."""
    if is_launched() and not getattr(command, "SHARES_WORK", False):
        raise ConfigError(f"{name} runs in one process; start it without paddle.distributed.launch")


def _explained(error: BaseException) -> tuple[str, int]:
    """The message and exit code for an error that ended a command."""
    text = " ".join(str(error).split())
    if lacks_memory(error):
        detail = escaped(
            text[max(0, text.find("ResourceExhausted")) :][:120]
        )  # follows Paddle's C++ traceback
        where = f" ({detail})" if detail else ""
        return f"not enough memory; lower batch_size, or the sizes in MODEL{where}", EXIT_USAGE
    place = plugin_line(error)
    if isinstance(error, VideotagError) or (isinstance(error, OSError) and place is None):
        return error_text(error), EXIT_USAGE
    if isinstance(error, ModuleNotFoundError) and error.name == "paddle":
        from videotag.runtime.backends import list_backends

        others = " or ".join(backend.name for backend in list_backends() if not backend.needs_paddle)
        return (
            "Paddle is not installed; only predict, extract and tag with exports for "
            f"{others} run without it; run: pip install paddlepaddle",
            EXIT_USAGE,
        )
    text = f"{type(error).__name__}: {escaped(text, limit=500)}"
    if place is not None:
        return f"{place}: {text}; correct the plugin (--debug shows the traceback)", EXIT_USAGE
    if isinstance(error, SystemExit):
        text = f"something called sys.exit({error.code!r})"
    return f"a bug in videotag: {text}; run it again with --debug and report the output", EXIT_BUG


def _import_numpy() -> None:
    """Imports NumPy with signals blocked, so that this thread handles them, not NumPy's; see quiet_paddle."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        importlib.import_module("numpy")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)


def _escape_stdout() -> None:
    r"""Makes stdout print characters outside its encoding as JSON escapes, \uXXXX."""
    codecs.register_error("videotag.escape", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="videotag.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class _StderrHandler(logging.Handler):
    """Prints to the current sys.stderr, which a progress bar may replace to print lines above itself.

    Arguments of a message, such as paths and errors, are escaped: no line breaks or control characters.
    """

    def emit(self, record: logging.LogRecord) -> None:
        record = copy.copy(record)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_quoted, record.args))
        print(self.format(record), file=sys.stderr)


def _quoted(value: object) -> object:
    if isinstance(value, numbers.Number):  # NumPy's, too
        return value
    if isinstance(value, VideotagError):
        return error_text(value)
    return escaped(str(value), limit=_MAX_TEXT)


def _log_to_stderr() -> None:
    """Logs videotag's messages to stderr; does not configure loggers of other packages."""
    logger = logging.getLogger("videotag")
    logger.setLevel(logging.INFO)
    logger.handlers = [_StderrHandler()]


def run() -> NoReturn:
    """Entry point of the installed command."""
    exit_with(main())


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
        subparser.add_argument(
            "--plugin",
            action="append",
            default=[],
            metavar="FILE.py",
            help="execute a Python file that registers your own models or readers; repeatable",
        )
        commands[name] = module
    return parser, commands


def _underscored(word: str) -> str:
    """Translates `--save-dir=x` to `--save_dir=x`, because both spellings of a flag are accepted."""
    flag, sign, value = word.partition("=")
    if flag.startswith("--") and len(flag) > 2:
        flag = "--" + flag[2:].replace("-", "_")
    return flag + sign + value


if __name__ == "__main__":
    run()
