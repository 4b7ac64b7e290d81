"""Features by an exported extractor, without the code and the weights that it was made of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from videotag.config import Config
from videotag.errors import ConfigError, WeightsError
from videotag.formats.weight_files import read_weights
from videotag.inference.extractor import Extractor, FeatureExtractor, FrozenRuntime
from videotag.runtime.exported import CLASSIFIER_FILE, ExportedNetwork, read_export
from videotag.weights import FoundWeights


def load_extractor(config: Config, weights: FoundWeights, *, with_classifier: bool = False) -> Extractor:
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


class ExportedExtractor(Extractor):
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
        manifest = export.manifest
        assert manifest.feature_dim is not None, "as Manifest requires of an extractor"
        network = ExportedNetwork(export, use_gpu=config.train.use_gpu)
        classifier = None
        if export.has_classifier:
            arrays = read_weights(export.folder / CLASSIFIER_FILE)
            classifier = (arrays["weight"], arrays["bias"])
        super().__init__(
            config,
            network,
            device=network.device,
            weights_sha256=manifest.source_weights[0].sha256,
            feature_dim=manifest.feature_dim,
            classifier=classifier,
        )
        self._folder = export.folder
        self._pickled = (config, weights)

    def start(self, kept: FrozenRuntime | None) -> None:
        """Checks the precision of a folder's features; the backend may be another.

        Raises:
            ConfigError: They were made in another precision.
        """
        if kept is not None and kept.precision != self.network.precision:
            raise ConfigError(
                f"{self._folder}: an export in {self.network.precision}, and the folder's features are in "
                f"{kept.precision}; choose another --save_dir"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker reads the export from its files."""
        return partial(ExportedExtractor, with_classifier=self.classifier is not None), self._pickled
