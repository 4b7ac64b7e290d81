"""Pictures of users: formats, orientation, transparency, depth, and files that are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from videotag.errors import MediaError
from videotag.media.decode_pool import DecodePool
from videotag.media.picture import PictureReader

RED, GREEN = (200, 30, 40), (20, 180, 60)


def halves():
    """64 x 32: red on the left, green on the right."""
    picture = Image.new("RGB", (64, 32), RED)
    picture.paste(GREEN, (32, 0, 64, 32))
    return picture


def read(path, **options):
    (frame,) = PictureReader(path, **{"short_side_px": 32, **options})
    return frame.image


def assert_color(image, row, column, color, tolerance=12):
    np.testing.assert_allclose(image[row, column].astype(int), color, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("a.png", {}),
        ("a.webp", {"quality": 95}),
        ("a.bmp", {}),
        ("a.tiff", {}),
        ("a.gif", {}),
    ],
)
def test_formats_are_read(tmp_path, name, options):
    halves().save(tmp_path / name, **options)
    image = read(tmp_path / name)
    assert image.shape == (32, 64, 3)
    assert image.dtype == np.uint8
    assert_color(image, 16, 10, RED)
    assert_color(image, 16, 54, GREEN)


def test_exif_turns_the_picture_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    reader = PictureReader(tmp_path / "a.jpg", short_side_px=32)
    (frame,) = reader
    assert frame.image.shape == (64, 32, 3)
    assert (reader.info.width_px, reader.info.height_px) == (32, 64)
    assert_color(frame.image, 10, 16, RED)
    assert_color(frame.image, 54, 16, GREEN)


def test_a_cmyk_jpeg_has_the_colors_of_its_rgb(tmp_path):
    halves().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read(tmp_path / "a.jpg")
    assert_color(image, 16, 10, RED, 25)
    assert_color(image, 16, 54, GREEN, 25)


def test_16_bits_are_scaled_to_8(tmp_path):
    values = np.tile(np.linspace(0, 65_535, 64).astype(np.uint16), (32, 1))
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    np.testing.assert_allclose(image[16, :, 0], np.linspace(0, 255, 64), atol=1)
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    picture = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    picture.paste((10, 10, 10, 255), (32, 0, 64, 32))
    picture.convert(mode).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    assert_color(image, 16, 10, (255, 255, 255))
    assert_color(image, 16, 54, (10, 10, 10))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_picture_is_read(tmp_path, suffix):
    first, second = Image.new("RGB", (64, 32), RED), Image.new("RGB", (64, 32), GREEN)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], duration=100)
    assert_color(read(tmp_path / f"a.{suffix}"), 16, 10, RED)


def test_a_picture_is_scaled_and_cropped_like_a_frame(tmp_path):
    halves().resize((640, 320)).save(tmp_path / "a.jpg", quality=95)
    image = read(tmp_path / "a.jpg", short_side_px=48, crop_px=40)
    assert image.shape == (40, 40, 3)
    assert_color(image, 20, 5, RED)
    assert_color(image, 20, 35, GREEN)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in one of JPEG, PNG"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in one of JPEG, PNG"),
        ("a.jpg", b"", r"a.jpg: empty \(0 bytes\); copy or download it again"),
        ("a.txt", b"words", "not a picture in one of JPEG, PNG"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message):
        read(tmp_path / name)


def test_a_truncated_picture_is_refused(tmp_path):
    halves().resize((640, 320)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="a damaged picture"):
        read(tmp_path / "b.png")


def test_a_missing_picture_is_told(tmp_path):
    with pytest.raises(MediaError, match=r"a\.jpg: no such picture"):
        read(tmp_path / "a.jpg")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    side = 12_000  # 17 KB that would unpack to 144 million pixels
    data = io.BytesIO()
    Image.new("1", (side, side)).save(data, "PNG")
    (tmp_path / "a.png").write_bytes(data.getvalue())
    with pytest.raises(MediaError, match=f"frames of {side}x{side} pixels, expected at most"):
        read(tmp_path / "a.png")


def test_a_picture_beyond_pillow_s_own_limit_is_not_called_damaged(tmp_path):
    header = struct.pack(">4s2I5B", b"IHDR", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = b"\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I4s", 0, b"IDAT") + bytes(4)
    )
    with pytest.raises(MediaError, match="a picture of too many pixels; scale it down"):
        read(tmp_path / "a.png")


def test_a_long_strip_is_refused(tmp_path):
    Image.new("RGB", (5100, 100)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="5100 x 100 pixels, one side more than 50 times the other; crop it"):
        read(tmp_path / "a.png")


def test_pixels_of_floating_point_are_refused(tmp_path):
    Image.fromarray(np.ones((32, 64), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="pixels of type F, whose range is unknown"):
        read(tmp_path / "a.tiff")


def test_child_processes_read_pictures_too(tmp_path):
    halves().save(tmp_path / "a.png")
    with DecodePool() as pool:
        reader = pool.reader(tmp_path / "a.png", kind=PictureReader, short_side_px=32)
        (frame,) = reader
        np.testing.assert_array_equal(frame.image, read(tmp_path / "a.png"))
        assert reader.info.width_px == 64
        (tmp_path / "b.png").write_bytes(b"x")
        with pytest.raises(MediaError, match="not a picture"):
            list(pool.reader(tmp_path / "b.png", kind=PictureReader))
