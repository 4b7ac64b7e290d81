"""Backbones as networks of frames: of normalised ones, or of decoded bytes that they normalise themselves.

As bytes a frame goes from the decoder to the network as it is, a quarter of the size of its numbers.
Shapes: B frames, H height, W width, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from videotag.runtime.trained import Input, TrainedNetwork, network_digest

if TYPE_CHECKING:
    from paddle import nn

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
    from videotag.runtime.flat_layers import NormalizedBackbone

    layer = NormalizedBackbone(backbone, mean, std)
    return TrainedNetwork(
        layer=layer,
        inputs=(Input(FRAMES, (None, size_px, size_px, 3), "uint8"),),
        outputs=(FEATURES,),
        digest=network_digest(layer, weights=weights, config=[name, size_px, list(mean), list(std)]),
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
