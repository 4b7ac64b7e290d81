"""Standardization by the mean and standard deviation of the training set, inside the network.

The numbers are buffers, so they are saved, exported and resumed like weights. videotag.training.calibrate
measures them before the first step.
Differs from plain standardization: a small training set underestimates the spread of features that are nearly
constant in it, and one unusual value in a new video, divided by almost nothing, would decide its tags. So no
standard deviation below the median is used, and values are limited to three of them.
Shapes: N videos, T steps, D feature width.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor, nn

_SMALLEST_STD = 1e-6  # a feature below it is constant in the training set
_MAX_VALUE = 3.0  # standard deviations; measured with tools/benchmark/small_sets.py


class Standardize(nn.Layer):
    """Features (..., D) -> (x - mean) / standard deviation, limited to [-3, 3], of the same shape.

    Features whose standard deviation is below the median of those that vary are divided by the median.

    Args:
        width: Feature width D.
        common_scale: Whether all features are divided by one number, the root mean square of their standard
            deviations, and not limited. This keeps the relative scale of the features.
    """

    def __init__(self, width: int, *, common_scale: bool = False) -> None:
        super().__init__()
        self._common_scale = common_scale
        self.register_buffer("center", paddle.zeros([width]))
        self.register_buffer("scale", paddle.ones([width]))
        self._moments: Moments | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standardized features; between start_observing and stop_observing, the features themselves.

        Args:
            x: Features (N, D), or (N, T, D) with a mask.
            mask: (N, T) bool, True on the real steps; only they are observed.
        """
        if self._moments is not None:
            rows = x.numpy() if mask is None else x.numpy()[mask.numpy()]
            self._moments.add(rows.astype(np.float64))
            return x
        x = (x - self.center) * self.scale
        return x if self._common_scale else x.clip(-_MAX_VALUE, _MAX_VALUE)

    def start_observing(self) -> None:
        """Starts to measure the inputs of forward."""
        self._moments = Moments(self.center.shape[0])

    def stop_observing(self) -> None:
        """Sets mean and scale to those of the inputs since start_observing."""
        assert self._moments is not None, "start_observing comes first"
        mean, std = self._moments.compute()
        self._moments = None
        if self._common_scale:
            std = np.full_like(std, np.sqrt((std**2).mean()))
        varying = std >= _SMALLEST_STD
        smallest = np.median(std[varying]) if varying.any() else 1.0
        self.center.set_value(mean.astype(np.float32))
        self.scale.set_value((1 / np.maximum(std, smallest)).astype(np.float32))


class Moments:
    """Mean and standard deviation of rows that arrive in parts.

    Args:
        width: Number of columns D.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)  # sum of squared deviations from the mean

    def add(self, rows: np.ndarray) -> None:
        """Adds rows (n, D) float64."""
        if not len(rows):
            return
        mean, total = rows.mean(axis=0), self._count + len(rows)
        change = mean - self._mean
        self._squares += ((rows - mean) ** 2).sum(axis=0) + change**2 * self._count * len(rows) / total
        self._mean += change * len(rows) / total
        self._count = total

    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and population standard deviation, (D,) float64 each; zeros and ones without rows."""
        if not self._count:
            return self._mean, np.ones_like(self._mean)
        return self._mean, np.sqrt(self._squares / self._count)
