"""Layers over padded sequences: reversal, softmax and a bidirectional LSTM that never see the padding.

Shapes: N videos, T steps, D feature width, H LSTM width per direction. A mask (N, T) is True on real steps,
which come first; steps after them are padding.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn


def reversed_order(mask: Tensor) -> Tensor:
    """For each step, where to read so that every sequence is reversed within its own length.

    Padding stays where it is, so applying the order twice gives back the start.

    Args:
        mask: (N, T) bool.

    Returns:
        (N * T,) int64, indices into the flattened (N * T) steps.
    """
    ones = paddle.ones_like(mask, dtype="int64")
    step = paddle.cumsum(ones, axis=1) - 1  # (N, T): 0, 1, ... T-1
    row = paddle.cumsum(ones, axis=0) - 1  # (N, T)
    length = mask.astype("int64").sum(axis=1, keepdim=True)  # (N, 1)
    source = paddle.where(mask, length - 1 - step, step)
    return (row * ones.sum(axis=1, keepdim=True) + source).flatten()


def take_steps(x: Tensor, order: Tensor) -> Tensor:
    """x (N, T, D) with its steps read in `order` (N * T,)."""
    return paddle.gather(x.reshape([-1, x.shape[-1]]), order).reshape(x.shape)  # (N, T, D)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real steps; padding gets exactly 0, a row without real steps all zeros.

    The largest real logit is subtracted first, so that no exponential overflows.

    Args:
        logits: (N, T).
        mask: (N, T) bool.
    """
    low = paddle.full_like(logits, -1e30)
    logits = paddle.where(mask, logits, low)
    exp = paddle.exp(logits - logits.max(axis=1, keepdim=True)) * mask.astype(logits.dtype)
    return exp / exp.sum(axis=1, keepdim=True).clip(min=1e-30)


class BiLSTM(nn.Layer):
    """LSTM in both directions: x (N, T, D), mask (N, T) -> (N, T, 2H).

    The backward direction is a forward LSTM over sequences reversed within their own length. Padding at the
    end thus cannot reach a real step in either direction, no lengths are passed to the LSTM, and the
    exported network behaves like this one (converters are known to drop an LSTM's sequence_length).
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__()
        self.forward_lstm = nn.LSTM(in_features, hidden_size)
        self.backward_lstm = nn.LSTM(in_features, hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Both directions side by side, each aligned to the time of its input: (N, T, 2H)."""
        order = reversed_order(mask)
        ahead, _ = self.forward_lstm(x)
        behind, _ = self.backward_lstm(take_steps(x, order))
        return paddle.concat([ahead, take_steps(behind, order)], axis=-1)
