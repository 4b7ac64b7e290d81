"""Backbones as networks of frames: of normalised ones, or of decoded bytes that they normalise themselves.

As bytes a frame goes from the decoder to the network as it is, a quarter of the size of its numbers.
Shapes: B frames, H height, W width, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from videotag.runtime.trained import Input, TrainedNetwork, network_digest

FRAMES, FEATURES = "frames", "features"


def backbone_network(
    backbone: nn.Layer,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    size_px: int,
    weights: Sequence[str],
    name: str,
) -> TrainedNetwork:
    """A backbone with its normalisation, ready for any backend: uint8 (B, H, W, 3) -> (B, D).

    Args:
        backbone: of normalised frames (B, 3, H, W).
        mean: of the three colours, in units of 0..1.
        std: of the three colours, in units of 0..1.
        size_px: H and W.
        weights: digests of its weight files.
        name: of the model, for texts.
    """
    return TrainedNetwork(
        layer=_OfBytes(backbone, mean, std),
        inputs=(Input(FRAMES, (None, size_px, size_px, 3), "uint8"),),
        outputs=(FEATURES,),
        digest=network_digest(backbone, weights=weights, config=[name, size_px, list(mean), list(std)]),
        name=name,
    )


def normalized_network(
    backbone: nn.Layer, *, size_px: int, weights: Sequence[str], name: str
) -> TrainedNetwork:
    """A backbone as it is, ready for any backend: float32 (B, 3, H, W) -> (B, D).

    Args:
        backbone: of normalised frames.
        size_px: H and W.
        weights: digests of its weight files.
        name: of the model, for texts.
    """
    return TrainedNetwork(
        layer=backbone,
        inputs=(Input(FRAMES, (None, 3, size_px, size_px)),),
        outputs=(FEATURES,),
        digest=network_digest(backbone, weights=weights, config=[name, size_px]),
        name=name,
    )


class _OfBytes(nn.Layer):
    """A backbone behind (x / 255 - mean) / std, as videotag.media.transforms.normalize has it."""

    def __init__(self, backbone: nn.Layer, mean: Sequence[float], std: Sequence[float]) -> None:
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
