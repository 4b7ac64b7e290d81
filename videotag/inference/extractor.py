"""Frames of videos -> their features, by the backbone of an extractor.

Shapes: T = seg_num frames of a video, K <= T of them distinct, D feature width, C classes.
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

#: On a CPU larger batches fall out of the caches and are slower; a GPU wants them large.
FRAMES_PER_STEP = {"cpu": 8, "gpu": 64}
Item = TypeVar("Item")


@dataclass(frozen=True)
class FrozenRuntime:
    """What a folder's features were made in.

    Attributes:
        backend: Name of a backend; "auto" if it is not known.
        precision: "f32", "bf16" or "f16".
    """

    backend: str
    precision: str


class Extractor:
    """A network that makes features of frames, and what is known of it.

    Args:
        config: of an extractor.
        network: the backbone, uint8 frames (K, H, W, 3) -> (K, D).
        device: that it runs on, "cpu" or "gpu".
        weights_sha256: of the weights it was made of.
        feature_dim: D.
        classifier: weight (D, C) and bias (C,) of the last layer, if known.
    """

    #: The precision that the user asked for; "auto" if any will do.
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
        """One row per sampled frame: (T, D) float32."""
        ((_, features),) = self.features_of([(None, frames)])
        assert features is not None
        return features

    def features_of(
        self, videos: Iterable[tuple[Item, Frames | None]]
    ) -> Iterator[tuple[Item, np.ndarray | None]]:
        """The features (T, D) float32 of every video, in order; None of one without frames.

        Args:
            videos: anything, with its frames. On a GPU the frames of several videos share a batch, so that
                more of them may be taken before a video's features come.
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
        """Selects backend and precision, once.

        Args:
            images: (K, H, W, 3) uint8 such as will follow, K at least 1; None where there are none: then
                "auto" is float32.
        """
        self.network.settle(None if images is None else {FRAMES: images})

    @property
    def needs_sample(self) -> bool:
        """Whether backend and precision are settled by frames of the user's; those of an export are fixed."""
        return False

    def start(self, kept: FrozenRuntime | None) -> None:
        """Forgets what was settled, so that each list is settled by itself.

        Args:
            kept: What the features of a folder were made in; None if there are none. Its precision stays, its
                backend is only tried first.

        Raises:
            ConfigError: The network runs in another precision only.
            DeviceError: This device cannot compute in that precision.
        """
        raise NotImplementedError

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """(K, D) of images (K, H, W, 3)."""
        return self.network({FRAMES: images})[FEATURES]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The classifier's logits of features (T, D): (T, C)."""
        assert self.classifier is not None, "of an extractor without classifier"
        weight, bias = self.classifier
        return features @ weight + bias

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


class FeatureExtractor(Extractor):
    """The backbone of an extractor with its weights; compiled when it sees its first frames.

    Args:
        config: of an extractor.
        weights: the weight file.
        with_classifier: also needs the weights of the last layer, for logits().

    Raises:
        WeightsError: the weights are missing or do not fit.
        DeviceError: a GPU was asked for and there is none.
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
        #: The backbone before a backend has been chosen.
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
        """See Extractor; a backend that cannot be had any more is none to keep."""
        request = self._request
        if kept is not None:
            request = replace(request, preferred=kept.backend, kept_precision=kept.precision)
        try:
            self.network = RuntimeNetwork(self.trained, request, tolerances=agreement.FEATURES)
        except ConfigError as error:
            raise ConfigError(
                f"--backend={request.backend}: cannot compute in {request.kept_precision}, as the folder's "
                "features are; leave it out, or choose another --save_dir"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles what was settled; a worker reads the weights from their file."""
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
