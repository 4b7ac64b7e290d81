"""Both stages loaded once: a media file in, tags out, no files in between.

    tagger = Tagger.load()                       # ImageNet's 1,000 names, no second stage
    tagger = Tagger.load(extractor_config="configs/tsn.yaml", extractor_weights="weights/tsn",
                         predictor_weights="data/checkpoints", label_file="label_3396.txt")
    result = tagger.tag("any.mp4")
Shapes: T frames of a video, D feature width, C classes, S segments.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from videotag.datasets.batches import slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import ConfigError, MediaError, ShapeError
from videotag.formats.filelist import ListEntry
from videotag.inference.exported_extractor import load_extractor
from videotag.inference.extractor import Extractor
from videotag.inference.predict import Tag, top_tags
from videotag.inference.trained_model import ModelSource, TrainedModel, read_source
from videotag.inputs.features import padded_inputs
from videotag.inputs.frames import Frames, frames_of_array, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.media.temporary_copy import MediaBytes, temporary_copy
from videotag.registry import LOGITS
from videotag.runtime.agreement import scores_of
from videotag.runtime.trained import attention_of
from videotag.safe_text import safe_repr
from videotag.weights import DEFAULT_EXTRACTOR, find_weights

#: What Tagger.tag takes.
Source: TypeAlias = str | Path | np.ndarray | MediaBytes
SEGMENT_SEC = 5.0
_ROLES = {"extractor": "extractor", "predictor": "tagger"}
LEAST_FRAMES_PER_SEGMENT = 4


@dataclass(frozen=True)
class Segment:
    """The tags of a part of a video, from start_sec to end_sec."""

    start_sec: float
    end_sec: float
    tags: list[Tag]

    def to_dict(self) -> dict[str, Any]:
        """The segment as it stands in JSON files."""
        return {
            "start_sec": round(self.start_sec, 3),
            "end_sec": round(self.end_sec, 3),
            "tags": [tag.to_dict() for tag in self.tags],
        }


@dataclass(frozen=True)
class TagResult:
    """What a Tagger says of one video.

    Attributes:
        path: Path of the video, or the name given to it or taken from its source.
        tags: Tags of the whole video, the likeliest first.
        segments: Equal parts of the video in order, each with its own tags; none where VideoTag's sampling
            started a short video again.
        duration_sec: Duration of the video.
        attention: Per modality (T,), the weight of each of T sampled frames, equal steps of time in the part
            that the segments span, summing to 1; empty without a second stage that has attention.
        warning: What is wrong with the file although it could be read; None if nothing.
    """

    path: str
    tags: list[Tag]
    segments: list[Segment]
    duration_sec: float
    attention: dict[str, np.ndarray] = field(default_factory=dict)
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result as it stands in JSON files."""
        return {
            "video_id": self.path,
            "duration_sec": round(self.duration_sec, 3),
            "tags": [tag.to_dict() for tag in self.tags],
            "segments": [segment.to_dict() for segment in self.segments],
            "attention": {name: [round(float(a), 6) for a in x] for name, x in self.attention.items()},
            "warning": self.warning,
        }


class Tagger:
    """Tags videos; made by Tagger.load. Not to be used from two threads at once.

    Media files are decoded in a child process, which starts with the first one and ends with the Tagger: a
    file that crashes FFmpeg, hangs, or takes too much memory is a MediaError.

    Args:
        extractor: The first stage.
        predictor: The second stage; None to tag with the first stage's classifier.
        labels: C names.
        top_k: Tags kept.
        threshold: Least probability of a tag.
        segment_sec: Wanted length of a segment in seconds.
    """

    def __init__(
        self,
        extractor: Extractor,
        predictor: TrainedModel | None,
        labels: list[str],
        *,
        top_k: int,
        threshold: float = 0.0,
        segment_sec: float = SEGMENT_SEC,
    ) -> None:
        self._extractor = extractor
        self._predictor = predictor
        self._labels = labels
        self._segment_sec = segment_sec
        self._top = partial(top_tags, labels=labels, top_k=top_k, threshold=threshold)
        self._pool = DecodePool()
        weakref.finalize(self, self._pool.close)

    @classmethod
    def load(
        cls,
        *,
        extractor_config: str | Path | None = None,
        extractor_weights: str | Path | None = None,
        predictor_config: str | Path | None = None,
        predictor_weights: str | Path | None = None,
        label_file: str | Path | None = None,
        use_gpu: bool | str | None = None,
        backend: str | None = None,
        precision: str | None = None,
        overrides: list[tuple[str, Any]] | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        segment_sec: float = SEGMENT_SEC,
    ) -> Tagger:
        """A tagger with its weights loaded.

        Args:
            extractor_config: Config of the first stage; the embedded ImageNet classifier if neither it nor
                its weights are given.
            extractor_weights: A file, a prefix, a folder, an export, or named weights.
            predictor_config: Config of the second stage; if not given, the config beside its weights.
            predictor_weights: Weights of the second stage; without them the first stage's classifier tags.
            label_file: Class names; if not given, labels.txt beside the weights in use.
            use_gpu: True, False or "auto"; the extractor config's value if not given.
            backend: Backend of both stages, "auto", "paddle", "openvino" or "onnx"; INFER.backend of each
                config if not given.
            precision: Precision of both stages, "auto", "f32", "bf16" or "f16"; INFER.precision of each
                config if not given.
            overrides: Overrides of the extractor's config, as load_config takes them.
            top_k: Tags kept; the config's topk if not given.
            threshold: Least probability of a tag.
            segment_sec: Wanted length of a segment in seconds.

        Raises:
            ConfigError, WeightsError, LabelFileError, DeviceError: What is wrong with an argument.
        """
        if extractor_weights is None and extractor_config is None:
            extractor_weights = DEFAULT_EXTRACTOR
        flags = {"TRAIN.use_gpu": use_gpu, "INFER.backend": backend, "INFER.precision": precision}
        both = [(key, value) for key, value in flags.items() if value is not None]
        first = _stage("extractor", extractor_config, extractor_weights, [*(overrides or []), *both])
        options = {"threshold": threshold, "segment_sec": segment_sec}
        if predictor_weights is None and predictor_config is None:
            labels = first.weights.labels(label_file, first.config.model)
            extractor = load_extractor(first.config, first.weights, with_classifier=True)
            return cls(extractor, None, labels, top_k=top_k or first.config.model.topk, **options)

        second = _stage("predictor", predictor_config, predictor_weights, both)
        model = second.config.model
        labels = second.weights.labels(label_file, model)
        extractor = load_extractor(first.config, first.weights)
        if list(model.dims.values()) != [extractor.feature_dim]:
            raise ConfigError(
                f"the extractor makes features of width {extractor.feature_dim}, the predictor wants "
                f"{model.dims}; name the extractor it was trained with"
            )
        predictor = TrainedModel([second])
        predictor.load_network()
        return cls(extractor, predictor, labels, top_k=top_k or model.topk, **options)

    def tag(
        self, source: Source, *, fps: float | Fraction | None = None, name: str | None = None
    ) -> TagResult:
        """The tags of one video.

        Args:
            source: Path of a media file; or its bytes, or a binary file open for reading, which is read from
                where it stands; or frames (T, height, width, 3) uint8 RGB.
            fps: Frames per second of an array of frames.
            name: TagResult.path; if not given, the path, the open file's name, "bytes" or "frames".

        Raises:
            MediaError: The video cannot be decoded.
            ShapeError: An array is not as said above, or fps is missing.
            ConfigError: fps is given for a media file, which has its own frame rate.
            OutputError: The temporary folder has no room for a copy of bytes or of an open file.
        """
        name = name or _source_name(source)
        frames = self._frames(source, fps, name)
        return self._tag_features(name, frames, self._extractor.features(frames))

    def features(self, source: Source, *, fps: float | Fraction | None = None) -> np.ndarray:
        """The features of one video, as `videotag extract` writes them: (T, D) float32, T = seg_num.

        Args:
            source: As of tag.
            fps: As of tag.

        Raises:
            MediaError, ShapeError, ConfigError, OutputError: As of tag.
        """
        return self._extractor.features(self._frames(source, fps, _source_name(source)))

    def _frames(self, source: Source, fps: float | Fraction | None, name: str) -> Frames:
        split = self._extractor.config.infer
        if isinstance(source, np.ndarray):
            if fps is None:
                raise ShapeError(f"{name}: fps is missing; pass the frame rate of the array")
            return frames_of_array(source, fps, split, name=name)
        if isinstance(source, list | tuple):
            raise ShapeError(f"{name}: a {type(source).__name__}; make an array of the frames with np.stack")
        if fps is not None:
            raise ConfigError(
                f"{name}: fps {safe_repr(fps)} applies only to arrays; a media file has its own frame rate"
            )
        if isinstance(source, str | Path):
            return read_frames(ListEntry(str(source)), split, pool=self._pool)
        with temporary_copy(source, name) as path:
            try:
                frames = read_frames(ListEntry(str(path)), split, pool=self._pool)
            except MediaError as error:
                raise type(error)(str(error).replace(str(path), name)) from error
        return replace(frames, warning=frames.warning and frames.warning.replace(str(path), name))

    def tag_many(self, videos: Iterable[str | ListEntry]) -> Iterator[TagResult | MediaError]:
        """The result of every video in order, or why it has none; the next ones are decoded meanwhile."""
        split = self._extractor.config.infer
        stop = threading.Event()

        def read(video: str | ListEntry) -> tuple[tuple[str, Frames | MediaError], Frames | None]:
            entry = video if isinstance(video, ListEntry) else ListEntry(video)
            try:
                frames = read_frames(entry, split, pool=pool, stop=stop)
            except MediaError as error:
                return (entry.path, error), None
            return (entry.path, frames), frames

        threads, ahead = split.videos_at_once, split.videos_ahead
        with DecodePool() as pool:
            results = prefetch(read, videos, num_threads=threads, ahead=ahead, stop=stop)
            with contextlib.closing(results):
                for (path, frames), features in self._extractor.features_of(results):
                    if isinstance(frames, MediaError):
                        yield frames
                    else:
                        assert features is not None
                        yield self._tag_features(path, frames, features)

    def _tag_features(self, path: str, frames: Frames, features: np.ndarray) -> TagResult:
        """The result of a video with features (T, D)."""
        parts = [] if frames.covered_sec is None else self._parts(frames.covered_sec, len(features))
        pieces = [features] + [features[a:b] for a, b in parts]
        if self._predictor is None:
            logits = np.stack([self._extractor.logits(piece).mean(axis=0) for piece in pieces])
            scores = scores_of(self._extractor.config.task, logits)
            attention: dict[str, np.ndarray] = {}
        else:
            scores, attention = self._predict(pieces)
        step_sec = (frames.covered_sec or 0.0) / len(features)
        segments = [
            Segment(a * step_sec, b * step_sec, self._top(row))
            for (a, b), row in zip(parts, scores[1:], strict=True)
        ]
        return TagResult(
            path=path,
            tags=self._top(scores[0]),
            segments=segments,
            duration_sec=frames.duration_sec,
            attention=attention,
            warning=frames.warning,
        )

    def _parts(self, duration_sec: float, num_frames: int) -> list[tuple[int, int]]:
        """Rows from a to b of every segment: near segment_sec long, none with less than a few frames."""
        most = max(1, num_frames // LEAST_FRAMES_PER_SEGMENT)
        count = min(most, max(1, round(duration_sec / self._segment_sec)))
        return [(rows.start, rows.stop) for rows in slices(num_frames, count)]

    def _predict(self, pieces: list[np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores (len(pieces), C) of the second stage, and its attention over the first piece."""
        assert self._predictor is not None
        name = next(iter(self._predictor.config.model.dims))
        outputs = self._predictor.run(padded_inputs([{name: piece} for piece in pieces]))
        attention = {modality: weights[0] for modality, weights in attention_of(outputs).items()}
        return scores_of(self._predictor.task, outputs[LOGITS]), attention


def _source_name(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return "frames"
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    name = getattr(source, "name", None)  # a temporary file's is a number
    return name if isinstance(name, str) else "file"


def _stage(
    stage: str, config_file: str | Path | None, weights: str | Path | None, overrides: list[tuple[str, Any]]
) -> ModelSource:
    """A stage's weights and config, found by what the user named of them."""
    if weights is None:
        raise ConfigError(f"--{stage}_weights: missing; they belong to --{stage}_config {config_file}")
    found = find_weights(weights)
    if config_file is None and found.config is None:
        raise ConfigError(f"{found.path}: no config.yaml beside the weights; give --{stage}_config")
    source = read_source(found, config_file, overrides=overrides)
    entry = source.config.entry
    if entry.two_stage != (stage == "extractor"):
        named = f"--{stage}_config {config_file}" if config_file else f"--{stage}_weights {weights}"
        raise ConfigError(f"{named}: {entry.name} is no {_ROLES[stage]}")
    return source
