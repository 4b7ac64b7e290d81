"""Networks in OpenVINO, on a CPU. Precision is always said: OpenVINO's own default may be bf16."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.runtime.backends import cpu_kind, runtime_version
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import ExportError, onnx_file, onnx_parts
from videotag.runtime.trained import Arrays, Described, TrainedNetwork
from videotag.system.cores import num_cores
from videotag.system.quiet_runtimes import import_openvino

_BLOB_FILE = "network.blob"

logger = logging.getLogger(__name__)


class OpenVinoNetwork:
    """A network compiled by OpenVINO; see videotag.runtime.trained.Network.

    Args:
        network: its name, inputs and outputs.
        parts: all that decides its content, for the cache.
        read: gives OpenVINO's model of it.
        precision: "f32" or "bf16".

    Raises:
        ExportError: it cannot be exported or compiled.
    """

    def __init__(
        self, network: Described, *, parts: Mapping[str, object], read: Callable[[Any], Any], precision: str
    ) -> None:
        core = _core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": num_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            # Two processes of one thread each would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        parts = {**parts, "form": "openvino", "openvino": runtime_version("openvino"), "options": options}
        parts |= {"cpu": cpu_kind()}
        compiled = _from_cache(core, parts, options) or _compile(core, parts, options, read)
        self._request = compiled.create_infer_request()
        self._inputs = network.inputs
        self._outputs = network.outputs

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""
        arrays = {i.name: np.ascontiguousarray(inputs[i.name], dtype=i.dtype) for i in self._inputs}
        self._request.infer(arrays, share_inputs=True)
        return {
            name: self._request.get_output_tensor(index).data.copy()  # the next call writes there
            for index, name in enumerate(self._outputs)
        }


def from_layers(trained: TrainedNetwork, *, precision: str = "f32") -> OpenVinoNetwork:
    """A trained network in OpenVINO, by way of ONNX.

    Raises:
        ExportError: it cannot be exported or compiled.
    """

    def read(core: Any) -> Any:
        with onnx_file(trained) as path:
            return core.read_model(path)

    return OpenVinoNetwork(trained, parts=onnx_parts(trained), read=read, precision=precision)


def from_file(network: Described, path: Path, *, digests: Sequence[str], precision: str) -> OpenVinoNetwork:
    """A network that save_model wrote.

    Args:
        network: its name, inputs and outputs.
        path: the .xml, with its .bin beside it.
        digests: of both files.
        precision: "f32" or "bf16".

    Raises:
        ExportError: it cannot be compiled.
    """
    parts = {"network": list(digests)}
    return OpenVinoNetwork(network, parts=parts, read=lambda core: core.read_model(path), precision=precision)


def save_model(model: bytes, path: Path) -> None:
    """Writes a network, given as ONNX, in OpenVINO's own form: an .xml at `path`, a .bin beside it.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    openvino = import_openvino()
    try:
        network = _core().read_model(io.BytesIO(model))
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot read it ({' '.join(str(error).split())[:200]})") from error
    openvino.save_model(network, path, compress_to_fp16=False)


@functools.cache
def _core() -> Any:
    """OpenVINO, once for the whole process.

    Where its CPU plugin meets an alternate signal stack, as Python's faulthandler makes one, it puts its own
    in its place, and frees that when the last network is gone. If another thread let go of it, the first one
    keeps the freed stack, and its next signal ends the process. As long as there is a core the plugin stays.
    """
    return import_openvino().Core()


def _from_cache(core: Any, parts: Mapping[str, object], options: dict[str, Any]) -> Any:
    found = load_entry(parts)
    if found is None or _BLOB_FILE not in found:
        return None
    try:
        return core.import_model(found[_BLOB_FILE].read_bytes(), "CPU", options)
    except (RuntimeError, OSError) as error:
        logger.info("cache of compiled networks: not used (%s)", " ".join(str(error).split())[:200])
        return None


def _compile(
    core: Any,
    parts: Mapping[str, object],
    options: dict[str, Any],
    read: Callable[[Any], Any],
) -> Any:
    try:
        compiled = core.compile_model(read(core), "CPU", options)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot compile it ({' '.join(str(error).split())[:200]})") from error
    blob = io.BytesIO()
    try:
        compiled.export_model(blob)
    except RuntimeError as error:
        logger.info("cache of compiled networks: not kept (%s)", " ".join(str(error).split())[:200])
    else:
        store_entry(parts, {_BLOB_FILE: blob.getbuffer()})
    return compiled
