"""Work done ahead by threads, results in order, a bounded number of them waiting."""

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
    """function(item) for every item, in the items' order.

    Threads are enough for decoding and reading, which release Python's lock. An error of `function` is
    raised where its result would have come. When the consumer stops early, calls not yet begun are dropped.

    Args:
        function: called in a thread.
        items: taken one by one as results are consumed.
        num_threads: calls running at once.
        ahead: results (finished or running) that may wait for the consumer; at least num_threads.
        stop: set when the consumer stops or Ctrl-C is pressed, so that long calls in progress can end early.
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
