"""Vision Transformer: frames -> features.

The network of arXiv:2010.11929: pre-norm blocks, a class token, learned positions. timm's and torchvision's
files load as they are. For frames of another size, the positions are interpolated.
Shapes: B frames, H and W height and width in pixels, P patches, D width, A heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import ClassVar, Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.errors import ConfigError
from videotag.models.layouts import Layout
from videotag.registry import register_backbone
from videotag.sections import NumLayers, Positive, Section

_BLOCK = re.compile(r"blocks\.(\d+)\.|encoder_layer_(\d+)\.")
_EPSILON = 1e-6  # of ViT's layer norms; Paddle's default is 1e-5


class VisionTransformerConfig(Section):
    """Sizes of a Vision Transformer.

    Attributes:
        width: Width D, a multiple of num_heads.
        depth: Number of blocks.
        num_heads: Number of attention heads A.
        image_px: Height and width of a frame in pixels.
        patch_px: Height and width of a patch in pixels.
        pooling: "cls" for the class token after the last norm; "mean" for the mean of the patches, followed
            by a norm.
    """

    width: Positive = 768
    depth: NumLayers = 12
    num_heads: Positive = 12
    image_px: Positive = 224
    patch_px: Positive = 16
    pooling: Literal["cls", "mean"] = "cls"


class Block(nn.Layer):
    """Self-attention and an MLP, each on normalized tokens and added to its input."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = math.sqrt(width // num_heads)
        self.norm1, self.norm2 = (nn.LayerNorm(width, epsilon=_EPSILON) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, P + 1, D) -> (B, P + 1, D)."""
        qkv = self.qkv(self.norm1(x)).reshape([0, 0, 3, self.num_heads, -1])  # (B, P + 1, 3, A, D / A)
        query, key, value = qkv.transpose([2, 0, 3, 1, 4]).unbind()  # (B, A, P + 1, D / A) each
        scores = paddle.matmul(query, key, transpose_y=True) / self.scale
        read = paddle.matmul(F.softmax(scores), value).transpose([0, 2, 1, 3]).flatten(2)
        x = x + self.proj(read)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VisionTransformer(nn.Layer):
    """Frames (B, 3, H, W), of image_px pixels or other multiples of patch_px -> features (B, D).

    Attributes:
        config: Class of its sizes.
        tsn_config: Path of the shipped config of a TSN with this backbone; None if there is none.
    """

    config: ClassVar[type[VisionTransformerConfig]] = VisionTransformerConfig
    tsn_config: ClassVar[str | None] = None

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        width, side = config.width, config.image_px // config.patch_px
        self.feature_dim = width
        self.pooling, self.image_px, self.patch_px = config.pooling, config.image_px, config.patch_px
        self.patches = nn.Conv2D(3, width, config.patch_px, config.patch_px)
        normal = nn.initializer.Normal(0.0, 0.02)
        self.cls_token = self.create_parameter([1, 1, width], default_initializer=normal)
        self.positions = self.create_parameter([1, side**2 + 1, width], default_initializer=normal)
        self.blocks = nn.LayerList([Block(width, config.num_heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width, epsilon=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalized frames (B, 3, H, W)."""
        tokens = self.tokens(images)
        if self.pooling == "cls":
            return self.norm(tokens[:, 0])
        return self.norm(tokens[:, 1:].mean(axis=1))

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (B, P + 1, D) before the blocks: the class token, then the patches row by row.

        Raises:
            ConfigError: A side of the frames is not a multiple of patch_px.
        """
        height, width = images.shape[2:]
        if height % self.patch_px or width % self.patch_px:
            raise ConfigError(
                f"frames of {width} x {height} pixels, but this backbone divides them into patches of "
                f"{self.patch_px}; set target_size to {self.image_px}"
            )
        x = self.patches(images).flatten(2).transpose([0, 2, 1])  # (B, P, D)
        cls = self.cls_token.expand([x.shape[0], -1, -1])
        return paddle.concat([cls, x], axis=1) + self._positions(height, width)

    def _positions(self, height: int, width: int) -> Tensor:
        """Positions (1, P + 1, D) for frames of a size in pixels."""
        if height == width == self.image_px:
            return self.positions
        side = self.image_px // self.patch_px
        cls, grid = self.positions[:, :1], self.positions[:, 1:]
        grid = grid.reshape([1, side, side, -1]).transpose([0, 3, 1, 2])  # (1, D, side, side)
        size = [height // self.patch_px, width // self.patch_px]
        grid = F.interpolate(grid, size, mode="bicubic").flatten(2).transpose([0, 2, 1])  # (1, P, D)
        return paddle.concat([cls, grid], axis=1)

    def tokens(self, images: Tensor) -> Tensor:
        """Tokens (B, P + 1, D) after the blocks, before the last norm."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return x

    @classmethod
    def owns(cls, names: Iterable[str]) -> bool:
        """See PublishedBackbone; networks of the same depth are not told apart."""
        names = list(names)
        is_vit = any(name.endswith(("patch_embed.proj.weight", "conv_proj.weight")) for name in names)
        numbers = {int(found[1] or found[2]) for name in names if (found := _BLOCK.search(name))}
        return is_vit and len(numbers) == cls.config().depth

    @classmethod
    def shipped_config(cls) -> str | None:
        """See PublishedBackbone."""
        return cls.tsn_config

    def layouts(self) -> list[Layout]:
        """The published layouts, timm's and torchvision's, with the classifier as "fc."."""
        names = [*self.state_dict(), "fc.weight", "fc.bias"]
        linear = ("qkv", "proj", "fc1", "fc2", "fc")
        transposed = frozenset(n for n in names if n.endswith("weight") and n.split(".")[-2] in linear)
        timm = {name: _timm_name(name, self.pooling) for name in names}
        return [
            Layout("timm", timm, transposed=transposed),
            Layout("torchvision", {name: _torchvision_name(name) for name in names}, transposed=transposed),
        ]


class TinyPatch16(VisionTransformerConfig):
    """timm's vit_tiny_patch16_224."""

    width: Positive = 192
    num_heads: Positive = 3


class LargePatch16(VisionTransformerConfig):
    """timm's vit_large_patch16_224, torchvision's vit_l_16."""

    width: Positive = 1024
    depth: NumLayers = 24
    num_heads: Positive = 16


class LargePatch32(LargePatch16):
    """timm's vit_large_patch32_384."""

    image_px: Positive = 384
    patch_px: Positive = 32


@register_backbone("vit_tiny_patch16_224", config=TinyPatch16)
class ViTTinyPatch16(VisionTransformer):
    """D = 192, 5.5 M weights."""

    config = TinyPatch16


@register_backbone("vit_base_patch16_224", config=VisionTransformerConfig)
class ViTBasePatch16(VisionTransformer):
    """D = 768, 86 M weights."""


@register_backbone("vit_large_patch16_224", config=LargePatch16)
class ViTLargePatch16(VisionTransformer):
    """D = 1024, 303 M weights."""

    config = LargePatch16


@register_backbone("vit_large_patch32_384", config=LargePatch32)
class ViTLargePatch32(VisionTransformer):
    """D = 1024, 305 M weights, for frames of 384 pixels."""

    config = LargePatch32
    tsn_config = "configs/tsn_vit_large.yaml"


_TIMM = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_TORCHVISION = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "qkv": "self_attention.in_proj_",
    "proj": "self_attention.out_proj",
    "fc1": "mlp.0",
    "fc2": "mlp.3",
}


def _timm_name(name: str, pooling: str) -> str:
    """`blocks.3.qkv.weight` -> `blocks.3.attn.qkv.weight`."""
    layer, _, value = name.rpartition(".")
    if layer.startswith("blocks."):
        _, number, part = layer.split(".")
        return f"blocks.{number}.{_TIMM.get(part, part)}.{value}"
    norm = "norm" if pooling == "cls" else "fc_norm"
    return {
        "cls_token": "cls_token",
        "positions": "pos_embed",
        f"patches.{value}": f"patch_embed.proj.{value}",
        f"norm.{value}": f"{norm}.{value}",
        f"fc.{value}": f"head.{value}",
    }[name]


def _torchvision_name(name: str) -> str:
    """`blocks.3.qkv.weight` -> `encoder.layers.encoder_layer_3.self_attention.in_proj_weight`."""
    layer, _, value = name.rpartition(".")
    if layer.startswith("blocks."):
        _, number, part = layer.split(".")
        joined = f"{_TORCHVISION[part]}{value}" if part == "qkv" else f"{_TORCHVISION[part]}.{value}"
        return f"encoder.layers.encoder_layer_{number}.{joined}"
    return {
        "cls_token": "class_token",
        "positions": "encoder.pos_embedding",
        f"patches.{value}": f"conv_proj.{value}",
        f"norm.{value}": f"encoder.ln.{value}",
        f"fc.{value}": f"heads.head.{value}",
    }[name]
