"""The number of threads of Paddle's kernels on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from videotag.system.quiet_paddle import paddle

from videotag.system.cores import num_cores


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context in which Paddle computes in one thread, as suits small networks.

    Their operations take microseconds, so that threads mostly wait for each other: a step of 32 videos takes
    half the time on busy cores, and a third less CPU time on idle ones.
    """
    set_num_threads = getattr(paddle.base.core, "set_num_threads", None)  # not a documented interface
    if set_num_threads is None:
        yield
        return
    set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(num_cores())
