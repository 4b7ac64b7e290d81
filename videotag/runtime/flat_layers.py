"""Wraps a model with named tensors as a layer with lists of tensors, for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from videotag.system.quiet_paddle import paddle

if TYPE_CHECKING:
    from paddle import Tensor


class Flat(paddle.nn.Layer):
    """A layer from a list of tensors to a list of tensors.

    Args:
        model: Model with named tensors, see videotag.registry.Model.
        inputs: Names of the inputs, in the order of the list.
        outputs: Names of the outputs, in the order of the result.
    """

    def __init__(self, model: paddle.nn.Layer, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(inputs)
        self.outputs = list(outputs)

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """The model's outputs in order; tensors have the same shapes as in the model."""
        # Plain enough for Paddle's tracer, which knows no strict zip.
        results = self.model({name: tensors[index] for index, name in enumerate(self.names)})
        return [results[name] for name in self.outputs]
