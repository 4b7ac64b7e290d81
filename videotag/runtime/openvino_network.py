"""Networks in OpenVINO, on a CPU. Precision is always said: OpenVINO's own default may be bf16."""

from __future__ import annotations

import functools
import io
import logging
from typing import Any

import numpy as np

from videotag.cores import num_cores
from videotag.runtime.backends import cpu_kind, version
from videotag.runtime.network_cache import load_entry, store_entry
from videotag.runtime.onnx_export import ExportError, onnx_model, onnx_parts
from videotag.runtime.trained import Arrays, TrainedNetwork

_BLOB_FILE = "network.blob"

logger = logging.getLogger(__name__)


class OpenVinoNetwork:
    """A network compiled by OpenVINO; see videotag.runtime.trained.Network.

    Args:
        trained: the network.
        precision: "f32" or "bf16".

    Raises:
        ExportError: it cannot be exported or compiled.
    """

    def __init__(self, trained: TrainedNetwork, *, precision: str = "f32") -> None:
        core = _core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": num_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            # Two processes of one thread each would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = _from_cache(core, trained, options) or _compile(core, trained, options)
        self._request = compiled.create_infer_request()
        self._inputs = trained.inputs
        self._outputs = trained.outputs

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""
        arrays = {i.name: np.ascontiguousarray(inputs[i.name], dtype=i.dtype) for i in self._inputs}
        self._request.infer(arrays, share_inputs=True)
        return {
            name: self._request.get_output_tensor(index).data.copy()  # the next call writes there
            for index, name in enumerate(self._outputs)
        }


@functools.cache
def _core() -> Any:
    """OpenVINO, once for the whole process.

    Where its CPU plugin meets an alternate signal stack, as Python's faulthandler makes one, it puts its own
    in its place, and frees that when the last network is gone. If another thread let go of it, the first one
    keeps the freed stack, and its next signal ends the process. As long as there is a core the plugin stays.
    """
    import openvino

    return openvino.Core()


def _parts(trained: TrainedNetwork, options: dict[str, Any]) -> dict[str, object]:
    own = {"form": "openvino", "openvino": version("openvino"), "options": options, "cpu": cpu_kind()}
    return {**onnx_parts(trained), **own}


def _from_cache(core: Any, trained: TrainedNetwork, options: dict[str, Any]) -> Any:
    found = load_entry(_parts(trained, options))
    if found is None or _BLOB_FILE not in found:
        return None
    try:
        return core.import_model(found[_BLOB_FILE].read_bytes(), "CPU", options)
    except (RuntimeError, OSError) as error:
        logger.info("cache of compiled networks: not used (%s)", " ".join(str(error).split())[:200])
        return None


def _compile(core: Any, trained: TrainedNetwork, options: dict[str, Any]) -> Any:
    model = onnx_model(trained)
    try:
        compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", options)
    except RuntimeError as error:
        raise ExportError(
            f"{trained.name}: OpenVINO cannot compile it ({' '.join(str(error).split())[:200]}); "
            "give --backend=paddle"
        ) from error
    blob = io.BytesIO()
    compiled.export_model(blob)
    store_entry(_parts(trained, options), {_BLOB_FILE: blob.getvalue()})
    return compiled
