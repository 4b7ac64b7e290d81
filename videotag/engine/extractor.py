"""One video -> features of its frames, by the backbone of an extractor.

Shapes: T = seg_num frames of a video, K <= T of them distinct, D feature width, C classes.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videotag.config import Config, VideoSplitSection
from videotag.engine.checkpoint import file_digest, load_weights
from videotag.media.decode_pool import DecodePool, PooledReader, Stopped
from videotag.media.transforms import normalize
from videotag.media.video import FrameReader
from videotag.runtime.device import select_device
from videotag.runtime.paddle_inference import PaddleRunner

FRAMES_PER_STEP = 8  # larger batches fall out of the CPU's caches and are slower


@dataclass(frozen=True)
class Frames:
    """The sampled frames of one video; a frame that is shown at several sampling times is held once.

    Attributes:
        images: (K, S, S, 3) uint8 RGB.
        repeats: (K,) int, how many of the T rows each image stands for; they sum to T.
        duration_sec: of the video.
        warning: what is wrong with the file although it could be read; None if nothing.
    """

    images: np.ndarray
    repeats: np.ndarray
    duration_sec: float
    warning: str | None


def read_frames(
    path: str | Path,
    split: VideoSplitSection,
    *,
    pool: DecodePool | None = None,
    stop: threading.Event | None = None,
) -> Frames:
    """seg_num frames, spread evenly over the whole video, scaled and cut as the section says.

    Args:
        path: a media file.
        split: sampling and size.
        pool: decodes in a child process, which may hang or crash; None decodes in this one.
        stop: when set, decoding ends with Stopped.

    Raises:
        MediaError: the file cannot be decoded.
        DecoderLostError: from a pool, no frame came within stall_limit_sec, or the child died.
    """
    cores = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options: dict[str, Any] = {
        "num_frames": split.seg_num,
        "short_side_px": split.short_size,
        "crop_px": split.target_size,
        "num_threads": max(1, (split.num_reader_threads or cores) // split.videos_at_once),
    }
    reader: FrameReader | PooledReader
    if pool is None:
        reader = FrameReader(path, **options)
    else:
        reader = pool.reader(path, stall_limit_sec=split.stall_limit_sec, stop=stop, **options)
    images, repeats = [], []
    for frame in reader:
        if stop is not None and stop.is_set():
            raise Stopped
        images.append(frame.image)
        repeats.append(frame.repeats)
    return Frames(
        images=np.stack(images),
        repeats=np.array(repeats),
        duration_sec=reader.info.duration_sec,
        warning=reader.warning,
    )


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
        may_miss = () if with_classifier else ("fc.",)
        load_weights(model, weights, config_name=config.entry.name, may_miss=may_miss)
        split = config.infer
        size = split.target_size
        self._run = PaddleRunner(model.backbone, [None, 3, size, size], device=device)
        self._classifier = (model.fc.weight.numpy(), model.fc.bias.numpy())
        self.feature_dim: int = model.feature_dim

    def features(self, frames: Frames) -> np.ndarray:
        """One row per sampled frame: (T, D) float32."""
        mean, std = self.config.model.image_mean, self.config.model.image_std
        rows = [
            self._run(normalize(frames.images[start : start + FRAMES_PER_STEP], mean, std))
            for start in range(0, len(frames.images), FRAMES_PER_STEP)
        ]
        return np.repeat(np.concatenate(rows), frames.repeats, axis=0)

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
            "short_size": split.short_size,
            "target_size": split.target_size,
        }
