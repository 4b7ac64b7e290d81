"""How the programs of this project answer SIGINT (Ctrl-C) and SIGTERM: one line, exit code 130 or 143.

    while it starts   modules are imported and nothing is written yet: the process ends at once
    while it works    an exception unwinds the work, so that children end and unfinished files go
    while it ends     the work is done and threads are joined: the process ends at once

This module is the first that `import videotag` loads, and itself loads next to nothing. A program of others
that imports videotag keeps its own handlers. Before this module, Python itself starts, in some 20 ms, and
answers in its own way: SIGTERM ends it in silence, SIGINT with a traceback of Python's modules.
"""

from __future__ import annotations

import _signal as signal  # the module signal without its enums, which take 1 ms
import atexit
import os
import sys
import time

TYPE_CHECKING = False  # that of typing takes 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

_ROOT = os.path.abspath(__file__).rsplit(os.sep, 3)[0]  # noqa: PTH100 - pathlib takes 5 ms
_SCRIPTS = ("train.py", "eval.py", "predict.py", "tsn_extractor.py")  # in _ROOT, if it is a checkout
_VERBS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
#: `timeout` sends its signal twice: signals closer together than this count as one.
_SAME_SEC = 1.0
_AGAIN_SEC = 0.02  # until a signal whose exception was swallowed is sent again


class Terminated(BaseException):
    """SIGTERM was received; not an Exception, so that `except Exception` does not catch it."""


class _State:
    """Where the program is."""

    name = "videotag"
    is_working = False
    received: int | None = None  # the first signal
    received_sec = 0.0
    exit_code: int | None = None


def begin() -> None:
    """Answers signals from now on, if this process is a program of this project."""
    name = _program()
    if name is None:
        return
    _State.name = name
    for number, handler in _USUAL.items():
        if signal.getsignal(number) == handler:  # a job in the background of a shell ignores SIGINT
            signal.signal(number, _handle_signal)
    os.register_at_fork(after_in_child=_reset_handlers)
    # Whoever registers first runs last: behind this, Python would forget the handlers.
    atexit.register(_end)


def exit_with(code: int) -> NoReturn:
    """Ends the program with this exit code, still answering signals until the end."""
    _State.exit_code = code
    sys.exit(code)


def run_with_signals(name: str, work: Callable[[], int], explain: Callable[[Exception], int]) -> int:
    """The exit code of `work`, which SIGINT and SIGTERM end by an exception.

    A program around this one that handles a signal itself goes on doing so.

    Args:
        name: What the line on stderr begins with.
        work: Returns the exit code.
        explain: Prints what an error of `work` means and returns the exit code.
    """
    before = _install()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: hook(dropped) if not _sent_again(dropped.exc_type) else None
    _State.name, _State.received = name, None
    code = 0
    try:
        try:
            _State.is_working = True
            code = work()
        except Exception as error:
            # In the middle of an import, or in a library, a signal may come out as any error.
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


def _install() -> dict[int, Any]:
    """Lets _handle_signal handle the signals that nobody else handles; what handled them before."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _USUAL}
    ours = {number: handler for number, handler in before.items() if handler == _USUAL[number]}
    for number in ours:
        signal.signal(number, _handle_signal)
    return ours


def _handle_signal(number: int, _: FrameType | None) -> None:
    """The handler of both signals."""
    is_first = _State.received is None
    if not is_first and time.monotonic() < _State.received_sec + _SAME_SEC:
        return
    _State.received, _State.received_sec = number, time.monotonic()
    if is_first and _State.is_working:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
    # Nothing to unwind, or a second signal arrived while unwinding.
    line = f"{_line(number)}\n".encode(errors="replace")
    try:
        _show_cursor()
        os.write(2, line)
    finally:
        os._exit(128 + number)


def _reset_handlers() -> None:
    """Restores default handlers in forked children; only the parent reports the signal."""
    for number in _USUAL:
        if signal.getsignal(number) is _handle_signal:
            signal.signal(number, signal.SIG_DFL)


def _show_cursor() -> None:
    """Shows a terminal's cursor again, if a progress bar that was just beginning may have hidden it."""
    if "rich" in sys.modules and os.isatty(2):  # not by sys.stderr, which the bar may have replaced
        os.write(2, b"\x1b[?25h")


def _line(number: int) -> str:
    return f"{_State.name}: {_VERBS[number]}"


def _sent_again(error: type[BaseException] | None) -> bool:
    """Sends a signal again whose exception came where Python drops exceptions, as in a weak reference's call.

    Args:
        error: What was dropped; False if it is no exception of a signal.
    """
    number = _State.received
    if number is None or error is None or not issubclass(error, (KeyboardInterrupt, Terminated)):
        return False
    import threading

    def send() -> None:
        if _State.is_working:
            _State.received = None
            os.kill(os.getpid(), number)

    timer = threading.Timer(_AGAIN_SEC, send)
    timer.daemon = True
    timer.start()
    return True


def _end() -> None:
    """Exits before interpreter shutdown, during which handlers no longer run."""
    if _State.exit_code is None:  # an error that nobody has caught
        return
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib takes 2 ms
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or full, which has been said
            pass
    os._exit(_State.exit_code)


def _program() -> str | None:
    """The name of the program of this project that this process is; None if it is another one.

    Python's own command line tells: the module "__main__" is not there yet when `python -m videotag` imports
    the package. In a worker of multiprocessing the two lists of words do not fit together.
    """
    words, own = sys.orig_argv, getattr(sys, "argv", [])
    if not own or len(words) <= len(own):
        return None
    word = words[-len(own)]
    if own[0] == "-m":
        return "videotag" if word.removeprefix("-m").partition(".")[0] == "videotag" else None
    if own[0] != word:
        return None
    folder, name = os.path.split(os.path.realpath(word))
    tools = os.path.join(_ROOT, "tools")  # noqa: PTH118
    if name == "videotag" or (folder == _ROOT and name in _SCRIPTS):
        return "videotag"
    return name if folder == tools or folder.startswith(tools + os.sep) else None
