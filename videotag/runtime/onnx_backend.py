"""The backend "onnx": ONNX Runtime on a CPU, in float32."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videotag.errors import WeightsError
from videotag.runtime.backends import Backend, ExportError, register_backend
from videotag.runtime.onnx_export import CONVERTER, ONNX_FILE, onnx_model
from videotag.runtime.trained import Arrays, NetworkSpec, TrainedNetwork
from videotag.system.atomic import open_atomic
from videotag.system.cores import num_cores
from videotag.system.quiet_runtimes import import_onnxruntime
from videotag.system.regular_file import open_regular

_ERRORS_ONLY = 3  # it warns of every constant that it does not need
#: The key of a reference to another file in ONNX: its length, encoded in any number of bytes, and its text.
_EXTERNAL_DATA = re.compile(rb"(?:\x08|\x88\x80*\x00)location")


@register_backend
class OnnxBackend(Backend):
    """ONNX Runtime backend; see Backend."""

    name = "onnx"
    runtime_package = "onnxruntime"
    converter_packages = (CONVERTER,)
    extra = "onnx"
    speed = 8.3  # the median of docs/runtimes.md
    files = (ONNX_FILE,)

    def convert(self, trained: TrainedNetwork, *, precision: str, device: str) -> OnnxNetwork:
        """A trained network in ONNX Runtime."""
        return OnnxNetwork(trained, onnx_model(trained))

    def save(self, trained: TrainedNetwork, folder: Path) -> None:
        """Writes a trained network as ONNX."""
        model = onnx_model(trained)
        with open_atomic(folder / ONNX_FILE) as file:
            file.write(model)

    def load(
        self, network: NetworkSpec, folder: Path, *, digests: Sequence[str], precision: str, device: str
    ) -> OnnxNetwork:
        """A network written by `save`; rejected if it refers to other files."""
        return OnnxNetwork(network, read_onnx(folder / ONNX_FILE))


class OnnxNetwork:
    """A network in ONNX Runtime; see videotag.runtime.trained.Network.

    Args:
        network: Name, inputs and outputs of the network.
        model: The network as ONNX.

    Raises:
        ExportError: ONNX Runtime cannot load it.
    """

    def __init__(self, network: NetworkSpec, model: bytes) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Waiting threads would otherwise keep the cores busy that decode the next video.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Its own format would be detected by content, and may refer to files too.
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
        """The outputs by name, float32, of shapes as declared by the model."""
        arrays = {i.name: np.ascontiguousarray(inputs[i.name], dtype=i.dtype) for i in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, arrays), strict=True))


def read_onnx(path: Path) -> bytes:
    """The content of an ONNX file.

    Raises:
        WeightsError: The file cannot be read, or may refer to other files.
    """
    with open_regular(path, error=WeightsError) as file:
        model = file.read()
    _reject_external_data(model, path)
    return model


def _reject_external_data(model: bytes, path: Path) -> None:
    """Rejects networks that could make ONNX Runtime read files that export.json does not list.

    ONNX Runtime reads external data from any folder, even the working folder.

    Args:
        model: The network as ONNX.
        path: Path of the network, for the error.

    Raises:
        WeightsError: The network may refer to another file.
    """
    if _EXTERNAL_DATA.search(model):
        raise WeightsError(
            f"{path}: holds the text 'location', by which ONNX names files outside of the export; export it "
            "again, for another backend if something in the network is called so"
        )
