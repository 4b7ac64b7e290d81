"""Views of a video: which of its frames are wanted, and in which size.

Several views share one decoding, such as some frames for features and all of them, small, for shots.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videotag.media.sampling import videotag_indices
from videotag.media.timeline import Timeline
from videotag.media.transforms import forced_size, scaled_size


@dataclass(frozen=True)
class View:
    """Which frames of a video to yield, and in which size.

    Attributes:
        num_frames: Number of sampling times, at least 1; frames of a shorter video are repeated evenly. None
            yields every frame once.
        fps: Sampling times per second, above 0; limited to the number of frames in the video, and to
            num_frames unless that is None.
        offsets: (num_frames,) position of the sampling time in each part, in [0, 1); None takes the middle.
        by_videotag: Whether to select num_frames by VideoTag's rule (sampling.py), each once.
        short_side_px: Short side of the scaled frames in pixels, aspect ratio kept; None does not scale.
        force_4_by_3: Whether to scale frames to 4:3 as VideoTag does.
        size_px: Width and height of the scaled frames in pixels, whatever the aspect ratio; instead of
            short_side_px.
        crop_px: Side of the square center crop in pixels; None does not crop.

    Raises:
        ValueError: One of num_frames, short_side_px, size_px and crop_px is below 1.
    """

    num_frames: int | None = None
    fps: float | None = None
    offsets: Sequence[float] | None = None
    by_videotag: bool = False
    short_side_px: int | None = 256
    force_4_by_3: bool = False
    size_px: tuple[int, int] | None = None
    crop_px: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.num_frames, self.short_side_px, self.crop_px, *(self.size_px or ()))
        if any(value is not None and value < 1 for value in sizes):
            raise ValueError(
                f"num_frames {self.num_frames}, short_side_px {self.short_side_px}, crop_px {self.crop_px}, "
                f"size_px {self.size_px}: expected at least 1"
            )

    def scaled_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """(width, height) in pixels of the scaled frames of a video of that size."""
        if self.size_px is not None:
            return self.size_px[0], self.size_px[1]
        short_side_px = self.short_side_px or min(width_px, height_px)
        return (forced_size if self.force_4_by_3 else scaled_size)(width_px, height_px, short_side_px)


class FrameSelection:
    """The sampling times of a view of a video.

    Args:
        view: View.
        timeline: Timeline of the video.

    Attributes:
        num_frames: Number of sampling times; None for every frame.
        all_indices: (T,) frame numbers to sample, in their order; None unless the view is by_videotag.
    """

    def __init__(self, view: View, timeline: Timeline) -> None:
        self._timeline = timeline
        self.num_frames = view.num_frames
        if view.fps is not None:
            limit = min(view.num_frames or timeline.num_frames, timeline.num_frames)
            self.num_frames = min(max(round(timeline.duration_sec * view.fps), 1), limit)
        self._positions: list[float] | None = None  # sampling times relative to the span, in [0, 1)
        self._indices: list[int] | None = None  # distinct frame numbers to sample, ascending
        self.all_indices: np.ndarray | None = None
        if view.by_videotag and self.num_frames is not None:
            self.all_indices = videotag_indices(timeline.num_frames, self.num_frames, view.offsets)
            self._indices = np.unique(self.all_indices).tolist()
            self.num_frames = len(self._indices)
        elif view.offsets is not None:
            offsets = view.offsets
            self._positions = [(part + offset) / len(offsets) for part, offset in enumerate(offsets)]

    def num_due(self, time: int, decoded: int) -> int:
        """Number of sampling times before a display time.

        Args:
            time: Display time in the timeline's units.
            decoded: Number of frames decoded before it.
        """
        if self.num_frames is None:
            return decoded
        if self._indices is not None:
            return bisect.bisect_left(self._indices, decoded)
        if self._positions is not None:
            return bisect.bisect_left(self._positions, self._timeline.position(time))
        return self._timeline.num_targets_before(time, self.num_frames)
