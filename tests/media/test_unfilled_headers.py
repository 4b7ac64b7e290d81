"""Files written to a pipe, whose headers were never filled in: their frame counts are not trusted."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from videotag.media.video import FrameReader

NUM_FRAMES = 20
UNFILLED = 2**32 - 1  # as a size; FFmpeg's number of frames is 2**30


class Pipe(io.RawIOBase):
    """A file without seeking, like a pipe."""

    def __init__(self):
        self.content = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.content += data
        return len(data)


def written(file, muxer, codec="mpeg4"):
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(NUM_FRAMES):
            picture = np.full((48, 64, 3), 12 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def piped(muxer, codec="mpeg4"):
    """The bytes of a video of NUM_FRAMES frames at 25 fps, written to a pipe."""
    file = Pipe()
    written(file, muxer, codec)
    return bytes(file.content)


def broken_off(size, num_frames):
    """An AVI whose writer was killed: no index, and placeholders for chunk sizes and the number of frames."""
    file = io.BytesIO()
    written(file, "avi")
    data = bytearray(file.getvalue())
    del data[data.index(b"idx1") :]
    for name in (b"AVI ", b"movi"):
        place = data.index(name) - 4
        data[place : place + 4] = size.to_bytes(4, "little")
    place = data.index(b"strh") + 8 + 32  # dwLength; Microsoft's AVISTREAMHEADER
    data[place : place + 4] = num_frames.to_bytes(4, "little")
    place = data.index(b"avih") + 8 + 16  # dwTotalFrames; MainAVIHeader
    data[place : place + 4] = bytes(4)
    return bytes(data)


def read(path):
    """The reader of all frames, after reading, and the frame numbers."""
    reader = FrameReader(path, short_side_px=None)
    return reader, [round(frame.image.mean() / 12) for frame in reader]


@pytest.mark.parametrize(
    ("muxer", "codec"), [("avi", "mpeg4"), ("avi", "libx264"), ("ivf", "libvpx"), ("matroska", "mpeg4")]
)
def test_an_intact_file_from_a_pipe_is_read_without_a_warning(tmp_path, muxer, codec):
    (tmp_path / "a").write_bytes(piped(muxer, codec))
    reader, numbers = read(tmp_path / "a")
    assert (numbers, reader.warning) == (list(range(NUM_FRAMES)), None)
    assert (reader.info.num_frames, reader.info.declared_frames) == (NUM_FRAMES, None)
    assert reader.info.duration_sec == pytest.approx(NUM_FRAMES / 25, abs=0.041)


@pytest.mark.parametrize("size", [0, UNFILLED])
@pytest.mark.parametrize("num_frames", [0, 2**30, UNFILLED])
def test_an_avi_whose_writer_was_killed_yields_its_frames(tmp_path, size, num_frames):
    (tmp_path / "a.avi").write_bytes(broken_off(size, num_frames))
    reader, numbers = read(tmp_path / "a.avi")
    assert (numbers, reader.warning) == (list(range(NUM_FRAMES)), None)
    assert (reader.info.num_frames, reader.info.declared_frames) == (NUM_FRAMES, None)


@pytest.mark.parametrize("size", [0, UNFILLED])
@pytest.mark.parametrize("num_frames", [0, 2**30, UNFILLED])
def test_a_truncated_last_chunk_gives_no_impossible_count(tmp_path, size, num_frames):
    data = broken_off(size, num_frames)
    (tmp_path / "a.avi").write_bytes(data[: data.rindex(b"00dc") + 12])
    reader, _ = read(tmp_path / "a.avi")
    assert reader.info.num_frames in (NUM_FRAMES - 1, NUM_FRAMES)
    assert reader.warning is None or f"of {NUM_FRAMES} frames" in reader.warning


def test_a_truncated_avi_reports_the_frames_that_its_header_declares(tmp_path):
    file = io.BytesIO()
    written(file, "avi")
    data = file.getvalue()
    (tmp_path / "a.avi").write_bytes(data[: data.rindex(b"00dc", 0, data.index(b"idx1") - 60)])
    reader, numbers = read(tmp_path / "a.avi")
    assert len(numbers) < NUM_FRAMES
    assert f"{len(numbers)} of {NUM_FRAMES} frames could be decoded" in reader.warning
