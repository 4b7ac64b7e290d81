"""Plain layers as trained networks of one input "x" and one output "y"."""

from __future__ import annotations

from videotag.models import paddle
from videotag.registry import ArraySpec
from videotag.runtime.trained import TrainedNetwork


class OnX(paddle.nn.Layer):
    """A layer as a model over named tensors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return {"y": self.layer(inputs["x"])}


def network_of(layer, *shape, digest, name="Net"):
    """The trained network of a layer (N, *shape) -> any."""
    return TrainedNetwork(OnX(layer), (ArraySpec("x", (None, *shape)),), ("y",), digest, name)
