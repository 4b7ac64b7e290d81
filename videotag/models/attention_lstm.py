"""Bidirectional LSTM with attention pooling for multi-label video tagging.

Follows VideoTag's AttentionLSTM (a PaddlePaddle sample, 2019; its LSTM follows arXiv:1503.08909). Differs:
  - a standard LSTM without peepholes;
  - any number of modalities, each with its own layers, concatenated after pooling;
  - a numerically stable softmax over the real steps only;
  - inverted dropout, so that inference uses the weights unscaled;
  - configurable widths of the two hidden layers; optionally, an output bias initialized to the class prior.
MODEL.variant restores what published weights were trained with; the layers are otherwise the same.
Shapes: N videos, T steps, D feature width, E embedding, H LSTM width per direction, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field

from videotag.models.layouts import Layout
from videotag.models.sequence import BiLSTM, SequenceTagger, masked_softmax, outputs_of
from videotag.registry import EMBEDDING, MASK, register_model
from videotag.sections import Positive, TaggerModel


class _Variant(NamedTuple):
    """Differences between the published networks.

    Attributes:
        config: Path of the shipped config.
        peepholes: Whether the LSTM's gates see its cell state.
        projection_bias: Whether, with peepholes, the LSTM's input projection has a bias in addition to the
            gates' own.
        score_bias: Whether the attention score has a bias; softmax cancels it, but weight files contain it.
        dropout: Mode of nn.Dropout; "downscale_in_infer" does not scale in training and multiplies by
            1 - drop_rate in inference.
    """

    config: str
    peepholes: bool = False
    projection_bias: bool = False
    score_bias: bool = False
    dropout: str = "upscale_in_train"


_VARIANTS = {
    "standard": _Variant("configs/attention_lstm.yaml"),
    "videotag": _Variant(
        "configs/attention_lstm_videotag.yaml", peepholes=True, dropout="downscale_in_infer"
    ),
    "paddlevideo": _Variant("configs/attention_lstm_paddlevideo.yaml", score_bias=True),
    "fluid_yt8m": _Variant(
        "configs/attention_lstm_fluid_yt8m.yaml",
        peepholes=True,
        projection_bias=True,
        score_bias=True,
        dropout="downscale_in_infer",
    ),
}


class AttentionLSTMConfig(TaggerModel):
    """MODEL section of AttentionLSTM.

    Attributes:
        variant: Variant of the network: "standard", or "videotag", "paddlevideo" or "fluid_yt8m" (Paddle's
            static-graph YouTube-8M sample) for weights of these systems. "videotag" and "fluid_yt8m" have
            peepholes and scale the dropout in inference instead of training.
        drop_rate: Dropout probability of the LSTM's output.
        embedding_size: Embedding width E.
        lstm_size: LSTM width H per direction.
        fc_sizes: Widths of the two hidden layers before the logits.
        class_prior: Expected fraction of videos with a given tag. The output bias starts at its logit (at
            zero if None), which saves the epochs that would only learn that tags are rare.
        bone_network: Unused key of VideoTag's files; must be None.
    """

    variant: Literal["standard", "videotag", "paddlevideo", "fluid_yt8m"] = "standard"
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5
    embedding_size: Positive = 1024
    lstm_size: Positive = 512
    fc_sizes: tuple[Positive, Positive] = (8192, 4096)
    class_prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    bone_network: None = None


class AttentionPool(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> pooled (N, 2H) and attention (N, T)."""

    def __init__(self, in_features: int, config: AttentionLSTMConfig) -> None:
        super().__init__()
        variant = _VARIANTS[config.variant]
        self.embed = nn.Linear(in_features, config.embedding_size)
        self.lstm = BiLSTM(
            config.embedding_size,
            config.lstm_size,
            peepholes=variant.peepholes,
            projection_bias=variant.projection_bias,
        )
        self.dropout = nn.Dropout(config.drop_rate, mode=variant.dropout)
        # No bias by default: softmax over time cancels it, so its gradient would be 0.
        self.score = nn.Linear(2 * config.lstm_size, 1, bias_attr=None if variant.score_bias else False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled states (N, 2H) and attention weights (N, T), which sum to 1 over the real steps."""
        states = self.dropout(self.lstm(F.tanh(self.embed(x)), mask))  # (N, T, 2H)
        attention = masked_softmax(self.score(states).squeeze(-1), mask)  # (N, T)
        return (attention.unsqueeze(-1) * states).sum(axis=1), attention  # (N, 2H), (N, T)


@register_model("AttentionLSTM", config=AttentionLSTMConfig, task="multi_label")
class AttentionLSTM(SequenceTagger):
    """Bidirectional LSTM with attention: features and masks of every modality -> logits (N, C).

    EMBEDDING is the second hidden layer, 4,096 wide in VideoTag.
    """

    gives_attention = True

    def __init__(self, config: AttentionLSTMConfig) -> None:
        super().__init__(config)
        self.outputs = (*self.outputs, EMBEDDING)
        self.variant = config.variant
        self.pools = nn.LayerDict({name: AttentionPool(dim, config) for name, dim in config.dims.items()})
        first, second = config.fc_sizes
        self.fc1 = nn.Linear(2 * config.lstm_size * len(self.pools), first)
        self.fc2 = nn.Linear(first, second)
        prior = config.class_prior
        bias = 0.0 if prior is None else math.log(prior / (1 - prior))
        self.output = nn.Linear(second, config.num_classes, bias_attr=nn.initializer.Constant(bias))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C), the embedding (N, E), and per modality the attention weights (N, T)."""
        pooled, attention = [], {}
        for name, pool in self.pools.items():
            vector, attention[name] = pool(inputs[name], inputs[name + MASK])
            pooled.append(vector)
        x = paddle.concat(pooled, axis=-1)  # (N, 2H * modalities)
        x = F.tanh(self.fc2(F.relu(self.fc1(x))))
        return {**outputs_of(self.output(x), attention), EMBEDDING: x}

    def layouts(self) -> list[Layout]:
        """The published layout of this variant; empty if there is none."""
        names = list(self.pools)
        if self.variant == "paddlevideo":
            return [_paddlevideo_layout(names)]
        if self.variant == "fluid_yt8m":
            return [_fluid_layout(names)]
        # VideoTag's names begin with "rgb" for any modality, so the names of a second one would collide.
        return [_videotag_layout(names[0])] if self.variant == "videotag" and len(names) == 1 else []

    def remedy(self, state: Iterable[str]) -> str | None:
        """The remedy if weights belong to another variant; otherwise None."""
        variant = _variant_of(state)
        if variant in (None, self.variant):
            return None
        return f"they belong to MODEL.variant {variant}; give --config={_VARIANTS[variant].config}"


def _variant_of(state: Iterable[str]) -> str | None:
    """The variant whose parameter names a file contains, published or our own; None if it has neither."""
    names = list(state)

    def has(*endings: str) -> bool:
        return any(name.endswith(endings) for name in names)

    if has("rgb_lstm_forward.w_0"):
        return "videotag"
    if has("lstm.forward_lstm.bias_row"):
        return "fluid_yt8m" if has("projection.bias") else "videotag"
    if has("bi_lstm0.weight_ih_l0", "score.bias"):
        return "paddlevideo"
    if "lstm_0.w_0" in names:
        return "fluid_yt8m"
    return "standard" if has("lstm.forward_lstm.weight_ih_l0") else None


def _videotag_layout(modality: str) -> Layout:
    """Layout with the names of VideoTag's static graph."""
    pool = f"pools.{modality}"
    names = {f"{pool}.embed.weight": "rgb_fc.w_0", f"{pool}.embed.bias": "rgb_fc.b_0"}
    for direction in ("forward", "backward"):
        lstm = f"{pool}.lstm.{direction}_lstm"
        names[f"{lstm}.projection.weight"] = f"rgb_fc_{direction}.w_0"
        names[f"{lstm}.weight"] = f"rgb_lstm_{direction}.w_0"
        names[f"{lstm}.bias_row"] = f"rgb_lstm_{direction}.b_0"
    names[f"{pool}.score.weight"] = "rgb_weight.w_0"
    for layer in ("fc1", "fc2", "output"):
        names[f"{layer}.weight"], names[f"{layer}.bias"] = f"{layer}.w_0", f"{layer}.b_0"
    return Layout("videotag", names)


def _fluid_layout(modalities: list[str]) -> Layout:
    """Layout with the names that Paddle's static graph generates, numbered by layer."""
    names = {}
    for index, modality in enumerate(modalities):
        pool = f"pools.{modality}"
        layers = ("embed", "lstm.forward_lstm.projection", "lstm.backward_lstm.projection", "score")
        for number, layer in enumerate(layers, start=4 * index):
            names[f"{pool}.{layer}.weight"], names[f"{pool}.{layer}.bias"] = (
                f"fc_{number}.w_0",
                f"fc_{number}.b_0",
            )
        for number, direction in enumerate(("forward", "backward"), start=2 * index):
            lstm = f"{pool}.lstm.{direction}_lstm"
            names[f"{lstm}.weight"], names[f"{lstm}.bias_row"] = f"lstm_{number}.w_0", f"lstm_{number}.b_0"
    for number, layer in enumerate(("fc1", "fc2", "output"), start=4 * len(modalities)):
        names[f"{layer}.weight"], names[f"{layer}.bias"] = f"fc_{number}.w_0", f"fc_{number}.b_0"
    return Layout("fluid", names)


def _paddlevideo_layout(modalities: list[str]) -> Layout:
    """Layout of PaddleVideo's AttentionLstmHead, whose files contain every LSTM weight twice."""
    names = {}
    for index, modality in enumerate(modalities):
        pool = f"pools.{modality}"
        for ours, theirs in (("embed", "fc_feature"), ("score", "att_fc")):
            for value in ("weight", "bias"):
                names[f"{pool}.{ours}.{value}"] = f"{theirs}{index}.{value}"
        for value in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            names[f"{pool}.lstm.forward_lstm.{value}"] = f"bi_lstm{index}.{value}"
            names[f"{pool}.lstm.backward_lstm.{value}"] = f"bi_lstm{index}.{value}_reverse"
    for ours, theirs in (("fc1", "fc_out1"), ("fc2", "fc_out2"), ("output", "fc_logit")):
        for value in ("weight", "bias"):
            names[f"{ours}.{value}"] = f"{theirs}.{value}"
    return Layout("paddlevideo", names, prefix="head.", ignored=r"bi_lstm\d+\.0\.cell_\w+\..*")
