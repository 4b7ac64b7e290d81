"""Prefetching by threads, with ordered results and a bounded queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int,
    ahead: int,
    stop: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Yields function(item) for every item, in order, computed ahead by threads.

    Threads suffice for decoding and reading, which release the GIL. An error of `function` is raised in place
    of its result. If the consumer stops early, pending calls are cancelled.

    Args:
        function: Function to call in a thread.
        items: Items, consumed lazily.
        num_threads: Number of concurrent calls.
        ahead: Maximum number of results (finished or running) that wait for the consumer; at least
            num_threads.
        stop: Event that is set when the consumer stops or Ctrl-C is pressed, so that running calls can end
            early.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="videotag-prefetch")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= max(ahead, num_threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
