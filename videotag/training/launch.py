"""Starts the running command once for every GPU that CUDA_VISIBLE_DEVICES lists, by Paddle's own launcher.

Not verified for want of a machine with two GPUs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from videotag.runtime.device import num_gpus
from videotag.sections import UseGpu


def launch_on_gpus(use_gpu: UseGpu, *, log_dir: Path) -> None:
    """Puts a launcher of as many processes as there are GPUs in place of this process, where that is due.

    Returns where one process is enough: on a CPU, with one GPU, where CUDA_VISIBLE_DEVICES is not set (nobody
    may want all the GPUs of a shared machine), or in a process that a launcher has started.

    Args:
        use_gpu: of the config.
        log_dir: for what the processes but the first one print.
    """
    if not use_gpu or "PADDLE_TRAINERS_NUM" in os.environ or not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return
    if num_gpus() < 2:
        return
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(log_dir)]
    os.execv(sys.executable, [*launcher, *sys.argv])
