"""Handles SIGINT (Ctrl-C) and SIGTERM in this project's programs: one line on stderr, exit code 130 or 143.

    start-up   modules are being imported and nothing is written yet: the process exits at once
    work       an exception unwinds the work, so that child processes end and unfinished files are removed
    shutdown   the work is done and threads are being joined: the process exits at once

This module is the first that `import videotag` loads, and it imports as little as possible. Other programs
that import videotag keep their own handlers. During Python's own start-up, some 20 ms before this module
loads, SIGTERM ends the process silently and SIGINT prints a traceback of Python's modules.
"""

from __future__ import annotations

import _signal as signal  # the signal module without its enums, which take 1 ms
import atexit
import os
import sys
import time

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

_ROOT = os.path.abspath(__file__).rsplit(os.sep, 3)[0]  # noqa: PTH100 - pathlib takes 5 ms
_SCRIPTS = ("train.py", "eval.py", "predict.py", "tsn_extractor.py")  # in _ROOT, if it is a checkout
_VERBS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_DEFAULT_HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
#: `timeout` sends its signal twice: signals closer together than this count as one.
_DUPLICATE_SEC = 1.0
_RESEND_SEC = 0.02  # delay before a signal whose exception was swallowed is sent again


class Terminated(BaseException):
    """SIGTERM was received; not an Exception, so that `except Exception` does not catch it."""


class _State:
    """State of this process's program."""

    name = "videotag"
    is_working = False
    received: int | None = None  # the first signal
    received_sec = 0.0
    exit_code: int | None = None


def install_handlers() -> None:
    """Installs the signal handlers if this process runs a program of this project."""
    name = _program_name()
    if name is None:
        return
    _State.name = name
    for number, handler in _DEFAULT_HANDLERS.items():
        if signal.getsignal(number) == handler:  # a shell's background jobs ignore SIGINT
            signal.signal(number, _handle_signal)
    os.register_at_fork(after_in_child=_reset_handlers)
    # Registered first, so it runs last; after it, Python's shutdown would reset the handlers.
    atexit.register(_exit_before_shutdown)


def exit_with(code: int) -> NoReturn:
    """Exits with this code, handling signals until the process ends."""
    _State.exit_code = code
    sys.exit(code)


def run_with_signals(name: str, work: Callable[[], int], explain: Callable[[BaseException], int]) -> int:
    """Runs `work`, in which SIGINT and SIGTERM raise an exception, and returns the exit code.

    Signals that a calling program handles itself are left to it.

    Args:
        name: Name of the program, which begins the line on stderr.
        work: Function that does the work and returns the exit code.
        explain: Function that reports an error of `work` and returns the exit code.
    """
    before = _replace_default_handlers()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: hook(dropped) if not _resend_signal(dropped.exc_type) else None
    _State.name, _State.received = name, None
    code = 0
    try:
        try:
            _State.is_working = True
            code = work()
        except (Exception, SystemExit) as error:  # a plugin's sys.exit must not set the exit code
            # Inside an import or a library, a signal may surface as any error.
            if _State.received is None:
                code = explain(error)
        _State.is_working = False
    except (KeyboardInterrupt, Terminated) as error:
        _State.is_working = False
        _State.received = _State.received or (
            signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        )
    if _State.received is not None:
        _show_cursor()
        sys.stderr.write(f"{_line(_State.received)}\n")
        code = 128 + _State.received
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)
    return code


def raise_received() -> None:
    """Raises a received signal's exception again, which a library may have replaced by its own error."""
    if _State.received is not None and _State.is_working:
        raise Terminated if _State.received == signal.SIGTERM else KeyboardInterrupt


def _replace_default_handlers() -> dict[int, Any]:
    """Installs _handle_signal in place of default handlers; returns the handlers that it replaced."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _DEFAULT_HANDLERS}
    ours = {number: handler for number, handler in before.items() if handler == _DEFAULT_HANDLERS[number]}
    for number in ours:
        signal.signal(number, _handle_signal)
    return ours


def _handle_signal(number: int, _: FrameType | None) -> None:
    """Handles both signals."""
    is_first = _State.received is None
    if not is_first and time.monotonic() < _State.received_sec + _DUPLICATE_SEC:
        return
    _State.received, _State.received_sec = number, time.monotonic()
    if is_first and _State.is_working:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
    # There is nothing to unwind, or this is a second signal during unwinding.
    line = f"{_line(number)}\n".encode(errors="replace")
    try:
        _show_cursor()
        os.write(2, line)
    finally:
        os._exit(128 + number)


def _reset_handlers() -> None:
    """Restores the default handlers in forked children, since only the parent reports the signal."""
    for number in _DEFAULT_HANDLERS:
        if signal.getsignal(number) is _handle_signal:
            signal.signal(number, signal.SIG_DFL)


def _show_cursor() -> None:
    """Shows the terminal's cursor again, which a progress bar may have hidden."""
    if "rich" in sys.modules and os.isatty(2):  # sys.stderr may have been replaced by the bar
        os.write(2, b"\x1b[?25h")


def _line(number: int) -> str:
    return f"{_State.name}: {_VERBS[number]}"


def _resend_signal(error: type[BaseException] | None) -> bool:
    """Sends a signal again if Python dropped its exception, as it does in a weakref callback.

    Args:
        error: Class of the dropped exception.

    Returns:
        Whether the exception came from a signal.
    """
    number = _State.received
    if number is None or error is None or not issubclass(error, (KeyboardInterrupt, Terminated)):
        return False
    import threading

    def send() -> None:
        if _State.is_working:
            _State.received = None
            os.kill(os.getpid(), number)

    timer = threading.Timer(_RESEND_SEC, send)
    timer.daemon = True
    timer.start()
    return True


def _exit_before_shutdown() -> None:
    """Exits before interpreter shutdown, during which signal handlers no longer run."""
    if _State.exit_code is None:  # an uncaught error
        return
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib takes 2 ms
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed; or disk full, which was already reported
            pass
    os._exit(_State.exit_code)


def _program_name() -> str | None:
    """The name of this project's program that this process runs; None if it runs another program.

    Derived from Python's command line, because "__main__" does not exist yet when `python -m videotag`
    imports the package. In a multiprocessing worker sys.orig_argv does not end in sys.argv.
    """
    full, own = sys.orig_argv, getattr(sys, "argv", [])
    if not own or len(full) <= len(own):
        return None
    program = full[-len(own)]
    if own[0] == "-m":
        return "videotag" if program.removeprefix("-m").partition(".")[0] == "videotag" else None
    if own[0] != program:
        return None
    folder, name = os.path.split(os.path.realpath(program))
    tools = os.path.join(_ROOT, "tools")  # noqa: PTH118
    if name == "videotag" or (folder == _ROOT and name in _SCRIPTS):
        return "videotag"
    return name if folder == tools or folder.startswith(tools + os.sep) else None
