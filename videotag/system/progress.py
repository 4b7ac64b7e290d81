"""Progress bars with the remaining time, on stderr; nothing is shown if stderr is not a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items while a bar shows how many of `total` are done and the time left.

    Args:
        items: Items to yield.
        description: Text in front of the bar.
        total: Number of items.
    """
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn()) as progress:
        yield from progress.track(items, total=total, description=description)


@contextlib.contextmanager
def track_bytes(description: str, *, done: int, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar of bytes; yields a function to call with the number of further bytes.

    Args:
        description: Text in front of the bar.
        done: Number of bytes already done.
        total: Number of bytes in total.
    """
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn()) as progress:
        task = progress.add_task(description, completed=done, total=total)
        yield lambda num_bytes: progress.advance(task, num_bytes)


@contextlib.contextmanager
def track_records(description: str, *, done: int, total: int) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar of bytes with records per second; yields a function to call with further bytes and records.

    Args:
        description: Text in front of the bar.
        done: Number of bytes already done.
        total: Number of bytes in total, from which the time left is estimated.
    """
    from rich.progress import DownloadColumn, TextColumn

    start, num_records = time.monotonic(), 0
    with _bar(DownloadColumn(), TextColumn("{task.fields[rate]}")) as progress:
        task = progress.add_task(description, completed=done, total=total, rate="")

        def advance(num_bytes: int, further_records: int) -> None:
            nonlocal num_records
            num_records += further_records
            rate = num_records / max(time.monotonic() - start, 1e-3)
            progress.update(task, advance=num_bytes, rate=f"{rate:,.0f} records/s")

        yield advance


def _bar(*counts: ProgressColumn) -> Progress:
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
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
