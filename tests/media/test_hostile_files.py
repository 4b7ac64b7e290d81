"""Files that are not videos, or only look like one: a one-line error, and no other file is opened."""

from __future__ import annotations

import io
import os
import socket
import struct

import av
import numpy as np
import pytest
from PIL import Image

from videotag.errors import MediaError
from videotag.media import container as container_module
from videotag.media.video import FrameReader, probe


def refuse(path, match):
    """Checks that a path is rejected with one line that matches `match`; returns the line."""
    with pytest.raises(MediaError, match=match) as caught:
        list(FrameReader(path, 3))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert not caught.value.retriable
    return text


def test_missing_file(tmp_path):
    refuse(tmp_path / "no.mp4", "no such file; give the path of a video on this machine")


def test_empty_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    refuse(tmp_path / "a.mp4", r"empty \(0 bytes\); copy or download it again")


def test_folder(tmp_path):
    refuse(tmp_path, "a folder, expected a video file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_socket_and_device_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    refuse(tmp_path / "pipe.mp4", "a pipe, expected a video file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
    refuse(tmp_path / "socket.mp4", "a socket, expected a video file")
    refuse("/dev/zero", "a device, expected a video file")


def test_nul_in_the_path():
    with pytest.raises(MediaError, match="cannot be read"):
        probe("a\0b.mp4")


@pytest.mark.parametrize("content", [b"hello\n" * 500, bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_other_content(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    refuse(tmp_path / "a.mp4", "cannot be read as video .*convert it to H.264")


def test_picture(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.mp4", "JPEG")
    refuse(tmp_path / "a.mp4", "cannot be read as video")


def test_a_video_whose_index_is_truncated(make_video):
    path = make_video("a.mp4")  # its index lies at the end
    path.write_bytes(path.read_bytes()[:-200])
    refuse(path, "cannot be read as video")


@pytest.mark.parametrize("url", ["http://localhost:9/a.mp4", "concat:a.mp4|b.mp4", "file:a.mp4", "pipe:0"])
def test_urls_are_treated_as_names_of_missing_files(make_video, monkeypatch, tmp_path, url):
    make_video("a.mp4")
    monkeypatch.chdir(tmp_path)
    refuse(url, "no such file")


def test_a_file_whose_name_looks_like_an_url_is_read(make_video, rows, monkeypatch, tmp_path):
    make_video("a.mp4").rename(tmp_path / "concat:b|c.mp4")
    monkeypatch.chdir(tmp_path)
    assert rows("concat:b|c.mp4", 4) == [1, 3, 5, 7]


@pytest.mark.parametrize("victim", ["real.mp4", "{folder}/real.mp4"])
@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile '{victim}'\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{victim}\n#EXT-X-ENDLIST\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{victim}</BaseURL></MPD>",
    ],
    ids=["ffconcat", "HLS playlist", "SDP", "DASH"],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_scripts_that_name_other_files_are_rejected(make_video, tmp_path, script, victim, name):
    make_video("real.mp4")
    path = tmp_path / name
    path.write_text(script.format(victim=victim.format(folder=tmp_path)), encoding="utf-8")
    refuse(path, "cannot be read as video")


def test_sound_only(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as file:
        write_tone(file, file.add_stream("aac", rate=16_000, layout="mono"))
    refuse(path, "only sound, no video; remove it from the list")


def test_cover_art_is_not_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as file:
        cover = file.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = file.add_stream("aac", rate=16_000, layout="mono")
        file.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        write_tone(file, sound)
    with av.open(str(path)) as file:
        assert file.streams.video[0].disposition & av.stream.Disposition.attached_pic
    refuse(path, "only sound, no video")


def write_tone(file, stream):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 16_000
    file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def test_frames_too_large_by_the_header_are_rejected(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 9000, 9000, "yuvj420p"
        file.start_encoding()
        packet = av.Packet(bytes(100))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, stream.time_base
        file.mux(packet)
    refuse(path, "frames of 9000x9000 pixels, expected at most 67108864 in all")


def test_decompression_bomb_is_not_decoded(tmp_path):
    gif = io.BytesIO()
    Image.new("P", (2, 2)).save(gif, "GIF")
    data = bytearray(gif.getvalue())
    data[6:10] = (65_535).to_bytes(2, "little") * 2  # the screen's width and height
    (tmp_path / "a.gif").write_bytes(data)
    refuse(tmp_path / "a.gif", "no frame can be decoded, or its frames have more than 67108864 pixels")


def test_frames_too_large_as_displayed_are_rejected(make_video, monkeypatch):
    monkeypatch.setattr(container_module, "MAX_FRAME_PX", 64 * 48)
    path = make_video("a.mp4", pixel_aspect=2)  # the file is within the limit, its display is not
    with pytest.raises(MediaError, match="frames of 128x48 pixels"):
        FrameReader(path, 3, short_side_px=48)
    assert len(list(FrameReader(path, 3, short_side_px=16))) == 3


def test_metadata_that_is_not_utf8_does_no_harm(make_video, rows):
    path = make_video("a.mp4")
    data = path.read_bytes()
    assert data.count(b"VideoHandler") == 1
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xff\xfe\xe9andler"))
    assert rows(path, 4) == [1, 3, 5, 7]


def test_our_own_bugs_are_not_reported_as_damage(make_video, monkeypatch):
    def bug(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("videotag.media.timeline.is_shown", bug)
    with pytest.raises(ZeroDivisionError):
        probe(make_video("a.mp4"))


def flv_tag(kind, content):
    size = struct.pack(">I", len(content))[1:]
    return bytes([kind]) + size + bytes(7) + content + struct.pack(">I", 11 + len(content))


def test_the_index_size_of_an_flv_is_not_trusted(tmp_path, refusal_cost_mb):
    text = lambda word: struct.pack(">H", len(word)) + word  # noqa: E731
    index = b"\x03" + text(b"times") + b"\x0a" + struct.pack(">I", 2**27)  # numbers, 8 bytes each
    script = b"\x02" + text(b"onMetaData") + b"\x08" + struct.pack(">I", 1) + text(b"keyframes") + index
    path = tmp_path / "a.flv"
    path.write_bytes(b"FLV\1\1\0\0\0\x09\0\0\0\0" + flv_tag(18, script) + flv_tag(9, b"\x12" + bytes(50)))
    assert refusal_cost_mb(path) < 100
