"""Masked operations on padded sequences: pooling, softmax, reversal, recurrence.

Shapes: N videos, T steps, D feature width, H LSTM width per direction. A mask (N, T) bool is True on the real
steps, which precede the padding.
"""

from __future__ import annotations

from collections.abc import Mapping

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.standardize import Standardize
from videotag.registry import ATTENTION, LOGITS, MASK, sequence_specs
from videotag.sections import TaggerModel


class SequenceTagger(nn.Layer):
    """Base class of models of feature sequences, one per modality, with any number of real steps.

    Attributes:
        gives_attention: Whether the model also returns the attention weight of every step.
    """

    gives_attention = False

    def __init__(self, config: TaggerModel) -> None:
        super().__init__()
        self.inputs = tuple(sequence_specs(config.dims))
        if config.standardize:
            self.standardizers = nn.LayerDict(
                {name: Standardize(dim, common_scale=True) for name, dim in config.dims.items()}
            )
            self.register_forward_pre_hook(_standardized)
        attention = [name + ATTENTION for name in config.dims] if self.gives_attention else []
        self.outputs = (LOGITS, *attention)


def _standardized(model: SequenceTagger, arguments: tuple[dict[str, Tensor]]) -> tuple[dict[str, Tensor]]:
    """The arguments of a model's forward with standardized features (N, T, D)."""
    (inputs,) = arguments
    sequences = {
        name: layer(inputs[name], inputs[name + MASK]) for name, layer in model.standardizers.items()
    }
    return ({**inputs, **sequences},)


def outputs_of(logits: Tensor, attention: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a model by name: logits (N, C), and per modality the attention weights (N, T)."""
    return {LOGITS: logits, **{name + ATTENTION: weights for name, weights in attention.items()}}


def reversed_order(mask: Tensor) -> Tensor:
    """Indices that reverse every sequence within its own length.

    Padding keeps its position, so applying the order twice restores the input.

    Args:
        mask: (N, T) bool, True on the real steps.

    Returns:
        (N * T,) int64 indices into the flattened (N * T) steps.
    """
    ones = paddle.ones_like(mask, dtype="int64")
    step = paddle.cumsum(ones, axis=1) - 1  # (N, T): 0, 1, ... T-1
    row = paddle.cumsum(ones, axis=0) - 1  # (N, T)
    length = mask.astype("int64").sum(axis=1, keepdim=True)  # (N, 1)
    source = paddle.where(mask, length - 1 - step, step)
    return (row * ones.sum(axis=1, keepdim=True) + source).flatten()


def take_steps(x: Tensor, order: Tensor) -> Tensor:
    """Gathers the steps of x (N, T, D) by the indices `order` (N * T,): (N, T, D)."""
    return paddle.gather(x.reshape([-1, x.shape[-1]]), order).reshape(x.shape)  # (N, T, D)


def zero_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Sets the padded steps of x (N, T, D) to zero, even NaN, which a product with the mask would keep."""
    return paddle.where(mask.unsqueeze(-1), x, paddle.zeros_like(x))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean (N, D) of x (N, T, D) over the real steps; 0 for a row without any."""
    count = mask.astype(x.dtype).sum(axis=1, keepdim=True)  # (N, 1)
    return zero_padding(x, mask).sum(axis=1) / count.clip(min=1.0)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Maximum (N, D) of x (N, T, D) over the real steps; 0 for a row without any."""
    low = paddle.full_like(x, -1e30)
    largest = paddle.where(mask.unsqueeze(-1), x, low).max(axis=1)  # (N, D)
    any_real = mask.any(axis=1, keepdim=True)  # (N, 1)
    return paddle.where(any_real, largest, paddle.zeros_like(largest))


def masked_std(x: Tensor, mask: Tensor) -> Tensor:
    """Population standard deviation (N, D) of x (N, T, D) over the real steps; 0 for a row without any."""
    deviation = x - masked_mean(x, mask).unsqueeze(1)  # (N, T, D)
    variance = masked_mean(deviation * deviation, mask)
    # The gradient of the square root of 0 is infinite.
    return paddle.where(variance > 0, variance, paddle.ones_like(variance)).sqrt() * (variance > 0).astype(
        x.dtype
    )


def masked_difference(x: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference (N, D) of neighboring real steps of x (N, T, D); 0 with fewer than two."""
    step = paddle.cumsum(mask.astype("int64"), axis=1)  # (N, T): 1, 2, ... on the real steps
    # Counted like this, because an exported network accepts any T.
    order = (paddle.cumsum(paddle.ones_like(mask[0], dtype="int64")) - 2).clip(min=0)  # (T,): 0, 0, 1, 2, ...
    previous = paddle.index_select(x, order, axis=1)  # (N, T, D)
    return masked_mean((x - previous).abs(), mask & (step > 1))


def last_step(x: Tensor, mask: Tensor) -> Tensor:
    """The last real step (N, D) of x (N, T, D); 0 for a row without any."""
    count = mask.astype("int64")
    is_last = mask & (paddle.cumsum(count, axis=1) == count.sum(axis=1, keepdim=True))  # (N, T)
    return zero_padding(x, is_last).sum(axis=1)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax (N, T, ...) of the logits over the real steps.

    Padded steps get exactly 0, and so do all steps of a row without real ones. The largest real logit is
    subtracted first, so that no exponential overflows.

    Args:
        logits: (N, T, ...) of any trailing shape.
        mask: (N, T) bool, True on the real steps.
    """
    mask = mask.reshape([*mask.shape, *[1] * (logits.ndim - mask.ndim)])
    low = paddle.full_like(logits, -1e30)
    logits = paddle.where(mask, logits, low)
    exp = paddle.exp(logits - logits.max(axis=1, keepdim=True)) * mask.astype(logits.dtype)
    return exp / exp.sum(axis=1, keepdim=True).clip(min=1e-30)


def both_directions(ahead: nn.Layer, behind: nn.Layer, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """States (N, T, H) of a forward and a backward recurrent layer, both aligned with the input.

    The backward layer runs over sequences that are reversed within their own length. Padding therefore never
    precedes a real step in either direction, and the layers need no sequence lengths, which some converters
    drop from an LSTM.

    Args:
        ahead: Recurrent layer of the forward direction.
        behind: Recurrent layer of the backward direction.
        x: Input sequences (N, T, D).
        mask: (N, T) bool, True on the real steps.
    """
    order = reversed_order(mask)
    return ahead(x)[0], take_steps(behind(take_steps(x, order))[0], order)


class BiLSTM(nn.Layer):
    """Bidirectional LSTM: x (N, T, D), mask (N, T) -> (N, T, 2H)."""

    def __init__(
        self, in_features: int, hidden_size: int, *, peepholes: bool = False, projection_bias: bool = False
    ) -> None:
        super().__init__()

        def lstm() -> nn.Layer:
            if peepholes:
                return PeepholeLSTM(in_features, hidden_size, projection_bias=projection_bias)
            return nn.LSTM(in_features, hidden_size)

        self.forward_lstm, self.backward_lstm = lstm(), lstm()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of both directions, concatenated and aligned with the input: (N, T, 2H)."""
        return paddle.concat(both_directions(self.forward_lstm, self.backward_lstm, x, mask), axis=-1)


class PeepholeLSTM(nn.Layer):
    """LSTM with peepholes, as in Paddle's old dynamic_lstm: x (N, T, D) -> (N, T, H) and final states (N, H).

    It exists for published weights. It is a Python loop over steps, which Paddle cannot trace; in ONNX it
    becomes a Scan (videotag.runtime.peephole_scan).
    The gates' columns are in the order candidate, input, forget, output. bias_row (1, 7H) contains their
    biases and the peepholes of input, forget and output. It is not called "bias" because VideoTag applies
    weight decay to it.
    """

    def __init__(self, in_features: int, hidden_size: int, *, projection_bias: bool = False) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        bias_attr = None if projection_bias else False
        self.projection = nn.Linear(in_features, 4 * hidden_size, bias_attr=bias_attr)
        self.weight = self.create_parameter([hidden_size, 4 * hidden_size])
        self.bias_row = self.create_parameter([1, 7 * hidden_size], is_bias=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """States (N, T, H), and the last hidden and cell state, (N, H) each."""
        biases, peep_input, peep_forget, peep_output = paddle.split(
            self.bias_row, [4 * self.hidden_size] + 3 * [self.hidden_size], axis=1
        )
        hidden = cell = paddle.zeros([x.shape[0], self.hidden_size], x.dtype)
        states = []
        for step in paddle.unbind(self.projection(x) + biases, axis=1):  # (N, 4H) each
            candidate, input_, forget, output = paddle.split(step + hidden @ self.weight, 4, axis=1)
            kept = F.sigmoid(forget + peep_forget * cell) * cell
            cell = kept + F.sigmoid(input_ + peep_input * cell) * F.tanh(candidate)
            hidden = F.sigmoid(output + peep_output * cell) * F.tanh(cell)
            states.append(hidden)
        return paddle.stack(states, axis=1), (hidden, cell)
