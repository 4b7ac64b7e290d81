"""What is said of one video: tags of the whole and of its parts, and where the network looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videotag.inference.predict import Tag


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
            started a short video again, or the model takes whole videos only.
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
