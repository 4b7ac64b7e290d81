"""Progress with the remaining time on stderr: bars on a terminal, else a log line every HEARTBEAT_SEC."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

HEARTBEAT_SEC = 30.0
Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items while progress shows how many of `total` are done and the time left.

    Args:
        items: Items to yield.
        description: Text in front of the progress.
        total: Number of items.
    """
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn(), amount=lambda done: f"{done:,.0f} of {total:,}") as progress:
        yield from progress.track(items, total=total, description=description)


@contextlib.contextmanager
def track_bytes(description: str, *, done: int, total: int) -> Iterator[Callable[[int], None]]:
    """Shows the progress of bytes; yields a function to call with the number of further bytes.

    Args:
        description: Text in front of the progress.
        done: Number of bytes already done.
        total: Number of bytes in total.
    """
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn(), amount=_megabytes(total), first=done) as progress:
        task = progress.add_task(description, completed=done, total=total)
        yield lambda num_bytes: progress.advance(task, num_bytes)


@contextlib.contextmanager
def track_records(description: str, *, done: int, total: int) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of bytes and records per second; yields a function to call with further ones.

    Args:
        description: Text in front of the progress.
        done: Number of bytes already done.
        total: Number of bytes in total, from which the time left is estimated.
    """
    from rich.progress import DownloadColumn, TextColumn

    start, num_records = time.monotonic(), 0
    columns = (DownloadColumn(), TextColumn("{task.fields[rate]}"))
    with _bar(*columns, amount=_megabytes(total), first=done) as progress:
        task = progress.add_task(description, completed=done, total=total, rate="")

        def advance(num_bytes: int, further_records: int) -> None:
            nonlocal num_records
            num_records += further_records
            rate = num_records / max(time.monotonic() - start, 1e-3)
            progress.update(task, advance=num_bytes, rate=f"{rate:,.0f} records/s")

        yield advance


def time_left(elapsed_sec: float, *, done: float, total: float) -> str:
    """The estimated time for the rest of some work, such as "2 min left"; "" while nothing is done.

    Args:
        elapsed_sec: Time in seconds that the part done took.
        done: Amount of work done.
        total: Amount of work in total.
    """
    if done <= 0:
        return ""
    seconds = elapsed_sec / done * max(0.0, total - done)
    if seconds < 60:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min left"


def _megabytes(total: int) -> Callable[[float], str]:
    return lambda done: f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"


@contextlib.contextmanager
def _bar(*counts: ProgressColumn, amount: Callable[[float], str], first: int = 0) -> Iterator[Progress]:
    """A bar with these columns; if stderr is no terminal, log lines instead.

    Args:
        counts: Columns behind the bar.
        amount: Function from the amount done to its text in a log line.
        first: Amount that was already done before.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *counts,
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    # Results on stdout must stay there: a redirected stdout would be printed above the bar, on stderr.
    bar = Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,
    )
    ended = threading.Event()
    with bar as progress:
        if not console.is_terminal:
            work = (progress, amount, first, ended)
            threading.Thread(target=_log_progress, args=work, daemon=True).start()
        try:
            yield progress
        finally:
            ended.set()


def _log_progress(
    progress: Progress, amount: Callable[[float], str], first: int, ended: threading.Event
) -> None:
    """Logs a line every HEARTBEAT_SEC until the work has ended, also while one item takes long."""
    start = time.monotonic()
    while not ended.wait(HEARTBEAT_SEC):
        for task in progress.tasks:
            done, total = task.completed - first, (task.total or 0) - first
            left = time_left(time.monotonic() - start, done=done, total=total)
            logger.info("%s: %s%s", task.description, amount(task.completed), left and f", {left}")
