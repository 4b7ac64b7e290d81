"""The backend "openvino": OpenVINO on a CPU, converted from ONNX.

The precision is always set explicitly, because OpenVINO's default may be bf16.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.errors import WeightsError
from videotag.runtime.backends import Backend, ExportError, cpu_kind, package_version, register_backend
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import CONVERTER, onnx_file, onnx_model, onnx_parts
from videotag.runtime.trained import Arrays, NetworkSpec, TrainedNetwork
from videotag.system.cores import num_cores
from videotag.system.quiet_runtimes import import_openvino
from videotag.system.regular_file import open_regular
from videotag.weights import NETWORK_STEM

_PACKAGE = "openvino"
_FILES = (f"{NETWORK_STEM}.xml", f"{NETWORK_STEM}.bin")
_XML_START = b"<?xml "
_BLOB_FILE = "network.blob"

logger = logging.getLogger(__name__)


@register_backend
class OpenVinoBackend(Backend):
    """OpenVINO backend; see Backend."""

    name = "openvino"
    runtime_package = _PACKAGE
    converter_packages = (CONVERTER,)
    extra = "openvino"
    precisions = ("f32", "bf16")
    speed = 8.7  # the median of docs/runtimes.md
    files = _FILES

    def convert(self, trained: TrainedNetwork, *, precision: str, device: str) -> OpenVinoNetwork:
        """A trained network in OpenVINO."""

        def read(core: Any) -> Any:
            with onnx_file(trained) as path:
                return core.read_model(path)

        return OpenVinoNetwork(trained, parts=onnx_parts(trained), read=read, precision=precision)

    def save(self, trained: TrainedNetwork, folder: Path) -> None:
        """Writes a trained network in OpenVINO's own form."""
        save_model(onnx_model(trained), folder / _FILES[0])

    def load(
        self, network: NetworkSpec, folder: Path, *, digests: Sequence[str], precision: str, device: str
    ) -> OpenVinoNetwork:
        """A network that `save` wrote; refused in any other form."""
        path = folder / _FILES[0]
        _reject_other_forms(path)
        return OpenVinoNetwork(
            network,
            parts={"network": list(digests)},
            read=lambda core: core.read_model(path),
            precision=precision,
        )


class OpenVinoNetwork:
    """A network compiled by OpenVINO; see videotag.runtime.trained.Network.

    Args:
        network: Name, inputs and outputs of the network.
        parts: Everything that determines its content, as cache key.
        read: Function that reads the network as OpenVINO's model, given OpenVINO's core.
        precision: Precision "f32" or "bf16".

    Raises:
        ExportError: The network cannot be converted or compiled.
    """

    def __init__(
        self, network: NetworkSpec, *, parts: Mapping[str, object], read: Callable[[Any], Any], precision: str
    ) -> None:
        core = _core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": num_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            # Two processes of one thread each would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        parts = {**parts, "form": "openvino", "openvino": package_version(_PACKAGE), "options": options}
        parts |= {"cpu": cpu_kind()}
        compiled = _from_cache(core, parts, options) or _compile(core, parts, options, read)
        self._request = compiled.create_infer_request()
        self._inputs = network.inputs
        self._outputs = network.outputs

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name, float32, of shapes as declared by the model."""
        arrays = {i.name: np.ascontiguousarray(inputs[i.name], dtype=i.dtype) for i in self._inputs}
        self._request.infer(arrays, share_inputs=True)
        return {
            name: self._request.get_output_tensor(index).data.copy()  # the next call writes there
            for index, name in enumerate(self._outputs)
        }


def save_model(model: bytes, path: Path) -> None:
    """Writes a network in OpenVINO's own form: an .xml, and a .bin beside it.

    Args:
        model: The network as ONNX.
        path: Path of the .xml.

    Raises:
        ExportError: OpenVINO cannot read the network.
    """
    openvino = import_openvino()
    try:
        network = _core().read_model(io.BytesIO(model))
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot read it ({' '.join(str(error).split())[:200]})") from error
    openvino.save_model(network, path, compress_to_fp16=False)


def _reject_other_forms(path: Path) -> None:
    """Rejects files that could make OpenVINO read files that export.json does not list.

    OpenVINO detects ONNX by content, whatever the file's name, and then reads its external data.

    Raises:
        WeightsError: The file is not OpenVINO's XML.
    """
    with open_regular(path, error=WeightsError) as file:
        start = file.read(len(_XML_START))
    if start != _XML_START:
        raise WeightsError(f"{path}: not OpenVINO's XML; export it again")


@functools.cache
def _core() -> Any:
    """OpenVINO's core, one per process, which keeps the CPU plugin loaded.

    The plugin replaces a thread's alternate signal stack, such as that of Python's faulthandler, with its own
    and frees that with the last network. If another thread frees it, the first thread keeps a dangling stack,
    and its next signal crashes the process.
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
