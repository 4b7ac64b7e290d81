"""Sampled frames of a video -> its tags: by two stages, by the first one's classifier, or by one model.

Shapes: T frames of a video, D feature width, C classes, S segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from videotag.datasets.batches import slices
from videotag.inference.extractor import Extractor
from videotag.inference.predict import top_tags
from videotag.inference.tag_result import Segment, TagResult
from videotag.inference.trained_model import TrainedModel
from videotag.inputs.features import padded_inputs
from videotag.inputs.frames import ClipReader, Frames
from videotag.registry import LOGITS, MASK
from videotag.runtime.agreement import scores_of
from videotag.runtime.trained import attention_of
from videotag.sections import VideoSplitSection

SEGMENT_SEC = 5.0
LEAST_FRAMES_PER_SEGMENT = 4


@dataclass(frozen=True)
class TagOptions:
    """Which tags are kept, and of which parts.

    Attributes:
        labels: C names.
        top_k: Tags kept.
        threshold: Least probability of a tag.
        segment_sec: Wanted length of a segment in seconds.
    """

    labels: list[str]
    top_k: int
    threshold: float = 0.0
    segment_sec: float = SEGMENT_SEC


class FrameTagger(ABC):
    """Tags the frames of videos; not to be called from two threads at once.

    Attributes:
        section: Sampling and size of the frames.
        options: Which tags are kept.
        joins_videos: Whether several videos at once are faster, as on a GPU.
    """

    section: VideoSplitSection
    options: TagOptions
    joins_videos = False

    @abstractmethod
    def prepare(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """What `tag` needs of every video, in order; a GPU computes frames of several at once."""

    @abstractmethod
    def scores(self, prepared: Any, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores (1 + parts, C) of the whole video and of its parts, rows from a to b; and attention (T,)."""

    def answers(self, videos: Iterable[tuple[str, Frames, bool]]) -> Iterator[Any]:
        """The TagResult of every video, or its features, in order.

        Args:
            videos: Names and frames, and whether features are wanted.
        """
        named = (((name, frames, is_plain), frames) for name, frames, is_plain in videos)
        for (name, frames, is_plain), prepared in self.prepare(named):
            yield prepared if is_plain else self._result(name, frames, prepared)

    def _result(self, name: str, frames: Frames, prepared: Any) -> TagResult:
        num_rows = len(frames.rows)
        parts = [] if frames.covered_sec is None else self._parts(frames.covered_sec, num_rows)
        scores, attention = self.scores(prepared, parts)
        step_sec = (frames.covered_sec or 0.0) / num_rows
        segments = [
            Segment(a * step_sec, b * step_sec, self._top(row))
            for (a, b), row in zip(parts, scores[1:], strict=False)
        ]
        return TagResult(
            path=name,
            tags=self._top(scores[0]),
            segments=segments,
            duration_sec=frames.duration_sec,
            attention=attention,
            warning=frames.warning,
        )

    def _top(self, scores: np.ndarray) -> list[Any]:
        options = self.options
        return top_tags(scores, options.labels, top_k=options.top_k, threshold=options.threshold)

    def _parts(self, duration_sec: float, num_frames: int) -> list[tuple[int, int]]:
        """Rows from a to b of every segment: near segment_sec long, none with less than a few frames."""
        most = max(1, num_frames // LEAST_FRAMES_PER_SEGMENT)
        count = min(most, max(1, round(duration_sec / self.options.segment_sec)))
        return [(rows.start, rows.stop) for rows in slices(num_frames, count)]


class StagesTagger(FrameTagger):
    """By an extractor, and a second stage or the extractor's own classifier.

    Args:
        extractor: The first stage.
        predictor: The second stage; None to tag with the first one's classifier.
        options: Which tags are kept.
    """

    def __init__(self, extractor: Extractor, predictor: TrainedModel | None, options: TagOptions) -> None:
        self.section = extractor.config.infer
        self.options = options
        self.extractor = extractor
        self.joins_videos = extractor.device == "gpu"
        self._predictor = predictor

    def prepare(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """The features (T, D) of every video."""
        return self.extractor.features_of(videos)

    def scores(self, prepared: np.ndarray, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, Any]]:
        """Scores of features (T, D)."""
        pieces = [prepared] + [prepared[a:b] for a, b in parts]
        if self._predictor is None:
            logits = np.stack([self.extractor.logits(piece).mean(axis=0) for piece in pieces])
            return scores_of(self.extractor.config.task, logits), {}
        (name, _), *_ = self._predictor.config.inputs.items()
        outputs = self._predictor.run(padded_inputs([{name: piece} for piece in pieces]))
        attention = {modality: weights[0] for modality, weights in attention_of(outputs).items()}
        return scores_of(self._predictor.task, outputs[LOGITS]), attention


class ModelTagger(FrameTagger):
    """By one model that reads frames itself.

    Args:
        model: Its only reader reads frames.
        options: Which tags are kept.
    """

    def __init__(self, model: TrainedModel, options: TagOptions) -> None:
        self.section = model.config.infer
        self.options = options
        self._model = model
        self._reader = clip_reader(model)
        assert self._reader is not None, "as said above"

    def prepare(self, videos: Iterable[tuple[Any, Frames]]) -> Iterator[tuple[Any, Any]]:
        """The frames as they are."""
        yield from videos

    def scores(self, prepared: Frames, parts: list[tuple[int, int]]) -> tuple[np.ndarray, dict[str, Any]]:
        """Scores of the frames; of parts only where the model masks frames, since parts differ in length."""
        clips = [prepared]
        if any(spec.name.endswith(MASK) for spec in self._model.inputs):
            clips += [replace(prepared, rows=prepared.rows[a:b]) for a, b in parts]
        assert self._reader is not None
        outputs: Mapping[str, Any] = self._model.run(self._reader.collate(clips))
        attention = {name: weights[0] for name, weights in attention_of(outputs).items()}
        return scores_of(self._model.task, outputs[LOGITS]), attention


def clip_reader(model: TrainedModel) -> ClipReader | None:
    """The reader of a model that reads frames and nothing else; None of another model."""
    readers = [reader for _, reader in model.config.readers(model.config.infer)]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], ClipReader) else None
