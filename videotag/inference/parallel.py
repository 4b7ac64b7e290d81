"""Several processes that train one network, each on its part of every batch.

`python -m paddle.distributed.launch` starts them; where nobody did, there is one. They sum their gradients
themselves, so that the sum is that of the whole batch however unevenly its parts are filled; Paddle's own
DataParallel takes the mean of means.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from videotag.system.cores import is_launched

if TYPE_CHECKING:
    pass

_ARRIVALS = "videotag/arrivals"
Value = TypeVar("Value")


def join() -> None:
    """Joins the processes that a launcher started with this one, if one did."""
    if is_launched() and not distributed().is_initialized():
        distributed().init_parallel_env()


def world_size() -> int:
    """How many processes there are."""
    return int(distributed().get_world_size()) if _has_joined() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return int(distributed().get_rank()) if _has_joined() else 0


def is_main() -> bool:
    """Whether this is the one that writes files."""
    return rank() == 0


def barrier() -> None:
    """Waits until all processes are here, however long it takes.

    Called before every collective: on CPUs Paddle's gloo gives up on a process that comes 30 seconds later,
    as one may that has read a slow disk or written a checkpoint.
    """
    if world_size() == 1 or distributed().get_backend() != "GLOO":
        return
    from paddle.base import core

    # One counter for all meetings: nobody can come to the next one before all have come to this one.
    store = core.create_or_get_global_tcp_store()
    arrivals, pause_sec = store.add(_ARRIVALS, 1), 0.0005
    expected = -(-arrivals // world_size()) * world_size()
    while arrivals < expected:
        time.sleep(pause_sec)
        pause_sec = min(2 * pause_sec, 0.05)
        arrivals = store.add(_ARRIVALS, 0)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The other processes enter the block when the main one has left it without an error."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def all_gather(value: Value) -> list[Value]:
    """The values of all processes, by their numbers, on every one."""
    if world_size() == 1:
        return [value]
    values: list[Any] = []
    barrier()
    distributed().all_gather_object(values, value)
    return values


def broadcast(value: Value) -> Value:
    """What the main process passes, on every one."""
    if world_size() == 1:
        return value
    values = [value if is_main() else None]
    barrier()
    distributed().broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]


def broadcast_flag(flag: bool) -> bool:
    """The flag of the main process, on every one."""
    if world_size() == 1:
        return flag
    from videotag.system.quiet_paddle import paddle

    said = paddle.to_tensor([float(flag and is_main())])
    barrier()
    distributed().all_reduce(said)
    return bool(said.item())


def on_main(context: contextlib.AbstractContextManager[Any]) -> contextlib.AbstractContextManager[Any]:
    """The context on the main process, none on the others."""
    return context if is_main() else contextlib.nullcontext()


def _has_joined() -> bool:
    return is_launched() and bool(distributed().is_initialized())


def distributed() -> Any:
    """Paddle's part for several processes; imported on demand, as one process needs no Paddle for this."""
    from videotag.system.quiet_paddle import paddle

    return paddle.distributed
