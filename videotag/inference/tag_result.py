"""The result for one video: tags of the video and its segments, and the network's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videotag.inference.predict import Tag
from videotag.senses.finding import JSON_KEYS
from videotag.senses.search import Findings

_RELATIVE_MIN = 0.5  # least probability of a tag in a segment, relative to its highest


@dataclass(frozen=True)
class Segment:
    """The tags of a segment of a video.

    Attributes:
        start_sec: Start of the segment in seconds.
        end_sec: End of the segment in seconds.
        tags: Tags by decreasing probability.
        not_sure: Whether the probability of the best class is too low to rely on, see TagOptions.sure_from.
    """

    start_sec: float
    end_sec: float
    tags: list[Tag]
    not_sure: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The segment as written to JSON files; times are rounded to milliseconds."""
        return {
            "start_sec": round(self.start_sec, 3),
            "end_sec": round(self.end_sec, 3),
            "tags": [tag.to_dict() for tag in self.tags],
            **({"not_sure": True} if self.not_sure else {}),
        }


@dataclass(frozen=True)
class Interval:
    """A stretch of neighboring segments that have a tag.

    Attributes:
        start_sec: Start of the first segment in seconds.
        end_sec: End of the last segment in seconds.
        probability: Mean probability of the tag in the segments, weighted by their length.
    """

    start_sec: float
    end_sec: float
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """The interval as written to JSON files, with rounded numbers."""
        return {
            "start_sec": round(self.start_sec, 3),
            "end_sec": round(self.end_sec, 3),
            "probability": round(self.probability, 6),
        }


def intervals_of(class_id: int, segments: Sequence[Segment]) -> list[Interval]:
    """The intervals of a tag, in order; empty if no segment has it.

    A segment has the tag if it is among the segment's tags, with at least half the probability that it has in
    the segment where it is most probable.

    Args:
        class_id: Class id of the tag.
        segments: Segments of a video in order.
    """
    found = [
        max((tag.probability for tag in segment.tags if tag.class_id == class_id), default=0.0)
        for segment in segments
    ]
    least = _RELATIVE_MIN * max(found, default=0.0)
    runs: list[list[tuple[Segment, float]]] = [[]]
    for segment, probability in zip(segments, found, strict=True):
        if probability > 0 and probability >= least:
            runs[-1].append((segment, probability))
        elif runs[-1]:
            runs.append([])
    return [_interval(run) for run in runs if run]


def _interval(run: Sequence[tuple[Segment, float]]) -> Interval:
    start_sec, end_sec = run[0][0].start_sec, run[-1][0].end_sec
    weighted = sum((segment.end_sec - segment.start_sec) * p for segment, p in run)
    return Interval(start_sec, end_sec, weighted / (end_sec - start_sec))


@dataclass(frozen=True)
class TagResult:
    """The result of a Tagger for one video.

    Attributes:
        path: Path of the video, or the name of its source.
        tags: Tags of the whole video by decreasing probability.
        segments: Equal segments of the video in order, with their own tags; empty if VideoTag's sampling
            repeats a short video, or if the model only tags whole videos.
        duration_sec: Duration of the video in seconds.
        attention: Modality -> weights (T,) float of the T sampled frames, which sum to 1; the frames divide
            the time spanned by the segments evenly. Empty for a model without attention.
        warning: Problem that did not prevent reading the file; None if there is none.
        not_sure: Whether the probability of the best class is too low to rely on, see TagOptions.sure_from.
        findings: What was found besides tags, by kind, if asked for; None if the file lacks the input.
    """

    path: str
    tags: list[Tag]
    segments: list[Segment]
    duration_sec: float
    attention: dict[str, np.ndarray] = field(default_factory=dict)
    warning: str | None = None
    not_sure: bool = False
    findings: Findings = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as written to JSON files, with rounded numbers.

        Tags of the video have their intervals, if it has segments.
        not_sure is a key only if it is True, and findings have the keys of the kinds that were asked for:
        shots, texts, speech, sounds.
        """
        return {
            "video_id": self.path,
            "duration_sec": round(self.duration_sec, 3),
            "tags": [tag.to_dict() | self._intervals(tag) for tag in self.tags],
            "segments": [segment.to_dict() for segment in self.segments],
            "attention": {name: [round(float(a), 6) for a in x] for name, x in self.attention.items()},
            "warning": self.warning,
            **({"not_sure": True} if self.not_sure else {}),
            **{
                JSON_KEYS[kind]: None if found is None else [one.to_dict() for one in found]
                for kind, found in self.findings.items()
            },
        }

    def _intervals(self, tag: Tag) -> dict[str, Any]:
        if not self.segments:
            return {}
        return {"intervals": [one.to_dict() for one in intervals_of(tag.class_id, self.segments)]}
