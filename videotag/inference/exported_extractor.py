"""An extractor that runs from an export, without the original model code and weights."""

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
    """The extractor of a checkpoint or an export.

    Args:
        config: Config of an extractor.
        weights: Weights as find_weights returns them.
        with_classifier: Whether `logits` is needed, and so the last layer.

    Raises:
        WeightsError: The weights are missing, damaged or do not match the config; or an export lacks the
            classifier.
        ConfigError, DeviceError: The backend, precision or device is not available.
    """
    if weights.is_export:
        return ExportedExtractor(config, weights.path, with_classifier=with_classifier)
    return FeatureExtractor(config, weights.path, with_classifier=with_classifier)


class ExportedExtractor(Extractor):
    """An extractor that runs an exported backbone.

    Args:
        config: Config as export_config returns it.
        weights: Path of the export.json.
        with_classifier: Whether `logits` is needed, and so the last layer.

    Raises:
        WeightsError: The export is damaged, or lacks the classifier.
        ConfigError, DeviceError, ExportError: The exported network cannot be loaded; see ExportedNetwork.
    """

    def __init__(self, config: Config, weights: Path, *, with_classifier: bool = False) -> None:
        export = read_export(weights)
        if with_classifier and not export.has_classifier:
            raise WeightsError(
                f"{export.folder}: an export without classifier, as the weights had no matching one; it "
                "extracts features for a second stage, so give --predictor_weights"
            )
        manifest = export.manifest
        assert manifest.feature_dim is not None, "Manifest requires it of an extractor"
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
        """Checks that the export has the precision of a folder's features; the backend may differ.

        Args:
            kept: Runtime of the folder's features; None if there are none.

        Raises:
            ConfigError: The features are in another precision.
        """
        if kept is not None and kept.precision != self.network.precision:
            raise ConfigError(
                f"{self._folder}: an export in {self.network.precision}, but the features in --save_dir are "
                f"in {kept.precision}; choose another --save_dir"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles config and path; a worker reads the export from its files."""
        return partial(ExportedExtractor, with_classifier=self.classifier is not None), self._pickled
