"""Temporal Segment Network: a 2-D backbone on every frame, then the mean of the frames' logits.

Follows arXiv:1608.00859 as VideoTag uses it. Differs: the backbone is configurable, not always ResNet-101.
Shapes: N videos, T frames per video, B frames, H and W height and width in pixels, D feature width,
C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from pydantic import model_validator

from videotag.models.layouts import Layout
from videotag.registry import (
    FEATURES,
    FRAMES,
    LOGITS,
    ArraySpec,
    PublishedBackbone,
    get_backbone,
    list_backbones,
    register_model,
)
from videotag.safe_text import escaped
from videotag.sections import ExtractorModel, Positive


class TSNConfig(ExtractorModel):
    """MODEL section of TSN.

    Attributes:
        num_layers: Depth of the ResNet, as VideoTag's configs name the backbone; 101 if neither key is given.
        backbone: Name of a registered backbone.
    """

    num_layers: Positive | None = None
    backbone: str | None = None
    num_classes: Positive = 400
    topk: Positive = 5

    @model_validator(mode="after")
    def _backbone_exists(self) -> TSNConfig:
        resnet = f"resnet{self.num_layers or 101}"
        if self.num_layers and self.backbone and self.backbone.lower() != resnet:
            raise ValueError(
                f"num_layers {self.num_layers} and backbone {escaped(self.backbone)} disagree; keep one of "
                "them"
            )
        self.backbone = self.backbone or resnet
        names = [entry.name for entry in list_backbones()]
        if self.backbone.lower() not in map(str.lower, names):
            there = f"there are: {', '.join(names)}; if it comes from a plugin, give --plugin FILE.py"
            raise ValueError(f"{escaped(self.backbone)} is not a backbone; {there}")
        return self

    def plugins(self) -> list[str | None]:
        """See ModelSection."""
        return [get_backbone(str(self.backbone)).plugin]


class FrameEncoder(nn.Layer):
    """A backbone with normalization: FRAMES (B, H, W, 3) uint8 -> FEATURES (B, D) float32.

    The input is normalized as (x / 255 - mean) / std inside the network, so that frames reach it as uint8, a
    quarter of the size of float32. The result is bitwise equal to videotag.media.transforms.normalize.
    """

    def __init__(
        self, backbone: nn.Layer, mean: Sequence[float], std: Sequence[float], *, size_px: int | None = None
    ) -> None:
        super().__init__()
        self.inputs = (ArraySpec(FRAMES, (None, size_px, size_px, 3), "uint8"),)
        self.outputs = (FEATURES,)
        self.backbone = backbone
        self._scale = _per_channel(1 / (255 * np.array(std)))
        self._shift = _per_channel(np.array(mean) / np.array(std))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The backbone's features (B, D), by name."""
        x = inputs[FRAMES].astype("float32").transpose([0, 3, 1, 2])  # (B, 3, H, W)
        return {FEATURES: self.backbone(x * self._scale - self._shift)}


@register_model("TSN", config=TSNConfig, task="single_label")
class TSN(nn.Layer):
    """Clips of frames (N, T, H, W, 3) uint8 -> logits (N, C)."""

    classifier = "fc"  # reinitialized if the classes change

    def __init__(self, config: TSNConfig) -> None:
        super().__init__()
        entry = get_backbone(str(config.backbone))
        self.backbone: Any = entry.cls(entry.config())
        self.feature_dim: int = self.backbone.feature_dim
        self.fc = nn.Linear(self.feature_dim, config.num_classes)
        self._mean, self._std = config.image_mean, config.image_std
        self.inputs = (ArraySpec(FRAMES, (None, None, None, None, 3), "uint8"),)
        self.outputs = (LOGITS,)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C), averaged over the frames of FRAMES (N, T, H, W, 3) uint8."""
        clips = inputs[FRAMES]
        features = self.encoder()({FRAMES: clips.flatten(0, 1)})[FEATURES]  # (N * T, D)
        features = features.reshape([*clips.shape[:2], self.feature_dim])
        return {LOGITS: self.fc(features).mean(axis=1)}

    def encoder(self, size_px: int | None = None) -> FrameEncoder:
        """The first stage as a separate model, which shares this one's backbone.

        Args:
            size_px: Height and width of its frames in pixels; None if they may vary.
        """
        return FrameEncoder(self.backbone, self._mean, self._std, size_px=size_px)

    def layouts(self) -> list[Layout]:
        """The published layouts of the backbone, including the classifier; empty if it has none."""
        if not isinstance(self.backbone, PublishedBackbone):
            return []
        return [layout.inside("backbone.") for layout in self.backbone.layouts()]

    def remedy(self, state: Iterable[str]) -> str | None:
        """The remedy if weights belong to another backbone; otherwise None."""
        names = list(state)
        for entry in list_backbones():
            if entry.cls is type(self.backbone) or not issubclass(entry.cls, PublishedBackbone):
                continue
            if entry.cls.owns(names):
                shipped = entry.cls.shipped_config()
                config = f"--config={shipped} or " if shipped else ""
                return f"they belong to {entry.name}; give {config}--set MODEL.backbone={entry.name}"
        return None


def _per_channel(values: np.ndarray) -> Tensor:
    """Reshapes (3,) to a tensor (1, 3, 1, 1) float32."""
    return paddle.to_tensor(values.astype(np.float32).reshape(1, 3, 1, 1))
