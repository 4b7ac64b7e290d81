"""The baseline, the baseline of the benchmark: what a straightforward script of its time does.

Videos: OpenCV decodes every frame, Pillow scales and crops the selected ones, NumPy normalizes them, and all
frames of a video go through the layers as one batch, layer by layer in float32.
Metrics: loops over videos and classes, with lists and sorts.
Written from that description alone. Shapes: T frames, N videos, C classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videotag.errors import VideotagError
from videotag.media.sampling import videotag_indices

REMEDY = "opencv-python-headless is not installed, so the baseline is left out; pip install 'videotag[bench]'"
SHORT_SIDE_PX, CROP_PX = 256, 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def has_opencv() -> bool:
    """Whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


def decode(path: str | Path, num_frames: int) -> np.ndarray:
    """num_frames frames of a video, (T, 224, 224, 3) uint8 RGB; a short video repeats.

    Raises:
        VideotagError: OpenCV is not installed, or no frame can be decoded.
    """
    if not has_opencv():
        raise VideotagError(REMEDY)
    cv2: Any = importlib.import_module("cv2")
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = video.read()
        if not there:
            break
        frames.append(frame[:, :, ::-1])  # BGR to RGB
    video.release()
    if not frames:
        raise VideotagError(f"{path}: OpenCV cannot decode any frame; give another video")
    return np.stack([prepared(frames[index]) for index in videotag_indices(len(frames), num_frames)])


def prepared(frame: np.ndarray) -> np.ndarray:
    """The central (224, 224, 3) crop of a frame scaled to a short side of 256."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    scale = SHORT_SIDE_PX / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - CROP_PX) // 2, (height - CROP_PX) // 2
    return np.asarray(image.crop((left, top, left + CROP_PX, top + CROP_PX)))


def normalized(images: np.ndarray) -> np.ndarray:
    """(T, 3, H, W) float32 from (T, H, W, 3) uint8, with ImageNet's mean and standard deviation."""
    x = images.astype(np.float32) / 255
    x = (x - MEAN) / STD
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


class Network:
    """ResNet-101 layer by layer, all frames of a video as one batch.

    Args:
        weights: Weights of the TSN that all contestants share.
        config: Config of the TSN.
    """

    def __init__(self, weights: str, config: str = "configs/tsn.yaml") -> None:
        from videotag.config import load_config
        from videotag.inference.load_weights import load_model
        from videotag.models import load_models, paddle

        load_models()
        loaded = load_config(config)
        self._paddle = paddle
        self._backbone = load_model(loaded, Path(weights), config_name=loaded.entry.name).backbone
        self._backbone.eval()
        self.features(np.zeros((1, CROP_PX, CROP_PX, 3), np.uint8))  # the first call is slow

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features (T, D) of images (T, H, W, 3) uint8."""
        with self._paddle.no_grad():
            return self._backbone(self._paddle.to_tensor(normalized(images))).numpy()


class Decode:
    """A contestant: decoding."""

    def measure(self, path: str, num_frames: int) -> dict[str, Any]:
        """Seconds for the frames of a video."""
        started = time.perf_counter()
        images = decode(path, num_frames)
        return {"seconds": time.perf_counter() - started, "frames": len(images)}


class Frames(Network):
    """A contestant: the network."""

    def measure(self, count: int) -> dict[str, Any]:
        """Frames per second of `count` noise frames."""
        images = np.random.default_rng(0).integers(0, 256, (count, CROP_PX, CROP_PX, 3), np.uint8)
        started = time.perf_counter()
        self.features(images)
        return {"rate": count / (time.perf_counter() - started)}


class Extract(Network):
    """A contestant: videos to .npy, one after the other."""

    def measure(self, paths: list[str], num_frames: int, save_dir: str) -> dict[str, Any]:
        """Seconds per video."""
        folder = Path(save_dir)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        for index, path in enumerate(paths):
            np.save(folder / f"{index}.npy", self.features(decode(path, num_frames)))
        return {"seconds": (time.perf_counter() - started) / len(paths)}


class Metrics:
    """Hit@1, PERR, GAP and mAP over the top_k of every video, video by video and class by class.

    Args:
        num_classes: Number C of classes.
        top_k: Number of predictions kept per video.
    """

    def __init__(self, num_classes: int, top_k: int = 20) -> None:
        self._top_k = top_k
        self._hits: list[float] = []
        self._recalls: list[float] = []
        self._kept: list[tuple[float, bool]] = []
        self._by_class: list[list[tuple[float, bool]]] = [[] for _ in range(num_classes)]
        self._positives = [0] * num_classes

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch of scores (N, C) and labels (N, C)."""
        for row, truth in zip(scores, labels, strict=True):
            num_labels = int(truth.sum())
            if num_labels:
                self._hits.append(float(truth[np.argmax(row)]))
                self._recalls.append(float(truth[_best(row, num_labels)].sum()) / num_labels)
            for class_id in _best(row, self._top_k):
                entry = (float(row[class_id]), bool(truth[class_id]))
                self._kept.append(entry)
                self._by_class[class_id].append(entry)
            for class_id in np.flatnonzero(truth):
                self._positives[class_id] += 1

    def compute(self) -> dict[str, float]:
        """All metrics so far; needs at least one video with labels."""
        pairs = zip(self._by_class, self._positives, strict=True)
        by_class = [_average_precision(entries, positives) for entries, positives in pairs if positives]
        return {
            "hit_at_one": sum(self._hits) / len(self._hits),
            "perr": sum(self._recalls) / len(self._recalls),
            "gap": _average_precision(self._kept, sum(self._positives)),
            "mean_ap": sum(by_class) / len(by_class),
        }


def _best(row: np.ndarray, count: int) -> np.ndarray:
    """Ids of the `count` best-scored classes of a video, in any order."""
    return np.argpartition(row, -count)[-count:] if count < len(row) else np.arange(len(row))


def _average_precision(entries: list[tuple[float, bool]], num_positives: int) -> float:
    """Mean over the positives of the precision at their rank."""
    found, total = 0, 0.0
    for rank, (_, is_hit) in enumerate(sorted(entries, key=lambda entry: entry[0], reverse=True), start=1):
        if is_hit:
            found += 1
            total += found / rank
    return total / num_positives
