"""Frame folders: the frames of one video as img_00001.jpg, img_00002.jpg ..., read like a video file.

A folder is written under a temporary name and renamed when it is complete. INFO_FILE records its source and
its settings. Pictures are not flushed to disk individually, so a power cut (unlike a kill) can damage a
folder, which must then be rebuilt.

Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videotag.errors import AGAIN, MediaError, OutputError
from videotag.media.container import check_size
from videotag.media.decode_pool import PooledReader
from videotag.media.frame_scaler import NewImage, new_image
from videotag.media.sampling import even_indices, videotag_indices
from videotag.media.transforms import center_crop, forced_size, scaled_size
from videotag.media.video import SampledFrame
from videotag.system.atomic import replace_folder, write_text
from videotag.system.json_text import read_json
from videotag.system.regular_file import open_regular

FRAME_NAME = "img_{:05d}.jpg"  # counted from 1
INFO_FILE = "info.json"
_OURS = re.compile(r"img_\d{5,}\.jpg|info\.json")
_MAX_SIDE_PX = 65_500  # libjpeg's limit on each side of a JPEG


class FolderReader:
    """Samples the pictures of a folder by FrameReader's rules, using the picture's number as its time.

    Iterating yields each sampled picture once as a SampledFrame.

    Args:
        path: Path of the folder.
        count: Number of pictures in the folder, at least 1.
        num_frames: Number of sampled frames, at least 1.
        offsets: (num_frames,) position of the frame in each part, in [0, 1); None takes the middle.
        by_videotag: Whether to select frames by VideoTag's rule (sampling.py), each once.
        short_side_px: Short side of the scaled pictures in pixels; the aspect ratio is kept.
        force_4_by_3: Whether to scale pictures to 4:3 as VideoTag does.
        crop_px: Side of the square center crop in pixels; None does not crop.
        new_image: Function that allocates the array of each image.

    Attributes:
        rows: For each sampled frame, the index of its image in iteration order.
        warning: Always None.

    Raises:
        MediaError: A picture is missing, damaged or too large; raised while iterating.
    """

    def __init__(
        self,
        path: str | Path,
        count: int,
        num_frames: int,
        *,
        offsets: Sequence[float] | None = None,
        by_videotag: bool = False,
        short_side_px: int = 256,
        force_4_by_3: bool = False,
        crop_px: int | None = None,
        new_image: NewImage = new_image,
    ) -> None:
        self._path = Path(path)
        choose = videotag_indices if by_videotag else even_indices
        indices = choose(count, num_frames, offsets)
        self._indices, rows, self._repeats = np.unique(indices, return_inverse=True, return_counts=True)
        self.rows: list[int] = rows.tolist()
        self.warning: str | None = None  # a missing or damaged picture is an error instead
        self._forced = force_4_by_3
        self._short_side_px = short_side_px
        self._crop_px = crop_px
        self._new_image = new_image

    def __iter__(self) -> Iterator[SampledFrame]:
        for index, repeats in zip(self._indices.tolist(), self._repeats.tolist(), strict=True):
            image = self._read(self._path / FRAME_NAME.format(index + 1))
            yield SampledFrame(image, repeats, float(index))

    def _read(self, path: Path) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size decides
                with (
                    open_regular(path, error=MediaError) as file,
                    Image.open(file, formats=("JPEG",)) as picture,
                ):
                    width, height = picture.size
                    check_size(path, width, height)
                    scaled = forced_size if self._forced else scaled_size
                    size = scaled(width, height, self._short_side_px)
                    check_size(path, *size)
                    picture.draft("RGB", size)  # lets the decoder skip detail that scaling would discard
                    image = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))
        except FileNotFoundError:
            raise MediaError(f"{path}: no such picture; rebuild the folder with `videotag frames`") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(
                f"{path}: damaged or not a JPEG ({' '.join(str(error).split())}); {AGAIN}"
            ) from error
        image = center_crop(image, self._crop_px) if self._crop_px else image
        written = self._new_image((*image.shape[:2], 3))
        np.copyto(written, image)
        return written


def read_info(folder: Path) -> dict[str, Any]:
    """The content of INFO_FILE, such as num_frames and warning; empty if it is missing or not ours."""
    try:
        info = read_json(folder / INFO_FILE, error=OutputError, remedy="rebuild the folder")
    except OutputError:
        return {}
    is_ours = (
        isinstance(info, dict)
        and type(info.get("num_frames")) is int
        and isinstance(info.get("warning", 0), str | None)
    )
    return info if is_ours else {}


def write_frame_folder(
    folder: Path, reader: PooledReader, *, path: str, stamp: Mapping[str, Any], quality: int
) -> int:
    """Writes a frame folder, which replaces an older one.

    Args:
        folder: Path of the folder.
        reader: Reader of the video's frames.
        path: Path of the video, named in error messages.
        stamp: Source and settings of the folder, stored in INFO_FILE.
        quality: Quality of the JPEGs, 1 to 100.

    Returns:
        Number of frames in the folder.

    Raises:
        MediaError: The video cannot be decoded, or its frames are too large for a JPEG.
        OutputError: The folder holds other files, or cannot be written.
    """
    check_replaceable(folder)
    count = 0
    # Flushing so many small files would take longer than decoding.
    with replace_folder(folder, flush=False) as staged:
        for frame in reader:
            data = _jpeg(frame.image, quality, path)
            for _ in range(frame.repeats):
                count += 1
                (staged / FRAME_NAME.format(count)).write_bytes(data)
        info = {**stamp, "num_frames": count, "warning": reader.warning}
        write_text(staged / INFO_FILE, json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    return count


def check_replaceable(folder: Path) -> None:
    """Checks that a folder holds only files that `videotag frames` wrote.

    Raises:
        OutputError: The folder holds other files.
    """
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return
    foreign = sorted(name for name in names if not _OURS.fullmatch(name))
    if names and (foreign or INFO_FILE not in names):
        raise OutputError(
            f"{folder}: holds {foreign[0] if foreign else 'pictures'} that `videotag frames` did not write; "
            "move it away or choose another --save_dir"
        )


def _jpeg(image: np.ndarray, quality: int, path: str) -> bytes:
    """The JPEG of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    if max(height, width) > _MAX_SIDE_PX:
        raise MediaError(
            f"{path}: frames of {width}x{height} pixels, expected at most {_MAX_SIDE_PX} on each side of a "
            "JPEG; set a smaller --short_size"
        )
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return data.getvalue()
