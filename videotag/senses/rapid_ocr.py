"""RapidOCR as a reader of text: PP-OCR's networks for Chinese and English, which come with its package.

Needs `pip install 'videotag[ocr]'`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videotag.errors import ConfigError
from videotag.senses.text import Line
from videotag.system.quiet_runtimes import import_onnxruntime

INSTALL = "pip install 'videotag[ocr]'"


class RapidOcr:
    """Reads text with RapidOCR.

    Raises:
        ConfigError: RapidOCR is not installed.
    """

    source = "PP-OCRv6 (rapidocr)"

    def __init__(self) -> None:
        try:
            import_onnxruntime()  # first, without its telemetry
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ConfigError(f"text in pictures: needs RapidOCR; run: {INSTALL}") from error
        self._engine: Any = RapidOCR(params={"Global.log_level": "error"})  # it warns of frames without text

    def read(self, image: np.ndarray) -> list[Line]:
        """See TextReader."""
        result = self._engine(np.ascontiguousarray(image[..., ::-1]))  # BGR
        if result.boxes is None:
            return []
        height, width = image.shape[:2]
        lines = []
        for corners, text, probability in zip(result.boxes, result.txts, result.scores, strict=True):
            x, y = np.clip(corners[:, 0] / width, 0, 1), np.clip(corners[:, 1] / height, 0, 1)
            box = float(x.min()), float(y.min()), float(x.max()), float(y.max())
            lines.append(Line(str(text), box, float(probability)))
        return lines
