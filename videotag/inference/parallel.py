"""Data parallelism: several processes train one network, each on its shard of every batch.

`python -m paddle.distributed.launch` starts the processes; without it there is one. Gradients are summed
here, so that the sum is exact for the whole batch even if shards differ in size; Paddle's DataParallel
averages the means of the shards instead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from videotag.system.cores import is_launched

_ARRIVALS = "videotag/arrivals"
Value = TypeVar("Value")


def join() -> None:
    """Joins the process group if a launcher started this process; otherwise does nothing."""
    if is_launched() and not distributed().is_initialized():
        distributed().init_parallel_env()


def world_size() -> int:
    """The number of processes."""
    return int(distributed().get_world_size()) if _has_joined() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return int(distributed().get_rank()) if _has_joined() else 0


def is_main() -> bool:
    """Whether this is the main process (rank 0), which writes the files."""
    return rank() == 0


def barrier() -> None:
    """Waits until all processes reach this call, without a timeout.

    Every collective needs it first: on CPUs, Paddle's gloo times out if a process arrives 30 seconds late, as
    it may after reading from a slow disk or writing a checkpoint.
    """
    if world_size() == 1 or distributed().get_backend() != "GLOO":
        return
    from paddle.base import core

    # One counter serves all barriers, as no process reaches the next before all have reached this one.
    store = core.create_or_get_global_tcp_store()
    arrivals, pause_sec = store.add(_ARRIVALS, 1), 0.0005
    expected = -(-arrivals // world_size()) * world_size()
    while arrivals < expected:
        time.sleep(pause_sec)
        pause_sec = min(2 * pause_sec, 0.05)
        arrivals = store.add(_ARRIVALS, 0)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Runs the block on the main process first; the others enter it once the main one has succeeded."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def all_gather(value: Value) -> list[Value]:
    """The values of all processes in rank order, on every process.

    Args:
        value: Picklable value of this process.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = []
    barrier()
    distributed().all_gather_object(values, value)
    return values


def broadcast(value: Value) -> Value:
    """The main process's value, on every process.

    Args:
        value: Picklable value; ignored on the other processes.
    """
    if world_size() == 1:
        return value
    values = [value if is_main() else None]
    barrier()
    distributed().broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]


def broadcast_flag(flag: bool) -> bool:
    """The main process's flag, on every process; cheaper than `broadcast`.

    Args:
        flag: Value of the flag; ignored on the other processes.
    """
    if world_size() == 1:
        return flag
    from videotag.system.quiet_paddle import paddle

    total = paddle.to_tensor([float(flag and is_main())])
    barrier()
    distributed().all_reduce(total)
    return bool(total.item())


def on_main(context: contextlib.AbstractContextManager[Any]) -> contextlib.AbstractContextManager[Any]:
    """The given context on the main process, a null context on the others."""
    return context if is_main() else contextlib.nullcontext()


def _has_joined() -> bool:
    return is_launched() and bool(distributed().is_initialized())


def distributed() -> Any:
    """paddle.distributed, imported on demand, as a single process does not need it."""
    from videotag.system.quiet_paddle import paddle

    return paddle.distributed
