"""Frames of videos -> features, computed by the backbone of an extractor.

Shapes: T = seg_num sampled frames of a video, K <= T distinct ones, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from videotag.config import Config
from videotag.errors import ConfigError
from videotag.inference.frame_batches import rows_of_videos
from videotag.inputs.frames import Frames
from videotag.registry import FEATURES, FRAMES
from videotag.runtime import agreement
from videotag.runtime.choice import RuntimeChoice, RuntimeNetwork, RuntimeRequest
from videotag.runtime.device import select_device
from videotag.runtime.trained import trained_network
from videotag.system.download import file_digest

if TYPE_CHECKING:
    from videotag.runtime.exported import ExportedNetwork

#: Larger batches exceed a CPU's caches and run slower; a GPU needs large batches.
FRAMES_PER_STEP = {"cpu": 8, "gpu": 64}
Item = TypeVar("Item")


@dataclass(frozen=True)
class FrozenRuntime:
    """The backend and precision that computed a folder's features.

    Attributes:
        backend: Name of the backend; "auto" if unknown.
        precision: "f32", "bf16" or "f16".
    """

    backend: str
    precision: str


class Extractor:
    """A network that turns frames into features, with its metadata.

    Args:
        config: Config of the extractor.
        network: Backbone that maps frames (K, H, W, 3) uint8 to features (K, D) float32.
        device: Device of the network, "cpu" or "gpu".
        weights_sha256: SHA-256 of the weight file.
        feature_dim: Feature width D.
        classifier: Weight (D, C) and bias (C,) of the last layer; None if there is none.
    """

    #: The precision that the user requested; "auto" allows any.
    asked_precision = "auto"

    def __init__(
        self,
        config: Config,
        network: RuntimeNetwork | ExportedNetwork,
        *,
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
        self._weights_sha256 = weights_sha256

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

    def settle(self, images: np.ndarray | None = None) -> None:
        """Selects backend and precision; later calls have no effect.

        Args:
            images: Sample (K, H, W, 3) uint8 of the frames to come, K >= 1; without one, "auto" is float32.
        """
        self.network.settle(None if images is None else {FRAMES: images})

    @property
    def needs_sample(self) -> bool:
        """Whether a sample of the user's frames selects backend and precision; an export fixes both."""
        return False

    def start(self, kept: FrozenRuntime | None) -> None:
        """Resets the selected backend and precision, so that each list gets its own selection.

        Args:
            kept: Runtime of the features in the folder; None if there are none. Its precision is binding; its
                backend is only preferred.

        Raises:
            ConfigError: The network cannot run in the folder's precision.
            DeviceError: The device cannot compute in the folder's precision.
        """
        raise NotImplementedError

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
            "sampling": split.sampling,
            "short_size": split.short_size,
            "resize": split.resize,
            "target_size": split.target_size,
            "precision": self.network.precision,
        }


class FeatureExtractor(Extractor):
    """An extractor that runs a checkpoint; the backbone is compiled on its first frames.

    Args:
        config: Config of the extractor.
        weights: Path of the weight file.
        with_classifier: Whether `logits` is needed, and so the weights of the last layer.

    Raises:
        WeightsError: The weights are missing or do not match the config.
        DeviceError: A GPU was requested but none is available.
    """

    network: RuntimeNetwork

    def __init__(self, config: Config, weights: Path, *, with_classifier: bool = False) -> None:
        from videotag.inference.load_weights import check_sizes, load_weights

        check_sizes(config, weights)
        device = select_device(config.train.use_gpu)
        model = config.entry.cls(config.model)
        may_miss = () if with_classifier else (f"{model.classifier}.",)
        load_weights(model, weights, config_name=config.entry.name, may_miss=may_miss)
        digest = file_digest(weights)
        split = config.infer
        #: The backbone before a backend compiles it.
        self.trained = trained_network(
            model.encoder(split.target_size),
            weights=[digest],
            config=[config.model.backbone, list(config.model.image_mean), list(config.model.image_std)],
            name=config.model.backbone,
        )
        self._request = RuntimeRequest(split.backend, split.precision, device)
        self.asked_precision = split.precision
        self._pickled = (config, weights, with_classifier)
        head = getattr(model, model.classifier)
        super().__init__(
            config,
            RuntimeNetwork(self.trained, self._request, tolerances=agreement.FEATURES),
            device=device,
            weights_sha256=digest,
            feature_dim=model.feature_dim,
            classifier=(head.weight.numpy(), head.bias.numpy()),
        )

    @property
    def needs_sample(self) -> bool:
        """See Extractor."""
        return self.network.request.needs_sample

    def start(self, kept: FrozenRuntime | None) -> None:
        """See Extractor; a kept backend that is no longer available is ignored."""
        request = self._request
        if kept is not None:
            request = replace(request, preferred=kept.backend, kept_precision=kept.precision)
        try:
            self.network = RuntimeNetwork(self.trained, request, tolerances=agreement.FEATURES)
        except ConfigError as error:
            raise ConfigError(
                f"--backend={request.backend}: cannot compute in {request.kept_precision}, the precision of "
                "the folder's features; remove the flag, or choose another --save_dir"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the selected runtime; a worker reads the weights from their file."""
        return _reopened, (*self._pickled, self.network.choice)


def _reopened(
    config: Config, weights: Path, with_classifier: bool, choice: RuntimeChoice | None
) -> FeatureExtractor:
    from videotag.models import load_models

    load_models()
    extractor = FeatureExtractor(config, weights, with_classifier=with_classifier)
    if choice is not None:
        extractor.network.adopt(choice)
    return extractor
