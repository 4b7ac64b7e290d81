"""Size, orientation and colour of the frames."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from PIL import Image

from videotag.media.orientation import Orientation
from videotag.media.video import FrameReader, probe

ONE = 1 << 16  # display matrices are in 16.16 fixed point
#: a, b, c, d of the display matrix -> what a quarter-filled picture must look like.
MATRICES = {
    "as stored": (1, 0, 0, 1),
    "90 clockwise, as phones held upright write": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "270 clockwise": (0, -1, 1, 0),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}
QUARTERS = np.array([[0, 80], [160, 240]])  # greys of the stored picture


def quartered(width=64, height=32):
    greys = QUARTERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    return np.repeat(greys[..., None], 3, axis=2).astype(np.uint8)


def set_display_matrix(path, matrix):
    """Writes a, b, c, d into the track header (tkhd, ISO 14496-12) of an mp4."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (entry * ONE for entry in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def displayed_quarters(matrix):
    """Brute force: every stored quarter goes to x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    places = {(a * x + c * y, b * x + d * y): QUARTERS[y, x] for x in (0, 1) for y in (0, 1)}
    return [places[p] for p in sorted(places, key=lambda p: (p[1], p[0]))]


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_display_matrix_is_applied(write_frames, matrix):
    path = write_frames("a.mp4", [quartered()] * 2)
    set_display_matrix(path, matrix)
    (frame, _) = FrameReader(path, 2, short_side_px=32)
    turned = matrix[0] == 0
    assert frame.image.shape == ((64, 32, 3) if turned else (32, 64, 3))
    assert frame.image.flags.c_contiguous
    rows, columns = (16, 48) if turned else (8, 24), (8, 24) if turned else (16, 48)
    found = [int(frame.image[y, x].mean()) for y in rows for x in columns]
    assert found == pytest.approx(displayed_quarters(matrix), abs=6)
    info = probe(path)
    assert (info.width_px, info.height_px) == ((32, 64) if turned else (64, 32))


@pytest.mark.parametrize(
    ("matrix", "degrees"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 90), ((-1, 0, 0, -1), 180), ((0, -1, 1, 0), 270)],
)
def test_rotation_is_told_in_clockwise_degrees(write_frames, matrix, degrees):
    path = write_frames("a.mp4", [quartered()])
    set_display_matrix(path, matrix)
    assert probe(path).rotation_deg == degrees


def test_phone_video_held_upright_has_the_left_of_the_sensor_on_top(write_frames):
    left_black = quartered()
    left_black[:, :32], left_black[:, 32:] = 0, 240
    path = write_frames("a.mp4", [left_black])
    set_display_matrix(path, (0, 1, -1, 0))
    (frame,) = FrameReader(path, 1, short_side_px=32)
    assert frame.image[:28].mean() < 10
    assert frame.image[36:].mean() > 230


def test_orientation_survives_side_data_that_pyav_does_not_know():
    class Frame:
        rotation = -90  # counter-clockwise, so a quarter turn clockwise

        @property
        def side_data(self):
            raise ValueError("999 is not a valid Type")

    assert Orientation.from_frame(Frame()) == Orientation.from_matrix(0, 1, -1, 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sample_aspect_ratio_widens_the_picture(make_video, name):
    path = make_video(name, pixel_aspect=2)
    info = probe(path)
    assert (info.width_px, info.height_px) == (128, 48)
    frame = next(iter(FrameReader(path, 1, short_side_px=24)))
    assert frame.image.shape == (24, 64, 3)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((175, 131), (256, 342, 3)),
        ((131, 175), (342, 256, 3)),
        ((64, 64), (256, 256, 3)),
        ((33, 99), (768, 256, 3)),
    ],
)
@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "yuv444p"), ("ffv1", "bgr0"), ("mpeg4", "yuv420p")])
def test_odd_sizes_and_portrait_keep_their_content(write_frames, size, shape, codec, pix_fmt):
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(20, 220, width)[None, :]
    image[..., 1] = np.linspace(220, 20, height)[:, None]
    image[..., 2] = 90
    path = write_frames(
        "a.mkv", [image], codec=codec, pix_fmt=pix_fmt, codec_options={"b": "20M", "qmin": "1"}
    )
    (frame,) = FrameReader(path, 1, short_side_px=256)
    assert frame.image.shape == shape
    resized = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    error = np.abs(frame.image.astype(int) - np.asarray(resized))
    assert error.mean() < (4 if codec == "mpeg4" else 1.5)
    assert error[:, -2:].mean() < 12  # no stray last column


@pytest.mark.parametrize("short_side_px", [24, 48, 31, 96])
def test_colours_are_those_of_the_standard(tmp_path, short_side_px):
    # BT.601, limited range, by hand: Y 180, U 90, V 160 is R 242.0, G 179.8, B 114.3.
    path = tmp_path / "a.mkv"
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (180, 90, 160), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (found,) = FrameReader(path, 1, short_side_px=short_side_px)
    assert np.abs(found.image.astype(float) - [242.0, 179.8, 114.3]).max() <= 1


def test_a_size_that_changes_midway_gives_frames_of_one_size(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
        for index, size in enumerate([(64, 48), (128, 96), (50, 50)]):
            jpeg = io.BytesIO()
            Image.new("RGB", size, (40 * index,) * 3).save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts = stream, 40 * index, 40 * index
            packet.time_base = stream.time_base
            container.mux(packet)
    frames = list(FrameReader(path, 3, short_side_px=24))
    assert [f.image.shape for f in frames] == [(24, 32, 3)] * 3
    assert [round(float(f.image.mean()), -1) for f in frames] == [0, 40, 80]


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "gray", "yuv422p", "yuva420p"])
def test_other_pixel_formats_are_read(make_video, rows, pix_fmt):
    assert rows(make_video("a.mkv", codec="ffv1", pix_fmt=pix_fmt), 8) == list(range(8))
