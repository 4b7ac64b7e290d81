"""VGGish on sound: a row of 128 values for every 0.96 s, like the audio features of AudioSet and YouTube-8M.

Shapes: B patches of 96 frames x 64 mel bands, D = 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.encoders.encoder import SoundEncoder
from videotag.encoders.windows import WindowStream
from videotag.errors import MediaError
from videotag.formats.feature_files import QUANTIZED
from videotag.media.log_mel import MIN_SAMPLES, NUM_BANDS, PATCH_FRAMES, PATCH_SEC, log_mel_patches
from videotag.media.sound import SAMPLE_RATE_HZ
from videotag.models.vggish import FEATURE_DIM, PATCHES, quantize, whiten
from videotag.registry import FEATURES
from videotag.runtime.trained import Network

_HOP = round(PATCH_SEC * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Whitening:
    """AudioSet's PCA of VGGish embeddings.

    Attributes:
        eigen_vectors: (128, 128), one component per row.
        means: (128,).
        sha256: Digest of the file that holds them.
        quantized: Whether rows are clipped to [-2, 2] and quantized to uint8, as in YouTube-8M.
    """

    eigen_vectors: np.ndarray
    means: np.ndarray
    sha256: str
    quantized: bool = False


class VggishSound(SoundEncoder):
    """Turns sounds into VGGish embeddings.

    Args:
        network: VGGish, see videotag.models.vggish.
        weights_sha256: Digest of its weights.
        whitening: PCA of the embeddings; None applies none.
    """

    def __init__(self, network: Network, *, weights_sha256: str, whitening: Whitening | None = None) -> None:
        super().__init__()
        self._network = network
        self._weights_sha256 = weights_sha256
        self._whitening = whitening

    def stamp(self) -> dict[str, Any]:
        """See Encoder."""
        pca = self._whitening
        return {
            "extractor": "VGGish",
            "weights_sha256": self._weights_sha256,
            "row_sec": PATCH_SEC,
            "pca_sha256": None if pca is None else pca.sha256,
            QUANTIZED: pca is not None and pca.quantized,
        }

    def stream(self) -> WindowStream:
        """See SoundEncoder."""
        return WindowStream(self._rows, window=MIN_SAMPLES, hop=_HOP, feature_dim=FEATURE_DIM)

    def _rows(self, windows: np.ndarray) -> np.ndarray:
        """Rows (B, 128) of windows (B, 15,600): float32, or uint8 if quantized.

        Raises:
            MediaError: Rows to quantize are not finite, which uint8 could not show.
        """
        patches = np.concatenate([log_mel_patches(window) for window in windows])
        assert patches.shape[1:] == (PATCH_FRAMES, NUM_BANDS)
        rows = self._network({PATCHES: patches})[FEATURES]
        if self._whitening is None:
            return rows
        rows = whiten(rows, eigen_vectors=self._whitening.eigen_vectors, means=self._whitening.means)
        if not self._whitening.quantized:
            return rows
        if not np.isfinite(rows).all():
            raise MediaError("VGGish returns NaN or infinite features; check INPUTS.audio.weights")
        return quantize(rows)
