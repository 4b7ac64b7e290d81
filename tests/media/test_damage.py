"""Damaged and truncated files: intact frames are read, and the counts are reported."""

from __future__ import annotations

import re
import subprocess
import sys

import av
import pytest

from videotag.errors import MediaError
from videotag.media.video import FrameReader, probe

INTRA = {"g": "1", "bf": "0"}  # every packet is independent
FASTSTART = {"movflags": "faststart"}


def counts(warning):
    """The two numbers of "<decoded> of <expected> frames"."""
    return tuple(map(int, re.search(r"(\d+) of (\d+) frames", warning).groups()))


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def read(path, num_frames, **how):
    reader = FrameReader(path, num_frames, short_side_px=16, **how)
    frames = list(reader)
    return reader, frames


@pytest.mark.parametrize(
    "how",
    [
        {"name": "a.mp4", "container_options": FASTSTART},
        {"name": "a.mkv"},
        {"name": "a.avi", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
        {"name": "a.flv"},
    ],
    ids=lambda how: how["name"],
)
def test_a_truncated_file_yields_its_frames_and_reports_the_counts(make_noise, how):
    path = make_noise(count=40, fps=10, codec_options=INTRA, **how)
    cut(path, 0.6)
    reader, frames = read(path, 80)
    decoded, expected = counts(reader.warning)
    assert expected == pytest.approx(40, abs=1)
    assert 20 <= decoded <= 26
    assert sum(f.repeats for f in frames) == 80
    # What is there is sampled, 80 rows on over 20 frames; PyAV before 18 may lose the last one or two.
    assert frames[-1].repeats <= 12
    assert reader.warning.startswith(f"{path}: ")
    assert reader.warning.endswith("copy or download it again")
    assert "\n" not in reader.warning


def test_a_truncated_transport_stream_yields_its_frames(make_noise):
    path = make_noise("a.ts", 40, codec_options=INTRA)  # its header promises nothing
    cut(path, 0.6)
    reader, frames = read(path, 10)
    assert sum(f.repeats for f in frames) == 10
    assert 20 <= reader.info.num_frames <= 26


def damage_packets(path, indices):
    """Overwrites the packets of these numbers with zeros."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for index in indices:
        pos, size = places[index]
        data[pos : pos + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        ([3], [0, 1, 2, 2, 4, 5, 6, 7]),
        ([2, 3], [0, 1, 1, 1, 4, 5, 6, 7]),
        ([0, 1], [2, 2, 2, 3, 4, 5, 6, 7]),
    ],
    ids=["in the middle", "several", "at the start"],
)
def test_the_nearest_earlier_frame_replaces_a_lost_one_else_the_first(make_video, rows, damaged, expected):
    path = make_video("a.mov", codec="png", pix_fmt="rgb24")
    damage_packets(path, damaged)
    # Several threads would give up what is behind damage so near the end.
    assert rows(path, 8, num_threads=1) == expected
    reader, _ = read(path, 8, num_threads=1)
    assert counts(reader.warning) == (8 - len(damaged), 8)


@pytest.mark.parametrize("num_threads", [2, 16])
def test_several_threads_lose_no_other_frames(make_noise, num_threads):
    path = make_noise("a.mov", 64, codec="png", pix_fmt="rgb24")
    damage_packets(path, [3, 30])
    reader, frames = read(path, None, num_threads=num_threads)
    assert counts(reader.warning) == (62, 64)
    assert len(frames) == 62


def test_bytes_destroyed_in_the_middle_are_reported(make_noise):
    path = make_noise("a.mp4", 40, codec_options=INTRA, container_options=FASTSTART)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(range(256)) * (len(data) // 10 // 256 + 1)
    path.write_bytes(data[: len(data)])
    reader, frames = read(path, 40)
    assert sum(f.repeats for f in frames) == 40
    assert reader.warning is not None
    assert counts(reader.warning)[1] == 40


def test_an_intact_file_has_no_warning(make_noise):
    reader, _ = read(make_noise("a.mkv", 40, sound_sec=2.0), 10)
    assert reader.warning is None


@pytest.mark.parametrize("name", ["a.mkv", "a.asf", "a.flv"])
def test_sound_that_outlasts_the_picture_is_not_damage(make_noise, name):
    reader, _ = read(make_noise(name, 10, sound_sec=3.0), 10)
    assert reader.warning is None


def test_a_video_without_a_decodable_frame_is_an_error(make_video):
    path = make_video("a.mov", codec="png", pix_fmt="rgb24")
    damage_packets(path, range(8))
    with pytest.raises(MediaError, match=r"a\.mov: no frame can be decoded; copy or download it again"):
        probe(path)


def without_headers(data, codec):
    """A raw stream without its headers, as if it began in the middle: start codes divide it into units."""
    units = data.split(b"\0\0\1")[1:]
    is_header = {
        "libx264": lambda unit: unit[0] & 31 in (7, 8),  # SPS and PPS; H.264, table 7-1
        "libx265": lambda unit: unit[0] >> 1 in (32, 33, 34),  # VPS, SPS and PPS; H.265, table 7-1
    }[codec]
    kept = [unit for unit in units if not is_header(unit)]
    assert len(kept) < len(units)
    return b"".join(b"\0\0\1" + unit for unit in kept)


@pytest.mark.parametrize(("format", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
def test_missing_headers_and_too_large_frames_have_different_errors(make_video, format, codec):
    path = make_video(f"a.{format}", codec=codec, format=format)
    assert probe(path).num_frames == 8
    path.write_bytes(without_headers(path.read_bytes(), codec))
    message = (
        r"no frame can be decoded, because the stream's headers are missing; cut or record it again from"
    )
    with pytest.raises(MediaError, match=message):
        probe(path)


def test_a_transport_stream_without_its_sequence_header_is_an_error(make_video):
    path = make_video("a.ts", codec="mpeg2video")
    data = path.read_bytes()
    assert b"\0\0\1\xb3" in data
    path.write_bytes(data.replace(b"\0\0\1\xb3", bytes(4)))
    with pytest.raises(
        MediaError, match=r"a\.ts: no frame can be decoded, because the stream's headers are missing"
    ):
        probe(path)


def test_ffmpeg_prints_nothing(make_noise):
    path = make_noise("a.mp4", 20, container_options=FASTSTART)
    cut(path, 0.7)
    code = f"from videotag.media.video import FrameReader; list(FrameReader({str(path)!r}, 5))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
