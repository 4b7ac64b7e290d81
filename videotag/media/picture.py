"""Reads users' pictures, such as covers: upright, opaque, 8 bits per channel, scaled and cropped.

Formats are limited to those of FORMATS, and sizes to those of frames. Of an animation, the first picture is
read.
Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from videotag.errors import AGAIN, MediaError
from videotag.media.container import check_size
from videotag.media.transforms import center_crop, forced_size, scaled_size
from videotag.media.video import SampledFrame
from videotag.system.regular_file import open_regular

#: Pillow's names of the formats that are read, without those that can run programs (EPS) or name files.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_REMEDY = "convert it to JPEG or PNG"
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_MAX_16_BITS, _MAX_8_BITS = 65_535, 255
#: What Pillow raises for damaged or hostile files.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
_MAX_ASPECT = 50  # long side by short side; a longer strip would be scaled up to a huge picture


@dataclass(frozen=True)
class PictureInfo:
    """Facts about a picture.

    Attributes:
        width_px: Width when upright.
        height_px: Height when upright.
    """

    width_px: int
    height_px: int


class PictureReader:
    """Yields a picture as a single SampledFrame at 0 seconds.

    Transparent pixels are white. Pixels of more than 8 bits are scaled down; those of floating point are
    refused, as their range is unknown.

    Args:
        path: Path of a local file.
        short_side_px: Short side of the scaled picture in pixels; the aspect ratio is kept.
        force_4_by_3: Whether to scale pictures to 4:3 as VideoTag does.
        crop_px: Side of the square center crop in pixels; None does not crop.

    Attributes:
        info: Facts about the picture; available after iterating.
        rows: Empty, see MediaReader.
        warning: Always None.

    Raises:
        MediaError: The file is not a picture of a known format, or it is damaged or too large; raised while
            iterating.
    """

    item: ClassVar[type] = SampledFrame
    info_class: ClassVar[type] = PictureInfo
    info: PictureInfo

    def __init__(
        self,
        path: str | Path,
        *,
        short_side_px: int = 256,
        force_4_by_3: bool = False,
        crop_px: int | None = None,
    ) -> None:
        self._path = path
        self._short_side_px = short_side_px
        self._forced = force_4_by_3
        self._crop_px = crop_px
        self.rows: list[int] = []
        self.warning: str | None = None

    def __iter__(self) -> Iterator[SampledFrame]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow: odd metadata, or sizes, which check_size decides
                with open_regular(self._path, error=MediaError) as file:
                    if not os.fstat(file.fileno()).st_size:
                        raise MediaError(f"{self._path}: empty (0 bytes); {AGAIN}")
                    yield SampledFrame(self._image(file), 1, 0.0)
        except FileNotFoundError:
            raise MediaError(f"{self._path}: no such picture; correct the path") from None
        except UnidentifiedImageError:
            raise MediaError(
                f"{self._path}: not a picture in one of {', '.join(FORMATS)}; {_REMEDY}"
            ) from None
        except Image.DecompressionBombError:  # far more pixels than check_size allows
            raise MediaError(f"{self._path}: a picture of too many pixels; scale it down") from None
        except _DAMAGE as error:
            reason = " ".join(str(error).split())[:200]
            raise MediaError(f"{self._path}: a damaged picture ({reason}); {AGAIN}") from error

    def _image(self, file: Any) -> np.ndarray:
        """The image (H, W, 3) of an open file."""
        Image.init()  # registers the formats that are not read by default
        with Image.open(file, formats=FORMATS) as picture:
            check_size(self._path, *picture.size)
            width, height = picture.size
            if max(width, height) > _MAX_ASPECT * min(width, height):
                raise MediaError(
                    f"{self._path}: {width} x {height} pixels, one side more than {_MAX_ASPECT} times the "
                    "other; crop it"
                )
            if picture.format in ("JPEG", "MPO") and self._short_side_px < min(width, height):
                # Lets the decoder skip detail that scaling would discard.
                picture.draft(picture.mode, scaled_size(width, height, self._short_side_px))
            full = _in_8_bits(picture, self._path)
            upright = ImageOps.exif_transpose(full)
            is_turned = picture.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
            self.info = PictureInfo(height, width) if is_turned else PictureInfo(width, height)
            scaled = forced_size if self._forced else scaled_size
            size = scaled(self.info.width_px, self.info.height_px, self._short_side_px)
            check_size(self._path, *size)
            image = np.asarray(_opaque(upright).resize(size, Image.Resampling.BILINEAR))
            return np.ascontiguousarray(center_crop(image, self._crop_px) if self._crop_px else image)


def _in_8_bits(picture: Image.Image, path: str | Path) -> Image.Image:
    """The picture with 8 bits per channel, and its metadata.

    Raises:
        MediaError: Its pixels are of floating point, or integers of an unknown range.
    """
    picture.load()
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    if picture.mode == "F" or values.min(initial=0) < 0 or values.max(initial=0) > _MAX_16_BITS:
        raise MediaError(f"{path}: pixels of type {picture.mode}, whose range is unknown; {_REMEDY}")
    scaled = (values.astype(np.uint32) * _MAX_8_BITS + _MAX_16_BITS // 2) // _MAX_16_BITS
    result = Image.fromarray(scaled.astype(np.uint8))
    result.info = dict(picture.info)
    result.getexif().update(picture.getexif())
    return result


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture as RGB, on white where it is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layered).convert("RGB")
