"""Gradients and buffers of several processes that train one network, each on its part of every batch.

They are summed here, so that the sum is that of the whole batch however unevenly its parts are filled;
Paddle's own DataParallel takes the mean of means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from videotag.inference.parallel import barrier, distributed, world_size

if TYPE_CHECKING:
    from paddle import Tensor, nn


def sum_gradients(parameters: Iterable[Tensor], extra: Tensor) -> Tensor:
    """Puts the sum over all processes into the gradients; returns the sum of `extra`, of shape (E,).

    A gradient that is None on this process counts as zeros.
    """
    from videotag.system.quiet_paddle import paddle

    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    flat = [p.grad.flatten() if p.grad is not None else paddle.zeros([p.size]) for p in trained]
    joined = paddle.concat([extra, *flat])
    barrier()
    distributed().all_reduce(joined)
    total, *sums = paddle.split(joined, [extra.size, *(parameter.size for parameter in trained)])
    for parameter, gradient in zip(trained, sums, strict=True):
        parameter.grad = gradient.reshape(parameter.shape)
    return total


def average_buffers(model: nn.Layer) -> None:
    """Gives all processes the mean of their buffers, such as batch norm's running means."""
    if world_size() == 1:
        return
    from videotag.system.quiet_paddle import paddle

    for buffer in model.buffers():
        if buffer.dtype == paddle.float32:
            barrier()
            distributed().all_reduce(buffer)
            buffer.set_value(buffer / world_size())
