"""One way to a network that runs, whatever the backend."""

from __future__ import annotations

from videotag.runtime.backends import check_backend
from videotag.runtime.trained import Network, TrainedNetwork


def compile_network(
    trained: TrainedNetwork, *, backend: str, precision: str = "f32", device: str = "cpu"
) -> Network:
    """A network in a backend: arrays by name in, arrays by name out, any batch and any time.

    Args:
        trained: the network.
        backend: "paddle", "openvino" or "onnx".
        precision: "f32" or "bf16"; on a GPU also "f16".
        device: "cpu" or "gpu"; a GPU in paddle only.

    Raises:
        ConfigError: the backend is not installed, or cannot do that.
        DeviceError: a precision that the device does not compute in.
        ExportError: this network cannot be brought into it.
    """
    check_backend(backend, precision, device=device)
    # A backend's own packages are imported where it is used.
    if backend == "openvino":
        from videotag.runtime.openvino_network import from_layers

        return from_layers(trained, precision=precision)
    if backend == "onnx":
        from videotag.runtime.onnx_export import onnx_model
        from videotag.runtime.onnx_network import OnnxNetwork

        return OnnxNetwork(trained, onnx_model(trained))
    from videotag.runtime.paddle_inference import paddle_network

    return paddle_network(trained, precision=precision, device=device)
