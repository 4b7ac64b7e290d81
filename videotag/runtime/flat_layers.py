"""Networks as layers of plain tensors, the form that is traced and run.

Apart from those who call them, who need no Paddle where a network comes from an export.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from videotag.system.quiet_paddle import paddle

import numpy as np

if TYPE_CHECKING:
    from paddle import Tensor


class Flat(paddle.nn.Layer):
    """A list of tensors -> a list of tensors, as a traced network needs it."""

    def __init__(self, layer: paddle.nn.Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """The layer's outputs."""
        return as_list(self.layer(*inputs))


def as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """What a layer gives, alone or in a sequence, as a list."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


class FlatTagger(paddle.nn.Layer):
    """A tagger on plain tensors: all features, then all masks."""

    def __init__(self, model: paddle.nn.Layer, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        """Logits, then the attention of every modality."""
        # Plain enough for Paddle's tracer, which knows no strict zip.
        features = {name: tensors[index] for index, name in enumerate(self.names)}
        masks = {name: tensors[len(self.names) + index] for index, name in enumerate(self.names)}
        if not hasattr(self.model, "attend"):
            return [self.model(features, masks)]
        logits, attention = self.model.attend(features, masks)
        return [logits] + [attention[name] for name in self.names]


class NormalizedBackbone(paddle.nn.Layer):
    """A backbone behind (x / 255 - mean) / std, as videotag.media.transforms.normalize has it."""

    def __init__(self, backbone: paddle.nn.Layer, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self._scale = _per_colour(1 / (255 * np.array(std)))
        self._shift = _per_colour(np.array(mean) / np.array(std))

    def forward(self, frames: Tensor) -> Any:
        """The backbone's features."""
        x = frames.astype("float32").transpose([0, 3, 1, 2])  # (B, 3, H, W)
        return self.backbone(x * self._scale - self._shift)


def _per_colour(values: np.ndarray) -> Tensor:
    """(1, 3, 1, 1) float32."""
    return paddle.to_tensor(values.astype(np.float32).reshape(1, 3, 1, 1))
