"""Selects Paddle's device."""

from __future__ import annotations

from videotag.errors import DeviceError
from videotag.sections import UseGpu


def num_gpus() -> int:
    """The number of GPUs that this Paddle build can use; 0 for a CPU build."""
    from videotag.system.quiet_paddle import paddle

    return int(paddle.device.cuda.device_count()) if paddle.device.is_compiled_with_cuda() else 0


def gpu_index() -> int:
    """The index of this process's GPU: 0, or a different one in each process of Paddle's launcher."""
    from videotag.system.quiet_paddle import paddle

    return int(paddle.device.get_device().partition(":")[2] or 0)


def select_device(use_gpu: UseGpu) -> str:
    """Sets Paddle's device and returns it, "gpu" or "cpu".

    Args:
        use_gpu: Whether to use a GPU; "auto" uses one if there is one.

    Raises:
        DeviceError: A GPU was requested, but there is none.
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
