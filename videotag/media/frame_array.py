"""Samples frames of an array in memory like those of a video file.

Shapes: N frames in memory, H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np

from videotag.errors import ShapeError
from videotag.media.container import check_size
from videotag.media.frame_scaler import FrameScaler, NewImage, new_image
from videotag.media.orientation import Orientation
from videotag.media.sampling import even_indices, videotag_indices
from videotag.media.transforms import forced_size, scaled_size
from videotag.media.video import SampledFrame, VideoInfo
from videotag.safe_text import safe_repr


class ArrayReader:
    """Samples frames of an array by FrameReader's rules; frame i is displayed at i / fps seconds.

    Iterating yields each sampled frame once as a SampledFrame.

    Args:
        frames: (N, height, width, 3) uint8 RGB, upright, N at least 1.
        fps: Frames per second, above 0.
        num_frames: Number of sampling times, at least 1; frames of a shorter array are repeated evenly.
        name: Name of the array in error messages.
        offsets: (num_frames,) position of the sampling time in each part, in [0, 1); None takes the middle.
        by_videotag: Whether to select frames by VideoTag's rule (sampling.py), each once.
        short_side_px: Short side of the scaled frames in pixels; the aspect ratio is kept.
        force_4_by_3: Whether to scale frames to 4:3 as VideoTag does.
        crop_px: Side of the square center crop in pixels; None does not crop.
        num_threads: Number of scaling threads; 0 lets FFmpeg choose.
        new_image: Function that allocates the array of each image.
        sampled_fps: Sampling times per second, above 0, of which there are then at most num_frames.

    Attributes:
        info: Facts about the video.
        rows: For each sampled frame, the index of its image in iteration order.
        warning: Always None.

    Raises:
        ShapeError: The shape or dtype of frames, or fps, is invalid.
        MediaError: The frames, or the scaled frames, are too large.
    """

    def __init__(
        self,
        frames: np.ndarray,
        fps: float | Fraction,
        num_frames: int,
        *,
        name: str = "frames",
        offsets: Sequence[float] | None = None,
        by_videotag: bool = False,
        short_side_px: int = 256,
        force_4_by_3: bool = False,
        crop_px: int | None = None,
        num_threads: int = 0,
        new_image: NewImage = new_image,
        sampled_fps: float | None = None,
    ) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise ShapeError(
                f"{name}: {frames.dtype} {frames.shape}, expected uint8 (frames, height, width, 3) with no "
                "dimension of 0"
            )
        self._fps = _rate(fps)
        if not 0 < self._fps < math.inf:
            raise ShapeError(f"{name}: fps {safe_repr(fps)}, expected frames per second above 0")
        count, height, width = frames.shape[:3]
        if sampled_fps is not None:
            num_frames = min(max(round(count / self._fps * sampled_fps), 1), num_frames, count)
        size = (forced_size if force_4_by_3 else scaled_size)(width, height, short_side_px)
        check_size(name, width, height)
        check_size(name, *size)
        choose = videotag_indices if by_videotag else even_indices
        chosen = np.unique(choose(count, num_frames, offsets), return_inverse=True, return_counts=True)
        self._indices, rows, self._repeats = chosen
        self._frames = frames
        self._scaler = FrameScaler(
            name,
            size,
            orientation=Orientation(),
            crop_px=crop_px,
            num_threads=num_threads,
            new_image=new_image,
        )
        self.info = VideoInfo(width, height, count / self._fps, count, None, self._fps, 0, False)
        self.rows: list[int] = rows.tolist()
        self.warning: str | None = None

    def __iter__(self) -> Iterator[SampledFrame]:
        for index, repeats in zip(self._indices.tolist(), self._repeats.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(self._frames[index]), format="rgb24")
            yield SampledFrame(self._scaler.image(frame), repeats, index / self._fps)


def _rate(fps: object) -> float:
    """A frame rate as a float; nan if it is not a real number."""
    if not isinstance(fps, numbers.Real) or isinstance(fps, bool):
        return math.nan
    try:
        return float(fps)
    except OverflowError:  # an int or a Fraction of hundreds of digits
        return math.inf
