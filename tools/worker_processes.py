"""Runs jobs in worker processes that end with their parent, however it ends."""

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
    """Yields (job, result) pairs as they complete; if the block ends early, all workers are terminated.

    Args:
        function: Function in a module that the workers can import.
        jobs: Picklable jobs.
        num_workers: Number of processes; with 1, or a single job, this process does the work.

    Raises:
        ConfigError: The system killed a worker.
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
            f"--jobs {num_workers}: the system killed a worker, usually for lack of memory; lower it and"
            " run again, finished files are kept"
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
    """Blocks SIGINT; processes started in the block inherit that, and are ended by this one instead."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)


def _end_with_parent() -> None:
    """Ends a worker when its parent ends, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
