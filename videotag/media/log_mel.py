"""Sound -> the log-mel patches that VGGish takes.

Follows the audio front end of AudioSet's VGGish (arXiv:1609.09430): frames of 25 ms every 10 ms without
padding, periodic Hann window, magnitude spectrum, 64 mel bands from 125 to 7,500 Hz, log(mel + 0.01), and
patches of 96 frames that do not overlap; an incomplete last patch is dropped.
Shapes: n samples, F frames, P patches.
"""

from __future__ import annotations

from functools import cache

import numpy as np

SAMPLE_RATE_HZ = 16_000
NUM_BANDS = 64
PATCH_FRAMES = 96
PATCH_SEC = 0.96
_WINDOW, _HOP, _FFT = 400, 160, 512  # samples
_LOW_HZ, _HIGH_HZ = 125.0, 7500.0
_OFFSET = 0.01  # keeps the logarithm finite; part of what the published weights were trained on
#: Samples of the shortest sound with a patch.
MIN_SAMPLES = _WINDOW + (PATCH_FRAMES - 1) * _HOP


def log_mel_patches(samples: np.ndarray) -> np.ndarray:
    """Log-mel patches of a sound.

    Computed in float64: in quiet bands a float32 spectrum is off by up to 7e-4.

    Args:
        samples: (n,) mono samples at 16 kHz in [-1, 1], or (n,) int16.

    Returns:
        (P, 96, 64) float32, time and mel bands; P is 0 below 15,600 samples.
    """
    x = samples / 32768.0 if samples.dtype == np.int16 else samples.astype(np.float64)
    num_patches = max(0, (len(x) - _WINDOW) // _HOP + 1) // PATCH_FRAMES
    if not num_patches:
        return np.zeros((0, PATCH_FRAMES, NUM_BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(x, _WINDOW)[::_HOP][: num_patches * PATCH_FRAMES]
    patches = np.empty((num_patches, PATCH_FRAMES, NUM_BANDS), np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    for patch, rows in zip(patches, np.split(frames, num_patches), strict=True):  # bounds the memory
        spectrum = np.abs(np.fft.rfft(rows * window, _FFT))  # (96, 257)
        patch[:] = np.log(spectrum @ mel_matrix() + _OFFSET)
    return patches


@cache
def mel_matrix() -> np.ndarray:
    """Weights (257, 64) float64 of the spectrum in each mel band: triangles of height 1, linear in mel."""
    bins = _mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE_HZ / _FFT)[:, None]  # (257, 1)
    edges = np.linspace(_mel(_LOW_HZ), _mel(_HIGH_HZ), NUM_BANDS + 2)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((bins - low) / (center - low), (high - bins) / (high - center)))
    weights[0] = 0  # the constant part of a recording says nothing
    return np.asarray(weights)


def _mel(hz: np.ndarray | float) -> np.ndarray:
    """Mel scale of the Hidden Markov Model Toolkit, of frequencies of any shape."""
    return np.asarray(1127 * np.log1p(np.asarray(hz) / 700))
