"""Transformer pooling: a few learned latents repeatedly cross-attend to the frames of all modalities.

Follows Perceiver (arXiv:2103.03206) and the attention pooling of Set Transformer (arXiv:1810.00825). In each
pre-norm block, the latents cross-attend to the frames of every modality, then self-attend, then pass an MLP.
The cost is linear in T. Sinusoidal position encodings (arXiv:1706.03762) are added to the frames, so that
the model works for any T and depends on the order of the frames.
Shapes: N videos, T steps, D feature width, Q queries, W width, A heads, C classes.
"""

from __future__ import annotations

import math
from typing import Annotated

import paddle
from paddle import Tensor, nn
from pydantic import Field, model_validator

from videotag.models.sequence import SequenceTagger, masked_softmax, outputs_of, zero_padding
from videotag.registry import MASK, register_model
from videotag.sections import MAX_COUNT, NumLayers, Positive, TaggerModel


class LatentTransformerConfig(TaggerModel):
    """MODEL section of LatentTransformer.

    Attributes:
        num_queries: Number of latents Q.
        hidden_size: Width W, even and a multiple of num_heads.
        num_heads: Number of attention heads A.
        num_layers: Number of blocks.
        drop_rate: Dropout probability of every residual branch.
    """

    num_queries: Positive = 8
    hidden_size: Annotated[int, Field(ge=2, le=MAX_COUNT, multiple_of=2)] = 512
    num_heads: Positive = 8
    num_layers: NumLayers = 2
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _heads_fit(self) -> LatentTransformerConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}")
        return self


def step_encoding(x: Tensor) -> Tensor:
    """Sinusoidal position encoding (T, W): sines, then cosines, at W / 2 wavelengths of 2 pi to 20,000 pi.

    Args:
        x: (N, T, W); only its shape is used, so that an exported network accepts any T.
    """
    half = x.shape[-1] // 2
    step = paddle.cumsum(paddle.ones_like(x[0, :, :1]), axis=0) - 1  # (T, 1): 0, 1, ... T-1
    exponent = paddle.arange(half, dtype="float32") / max(1, half - 1)
    angle = step * paddle.exp(-math.log(10_000.0) * exponent).astype(x.dtype)  # (T, W / 2)
    return paddle.concat([angle.sin(), angle.cos()], axis=-1)


class Attention(nn.Layer):
    """Queries (N, Q, W) attend to steps (N, T, W), mask (N, T) -> (N, Q, W) and weights (N, T, A, Q)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = math.sqrt(width // num_heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias_attr=False)  # softmax over the steps would cancel a bias
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attention output (N, Q, W) and weights (N, T, A, Q).

        For a row without real steps, the weights are 0 and the output is `out` applied to zeros.
        """
        query, key, value = self._heads(self.query(queries)), self._heads(self.key(steps)), self.value(steps)
        logits = paddle.matmul(query, key, transpose_y=True) / self.scale  # (N, A, Q, T)
        weights = masked_softmax(logits.transpose([0, 3, 1, 2]), mask)  # (N, T, A, Q)
        read = paddle.matmul(weights.transpose([0, 2, 3, 1]), self._heads(value))  # (N, A, Q, W / A)
        return self.out(read.transpose([0, 2, 1, 3]).flatten(start_axis=2)), weights

    def _heads(self, x: Tensor) -> Tensor:
        """(N, T, W) -> (N, A, T, W / A)."""
        split = x.reshape([x.shape[0], x.shape[1], self.num_heads, -1])  # (N, T, A, W / A)
        return split.transpose([0, 2, 1, 3])


class LatentBlock(nn.Layer):
    """One block: cross-attention to the frames of all modalities, self-attention and an MLP."""

    def __init__(self, config: LatentTransformerConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        self.read_norm, self.self_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.read = nn.LayerDict({m: Attention(width, heads) for m in config.dims})
        self.self_attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(
        self, latents: Tensor, frames: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Updates the latents.

        Args:
            latents: Latents (N, Q, W).
            frames: Embedded frames (N, T, W) by modality.
            masks: Masks (N, T) bool by modality, True on the real steps.

        Returns:
            The latents (N, Q, W), and the attention weights (N, T, A, Q) by modality.
        """
        queries, attention = self.read_norm(latents), {}
        for name, layer in self.read.items():
            read, attention[name] = layer(queries, frames[name], masks[name])
            latents = latents + self.dropout(read)
        x = self.self_norm(latents)
        everyone = paddle.ones_like(x[:, :, 0], dtype="bool")  # (N, Q)
        latents = latents + self.dropout(self.self_attention(x, x, everyone)[0])
        return latents + self.dropout(self.mlp(self.mlp_norm(latents))), attention


@register_model("LatentTransformer", config=LatentTransformerConfig, task="multi_label")
class LatentTransformer(SequenceTagger):
    """Cross-attending latents: features and masks of every modality -> logits (N, C)."""

    gives_attention = True

    def __init__(self, config: LatentTransformerConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embed = nn.LayerDict({m: nn.Linear(dim, width) for m, dim in config.dims.items()})
        self.frame_norm = nn.LayerDict({m: nn.LayerNorm(width) for m in config.dims})
        normal = nn.initializer.Normal(0.0, 1.0)  # wide enough that latents attend differently from the start
        self.latents = self.create_parameter([config.num_queries, width], default_initializer=normal)
        self.blocks = nn.LayerList([LatentBlock(config) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C), and per modality the last block's attention (N, T), mean over heads and latents."""
        masks = {name: inputs[name + MASK] for name in self.embed.keys()}  # noqa: SIM118 - a LayerDict
        frames = {}
        for name, embed in self.embed.items():
            x = embed(zero_padding(inputs[name], inputs[name + MASK]))  # (N, T, W)
            frames[name] = self.frame_norm[name](x + step_encoding(x))
        count = x.shape[0]
        latents = self.latents.unsqueeze(0).expand([count, -1, -1])  # (N, Q, W)
        for block in self.blocks:
            latents, attention = block(latents, frames, masks)
        logits = self.output(self.norm(latents).mean(axis=1))
        return outputs_of(logits, {name: weights.mean(axis=[2, 3]) for name, weights in attention.items()})
