"""Decoded frames -> images: scaled, upright, RGB and cropped.

Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from videotag.errors import MediaError
from videotag.media.container import check_size
from videotag.media.orientation import Orientation
from videotag.media.transforms import center_crop

# When shrinking, bilinear scaling averages all pixels under an output pixel. Without the other two flags
# swscale is up to 2 of 255 too dark at even widths.
_SCALING = 0x2 | 0x2000 | 0x40000  # SWS_BILINEAR, FULL_CHR_H_INT, ACCURATE_RND; PyAV 14 has no names for them
# YCbCr-to-RGB matrices of ITU-T H.273, table 4, that swscale supports; 2 is "unspecified". _NEAR_MATRICES are
# close to one of them: 3 is reserved, 10 is constant luminance, 12 and 13 depend on the color primaries. The
# rest, such as YCgCo (8) and ICtCp (14), are not YCbCr.
_MATRICES = frozenset([0, 1, 2, 4, 5, 6, 7, 9])
_NEAR_MATRICES = frozenset([3, 10, 12, 13])
_BT709, _BT2020 = 1, 9
#: Allocates the uint8 array of an image, given its shape (H, W, 3).
NewImage: TypeAlias = Callable[[tuple[int, int, int]], np.ndarray]


def new_image(shape: tuple[int, int, int]) -> np.ndarray:
    """An uninitialized uint8 array of the shape (H, W, 3)."""
    return np.empty(shape, np.uint8)


class FrameScaler:
    """Converts decoded frames to images: scaled, upright, RGB and cropped.

    Args:
        name: Name of the video in error messages.
        size: (width, height) of the scaled, upright picture in pixels.
        orientation: Orientation of the stored pictures.
        crop_px: Side of the square center crop in pixels; None does not crop.
        num_threads: Number of swscale threads; 0 lets FFmpeg choose.
        new_image: Function that allocates the array of each image.

    Attributes:
        unknown_matrix: Unsupported color matrix that was replaced by a similar one; None if there was none.
    """

    def __init__(
        self,
        name: str | Path,
        size: tuple[int, int],
        *,
        orientation: Orientation,
        crop_px: int | None,
        num_threads: int = 0,
        new_image: NewImage = new_image,
    ) -> None:
        self._name = name
        self._size = orientation.rotated_size(*size)
        self._orientation = orientation
        self._crop_px = crop_px
        self._num_threads = num_threads
        self._new_image = new_image
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self.unknown_matrix: int | None = None

    def image(self, frame: Any) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image of an av.VideoFrame.

        Raises:
            MediaError: The frame is too large, or swscale supports neither its pixel format nor its color
                matrix.
        """
        check_size(self._name, frame.width, frame.height)
        if frame.colorspace in _NEAR_MATRICES:
            self.unknown_matrix = frame.colorspace
            frame.colorspace = _BT2020 if frame.color_primaries == _BT2020 else _BT709
        elif frame.colorspace not in _MATRICES:
            raise MediaError(
                f"{self._name}: color matrix {frame.colorspace} (ITU-T H.273) is not supported; convert it "
                "to BT.709"
            )
        try:
            # Planar output takes swscale half as long as packed output.
            scaled = self._reformatter.reformat(
                frame, *self._size, "gbrp", interpolation=_SCALING, threads=self._num_threads
            )
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self._name}: cannot read pixels of format {frame.format.name} ({error.strerror}); "
                "convert it to H.264"
            ) from error
        green, blue, red = (self._upright_crop(plane) for plane in scaled.planes)  # each (H, W, 1)
        image = self._new_image((*red.shape[:2], 3))
        return np.concatenate([red, green, blue], axis=2, out=image)

    def _upright_crop(self, plane: Any) -> np.ndarray:
        """One channel of a scaled frame, upright and cropped, as a (H, W, 1) view."""
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size, 1)
        upright = self._orientation.upright(rows[: plane.height, : plane.width])
        return upright if self._crop_px is None else center_crop(upright, self._crop_px)
