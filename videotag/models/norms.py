"""Normalization: masked batch norm and unit length.

Shapes: N videos, T steps, D feature width.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1D):
    """Batch norm of x (N, T, D) over the real steps of all videos.

    In training, mean and variance are computed over the real steps only, so padding affects neither outputs
    nor running statistics. In evaluation, it equals nn.BatchNorm1D, with the same parameters and names.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalizes x (N, T, D) with mask (N, T); the output (N, T, D) is undefined on padded steps."""
        if not self.training:
            return super().forward(x.reshape([-1, x.shape[-1]])).reshape(x.shape)
        weight = mask.astype(x.dtype).unsqueeze(-1)  # (N, T, 1)
        count = weight.sum().clip(min=1.0)
        real = paddle.where(mask.unsqueeze(-1), x, paddle.zeros_like(x))
        mean = real.sum(axis=[0, 1]) / count  # (D,)
        variance = ((real - mean).square() * weight).sum(axis=[0, 1]) / count  # (D,)
        with paddle.no_grad():
            for running, value in ((self._mean, mean), (self._variance, variance)):
                # In place; Paddle's momentum is the fraction of the old value that is kept.
                running.set_value(self._momentum * running + (1 - self._momentum) * value)
        return (real - mean) / (variance + self._epsilon).sqrt() * self.weight + self.bias


def unit_length(x: Tensor, *, axis: int = -1) -> Tensor:
    """Scales x (...) to unit L2 norm along an axis; zero vectors stay zero, with finite gradient."""
    return x / (x.square().sum(axis=axis, keepdim=True) + 1e-12).sqrt()
