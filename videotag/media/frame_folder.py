"""A folder of pictures img_00001.jpg ..., written by `videotag frames` -> frames like those of a video file.

Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from videotag.errors import AGAIN, MediaError
from videotag.media.container import check_size
from videotag.media.sampling import even_indices, videotag_indices
from videotag.media.transforms import center_crop, forced_size, scaled_size
from videotag.media.video import NewImage, SampledFrame, new_image
from videotag.system.regular_file import open_regular

FRAME_NAME = "img_{:05d}.jpg"  # counted from 1


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
        MediaError: Iterating met a picture that is missing, damaged or too large.
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
            raise MediaError(
                f"{path}: no such picture; make the folder again with `videotag frames`"
            ) from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(
                f"{path}: damaged or not a JPEG ({' '.join(str(error).split())}); {AGAIN}"
            ) from error
        image = center_crop(image, self._crop_px) if self._crop_px else image
        output = self._new_image((*image.shape[:2], 3))
        np.copyto(output, image)
        return output
