"""Which files of a folder are videos: those with a supported format; and how the others are reported."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from videotag.media import container, suffixes
from videotag.media.suffixes import (
    FORMATS,
    NOT_REGULAR,
    VIDEO_SUFFIXES,
    folder_text,
    left_out_text,
    list_videos,
    scan_folder,
)
from videotag.media.video import FrameReader

CASES = Path(__file__).parent / "cases" / "folder_suffixes"
SUFFIXES_OF = {name: words.split() for name, words in suffixes._SUFFIXES_OF.items()}
SOUND = {"mp3", "wav", "flac", "aac", "aiff"}
# What FFmpeg knows as suffixes of these formats and a folder's videos do not have: sound, subtitles, pictures
# (avif heic heif psp), tables (dif) and XML (ism).
NOT_VIDEO = {
    *("m4a", "m4b", "isma", "mka", "mks", "wma", "ra", "ogg"),
    *("avif", "heic", "heif", "psp", "dif", "ism"),
}

#: Demuxer -> (muxer, codec, pixel format, (width, height)) that writes such a file.
WRITERS = {
    "mov": ("mp4", "libx264", "yuv420p", (64, 48)),
    "matroska": ("matroska", "libx264", "yuv420p", (64, 48)),
    "avi": ("avi", "mpeg4", "yuv420p", (64, 48)),
    "flv": ("flv", "flv", "yuv420p", (64, 48)),
    "asf": ("asf", "wmv2", "yuv420p", (64, 48)),
    "mpeg": ("mpeg", "mpeg2video", "yuv420p", (64, 48)),
    "mpegts": ("mpegts", "libx264", "yuv420p", (64, 48)),
    "mpegvideo": ("mpeg2video", "mpeg2video", "yuv420p", (64, 48)),
    "m4v": ("m4v", "mpeg4", "yuv420p", (64, 48)),
    "h263": ("h263", "h263", "yuv420p", (128, 96)),
    "h264": ("h264", "libx264", "yuv420p", (64, 48)),
    "hevc": ("hevc", "libx265", "yuv420p", (64, 64)),
    "obu": ("obu", "libsvtav1", "yuv420p", (64, 64)),
    "ivf": ("ivf", "libvpx", "yuv420p", (64, 48)),
    "ogg": ("ogg", "libvpx", "yuv420p", (64, 48)),
    "mxf": ("mxf", "mpeg2video", "yuv420p", (64, 48)),
    "nut": ("nut", "mpeg4", "yuv420p", (64, 48)),
    "dv": ("dv", "dvvideo", "yuv420p", (720, 576)),
    "rm": ("rm", "rv20", "yuv420p", (64, 48)),
    "gif": ("gif", "gif", "rgb8", (64, 48)),
    "yuv4mpegpipe": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p", (64, 48)),
}


def write(path, muxer, codec, pix_fmt, size):
    """Eight frames at 25 fps, the first four dark and the others light."""
    with av.open(str(path), "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        for index in range(8):
            grey = np.full((size[1], size[0], 3), 40 if index < 4 else 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey).reformat(format=pix_fmt)
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def test_every_format_that_is_opened_has_its_suffixes_or_is_sound():
    assert FORMATS.split(",") == list(SUFFIXES_OF)
    assert {name for name, found in SUFFIXES_OF.items() if not found} == SOUND
    assert container._OPTIONS["format_whitelist"] == FORMATS
    assert {f".{suffix}" for found in SUFFIXES_OF.values() for suffix in found} == VIDEO_SUFFIXES


@pytest.mark.parametrize("name", FORMATS.split(","))
def test_ffmpeg_knows_the_format_and_no_video_suffix_of_it_is_missing(name):
    known = set(av.format.ContainerFormat(name, "r").extensions)
    if name not in SOUND:
        assert known <= {*SUFFIXES_OF[name], *NOT_VIDEO}
    assert not {f".{suffix}" for suffix in NOT_VIDEO} & VIDEO_SUFFIXES


def test_scripts_that_open_other_files_are_in_no_whitelist():
    assert not {"concat", "hls", "dash", "image2", "sdp", "lavfi"} & set(FORMATS.split(","))


def test_every_suffix_but_those_of_vvc_is_written_by_these_tests():
    written = {suffix for name in WRITERS for suffix in SUFFIXES_OF[name]}
    assert {suffix for found in SUFFIXES_OF.values() for suffix in found} - written == {
        *("vvc", "h266", "266")  # PyAV brings no encoder
    }


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, suffix) for name in WRITERS for suffix in SUFFIXES_OF[name]]
)
def test_a_real_video_of_every_suffix_is_taken_and_decoded(tmp_path, name, suffix):
    path = write(tmp_path / f"a.{suffix}", *WRITERS[name])
    assert list_videos(tmp_path) == [path]
    reader = FrameReader(path, 2)
    first, last = (frame.image.mean() for frame in reader)
    assert (first, last) == (pytest.approx(40, abs=8), pytest.approx(200, abs=8))
    assert reader.info.num_frames == 8


@pytest.mark.parametrize("path", sorted(CASES.iterdir()), ids=lambda path: path.name)
def test_videos_of_unusual_suffixes_are_taken_and_decoded(path):
    assert path in list_videos(CASES)
    reader = FrameReader(path, 4)
    assert sum(frame.repeats for frame in reader) == 4
    # By `ffprobe -count_frames`.
    assert reader.info.num_frames == (20 if path.suffix in (".rm", ".rmvb", ".ogm", ".m2v") else 75)


def test_all_videos_of_the_folder_of_unusual_suffixes_are_taken():
    content = scan_folder(CASES)
    assert [path.name for path in content.taken] == [
        *("a.mp4", "b.rmvb", "c.f4v", "d.divx", "g.qt", "h.ogm", "j.m2v", "n.m2t", "p.rm")
    ]
    assert not content.left_out


def test_files_are_found_at_any_depth_and_others_are_counted_by_suffix(tmp_path):
    for name in ("b/x.MP4", "a.webm", "b/c/a.MKV", "notes.TXT", "b/notes.txt", "b/y.npy", "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.txt").mkdir()
    content = scan_folder(tmp_path)
    assert content.taken == [tmp_path / "a.webm", tmp_path / "b/c/a.MKV", tmp_path / "b/x.MP4"]
    assert content.left_out == {".txt": 2, ".npy": 1, "": 1}


def test_hidden_files_and_what_is_in_hidden_folders_are_left_out_silently(tmp_path):
    for name in ("a.mp4", "._a.mp4", ".DS_Store", ".git/b.mp4", ".git/c.txt"):
        (tmp_path / ".clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".clips" / name).touch()
    content = scan_folder(tmp_path / ".clips")  # which the user has named
    assert content.taken == [tmp_path / ".clips" / "a.mp4"]
    assert not content.left_out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_broken_links_are_not_videos(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    shutil.copy(CASES / "a.mp4", tmp_path / "c.mp4")
    (tmp_path / "d.mp4").symlink_to(tmp_path / "c.mp4")
    content = scan_folder(tmp_path)
    assert content.taken == [tmp_path / "c.mp4", tmp_path / "d.mp4"]
    assert content.left_out == {NOT_REGULAR: 2}
    assert left_out_text(content.left_out) == "2 files left out (not regular files 2)"


def test_other_suffixes_may_be_requested(tmp_path):
    (tmp_path / "a.npy").touch()
    (tmp_path / "b.mp4").touch()
    content = scan_folder(tmp_path, {".npy"})
    assert (content.taken, content.left_out) == ([tmp_path / "a.npy"], {".mp4": 1})


@pytest.mark.parametrize(
    ("left_out", "text"),
    [
        ({}, ""),
        ({".txt": 1}, "1 file left out (.txt 1)"),
        ({".srt": 1, ".txt": 2}, "3 files left out (.txt 2, .srt 1)"),
        ({".b": 1, ".a": 1, "": 1}, "3 files left out (.a 1, .b 1, no suffix 1)"),
        ({".\x1b[2j": 2, ".\udcff": 1, ".take two of that day": 1}, "4 files left out (other 4)"),
        (
            {f".{name}": 9 for name in "abcdefgh"} | {".x": 2, ".y": 1},
            "75 files left out (.a 9, .b 9, .c 9, .d 9, .e 9, .f 9, .g 9, .h 9, 2 more suffixes 3)",
        ),
    ],
)
def test_what_is_left_out_is_counted_the_most_frequent_first(left_out, text):
    assert left_out_text(Counter(left_out)) == text


def test_a_folder_is_described_by_what_was_taken_and_what_was_not():
    left_out = Counter({".txt": 2, ".srt": 1})
    assert folder_text("clips/", 9, left_out) == "clips: 9 videos; 3 files left out (.txt 2, .srt 1)"
    assert folder_text(Path("clips"), 1, Counter()) == "clips: 1 video"
    assert folder_text("out", 2, Counter({"": 1}), noun="feature file") == (
        "out: 2 feature files; 1 file left out (no suffix 1)"
    )
