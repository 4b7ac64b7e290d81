"""Chooses the device that Paddle computes on."""

from __future__ import annotations

from videotag.errors import DeviceError
from videotag.sections import UseGpu


def num_gpus() -> int:
    """GPUs that this Paddle build can use; 0 for a CPU build."""
    from videotag.system.quiet_paddle import paddle

    return int(paddle.device.cuda.device_count()) if paddle.device.is_compiled_with_cuda() else 0


def gpu_index() -> int:
    """The GPU that Paddle computes on: 0, or of several processes that its launcher started, each its own."""
    from videotag.system.quiet_paddle import paddle

    return int(paddle.device.get_device().partition(":")[2] or 0)


def select_device(use_gpu: UseGpu) -> str:
    """Makes Paddle compute on "gpu" or "cpu", and returns which.

    Args:
        use_gpu: "auto" takes a GPU if there is one.

    Raises:
        DeviceError: a GPU was asked for and there is none.
    """
    from videotag.system.quiet_paddle import paddle

    found = num_gpus()
    if use_gpu is True and not found:
        why = "sees no GPU" if paddle.device.is_compiled_with_cuda() else "is the CPU build"
        raise DeviceError(
            f"use_gpu is True, but the installed Paddle {why}; write --use_gpu=False, "
            "or install requirements-gpu.txt on a machine with a GPU"
        )
    device = "gpu" if found and use_gpu else "cpu"
    paddle.set_device(device)
    return device
