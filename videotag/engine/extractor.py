"""One video -> features of its frames, by the backbone of an extractor.

Shapes: T = seg_num frames of a video, K <= T of them distinct, D feature width, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.config import Config
from videotag.datasets.videos import Frames
from videotag.download import file_digest
from videotag.errors import ConfigError
from videotag.media.transforms import normalize
from videotag.runtime.agreement import FEATURES
from videotag.runtime.choice import SAMPLE_ROWS, ChosenNetwork, Wish, spread_rows
from videotag.runtime.device import select_device
from videotag.runtime.trained import Input, TrainedNetwork, network_digest

if TYPE_CHECKING:
    from videotag.runtime.exported import ExportedNetwork

FRAMES_PER_STEP = 8  # larger batches fall out of the CPU's caches and are slower
_FRAMES, _FEATURES = "frames", "features"  # names of the backbone's input and output


class FeatureExtractor:
    """The backbone of an extractor with its weights; compiled when it sees its first frames.

    Args:
        config: of an extractor.
        weights: the weight file.
        with_classifier: also needs the weights of the last layer, for logits().

    Raises:
        WeightsError: the weights are missing or do not fit.
        DeviceError: a GPU was asked for and there is none.
    """

    network: ChosenNetwork | ExportedNetwork

    def __init__(self, config: Config, weights: Path, *, with_classifier: bool = False) -> None:
        from videotag.engine.checkpoint import load_weights

        self.config = config
        device = select_device(config.train.use_gpu)
        model = config.entry.cls(config.model)
        self.weights_path = weights
        may_miss = () if with_classifier else (f"{model.classifier}.",)
        load_weights(model, weights, config_name=config.entry.name, may_miss=may_miss)
        self._weights_sha256 = file_digest(weights)
        split = config.infer
        size = split.target_size
        trained = TrainedNetwork(
            layer=model.backbone,
            inputs=(Input(_FRAMES, (None, 3, size, size)),),
            outputs=(_FEATURES,),
            digest=network_digest(
                model.backbone, weights=[self._weights_sha256], config=[config.model.backbone, size]
            ),
            name=config.model.backbone,
        )
        self._trained = trained
        self._wish = Wish(split.backend, split.precision, device)
        self.network = ChosenNetwork(trained, self._wish, standard=FEATURES)
        head = getattr(model, model.classifier)
        self._classifier = (head.weight.numpy(), head.bias.numpy())
        self.feature_dim: int = model.feature_dim

    def features(self, frames: Frames) -> np.ndarray:
        """One row per sampled frame: (T, D) float32."""
        self.settle(frames.images)
        rows = [
            self._rows(frames.images[start : start + FRAMES_PER_STEP])
            for start in range(0, len(frames.images), FRAMES_PER_STEP)
        ]
        return np.concatenate(rows)[frames.rows]

    def settle(self, images: np.ndarray) -> None:
        """Chooses backend and precision, once, by images (K, H, W, 3) spread over a video."""
        few = spread_rows({_FRAMES: images}, SAMPLE_ROWS)[_FRAMES]
        self.network.settle({_FRAMES: self._normalized(few)})

    def keep_runtime(self, backend: str, precision: str) -> None:
        """Takes a choice that was made before, where the user asks for nothing else.

        Args:
            backend: of the earlier choice; another one is taken if it cannot be had any more.
            precision: of the earlier choice.

        Raises:
            DeviceError: this CPU cannot compute in that precision.
        """
        wish = self._wish
        try:
            kept = Wish(backend if wish.backend == "auto" else wish.backend, precision, wish.device)
            self.network = ChosenNetwork(self._trained, kept, standard=FEATURES)
        except ConfigError:
            kept = Wish(wish.backend, precision, wish.device)
            self.network = ChosenNetwork(self._trained, kept, standard=FEATURES)

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """(K, D) of images (K, H, W, 3)."""
        return self.network({_FRAMES: self._normalized(images)})[_FEATURES]

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        return normalize(images, self.config.model.image_mean, self.config.model.image_std)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The classifier's logits of features (T, D): (T, C)."""
        weight, bias = self._classifier
        return features @ weight + bias

    @property
    def trained(self) -> TrainedNetwork:
        """The backbone before a backend has been chosen."""
        return self._trained

    @property
    def classifier(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (D, C) and bias (C,) of the last layer."""
        return self._classifier

    def stamp(self) -> dict[str, Any]:
        """What, beside the video, decides the features: weights, network, sampling and precision.

        Not the backend: features of two backends in the same precision may stand beside each other.
        """
        model, split = self.config.model, self.config.infer
        return {
            "extractor": f"{self.config.entry.name}/{model.backbone}",
            "weights_sha256": self._weights_sha256,
            "image_mean": list(model.image_mean),
            "image_std": list(model.image_std),
            "seg_num": split.seg_num,
            "sampling": split.sampling,
            "short_size": split.short_size,
            "resize": split.resize,
            "target_size": split.target_size,
            "precision": self.network.precision,
        }
