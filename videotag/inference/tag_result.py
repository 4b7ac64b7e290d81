"""The result for one video: tags of the video and its segments, and the network's attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videotag.inference.predict import Tag
from videotag.senses.finding import JSON_KEYS
from videotag.senses.search import Findings


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

        not_sure is a key only if it is True, and findings have the keys of the kinds that were asked for:
        shots, texts, speech, sounds.
        """
        return {
            "video_id": self.path,
            "duration_sec": round(self.duration_sec, 3),
            "tags": [tag.to_dict() for tag in self.tags],
            "segments": [segment.to_dict() for segment in self.segments],
            "attention": {name: [round(float(a), 6) for a in x] for name, x in self.attention.items()},
            "warning": self.warning,
            **({"not_sure": True} if self.not_sure else {}),
            **{
                JSON_KEYS[kind]: None if found is None else [one.to_dict() for one in found]
                for kind, found in self.findings.items()
            },
        }
