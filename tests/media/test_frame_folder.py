"""Folders of JPEGs, read like videos: which pictures, their size, and errors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from videotag.errors import MediaError
from videotag.media.frame_folder import FRAME_NAME, FolderReader


@pytest.fixture
def folder(tmp_path):
    """Ten grey pictures of 64 x 48, whose grey level encodes the number."""
    for index in range(10):
        Image.new("RGB", (64, 48), (20 * index,) * 3).save(
            tmp_path / FRAME_NAME.format(index + 1), quality=95
        )
    return tmp_path


def numbers(reader):
    images = [round(float(frame.image.mean()) / 20) for frame in reader]
    return [images[row] for row in reader.rows]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(5, [1, 3, 5, 7, 9]), (2, [2, 7]), (1, [5]), (10, list(range(10))), (20, [i // 2 for i in range(20)])],
)
def test_pictures_are_spread_over_the_folder_or_repeated(folder, count, expected):
    assert numbers(FolderReader(folder, 10, count, short_side_px=16)) == expected


def test_offsets_and_videotags_rule_select_other_pictures(folder):
    assert numbers(FolderReader(folder, 10, 2, offsets=[0.0, 0.99], short_side_px=16)) == [0, 9]
    # VideoTag: parts of 10 // 3 pictures, the middle one of each; the tenth is never seen.
    assert numbers(FolderReader(folder, 10, 3, by_videotag=True, short_side_px=16)) == [1, 4, 7]
    assert numbers(FolderReader(folder, 10, 12, by_videotag=True, short_side_px=16)) == [*range(10), 0, 1]


def test_scaling_keeps_or_forces_the_aspect_ratio_and_crops_the_center(folder):
    assert next(iter(FolderReader(folder, 10, 1, short_side_px=24))).image.shape == (24, 32, 3)
    forced = FolderReader(folder, 10, 1, short_side_px=30, force_4_by_3=True)
    assert next(iter(forced)).image.shape == (30, 40, 3)
    assert next(iter(FolderReader(folder, 10, 1, short_side_px=24, crop_px=20))).image.shape == (20, 20, 3)


def test_a_missing_or_damaged_picture_is_named(folder):
    (folder / "img_00003.jpg").unlink()
    with pytest.raises(MediaError, match=r"img_00003.jpg: no such picture; rebuild the folder"):
        list(FolderReader(folder, 10, 10))
    (folder / "img_00003.jpg").write_bytes((folder / "img_00004.jpg").read_bytes()[:300])
    with pytest.raises(MediaError, match=r"img_00003.jpg: damaged or not a JPEG"):
        list(FolderReader(folder, 10, 10))
    Image.new("RGB", (8, 8)).save(folder / "img_00003.jpg", format="PNG")
    with pytest.raises(MediaError, match=r"img_00003.jpg: damaged or not a JPEG"):
        list(FolderReader(folder, 10, 10))


def test_a_decompression_bomb_is_rejected_before_decoding(folder):
    data = bytearray((folder / "img_00001.jpg").read_bytes())
    start = data.index(b"\xff\xc0")  # the frame header: length, precision, height, width
    data[start + 5 : start + 9] = (60_000).to_bytes(2, "big") * 2
    (folder / "img_00001.jpg").write_bytes(data)
    with pytest.raises(MediaError, match=r"60000x60000 pixels|damaged or not a JPEG"):
        list(FolderReader(folder, 10, 10))


def test_colours_are_preserved(tmp_path):
    Image.new("RGB", (32, 32), (200, 100, 50)).save(tmp_path / "img_00001.jpg", quality=95)
    image = next(iter(FolderReader(tmp_path, 1, 1, short_side_px=16))).image
    np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), (200, 100, 50), atol=3)
