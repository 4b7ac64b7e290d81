"""Divides a sound into windows of equal length while it is decoded.

Shapes: n samples of a window, B windows of a batch, R windows of a sound, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from videotag.encoders.encoder import SoundStream
from videotag.media.sound import SoundBlock


class WindowStream(SoundStream):
    """Encodes every complete window of a sound; an incomplete last one is dropped.

    Args:
        encode: Function from consecutive windows (B, n) to rows (B, D).
        window: Samples n of a window.
        hop: Samples from the start of a window to that of the next one, at least 1.
        feature_dim: Width D.
        batch_size: Maximum of B.
    """

    def __init__(
        self,
        encode: Callable[[np.ndarray], np.ndarray],
        *,
        window: int,
        hop: int,
        feature_dim: int,
        batch_size: int = 32,
    ) -> None:
        self._encode = encode
        self._window, self._hop, self._batch_size = window, hop, batch_size
        self._skipped = 0  # samples still to skip: a hop may be longer than a window
        self._rest = np.zeros(0, np.float32)
        self._feature_dim = feature_dim
        self._rows: list[np.ndarray] = []

    def add_sound(self, block: SoundBlock) -> None:
        """Takes the next block, and encodes full batches."""
        skipped = min(self._skipped, len(block.samples))
        self._skipped -= skipped
        self._rest = np.concatenate([self._rest, block.samples[skipped:]])
        batch_samples = (self._batch_size - 1) * self._hop + self._window
        while len(self._rest) >= batch_samples:
            self._run(self._batch_size)

    def finish(self) -> np.ndarray:
        """See SoundStream."""
        count = (len(self._rest) - self._window) // self._hop + 1
        if count > 0:
            self._run(count)
        return np.concatenate(self._rows or [np.zeros((0, self._feature_dim), np.float32)])

    def _run(self, count: int) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(self._rest, self._window)
        self._rows.append(self._encode(windows[:: self._hop][:count]))
        end = count * self._hop
        self._skipped = max(0, end - len(self._rest))
        self._rest = self._rest[end:]
