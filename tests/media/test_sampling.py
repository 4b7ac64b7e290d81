"""Which frames are sampled, and at which times; a frame's grey level encodes its number."""

from __future__ import annotations

import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.media import frame_scaler, video
from videotag.media.decode_pool import DecodePool
from videotag.media.sampling import even_indices, videotag_indices
from videotag.media.suffixes import list_videos
from videotag.media.timeline import Timeline
from videotag.media.transforms import forced_size
from videotag.media.video import FrameReader, probe

CONTAINERS = {
    "mp4": {"name": "a.mp4"},
    "mkv": {"name": "a.mkv"},
    "mov": {"name": "a.mov"},
    "ts": {"name": "a.ts"},
    "flv": {"name": "a.flv"},
    "avi with reordered frames": {"name": "a.avi"},
    "raw h264 without times": {"name": "a.h264", "format": "h264"},
    "raw mpeg4": {"name": "a.m4v", "format": "m4v", "codec": "mpeg4"},
    "mpeg program stream": {"name": "a.mpg", "codec": "mpeg2video"},
    "webm": {"name": "a.webm", "codec": "libvpx"},
    "fragmented mp4": {"name": "f.mp4", "container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("how", CONTAINERS.values(), ids=CONTAINERS)
def test_midpoints_of_equal_parts_are_taken_in_every_container(make_video, rows, how):
    path = make_video(**how)
    assert rows(path, 4) == [1, 3, 5, 7]  # midpoints 1, 3, 5, 7 of 8 frames: each frame begins there
    assert rows(path, 3) == [1, 4, 6]  # 1.33, 4, 6.67
    assert rows(path, 8) == list(range(8))
    assert rows(path, 1) == [4]
    reader = FrameReader(path, 8)
    list(reader)
    assert reader.warning is None
    assert reader.info.num_frames == 8
    assert reader.info.fps == pytest.approx(25)
    assert reader.info.duration_sec == pytest.approx(0.32)


def test_frames_of_a_short_video_are_repeated_evenly_and_yielded_once(make_video):
    path = make_video("a.mp4")
    assert [f.repeats for f in FrameReader(path, 16)] == [2] * 8
    # Row i of 20 shows frame floor((2 i + 1) / 5).
    assert [f.repeats for f in FrameReader(path, 20)] == [2, 3, 2, 3, 2, 3, 2, 3]


def test_one_frame_fills_all_rows(make_video):
    path = make_video("a.mp4", [3])
    (frame,) = FrameReader(path, 300)
    assert (frame.repeats, frame.time_sec) == (300, 0.0)
    assert probe(path).num_frames == 1


def test_times_count_from_the_first_frame(make_video):
    path = make_video("a.mkv", pts=range(50, 58))  # begins after two seconds
    assert [f.time_sec for f in FrameReader(path, 4)] == pytest.approx([0.04, 0.12, 0.2, 0.28])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_times_decide_in_video_of_variable_frame_rate(make_video, rows, name):
    path = make_video(name, range(5), fps=10, pts=[0, 1, 2, 3, 10])
    # The last frame lasts 0.1 s, so the span is 1.1 s and the midpoints are 0.05, 0.15 ... 1.05.
    assert rows(path, 11) == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4]
    assert rows(path, 2) == [2, 3]  # 0.275 and 0.825
    assert probe(path).fps == pytest.approx(5 / 1.1)


def test_frames_that_an_edit_list_cuts_off_are_not_shown(make_video, rows):
    path = make_video("a.mp4", pts=range(-4, 4))  # mp4 hides what lies before time 0
    assert rows(path, 4) == [4, 5, 6, 7]
    info = probe(path)
    assert (info.num_frames, info.declared_frames) == (4, 8)
    reader = FrameReader(path, 4)
    list(reader)
    assert reader.warning is None


def test_order_decides_where_times_jump_back(make_video, rows, tmp_path):
    first, second = make_video("a.ts", range(4)), make_video("b.ts", range(4, 8))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert rows(joined, 8) == list(range(8))


def test_hidden_reference_frames_of_vp8_are_not_counted_as_lost(make_video, rows):
    path = make_video("a.webm", codec="libvpx")
    with av.open(str(path)) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][1]
    assert packet[0] & 0x10  # show_frame, RFC 6386 section 9.1
    data = path.read_bytes()
    assert data.count(packet) == 1
    path.write_bytes(data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:]))
    assert rows(path, 8) == [0, 0, 2, 3, 4, 5, 6, 7]
    reader = FrameReader(path, 8)
    list(reader)
    assert reader.warning is None
    assert reader.info.num_frames == 7


def test_a_thread_count_does_not_change_the_frames(make_video, rows):
    path = make_video("a.mp4", range(12))
    assert rows(path, 12, num_threads=1) == rows(path, 12, num_threads=4) == list(range(12))


def test_the_default_and_larger_video_stream_is_taken(tmp_path):
    path = tmp_path / "two.mkv"
    write_two_streams(path)
    info = probe(path)
    assert (info.width_px, info.height_px, info.num_frames) == (128, 96, 3)


def write_two_streams(path):
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(64, 48), (128, 96)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for stream in streams:
            for _ in range(3):
                image = np.zeros((stream.height, stream.width, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode(None))


def test_only_wanted_frames_are_converted_and_few_are_held(make_video, monkeypatch):
    path = make_video("a.mp4", [n % 12 for n in range(60)])
    alive: weakref.WeakSet[Tracked] = weakref.WeakSet()
    held, scaled = [], []

    class Tracked:
        def __init__(self, frame):
            self.frame = frame
            alive.add(self)
            held.append(len(alive))

        def __getattr__(self, name):
            return getattr(self.frame, name)

    class Scaler:
        def __init__(self):
            self.real = real_scaler()

        def reformat(self, frame, *size, **how):
            scaled.append(frame.pts)
            return self.real.reformat(frame.frame, *size, **how)

    real_decode, real_scaler = video.decode, frame_scaler.VideoReformatter
    monkeypatch.setattr(video, "decode", lambda *a: (Tracked(f) for f in real_decode(*a)))
    monkeypatch.setattr(frame_scaler, "VideoReformatter", Scaler)
    assert sum(f.repeats for f in FrameReader(path, 6)) == 6
    assert len(held) == 60
    assert max(held) <= 3
    assert len(scaled) == len(set(scaled)) == 6


@given(
    st.integers(-(10**12), 10**12), st.integers(1, 10**9), st.integers(1, 400), st.integers(-(10**9), 10**9)
)
def test_target_counts_agree_with_fractions(start, span, num_targets, offset):
    timeline = Timeline(start, start + span, Fraction(1, 1000), False, 1, 1)
    midpoints = [start + span * Fraction(2 * i + 1, 2 * num_targets) for i in range(num_targets)]
    expected = sum(midpoint < start + offset for midpoint in midpoints)
    assert timeline.num_targets_before(start + offset, num_targets) == expected


def test_it_can_be_read_again(make_video):
    reader = FrameReader(make_video("a.mp4"), 4)
    assert [f.time_sec for f in reader] == [f.time_sec for f in reader]


@pytest.mark.parametrize("bad", [{"num_frames": 0}, {"num_frames": 1, "short_side_px": 0}])
def test_counts_below_one_are_refused(make_video, bad):
    with pytest.raises(ValueError, match="at least 1"):
        FrameReader(make_video("a.mp4"), **bad)


def test_probe_tells_sound_and_declared_frames(make_video):
    assert probe(make_video("a.mp4", sound_sec=0.5)).has_audio
    info = probe(make_video("b.mp4"))
    assert not info.has_audio
    assert info.declared_frames == 8
    assert probe(make_video("c.mkv")).declared_frames is None


@pytest.mark.parametrize("placeholder", [2**30, 2**32 - 1])
def test_a_number_of_frames_that_was_never_filled_in_is_not_declared(make_video, placeholder):
    path = make_video("a.avi", codec="mpeg4")
    data = bytearray(path.read_bytes())
    place = data.index(b"strh") + 8 + 32  # dwLength of Microsoft's AVISTREAMHEADER
    assert int.from_bytes(data[place : place + 4], "little") == probe(path).declared_frames == 8
    data[place : place + 4] = placeholder.to_bytes(4, "little")
    path.write_bytes(data)
    assert probe(path).declared_frames is None


def test_list_videos_finds_known_suffixes_below_a_folder_sorted(tmp_path):
    for name in ("b/x.MP4", "a.webm", "b/a.mkv", "notes.txt", "._a.mp4", "b/y.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    assert list_videos(tmp_path) == [tmp_path / "a.webm", tmp_path / "b/a.mkv", tmp_path / "b/x.MP4"]


def videotag_rule(num_frames, num_sampled):
    """VideoTag's rule frame by frame, from its description."""
    length = int(num_frames / num_sampled)
    wanted = [(length - 1) // 2 + i * length if length >= 1 else i for i in range(num_sampled)]
    return [index % num_frames for index in wanted]


CASES = [(8, 3), (8, 8), (8, 20), (7, 4), (1, 5), (30, 4), (599, 300)]


@pytest.mark.parametrize(("num_frames", "num_sampled"), CASES)
def test_the_old_rule_takes_videotags_frames(num_frames, num_sampled):
    assert videotag_indices(num_frames, num_sampled).tolist() == videotag_rule(num_frames, num_sampled)


@pytest.mark.parametrize("num_sampled", [1, 3, 8, 20])
def test_the_old_rule_holds_in_real_files_and_in_child_processes(make_video, rows, num_sampled):
    path = make_video("a.mp4", range(8))
    assert rows(path, num_sampled, by_videotag=True) == videotag_rule(8, num_sampled)
    with DecodePool() as pool:
        reader = pool.reader(path, num_frames=num_sampled, by_videotag=True, short_side_px=16)
        own = FrameReader(path, num_sampled, by_videotag=True, short_side_px=16)
        for frame, expected in zip(reader, own, strict=True):
            assert np.array_equal(frame.image, expected.image)
        assert reader.rows == own.rows


def test_offsets_say_where_in_its_part_a_frame_is_taken(make_video, rows):
    path = make_video("a.mp4", range(8))
    assert rows(path, 2, offsets=[0.1, 0.1]) == [0, 4]
    assert rows(path, 2, offsets=[0.99, 0.99]) == [3, 7]
    assert rows(path, 2, offsets=[0.3, 0.6]) == [1, 6]
    assert rows(path, 4, offsets=[0.5] * 4, by_videotag=True) == [1, 3, 5, 7]
    assert rows(path, 4, offsets=[0.0] * 4, by_videotag=True) == [0, 2, 4, 6]


def test_the_middle_is_the_offset_of_a_half():
    for num_frames, num_sampled in ((8, 3), (9, 4), (300, 7)):
        default = even_indices(num_frames, num_sampled)
        assert np.array_equal(default, even_indices(num_frames, num_sampled, [0.5] * num_sampled))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 360), (341, 256)), ((360, 640), (256, 341)), ((500, 500), (341, 256)), ((455, 256), (455, 256))],
)
def test_videotags_scaling_forces_4_by_3_unless_the_short_side_fits(size, expected):
    assert forced_size(*size, 256) == expected


def test_a_wide_video_is_distorted_only_on_request(make_video):
    path = make_video("a.mp4", range(2), size=(128, 48))
    assert next(iter(FrameReader(path, 1, short_side_px=24))).image.shape == (24, 64, 3)
    forced = FrameReader(path, 1, short_side_px=24, force_4_by_3=True)
    assert next(iter(forced)).image.shape == (24, 32, 3)
