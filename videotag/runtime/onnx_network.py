"""Networks in ONNX Runtime, on a CPU, in float32."""

from __future__ import annotations

import numpy as np

from videotag.runtime.onnx_export import ExportError
from videotag.runtime.trained import Arrays, Described
from videotag.system.cores import num_cores
from videotag.system.quiet_runtimes import import_onnxruntime

_ERRORS_ONLY = 3  # it warns of every constant that it does not need


class OnnxNetwork:
    """A network in ONNX Runtime; see videotag.runtime.trained.Network.

    Args:
        network: its name, inputs and outputs.
        model: it as ONNX.

    Raises:
        ExportError: it cannot be loaded.
    """

    def __init__(self, network: Described, model: bytes) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Waiting threads would otherwise keep the cores busy that decode the next video.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Its own format would be told by the bytes, and may name files too.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no other class
            raise ExportError(
                f"ONNX Runtime cannot load it ({' '.join(str(error).split())[:200]})"
            ) from error
        self._inputs = network.inputs
        self._outputs = network.outputs

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""
        arrays = {i.name: np.ascontiguousarray(inputs[i.name], dtype=i.dtype) for i in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, arrays), strict=True))
