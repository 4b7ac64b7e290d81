"""Frames of videos -> features, computed by the backbone of an extractor.

Shapes: T = seg_num sampled frames of a video, K <= T distinct ones, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from videotag.config import Config
from videotag.errors import WeightsError
from videotag.formats.weight_files import read_weights
from videotag.inference.frame_batches import rows_of_videos
from videotag.inputs.frames import Frames
from videotag.registry import FEATURES, FRAMES
from videotag.runtime import agreement
from videotag.runtime.choice import RuntimeChoice, RuntimeNetwork, RuntimeRequest
from videotag.runtime.device import select_device
from videotag.runtime.exported import CLASSIFIER_FILE, ExportedNetwork, read_export
from videotag.runtime.trained import TrainedNetwork
from videotag.system.download import file_digest
from videotag.weights import FoundWeights

#: Larger batches exceed a CPU's caches and run slower; a GPU needs large batches.
FRAMES_PER_STEP = {"cpu": 8, "gpu": 64}
Item = TypeVar("Item")


class Extractor:
    """A network that turns frames into features, with its metadata.

    Args:
        config: Config of the extractor.
        network: Backbone that maps frames (K, H, W, 3) uint8 to features (K, D) float32.
        weights: Weights that the network was loaded from.
        device: Device of the network, "cpu" or "gpu".
        weights_sha256: SHA-256 of the weight file.
        feature_dim: Feature width D.
        classifier: Weight (D, C) and bias (C,) of the last layer; None if there is none.
    """

    def __init__(
        self,
        config: Config,
        network: RuntimeNetwork | ExportedNetwork,
        *,
        weights: FoundWeights,
        device: str,
        weights_sha256: str,
        feature_dim: int,
        classifier: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.config = config
        self.network = network
        self.feature_dim = feature_dim
        self.classifier = classifier
        self.device = device
        self._weights = weights
        self._weights_sha256 = weights_sha256

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the selected runtime; a worker reads the weights from their file."""
        with_classifier = self.classifier is not None
        return _reopened, (self.config, self._weights, with_classifier, self.network.choice)

    def features(self, frames: Frames) -> np.ndarray:
        """Features (T, D) float32 of one video, one row per sampled frame."""
        ((_, features),) = self.features_of([(None, frames)])
        assert features is not None
        return features

    def features_of(
        self, videos: Iterable[tuple[Item, Frames | None]]
    ) -> Iterator[tuple[Item, np.ndarray | None]]:
        """Yields each item with its features (T, D) float32, in order; None for an item without frames.

        Args:
            videos: Items of any type, each with the frames of a video or None. On a GPU, frames of several
                videos share a batch, so later videos may be consumed before an earlier one is yielded.
        """
        rows_of = rows_of_videos(
            (((item, frames), None if frames is None else frames.images) for item, frames in videos),
            self._rows,
            batch_size=FRAMES_PER_STEP[self.device],
            across_videos=self.device == "gpu",
        )
        for (item, frames), rows in rows_of:
            yield item, None if frames is None or rows is None else rows[frames.rows]

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """Features (K, D) float32 of images (K, H, W, 3) uint8."""
        return self.network({FRAMES: images})[FEATURES]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The classifier's logits (T, C) float32 for features (T, D); needs a classifier."""
        assert self.classifier is not None, "loaded without classifier"
        weight, bias = self.classifier
        return features @ weight + bias

    def stamp(self) -> dict[str, Any]:
        """What determines the features besides the video: weights, network, sampling and precision.

        The backend is left out, as features of two backends in the same precision are interchangeable.
        """
        model, split = self.config.model, self.config.infer
        return {
            "extractor": f"{self.config.entry.name}/{model.backbone}",
            "weights_sha256": self._weights_sha256,
            "image_mean": list(model.image_mean),
            "image_std": list(model.image_std),
            "seg_num": split.seg_num,
            **({} if split.fps is None else {"fps": split.fps}),  # older stamps do not have it
            "sampling": split.sampling,
            "short_size": split.short_size,
            "resize": split.resize,
            "target_size": split.target_size,
            "precision": self.network.precision,
        }


def load_extractor(config: Config, weights: FoundWeights, *, with_classifier: bool = False) -> Extractor:
    """The extractor of a checkpoint or an export.

    Args:
        config: Config of the extractor; of an export as export_config returns it.
        weights: Weights as find_weights returns them.
        with_classifier: Whether `logits` is needed, and so the weights of the last layer.

    Raises:
        WeightsError: The weights are missing, damaged or do not match the config; or an export lacks the
            classifier.
        ConfigError, DeviceError: The backend, precision or device is not available.
    """
    load = _from_export if weights.is_export else _from_checkpoint
    return load(config, weights, with_classifier)


def _from_checkpoint(config: Config, weights: FoundWeights, with_classifier: bool) -> Extractor:
    from videotag.inference.load_weights import check_sizes, load_weights

    check_sizes(config, weights.path)
    device = select_device(config.train.use_gpu)
    model = config.entry.cls(config.model)
    optional = () if with_classifier else (f"{model.classifier}.",)
    load_weights(model, weights.path, config_name=config.entry.name, optional=optional)
    digest = file_digest(weights.path)
    backbone = TrainedNetwork.from_model(
        model.encoder(config.infer.target_size),
        weights=[digest],
        config=[config.model.backbone, list(config.model.image_mean), list(config.model.image_std)],
        name=config.model.backbone,
    )
    request = RuntimeRequest(config.infer.backend, config.infer.precision, device)
    head = getattr(model, model.classifier)
    return Extractor(
        config,
        RuntimeNetwork(backbone, request, tolerances=agreement.FEATURES),
        weights=weights,
        device=device,
        weights_sha256=digest,
        feature_dim=model.feature_dim,
        classifier=(head.weight.numpy(), head.bias.numpy()) if with_classifier else None,
    )


def _from_export(config: Config, weights: FoundWeights, with_classifier: bool) -> Extractor:
    export = read_export(weights.path)
    if with_classifier and not export.has_classifier:
        raise WeightsError(
            f"{export.folder}: an export without classifier, as the weights had no matching one; it extracts "
            "features for a second stage, so give --predictor_weights"
        )
    assert export.manifest.feature_dim is not None, "Manifest requires it of an extractor"
    network = ExportedNetwork(export, use_gpu=config.train.use_gpu)
    arrays = read_weights(export.folder / CLASSIFIER_FILE) if with_classifier else None
    return Extractor(
        config,
        network,
        weights=weights,
        device=network.device,
        weights_sha256=export.manifest.source_weights[0].sha256,
        feature_dim=export.manifest.feature_dim,
        classifier=None if arrays is None else (arrays["weight"], arrays["bias"]),
    )


def _reopened(
    config: Config, weights: FoundWeights, with_classifier: bool, choice: RuntimeChoice | None
) -> Extractor:
    from videotag.models import load_models

    load_models()
    extractor = load_extractor(config, weights, with_classifier=with_classifier)
    if choice is not None:
        extractor.network.set_choice(choice)
    return extractor
