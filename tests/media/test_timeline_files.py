"""Files with wrong timestamps or unusual containers: frames and warnings.

The films of cases/timeline show frame n of 75 as a barcode of ten bars across the middle third of the
picture: bar b, from the left, is bright if bit b of n is set. They have 25 frames a second.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videotag.errors import MediaError
from videotag.media.video import FrameReader

CASES = Path(__file__).parent / "cases" / "timeline"
ALL_75 = [3, 11, 18, 26, 33, 41, 48, 56, 63, 71]  # at 3.75, 11.25, 18.75 ... of 75 frames
TWICE_75 = [7, 22, 37, 52, 67] * 2  # at 7.5, 22.5 ... of 150
#: File -> seconds, ten samples, number of pictures at 5 a second, warning.
RIGHT = {
    "ts_forward_jump.ts": (
        6.0,
        TWICE_75,
        30,
        r"timestamps jump at 3\.0 s, a break; the 75 frames after it were shifted",
    ),
    "ts_back_jump.ts": (
        6.0,
        TWICE_75,
        30,
        r"timestamps jump at 3\.0 s, a break; the 75 frames after it were shifted",
    ),
    "mp4_pts_outlier.mp4": (3.0, ALL_75, 15, r"2 frames with wrong timestamps, from 1\.2 s, interpolated"),
    "flv_forward_jump.flv": (
        3.0,
        ALL_75,
        15,
        r"timestamps jump at 2\.0 s, a break; the 25 frames after it were shifted",
    ),
    "avi_dropped_frames.avi": (3.0, [3, 11, 18, 26, 29, 29, 29, 56, 63, 71], 15, None),
    "avi_copied_from_mp4.avi": (3.0, ALL_75, 15, None),
    "vfr_back3ms.webm": (
        6.8,
        [8, 20, 20, 21, 22, 22, 23, 24, 24, 59],
        34,
        r"webm: 1 frame with timestamps out of order, from",
    ),
    "gap_nopts1.ts": (3.0, [3, 11, 18, 26, 29, 29, 29, 56, 63, 71], 15, r"1 frame without a timestamp"),
    "elst_zero_duration.mp4": (3.0, ALL_75, 15, r"its edit list hides every frame; ignored"),
    "h264_bt2020cl.mp4": (
        0.8,
        [1, 3, 5, 7, 9, 11, 13, 15, 17, 19],
        4,
        r"color matrix 10 is not supported; converted with a similar one",
    ),
}


def barcode(image):
    """The frame number that a picture of (120, 160, 3) shows."""
    row = image[44:76].mean(axis=(0, 2))
    return sum(1 << bar for bar in range(10) if row[bar * 16 + 7 : bar * 16 + 10].mean() > 127)


def picture(number):
    image = np.full((120, 160, 3), 96, np.uint8)
    for bar in range(10):
        image[40:80, bar * 16 : bar * 16 + 16] = 230 if number >> bar & 1 else 20
    return image


def numbers(path, num_frames=10, **how):
    """The reader, and the frame number at each sampling time."""
    reader = FrameReader(path, num_frames, short_side_px=None, **how)
    return reader, [number for f in reader for number in [barcode(f.image)] * f.repeats]


def test_every_case_file_has_a_right_answer():
    assert {path.name for path in CASES.iterdir()} == {*RIGHT, "cenc_encrypted.mp4"}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_frames_at_the_right_times(name):
    duration_sec, frames, num_at_5_fps, warning = RIGHT[name]
    reader, found = numbers(CASES / name)
    assert reader.info.duration_sec == pytest.approx(duration_sec, abs=0.001)
    assert found == frames
    assert len(numbers(CASES / name, None, fps=5)[1]) == num_at_5_fps
    if warning is None:
        assert reader.warning is None
    else:
        assert re.search(warning, reader.warning)
        assert "copy or download" not in reader.warning


def test_encryption_is_reported_without_advice_to_copy_again():
    with pytest.raises(MediaError, match=r"encrypted; use a copy without copy protection") as caught:
        FrameReader(CASES / "cenc_encrypted.mp4", 3)
    assert "download" not in str(caught.value)


def encode(path, *, codec="libx264", num_frames=75, options=None, size_of_group=25):
    with av.open(str(path), "w") as file:
        how = {"g": str(size_of_group), "sc_threshold": "0", **(options or {})}
        stream = file.add_stream(codec, rate=25, options=how if codec == "libx264" else options or {})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number))
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def copy_with_times(source, target, new_times, **how):
    """A stream copy; new_times(index, pts, dts, per_sec) are the pts and dts of the packets."""
    with av.open(str(source)) as read, av.open(str(target), "w", **how) as written:
        stream = read.streams.video[0]
        copied = written.add_stream_from_template(stream)
        for index, packet in enumerate(p for p in read.demux(stream) if p.size):
            per_sec = int(1 / packet.time_base)
            packet.pts, packet.dts = new_times(index, packet.pts, packet.dts, per_sec)
            packet.stream = copied
            written.mux(packet)
    return target


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.flv", "a.nut"])
@pytest.mark.parametrize("options", [{}, {"bf": "0"}], ids=["reordered", "in order"])
def test_breaks_and_outliers_in_every_container(tmp_path, name, options):
    film = encode(tmp_path / "film.mkv", options=options)

    def times_moved(offset_sec):
        def moved(index, pts, dts, per_sec):
            later = offset_sec(index) * per_sec
            return pts + later, None if dts is None else dts + later

        return moved

    once = copy_with_times(film, tmp_path / f"1{name}", times_moved(lambda index: 60 * (index >= 50)))
    reader, found = numbers(once)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "timestamps jump at 2.0 s, a break; the 25 frames after it were shifted" in reader.warning

    often = copy_with_times(film, tmp_path / f"2{name}", times_moved(lambda index: 5000 * (index // 25)))
    reader, found = numbers(often)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert (
        "timestamps jump 2 times, first at 1.0 s, a break; the 50 frames after it were shifted"
        in reader.warning
    )

    single = copy_with_times(
        film,
        tmp_path / f"3{name}",
        lambda index, pts, dts, per_sec: (pts + 300 * per_sec * (index == 30), dts),
    )
    reader, found = numbers(single)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "1 frame with wrong timestamps, from 1.2 s, interpolated" in reader.warning


@pytest.mark.parametrize("offsets_sec", [(0, 0, 60), (60, 60, 0), (0, 60, 30)])
def test_a_break_between_fragments_of_an_mp4_is_closed(tmp_path, offsets_sec):
    film = encode(tmp_path / "film.mkv")
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = copy_with_times(film, tmp_path / "a.mp4", lambda i, pts, dts, _: (pts, dts), options=movflags)
    data = bytearray(path.read_bytes())
    places = [match.start() for match in re.finditer(b"tfdt", data)]  # version 1, flags, 64 bits of time
    assert len(places) == 3
    for place, offset_sec in zip(places, offsets_sec, strict=True):
        (time,) = struct.unpack_from(">Q", data, place + 8)
        struct.pack_into(">Q", data, place + 8, time + 16_000 * offset_sec)
    path.write_bytes(data)
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "timestamps jump" in reader.warning
    assert "could be decoded" not in reader.warning


@pytest.mark.parametrize("offset_sec", [0, 60])
@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.mpg", "mpeg2video")])
def test_recordings_put_together_as_bytes_are_joined(tmp_path, name, codec, offset_sec):
    film = encode(tmp_path / name, codec=codec, options={"bf": "2"})
    later = copy_with_times(
        film,
        tmp_path / f"later{name}",
        lambda i, pts, dts, per_sec: (pts + offset_sec * per_sec, dts + offset_sec * per_sec),
    )
    path = tmp_path / f"both{name}"
    path.write_bytes(film.read_bytes() + later.read_bytes())
    reader, found = numbers(path)
    assert reader.info.duration_sec == pytest.approx(6.0, abs=0.041)
    assert np.abs(np.array(found) - TWICE_75).max() <= 1
    assert re.search(r"timestamps jump at [23]\.\d s", reader.warning)
    assert "could be decoded" not in reader.warning


@pytest.mark.parametrize("options", [{}, {"bf": "0"}], ids=["reordered", "in order"])
def test_matroska_clusters_that_restart_are_joined(tmp_path, options):
    film = encode(tmp_path / "film.mkv", options=options)
    path = copy_with_times(
        film, tmp_path / "a.mkv", lambda i, pts, dts, _: (pts, dts), options={"cluster_time_limit": "500"}
    )
    data = bytearray(path.read_bytes())
    places = [match.end() for match in re.finditer(rb"\x1f\x43\xb6\x75.{0,12}?\xe7\x82", data, re.DOTALL)]
    assert len(places) >= 2  # clusters with a time of two bytes
    for place in places[:-1]:
        struct.pack_into(">H", data, place, struct.unpack_from(">H", data, place)[0] + 20_000)
    path.write_bytes(data)
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "timestamps jump" in reader.warning


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_decoding_times_in_place_of_display_times_are_given_in_display_order(tmp_path, name):
    film = encode(tmp_path / "film.mkv", options={"bf": "3"})
    path = copy_with_times(
        film, tmp_path / name, lambda i, pts, dts, per_sec: (per_sec + per_sec * i // 25,) * 2
    )
    reader, found = numbers(path, 75)
    assert (found, reader.info.duration_sec) == (list(range(75)), pytest.approx(3.0))
    assert "75 frames with timestamps in decoding order, from 0.0 s, sorted" in reader.warning


def test_a_frame_timed_before_the_previous_one_is_shown_between_its_neighbours_and_reported(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "2"})
    moved: list[int] = []

    def late(index, pts, dts, per_sec):
        if index > 30 and not moved and pts - dts > per_sec // 10:  # shown behind its B frames
            moved.append(round(25 * pts / per_sec))
            pts -= 3 * per_sec // 50
        return pts, dts

    path = copy_with_times(film, tmp_path / "a.mkv", late)
    reader, found = numbers(path, 75)
    assert (found, reader.info.duration_sec) == (list(range(75)), pytest.approx(3.0))
    assert re.search(
        rf"1 frame with timestamps out of order, from {moved[0] / 25:.1f} s, interpolated", reader.warning
    )


def pes_headers(data):
    """Where the headers of the picture's PES packets begin in a transport stream."""
    for start in range(0, len(data), 188):
        pid = (data[start + 1] & 0x1F) << 8 | data[start + 2]
        if pid == 0x100 and data[start + 1] & 0x40:
            header = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
            assert data[header : header + 3] == b"\0\0\1"
            yield header


def without_times(path, is_without):
    """Takes pts and dts from the PES packets of a transport stream whose number is_without() names."""
    data = bytearray(path.read_bytes())
    for number, header in enumerate(pes_headers(data)):
        if is_without(number):
            data[header + 7] &= 0x3F
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("catches_up", [True, False])
def test_a_stalled_clock_is_interpolated_between_reordered_frames(tmp_path, catches_up):
    path = encode(tmp_path / "a.ts", options={"bf": "3"})
    data = bytearray(path.read_bytes())
    headers = list(pes_headers(data))
    # Fields of five bytes, first pts, then dts: 33 bits of time between marks, ISO 13818-1, 2.4.3.6.
    fields = [
        place for header in headers for place in (header + 9, header + 14)[: 1 + (data[header + 7] >> 6 & 1)]
    ]
    stopped = None
    for place in fields:
        high, middle, low = data[place], *struct.unpack_from(">HH", data, place + 1)
        time = (high >> 1 & 7) << 30 | middle >> 1 << 15 | low >> 1
        stopped = time + 90_000 if stopped is None else stopped
        wrong = stopped if time < stopped + 90_000 else time if catches_up else time - 90_000
        if time > stopped:
            bits = high & 0xF0 | wrong >> 29 & 0xE | 1, wrong >> 14 & 0xFFFE | 1, wrong << 1 & 0xFFFE | 1
            struct.pack_into(">BHH", data, place, *bits)
    path.write_bytes(data)
    reader, found = numbers(path, 75)
    assert reader.info.duration_sec == pytest.approx(3.0, abs=0.121)
    assert np.abs(np.array(found) - np.arange(75)).max() <= 2
    assert re.search(r"2[0-9] frames without a timestamp, from [01]\.\d s, interpolated$", reader.warning)
    assert ("timestamps jump at" in reader.warning) is not catches_up


def test_an_excerpt_of_a_fragmented_mp4_is_complete(tmp_path):
    film = encode(tmp_path / "film.mkv")
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = copy_with_times(film, tmp_path / "a.mp4", lambda i, pts, dts, _: (pts, dts), options=movflags)
    data = path.read_bytes()
    fragments = [match.start() - 4 for match in re.finditer(b"moof", data)]
    path.write_bytes(data[: fragments[0]] + data[fragments[2] :])
    reader, found = numbers(path, 25)
    assert (found, reader.info.duration_sec) == (list(range(50, 75)), pytest.approx(1.0))
    assert reader.warning is None


@pytest.mark.parametrize("num_frames", range(70, 76))
def test_sound_between_pictures_does_not_make_them_last_longer(tmp_path, num_frames):
    times = [k / 25 for k in range(num_frames)]
    path = interleaved(write_timed(tmp_path / "a.mp4", times, num_b=3, sound_sec=3), tmp_path / "b.mkv")
    assert FrameReader(path, 10).info.duration_sec == pytest.approx(num_frames / 25)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(
    "is_without",
    [lambda k: k % 2, lambda k: k % 3, lambda k: 20 <= k < 50],
    ids=["half", "two thirds", "run"],
)
def test_missing_times_are_interpolated_between_reordered_frames(tmp_path, codec, is_without):
    how = {"x265-params": "bframes=3:keyint=25:log-level=none"} if codec == "libx265" else {"bf": "3"}
    path = without_times(encode(tmp_path / "a.ts", codec=codec, options=how), is_without)
    reader, found = numbers(path, 75)
    assert reader.info.duration_sec == pytest.approx(3.0, abs=0.041)
    assert np.abs(np.array(found) - np.arange(75)).max() <= 1
    assert reader.info.num_frames == 75
    num_without = sum(bool(is_without(k)) for k in range(75))
    assert f"{num_without} frames without a timestamp" in reader.warning


def test_samples_of_a_clock_that_no_film_has_are_spread_at_the_rate_of_the_codec(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "0"})
    path = copy_with_times(film, tmp_path / "a.mp4", lambda index, pts, dts, _: (pts, dts))
    data = bytearray(path.read_bytes())
    place = data.index(b"mdhd") + 16
    struct.pack_into(">I", data, place, 1000 * struct.unpack_from(">I", data, place)[0])
    path.write_bytes(data)
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "no usable timestamps; frames spread at 25 fps" in reader.warning


def test_a_table_of_sample_durations_that_is_too_short_is_continued(tmp_path):
    path = encode(tmp_path / "a.mp4", options={"bf": "2"})
    data = bytearray(path.read_bytes())
    place = data.index(b"stts") + 8  # the number of entries, then number of samples and duration of each
    assert struct.unpack_from(">II", data, place) == (1, 75)
    struct.pack_into(">I", data, place + 4, 30)
    path.write_bytes(data)
    reader, found = numbers(path)
    assert reader.info.duration_sec == pytest.approx(3.0, abs=0.081)
    assert np.abs(np.array(found) - ALL_75).max() <= 1
    assert "frames without a timestamp, from 1.2 s, interpolated" in reader.warning


def test_leading_pictures_that_can_be_decoded_are_shown_at_their_times(tmp_path):
    options = {"x265-params": "radl=3:open-gop=0:keyint=25:min-keyint=25:bframes=4:log-level=none"}
    path = copied_from_second_keyframe(encode(tmp_path / "film.mkv", codec="libx265", options=options))
    reader, found = numbers(path, None)
    assert found == list(range(75 - reader.info.num_frames, 75))
    assert reader.info.num_frames in range(51, 55)  # the keyframe is frame 25
    assert reader.info.duration_sec == pytest.approx(reader.info.num_frames / 25)
    assert reader.warning is None


def test_a_pause_confirmed_by_sample_durations_stays_and_is_reported_in_an_even_stream(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "0"})
    path = copy_with_times(
        film, tmp_path / "a.mp4", lambda i, pts, dts, per_sec: (pts + 60 * per_sec * (i >= 50),) * 2
    )
    reader, found = numbers(path, 21)
    assert reader.info.duration_sec == pytest.approx(63.0)
    assert found == [37] + [49] * 20  # 1.5 s, 4.5 s, 7.5 s ... 61.5 s; frame 49 is shown from 1.96 s to 62 s
    assert "a frame is held until 62.0 s, as the file declares" in reader.warning


def test_the_header_of_an_mp4_confirms_a_pause_however_short_the_rest(tmp_path):
    film = encode(
        tmp_path / "film.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}
    )
    path = copy_with_times(
        film, tmp_path / "a.mp4", lambda i, pts, dts, per_sec: (pts + 600 * per_sec * (i >= 50),) * 2
    )
    reader, found = numbers(path, 201)
    assert reader.info.duration_sec == pytest.approx(603.0)
    assert found[0] == 37
    assert found[1:] == [49] * 200  # shown from 1.96 s to 602 s
    assert "a frame is held until 602.0 s, as the file declares" in reader.warning


def test_long_pauses_of_a_screen_recording_stay_without_a_warning(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "0"})
    # Every tenth frame stays for 20 s, which the samples' durations of an MP4 say.
    path = copy_with_times(
        film, tmp_path / "a.mp4", lambda i, pts, dts, per_sec: (pts + 20 * per_sec * (i // 10),) * 2
    )
    reader, found = numbers(path, 8)
    assert reader.info.duration_sec == pytest.approx(143.0)
    # Midpoints 8.9 s, 26.8, 44.7 ...: frame 10 k + 9 is shown from 20.4 k + 0.36 s to 20.4 k + 20.4 s.
    assert found == [9, 19, 29, 39, 39, 49, 59, 69]
    assert reader.warning is None


def test_empty_chunks_at_the_end_of_an_avi_take_their_time(tmp_path):
    data = bytearray((CASES / "avi_dropped_frames.avi").read_bytes())
    # Empties the last ten picture chunks in the classic index and in place: size 0, the rest of each is junk.
    index = data.index(b"idx1")
    entries = (struct.unpack_from("<I", data, index + 4)[0]) // 16
    movi = data.index(b"movi")
    for entry in range(entries - 10, entries):
        place = index + 8 + 16 * entry
        offset, size = struct.unpack_from("<II", data, place + 8)
        chunk = movi + offset if data[movi + offset : movi + offset + 4] == b"00dc" else offset
        padded = size + size % 2
        struct.pack_into("<I", data, place + 12, 0)
        struct.pack_into("<I", data, chunk + 4, 0)
        data[chunk + 8 : chunk + 8 + padded] = b"JUNK" + struct.pack("<I", padded - 8) + bytes(padded - 8)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    reader, found = numbers(path)
    assert reader.info.duration_sec == pytest.approx(3.0)
    assert reader.info.num_frames == 40
    assert found == [3, 11, 18, 26, 29, 29, 29, 56, 63, 64]
    assert reader.warning is None


def write_with_matrix(path, matrix, *, true_matrix=1, primaries=2):
    """Red (200, 40, 40) and green (40, 200, 40), encoded with true_matrix but declared with another."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv444p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_primaries = primaries
        image = np.zeros((120, 160, 3), np.uint8)
        image[:, :80], image[:, 80:] = (200, 40, 40), (40, 200, 40)
        frame = av.VideoFrame.from_ndarray(image).reformat(format="yuv444p", dst_colorspace=true_matrix)
        frame.colorspace, frame.color_primaries = matrix, primaries
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def write_timed(path, times, *, sound_sec=0, num_b=0):
    """Frame k at times[k] seconds, with num_b B frames at most in a row and a tone of sound_sec."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"bf": str(num_b)})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = file.add_stream("aac", rate=16_000, layout="mono") if sound_sec else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number))
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound is not None:
            tone = av.AudioFrame.from_ndarray(
                np.zeros((1, 16_000 * sound_sec), np.float32), format="fltp", layout="mono"
            )
            tone.sample_rate = 16_000
            file.mux(sound.encode(tone))
            file.mux(sound.encode(None))
    return path


def interleaved(source, target):
    """A stream copy in which sound lies beside the picture of its time."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        copied = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        packets = [packet for packet in read.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = copied[packet.stream_index]
            written.mux(packet)
    return target


def test_a_pause_in_which_sound_continues_stays(tmp_path):
    times = [k / 25 + 30 * (k >= 50) for k in range(75)]
    silent = write_timed(tmp_path / "silent.mkv", times)
    reader, found = numbers(silent)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "timestamps jump at 2.0 s" in reader.warning
    heard = interleaved(write_timed(tmp_path / "a.mkv", times, sound_sec=33), tmp_path / "b.mkv")
    reader, found = numbers(heard, 11)
    assert reader.info.duration_sec == pytest.approx(33.0)
    assert found == [37, *[49] * 10]  # 1.5 s, 4.5 s, ... 31.5 s; frame 49 is shown from 1.96 s to 32 s
    assert "a frame is held until 32.0 s" in reader.warning


@pytest.mark.parametrize(("name", "num_b"), [("a.mp4", 0), ("a.mp4", 3), ("a.mov", 3), ("a.mkv", 3)])
def test_pauses_of_a_recording_stay_whatever_the_order_of_its_frames(tmp_path, name, num_b):
    times = np.array([k / 25 + 20 * (k // 25) for k in range(150)])
    reader, found = numbers(write_timed(tmp_path / name, times, num_b=num_b), 40)
    assert reader.info.duration_sec == pytest.approx(106, abs=0.05)
    midpoints = (np.arange(40) + 0.5) * reader.info.duration_sec / 40
    assert found == (np.searchsorted(times, midpoints + 1e-6, side="right") - 1).tolist()
    assert "interpolated" not in (reader.warning or "")


def test_a_clock_that_stalls_and_catches_up_is_interpolated(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "0"})
    path = copy_with_times(
        film,
        tmp_path / "a.mkv",
        lambda i, pts, dts, per_sec: (pts if not 20 < i < 50 else 20 * per_sec // 25,) * 2,
    )
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "29 frames without a timestamp, from 0.8 s, interpolated" in reader.warning


def test_a_clock_that_stalls_and_continues_is_shifted(tmp_path):
    film = encode(tmp_path / "film.mkv", options={"bf": "0"})
    path = copy_with_times(
        film,
        tmp_path / "a.mkv",
        lambda i, pts, dts, per_sec: ((i - min(max(i - 20, 0), 30)) * per_sec // 25,) * 2,
    )
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert "timestamps jump at 2.0 s" in reader.warning
    assert "frames without a timestamp, from 0.8 s, interpolated" in reader.warning


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.flv", "a.mp4"])
def test_a_slide_show_keeps_its_times(tmp_path, name):
    path = write_timed(tmp_path / name, [12 * k for k in range(30)])
    reader, found = numbers(path)
    # Containers differ in how long the last frame is shown, which moves the midpoints by up to 11.4 s.
    assert reader.info.duration_sec == pytest.approx(354, abs=6)
    assert np.abs(np.array(found) - [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]).max() <= 1
    assert reader.warning is None


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_a_program_stream_with_few_times_is_read_in_order(tmp_path, codec):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    reader, found = numbers(encode(tmp_path / "a.mpg", codec=codec, options=options))
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    assert reader.warning is None


@pytest.mark.parametrize("length", [150, 2**32 - 1])
def test_an_avi_without_an_index_ignores_a_header_with_too_many_frames(tmp_path, length):
    data = bytearray((CASES / "avi_dropped_frames.avi").read_bytes())
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, length)
    del data[data.index(b"idx1") :]
    struct.pack_into("<I", data, 4, len(data) - 8)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (RIGHT["avi_dropped_frames.avi"][1], pytest.approx(3.0))


@pytest.mark.parametrize("matrix", [10, 12, 13])
@pytest.mark.parametrize(("primaries", "true_matrix"), [(2, 1), (1, 1), (9, 9)])  # of BT.709 and BT.2020
def test_matrices_with_a_similar_one_are_converted_with_it(tmp_path, matrix, primaries, true_matrix):
    write_with_matrix(tmp_path / "a.mkv", matrix, true_matrix=true_matrix, primaries=primaries)
    reader = FrameReader(tmp_path / "a.mkv", 1, short_side_px=None)
    (frame,) = reader
    assert np.abs(frame.image[60, 40].astype(int) - (200, 40, 40)).max() < 8
    assert np.abs(frame.image[60, 120].astype(int) - (40, 200, 40)).max() < 8
    assert f"color matrix {matrix} is not supported; converted with a similar one" in reader.warning


@pytest.mark.parametrize("matrix", [8, 11, 14, 15])
def test_other_matrices_are_rejected(tmp_path, matrix):
    write_with_matrix(tmp_path / "a.mkv", matrix)
    with pytest.raises(MediaError, match=rf"color matrix {matrix} \(ITU-T H.273\) is not supported"):
        list(FrameReader(tmp_path / "a.mkv", 1))


@pytest.mark.parametrize("extra_bytes", [0, 4], ids=["ts", "m2ts"])
def test_a_scrambled_transport_stream_is_called_encrypted(tmp_path, extra_bytes):
    path = encode(tmp_path / "a.ts")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for start in range(0, len(data), 188):
        if (data[start + 1] & 0x1F) << 8 | data[start + 2] == 0x100:  # the picture's
            data[start + 3] |= 0x80
            payload = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
            data[payload : start + 188] = rng.bytes(start + 188 - payload)
    parts = [data[start : start + 188] for start in range(0, len(data), 188)]
    path.write_bytes(b"".join(bytes(extra_bytes) + part for part in parts))
    with pytest.raises(MediaError, match="encrypted; use a copy without copy protection"):
        FrameReader(path, 3)


def copied_from_second_keyframe(film):
    path = film.with_suffix(".ts")
    with av.open(str(film)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        copied = written.add_stream_from_template(stream)
        started = False
        for packet in read.demux(stream):
            started |= bool(packet.is_keyframe and packet.pts and packet.pts > 0)
            if started and packet.size:
                packet.stream = copied
                written.mux(packet)
    return path


def test_undecodable_leading_pictures_are_not_reported_as_damage(tmp_path):
    options = {"x265-params": "open-gop=1:keyint=25:bframes=4:log-level=none"}
    film = encode(tmp_path / "film.mkv", codec="libx265", options=options)
    reader, found = numbers(copied_from_second_keyframe(film))
    # The keyframe is frame 25; the frames before it that follow it in the file cannot be decoded.
    assert found == [25 + number for number in (2, 7, 12, 17, 22, 27, 32, 37, 42, 47)]
    assert reader.info.duration_sec == pytest.approx(2.0)
    assert reader.warning is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_header_durations_twice_too_long_do_not_move_frames(tmp_path, name):
    path = encode(tmp_path / name)
    data = bytearray(path.read_bytes())
    if name == "a.mkv":
        place = data.index(b"\x44\x89\x88") + 3  # Duration, eight bytes
        struct.pack_into(">d", data, place, 2 * struct.unpack_from(">d", data, place)[0])
    else:
        for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            place = data.index(box) + offset
            struct.pack_into(">I", data, place, 2 * struct.unpack_from(">I", data, place)[0])
    path.write_bytes(data)
    reader, found = numbers(path)
    assert (found, reader.info.duration_sec) == (ALL_75, pytest.approx(3.0))
    if name == "a.mkv":  # which does not count its frames
        assert "if players show no more frames, its header is wrong; otherwise copy" in reader.warning
    else:
        assert reader.warning is None


@pytest.mark.parametrize("count", [1, 2, 10])
def test_few_frames_fill_three_hundred_rows_evenly(tmp_path, count):
    path = encode(tmp_path / "a.mp4", num_frames=count)
    assert [f.repeats for f in FrameReader(path, 300)] == [300 // count] * count
