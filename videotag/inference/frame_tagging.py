"""Sampled frames of a video -> tags, by two stages, by the extractor's classifier, or by a single model.

Shapes: T sampled frames of a video, D feature width, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from videotag.datasets.batches import slices
from videotag.errors import ConfigError
from videotag.inference.extractor import Extractor
from videotag.inference.predict import top_tags
from videotag.inference.tag_result import Segment, TagResult
from videotag.inference.trained_model import TrainedModel
from videotag.inputs.features import padded_inputs
from videotag.inputs.frames import ClipReader, Frames
from videotag.registry import LOGITS, MASK
from videotag.runtime.agreement import scores_of
from videotag.runtime.trained import attention_of
from videotag.safe_text import safe_repr
from videotag.sections import VideoSplitSection

SEGMENT_SEC = 5.0
SEGMENTS = ("equal", "shots")  # how a video is divided
#: Probability of the best class from which on the built-in ImageNet classifier is sure, see docs/python.md.
SURE_FROM = 0.15
MIN_FRAMES_PER_SEGMENT = 4


@dataclass(frozen=True)
class TagOptions:
    """Selection of tags and length of segments.

    Attributes:
        labels: C class names.
        top_k: Maximum number of tags per video and segment.
        threshold: Minimum probability of a tag, in [0, 1].
        segment_sec: Target length of a segment in seconds.
        by_shots: Whether segments are the shots of a video, if they are known, instead of equal parts.
        sure_from: Probability of the best class below which a result is marked as not sure; 0 marks none.

    Raises:
        ConfigError: A number is outside its range.
    """

    labels: list[str]
    top_k: int
    threshold: float = 0.0
    segment_sec: float = SEGMENT_SEC
    sure_from: float = 0.0
    by_shots: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ConfigError(f"top_k: {safe_repr(self.top_k)}, expected at least 1")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold: {safe_repr(self.threshold)}, expected a probability in 0 to 1")
        if not 0 < self.segment_sec < math.inf:
            raise ConfigError(f"segment_sec: {safe_repr(self.segment_sec)}, expected seconds above 0")


class FrameTagger(ABC):
    """Tags the frames of videos; not thread-safe.

    Attributes:
        section: Section with sampling and frame size.
        options: Selection of tags and length of segments.
        batches_across_videos: Whether batching several videos is faster, as on a GPU.
    """

    section: VideoSplitSection
    options: TagOptions
    batches_across_videos = False

    @abstractmethod
    def encode(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """Yields each item with what `scores` needs of its video, in order; a GPU batches several videos."""

    @abstractmethod
    def scores(self, prepared: Any, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores of a video and its segments, and the attention of the whole video.

        Args:
            prepared: Result of `encode` for the video.
            parts: Segments as ranges [a, b) of sampled frames.

        Returns:
            Probabilities (1 + len(parts), C) float32, the whole video first, or (1, C) if the model scores
            whole videos only; and attention weights (T,) per modality, empty without attention.
        """

    def results(self, videos: Iterable[tuple[str, Frames, bool]]) -> Iterator[Any]:
        """Yields the TagResult of every video, or its features, in order.

        Args:
            videos: Per video its name, its frames, and whether to return what `encode` yields, such as
                features, instead of tags.
        """
        named = (((name, frames, is_plain), frames) for name, frames, is_plain in videos)
        for (name, frames, is_plain), prepared in self.encode(named):
            yield prepared if is_plain else self._result(name, frames, prepared)

    def _result(self, name: str, frames: Frames, prepared: Any) -> TagResult:
        parts, times = self._parts(frames)
        scores, attention = self.scores(prepared, parts)
        segments = [
            Segment(start, end, self._top(row), self._is_unsure(row))
            for (start, end), row in zip(times, scores[1:], strict=False)
        ]
        return TagResult(
            path=name,
            tags=self._top(scores[0]),
            segments=segments,
            duration_sec=frames.duration_sec,
            attention=attention,
            warning=frames.warning,
            not_sure=self._is_unsure(scores[0]),
        )

    def _is_unsure(self, scores: np.ndarray) -> bool:
        return bool(scores.max() < self.options.sure_from)

    def _top(self, scores: np.ndarray) -> list[Any]:
        options = self.options
        return top_tags(scores, options.labels, top_k=options.top_k, threshold=options.threshold)

    def _parts(self, frames: Frames) -> tuple[list[tuple[int, int]], list[tuple[float, float]]]:
        """The segments of a video, as ranges [a, b) of its sampled frames and as times in seconds.

        Equal parts are about segment_sec long, of MIN_FRAMES_PER_SEGMENT or more frames. A shot has the
        frames sampled in it, or the nearest one if there is none.
        """
        num_rows, covered_sec = len(frames.rows), frames.covered_sec
        if covered_sec is None:
            return [], []
        step_sec = covered_sec / num_rows
        if self.options.by_shots and frames.borders_sec:
            ends = [*frames.borders_sec[1:], frames.duration_sec]
            times = [t for t in zip(frames.borders_sec, ends, strict=True) if t[0] < min(t[1], covered_sec)]
            return [rows_between(*t, step_sec, num_rows) for t in times], times
        max_count = max(1, num_rows // MIN_FRAMES_PER_SEGMENT)
        count = min(max_count, num_segments(covered_sec, self.options.segment_sec))
        parts = [(rows.start, rows.stop) for rows in slices(num_rows, count)]
        return parts, [(a * step_sec, b * step_sec) for a, b in parts]


def rows_between(start_sec: float, end_sec: float, step_sec: float, num_rows: int) -> tuple[int, int]:
    """The range [a, b) of the sampled frames in a span of time, at least the nearest one.

    Args:
        start_sec: Start of the span in seconds.
        end_sec: End of the span in seconds.
        step_sec: Seconds per sampled frame, which is taken from the middle of them.
        num_rows: Number of sampled frames.
    """
    first = math.ceil(start_sec / step_sec - 0.5)
    last = math.ceil(end_sec / step_sec - 0.5)
    if first < last:
        return max(first, 0), min(last, num_rows)
    nearest = min(max(int((start_sec + end_sec) / 2 / step_sec), 0), num_rows - 1)
    return nearest, nearest + 1


def num_segments(duration_sec: float, segment_sec: float) -> int:
    """Number of equal segments of about segment_sec seconds in duration_sec seconds, at least 1."""
    return max(1, round(duration_sec / segment_sec))


class StagesTagger(FrameTagger):
    """Tags by an extractor followed by a second stage or the extractor's own classifier.

    Args:
        extractor: First stage; needs a classifier if there is no second stage.
        predictor: Second stage; None uses the extractor's classifier.
        options: Selection of tags and length of segments.
    """

    def __init__(self, extractor: Extractor, predictor: TrainedModel | None, options: TagOptions) -> None:
        self.section = extractor.config.infer
        self.options = options
        self.extractor = extractor
        self.batches_across_videos = extractor.device == "gpu"
        self._predictor = predictor

    def encode(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """See FrameTagger; yields the features (T, D) of every video."""
        return self.extractor.features_of(videos)

    def scores(self, prepared: np.ndarray, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, Any]]:
        """See FrameTagger; takes features (T, D)."""
        pieces = [prepared] + [prepared[a:b] for a, b in parts]
        if self._predictor is None:
            logits = np.stack([self.extractor.logits(piece).mean(axis=0) for piece in pieces])
            return scores_of(self.extractor.config.task, logits), {}
        (name, _), *_ = self._predictor.config.inputs.items()
        outputs = self._predictor.run(padded_inputs([{name: piece} for piece in pieces]))
        attention = {modality: weights[0] for modality, weights in attention_of(outputs).items()}
        return scores_of(self._predictor.task, outputs[LOGITS]), attention


class ModelTagger(FrameTagger):
    """Tags by a single model that reads frames.

    Args:
        model: Model whose only reader is a ClipReader.
        options: Selection of tags and length of segments.
    """

    def __init__(self, model: TrainedModel, options: TagOptions) -> None:
        self.section = model.config.infer
        self.options = options
        self._model = model
        self._reader = clip_reader(model)
        assert self._reader is not None, "the model reads frames only"

    def encode(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """See FrameTagger; yields the frames unchanged."""
        yield from videos

    def scores(self, prepared: Frames, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, Any]]:
        """See FrameTagger; scores segments only if the model masks frames, as segments differ in length."""
        clips = [prepared]
        if any(spec.name.endswith(MASK) for spec in self._model.inputs):
            clips += [replace(prepared, rows=prepared.rows[a:b]) for a, b in parts]
        assert self._reader is not None
        outputs: Mapping[str, Any] = self._model.run(self._reader.collate_checked(clips))
        attention = {name: weights[0] for name, weights in attention_of(outputs).items()}
        return scores_of(self._model.task, outputs[LOGITS]), attention


def clip_reader(model: TrainedModel) -> ClipReader | None:
    """The reader of a model that only reads frames; None for any other model."""
    readers = [reader for _, reader in model.config.readers(model.config.infer)]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], ClipReader) else None
