"""Jobs spread over processes that all end with this one, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from videotag.errors import ConfigError

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@contextlib.contextmanager
def run_jobs(
    function: Callable[[_Job], _Result], jobs: Sequence[_Job], *, num_workers: int
) -> Iterator[Iterator[tuple[_Job, _Result]]]:
    """Every job and its result, as they are done; when the block ends early, all work ends.

    Args:
        function: of a module that the workers can import.
        jobs: that can be pickled.
        num_workers: processes; with 1, or a single job, this process does the work.

    Raises:
        ConfigError: the system has killed a worker.
    """
    num_workers = min(num_workers, len(jobs))
    if num_workers < 2:
        yield ((job, function(job)) for job in jobs)
        return
    before = multiprocessing.active_children()
    executor = ProcessPoolExecutor(
        num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        with _ctrl_c_waits():
            futures = {executor.submit(function, job): job for job in jobs}
        yield ((futures[future], future.result()) for future in as_completed(futures))
    except BrokenProcessPool as error:
        raise ConfigError(
            f"--jobs {num_workers}: the system has ended a worker, mostly for want of memory; lower it and"
            " run again: what was done is kept"
        ) from error
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Holds Ctrl-C back in the block; processes that begin in it never see it, as this one ends them."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)


def _end_with_parent() -> None:
    """Lets a worker end when its parent does, which after a SIGKILL cannot tell it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
