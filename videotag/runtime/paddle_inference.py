"""Networks in Paddle: compiled by Paddle Inference, or layer by layer where a network cannot be traced.

On a CPU the oneDNN kernels, with batch norm folded into the convolutions, run an EfficientNet-Lite0 several
times as fast as the same layers called one by one, at full fp32 precision.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import paddle.inference

from videotag.runtime.backends import obstacle
from videotag.runtime.device import gpu_index
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import PROGRAM, ExportError, save_program
from videotag.runtime.trained import Arrays, Described, Network, TrainedNetwork
from videotag.system.atomic import temporary_folder
from videotag.system.cores import num_cores

_FILES = (f"{PROGRAM}.json", f"{PROGRAM}.pdiparams")

logger = logging.getLogger(__name__)


def paddle_network(trained: TrainedNetwork, *, precision: str = "f32", device: str = "cpu") -> Network:
    """The network in Paddle Inference; its layers as they are where it cannot be traced.

    Args:
        trained: the network.
        precision: "f32" or "bf16"; on a GPU also "f16".
        device: "cpu" or "gpu" (the GPU path has not been run on a GPU yet).

    Raises:
        ExportError: bf16 of a network that cannot be traced.
    """
    reason = obstacle(trained.layer)
    if reason is None:
        parts = {"network": trained.digest, "form": "paddle", "paddle": paddle.__version__}
        found = load_entry(parts)
        if found is not None and set(found) == set(_FILES):
            return PaddleNetwork(
                found[_FILES[0]].with_suffix(""), trained, precision=precision, device=device
            )
        with temporary_folder() as folder:
            try:
                prefix = save_program(trained, folder)
            except ExportError as error:
                reason = str(error)
            else:
                store_entry(parts, {name: folder / name for name in _FILES})
                return PaddleNetwork(prefix, trained, precision=precision, device=device)
    if precision != "f32":
        raise ExportError(f"{reason}; it runs in f32 only")
    logger.info("%s runs layer by layer, which is slower: %s", trained.name, reason)
    return trained.run_layers


class PaddleNetwork:
    """A saved program, compiled; see videotag.runtime.trained.Network.

    Args:
        prefix: of the program's two files, which are not needed afterwards.
        network: its name, inputs and outputs.
        precision: "f32" or "bf16"; on a GPU also "f16".
        device: "cpu" or "gpu".
    """

    def __init__(
        self, prefix: Path, network: Described, *, precision: str = "f32", device: str = "cpu"
    ) -> None:
        config = paddle.inference.Config(f"{prefix}.json", f"{prefix}.pdiparams")
        config.disable_glog_info()
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.delete_pass("inplace_pass")  # of Paddle 3.3: overwrites values that are used once more
        if device == "gpu":
            kind = paddle.inference.PrecisionType
            wanted = {"f32": kind.Float32, "bf16": kind.Bfloat16, "f16": kind.Half}[precision]
            # 256 MiB to start with. In 16 bits, Paddle's passes put the convolutions' channels last, where
            # that pays.
            config.enable_use_gpu(256, gpu_index(), wanted)
        else:
            config.disable_gpu()
            config.enable_mkldnn()
            if precision == "bf16":
                config.enable_mkldnn_bfloat16()
            config.set_cpu_math_library_num_threads(num_cores())
        predictor = paddle.inference.create_predictor(config)
        self._predictor = predictor
        self._device = device
        self._has_run = False
        self._inputs = {i.name: (predictor.get_input_handle(i.name), i.dtype) for i in network.inputs}
        names = predictor.get_output_names()
        self._outputs = {
            name: predictor.get_output_handle(own) for name, own in zip(network.outputs, names, strict=True)
        }

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""
        shared = []  # which have to live until the network has run
        for name, (handle, dtype) in self._inputs.items():
            array = np.ascontiguousarray(inputs[name], dtype=dtype)
            if self._device == "gpu":
                shared.append(_on_gpu(array))
                handle.share_external_data(shared[-1])
            else:
                handle.copy_from_cpu(array)
        with _chatter_to_stderr() if not self._has_run else contextlib.nullcontext():
            self._predictor.run()
        self._has_run = True
        return {name: handle.copy_to_cpu() for name, handle in self._outputs.items()}


def _on_gpu(array: np.ndarray) -> paddle.Tensor:
    """A copy in the GPU's memory, by way of pinned memory, from which it copies at the bus's full speed."""
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()).cuda()


@contextlib.contextmanager
def _chatter_to_stderr() -> Iterator[None]:
    """Lets what Paddle's C++ part prints to stdout, in a first run, go to stderr: stdout is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
