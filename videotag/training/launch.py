"""Starts one training process per GPU in CUDA_VISIBLE_DEVICES, with Paddle's launcher.

Not tested on a machine with several GPUs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from videotag.runtime.device import num_gpus
from videotag.sections import UseGpu


def launch_on_gpus(use_gpu: UseGpu, *, log_dir: Path) -> None:
    """Replaces this process with a launcher of one process per GPU, if several are to be used.

    Does nothing on a CPU, with one GPU, in a process that a launcher started, or if CUDA_VISIBLE_DEVICES is
    not set: all GPUs of a shared machine must be asked for.

    Args:
        use_gpu: TRAIN.use_gpu of the config.
        log_dir: Folder for the output of all processes but the first.
    """
    if not use_gpu or "PADDLE_TRAINERS_NUM" in os.environ or not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return
    if num_gpus() < 2:
        return
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(log_dir)]
    os.execv(sys.executable, [*launcher, *sys.argv])
