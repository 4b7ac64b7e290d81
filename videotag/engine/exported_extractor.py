"""Features by an exported extractor, without the code and the weights that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videotag.config import Config
from videotag.engine.extractor import FeatureExtractor
from videotag.errors import ConfigError, WeightsError
from videotag.formats.weights import read_weights
from videotag.runtime.backbones import FEATURES, FRAMES
from videotag.runtime.exported import CLASSIFIER_FILE, ExportedNetwork, read_export
from videotag.weights import FoundWeights


def load_extractor(
    config: Config, weights: FoundWeights, *, with_classifier: bool = False
) -> FeatureExtractor:
    """The extractor of weights, or of an export.

    Args:
        config: of an extractor.
        weights: of find_weights.
        with_classifier: also needs the last layer, for logits().

    Raises:
        WeightsError: missing, damaged, or not of the config's network; an export without classifier.
        ConfigError, DeviceError: backend, precision or device cannot be had.
    """
    if weights.is_export:
        return ExportedExtractor(config, weights.path, with_classifier=with_classifier)
    return FeatureExtractor(config, weights.path, with_classifier=with_classifier)


class ExportedExtractor(FeatureExtractor):
    """The backbone of an export.

    Args:
        config: of export_config.
        weights: the export.json.
        with_classifier: also needs the last layer, for logits().

    Raises:
        WeightsError, ConfigError, DeviceError, ExportError: as ExportedNetwork; no classifier.
    """

    def __init__(self, config: Config, weights: Path, *, with_classifier: bool = False) -> None:
        export = read_export(weights)
        if with_classifier and not export.has_classifier:
            raise WeightsError(
                f"{export.folder}: an export without classifier, as the weights had none that fits; it makes "
                "features for a second stage: give --predictor_weights"
            )
        self.config = config
        self.weights_path = weights
        self._weights_sha256 = export.manifest.source_weights[0].sha256
        network = ExportedNetwork(export, use_gpu=config.train.use_gpu)
        self.network = network
        self._folder = export.folder
        self._device = network.device
        if export.has_classifier:
            arrays = read_weights(export.folder / CLASSIFIER_FILE)
            self._classifier = (arrays["weight"], arrays["bias"])
        assert export.manifest.feature_dim is not None
        self.feature_dim = export.manifest.feature_dim

    def settle(self, images: np.ndarray) -> None:
        """Nothing is left to choose."""

    def keep_runtime(self, backend: str, precision: str) -> None:
        """Checks an earlier choice; the backend may be another.

        Raises:
            ConfigError: it was made in another precision.
        """
        if precision != self.network.precision:
            raise ConfigError(
                f"{self._folder}: an export in {self.network.precision}, and the folder's features are in "
                f"{precision}; choose another --save_dir"
            )

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """(K, D) of images (K, H, W, 3)."""
        return self.network({FRAMES: images})[FEATURES]
