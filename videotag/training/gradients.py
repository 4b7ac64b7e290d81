"""All-reduce of gradients and buffers in data-parallel training.

Gradients are summed, which gives that of the whole batch even if its parts differ in size. Paddle's
DataParallel would average the means of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from videotag.inference.parallel import barrier, distributed, world_size

if TYPE_CHECKING:
    from paddle import Tensor, nn


def sum_gradients(parameters: Iterable[Tensor], extra: Tensor) -> Tensor:
    """Replaces all gradients by their sums over the processes.

    Args:
        parameters: Parameters; frozen ones are skipped. A gradient of None counts as zeros.
        extra: (E,) float32, further values to sum.

    Returns:
        (E,) float32, the sum of `extra` over the processes.
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
    """Averages float32 buffers, such as batch norm's running statistics, over the processes.

    Args:
        model: Network, whose buffers are replaced.
    """
    if world_size() == 1:
        return
    from videotag.system.quiet_paddle import paddle

    for buffer in model.buffers():
        if buffer.dtype == paddle.float32:
            barrier()
            distributed().all_reduce(buffer)
            buffer.set_value(buffer / world_size())
