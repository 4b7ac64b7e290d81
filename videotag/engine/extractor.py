"""One video -> features of its frames, by the backbone of an extractor.

Shapes: T = seg_num frames of a video, K <= T of them distinct, D feature width, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from videotag.config import Config
from videotag.datasets.videos import Frames
from videotag.download import file_digest
from videotag.engine.checkpoint import load_weights
from videotag.media.transforms import normalize
from videotag.runtime.device import select_device
from videotag.runtime.paddle_inference import PaddleRunner

FRAMES_PER_STEP = 8  # larger batches fall out of the CPU's caches and are slower


class FeatureExtractor:
    """The backbone of an extractor, compiled, with its weights.

    Args:
        config: of an extractor.
        weights: the weight file.
        with_classifier: also needs the weights of the last layer, for logits().

    Raises:
        WeightsError: the weights are missing or do not fit.
        DeviceError: a GPU was asked for and there is none.
    """

    def __init__(self, config: Config, weights: Path, *, with_classifier: bool = False) -> None:
        self.config = config
        device = select_device(config.train.use_gpu)
        model = config.entry.cls(config.model)
        self.weights_path = weights
        may_miss = () if with_classifier else (f"{model.classifier}.",)
        load_weights(model, weights, config_name=config.entry.name, may_miss=may_miss)
        split = config.infer
        size = split.target_size
        self._run = PaddleRunner(model.backbone, [None, 3, size, size], device=device)
        head = getattr(model, model.classifier)
        self._classifier = (head.weight.numpy(), head.bias.numpy())
        self.feature_dim: int = model.feature_dim

    def features(self, frames: Frames) -> np.ndarray:
        """One row per sampled frame: (T, D) float32."""
        mean, std = self.config.model.image_mean, self.config.model.image_std
        rows = [
            self._run(normalize(frames.images[start : start + FRAMES_PER_STEP], mean, std))
            for start in range(0, len(frames.images), FRAMES_PER_STEP)
        ]
        return np.concatenate(rows)[frames.rows]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The classifier's logits of features (T, D): (T, C)."""
        weight, bias = self._classifier
        return features @ weight + bias

    def stamp(self) -> dict[str, Any]:
        """What, beside the video, decides the features: weights, network and sampling."""
        model, split = self.config.model, self.config.infer
        return {
            "extractor": f"{self.config.entry.name}/{model.backbone}",
            "weights_sha256": file_digest(self.weights_path),
            "image_mean": list(model.image_mean),
            "image_std": list(model.image_std),
            "seg_num": split.seg_num,
            "sampling": split.sampling,
            "short_size": split.short_size,
            "resize": split.resize,
            "target_size": split.target_size,
        }
