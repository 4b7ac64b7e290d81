"""The backend "paddle": Paddle Inference, or the layers one by one if Paddle cannot trace a network.

On a CPU, the oneDNN kernels, with batch norm folded into convolutions, run EfficientNet-Lite0 several times
as fast as the layers called one by one, at full fp32 precision.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from videotag.runtime.backends import Backend, ExportError, register_backend
from videotag.runtime.device import gpu_index
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.program import PROGRAM_FILES, save_program
from videotag.runtime.trained import Arrays, Network, NetworkSpec, TrainedNetwork
from videotag.system.atomic import temporary_folder
from videotag.system.cores import num_cores

if TYPE_CHECKING:
    import paddle

_IMAGE_AXES = 4  # batch, height, width and colors

logger = logging.getLogger(__name__)


@register_backend
class PaddleBackend(Backend):
    """Paddle Inference backend, on a CPU or (not tested yet) on a GPU; see Backend."""

    name = "paddle"
    runtime_package = "paddlepaddle"
    precisions = ("f32", "bf16")
    gpu_precisions = ("f32", "bf16", "f16")
    speed = 7.3  # the median of docs/runtimes.md
    files = PROGRAM_FILES
    needs_paddle = True
    is_fallback = True
    # By way of ONNX they have another form: see videotag.runtime.peephole_scan.
    unsupported_layers: ClassVar = {
        "PeepholeLSTM": "a loop over steps in Python, as old weights need it (MODEL.variant videotag and "
        "fluid_yt8m of AttentionLSTM), has no form for a number of steps that varies; Paddle's tracer aborts",
    }

    def convert(self, trained: TrainedNetwork, *, precision: str, device: str) -> Network:
        """A trained network in Paddle Inference; in f32, its layers one by one if it cannot be traced."""
        reason = self.unsupported_reason(trained.layer)
        if reason is None:
            try:
                return _compiled(trained, precision=precision, device=device)
            except ExportError as error:
                reason = str(error)
        if precision != "f32":
            raise ExportError(f"{reason}; it runs in f32 only")
        logger.info("%s runs layer by layer, which is slower: %s", trained.name, reason)
        return trained.run_layers

    def save(self, trained: TrainedNetwork, folder: Path) -> None:
        """Writes a trained network as Paddle's program."""
        save_program(trained, folder)

    def load(
        self, network: NetworkSpec, folder: Path, *, digests: Sequence[str], precision: str, device: str
    ) -> PaddleNetwork:
        """A network written by `save`; a program may contain operators that access files."""
        prefix = (folder / PROGRAM_FILES[0]).with_suffix("")
        return PaddleNetwork(prefix, network, precision=precision, device=device)

    def gains_by_bf16(self, network: NetworkSpec) -> bool:
        """Whether the network has image inputs; recurrent layers are not faster in Paddle's bf16."""
        return any(len(i.shape) == _IMAGE_AXES for i in network.inputs)


def _compiled(trained: TrainedNetwork, *, precision: str, device: str) -> PaddleNetwork:
    """A network compiled from its traced program, which is cached.

    Raises:
        ExportError: Paddle cannot trace the network.
    """
    from videotag.system.quiet_paddle import paddle

    parts = {"network": trained.digest, "form": "paddle", "paddle": paddle.__version__}
    found = load_entry(parts)
    if found is not None and set(found) == set(PROGRAM_FILES):
        prefix = found[PROGRAM_FILES[0]].with_suffix("")
        return PaddleNetwork(prefix, trained, precision=precision, device=device)
    with temporary_folder() as folder:
        prefix = save_program(trained, folder)
        store_entry(parts, {name: folder / name for name in PROGRAM_FILES})
        return PaddleNetwork(prefix, trained, precision=precision, device=device)


class PaddleNetwork:
    """A program compiled by Paddle Inference; see videotag.runtime.trained.Network.

    Args:
        prefix: Path of the program's two files without suffix, which are only read here.
        network: Name, inputs and outputs of the network.
        precision: Precision "f32" or "bf16"; on a GPU also "f16".
        device: Device "cpu" or "gpu".
    """

    def __init__(
        self, prefix: Path, network: NetworkSpec, *, precision: str = "f32", device: str = "cpu"
    ) -> None:
        from videotag.system.quiet_paddle import paddle

        import paddle.inference

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
        """The outputs by name, float32, of shapes as declared by the model."""
        shared = []  # they have to live until the network has run
        for name, (handle, dtype) in self._inputs.items():
            array = np.ascontiguousarray(inputs[name], dtype=dtype)
            if self._device == "gpu":
                shared.append(_on_gpu(array))
                handle.share_external_data(shared[-1])
            else:
                handle.copy_from_cpu(array)
        with _stdout_to_stderr() if not self._has_run else contextlib.nullcontext():
            self._predictor.run()
        self._has_run = True
        return {name: handle.copy_to_cpu() for name, handle in self._outputs.items()}


def _on_gpu(array: np.ndarray) -> paddle.Tensor:
    """A copy on the GPU, transferred through pinned memory, which has the full speed of the bus."""
    from videotag.system.quiet_paddle import paddle

    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()).cuda()


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Context that redirects to stderr what Paddle's C++ code prints to stdout, which is for results only."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
