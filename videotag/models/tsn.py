"""Temporal Segment Network over any backbone: the same 2-D network on every frame, then the mean.

arXiv:1608.00859, as VideoTag uses it. Differs: the backbone is a setting, not only ResNet-101.
Shapes: N videos, T frames, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paddle import Tensor, nn
from pydantic import model_validator

from videotag.models.layouts import Layout
from videotag.registry import get_model, list_models, register_model
from videotag.safe_text import escaped
from videotag.sections import ExtractorModel, Positive


class TSNConfig(ExtractorModel):
    """MODEL section of TSN.

    Attributes:
        num_layers: depth of the ResNet, another way to name the backbone; 101 if neither is given.
        backbone: a registered backbone.
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
        names = [entry.name for entry in list_models("backbone")]
        if self.backbone.lower() not in map(str.lower, names):
            raise ValueError(f"{escaped(self.backbone)} is not a backbone; there are: {', '.join(names)}")
        return self


@register_model("TSN", config=TSNConfig, kind="extractor", task="single_label")
class TSN(nn.Layer):
    """Clips (N, T, 3, H, W) -> logits (N, C), or features (N, T, D)."""

    classifier = "fc"  # the layer that starts anew for other classes

    def __init__(self, config: TSNConfig) -> None:
        super().__init__()
        entry = get_model(str(config.backbone))
        self.backbone: Any = entry.cls(entry.config())
        self.feature_dim: int = self.backbone.feature_dim
        self.fc = nn.Linear(self.feature_dim, config.num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Mean over the frames' logits: (N, C)."""
        return self.fc(self.forward_features(clips)).mean(axis=1)

    def forward_features(self, clips: Tensor) -> Tensor:
        """The backbone's features of every frame: (N, T, D)."""
        frames = clips.flatten(0, 1)  # (N * T, 3, H, W)
        return self.backbone(frames).reshape([*clips.shape[:2], self.feature_dim])

    def layouts(self) -> list[Layout]:
        """The published layouts of the backbone, if it knows any, classifier included."""
        return [layout.inside("backbone.") for layout in getattr(self.backbone, "layouts", list)()]

    def remedy(self, state: Iterable[str]) -> str | None:
        """What to do about weights of another backbone."""
        names = list(state)
        for entry in list_models("backbone"):
            owns = getattr(entry.cls, "owns", None)
            if owns and entry.cls is not type(self.backbone) and owns(names):
                config = f"--config={entry.cls.tsn_config} or " if entry.cls.tsn_config else ""
                return f"they are of {entry.name}; give {config}--set MODEL.backbone={entry.name}"
        return None
