"""Videos that we write, read back."""

from __future__ import annotations

import av
import numpy as np
import pytest

from videotag.errors import MediaError, OutputError, ShapeError
from videotag.media import writer
from videotag.media.video import FrameReader, probe
from videotag.media.writer import write_video


def shades(count=6, width=64, height=48):
    return [np.full((height, width, 3), 20 * index, np.uint8) for index in range(count)]


def test_written_frames_are_read_back(tmp_path):
    path = tmp_path / "new" / "a.mp4"
    write_video(path, iter(shades()), fps=12)
    frames = list(FrameReader(path, 6, short_side_px=48))
    assert [round(float(f.image.mean()) / 20) for f in frames] == [0, 1, 2, 3, 4, 5]
    info = probe(path)
    assert (info.width_px, info.height_px, info.num_frames, info.has_audio) == (64, 48, 6, False)
    assert info.duration_sec == pytest.approx(0.5)


def test_a_fractional_rate_is_kept(tmp_path):
    write_video(tmp_path / "a.mp4", shades(), fps=29.97)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == pytest.approx(30_000 / 1001, abs=1e-3)


def test_written_sound_is_read_back(tmp_path):
    rate = 16_000
    tone = np.sin(2 * np.pi * 880 * np.arange(rate) / rate).astype(np.float32) / 2
    write_video(tmp_path / "a.mp4", shades(12), fps=12, sound=(tone, rate))
    assert probe(tmp_path / "a.mp4").has_audio
    with av.open(str(tmp_path / "a.mp4")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(heard) == pytest.approx(rate, abs=2048)
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * rate / len(heard) == pytest.approx(880, abs=2)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    tone = (np.ones(16_000, np.float32) / 10, 16_000)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, shades(), fps=12, sound=tone)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    "frames",
    [
        [np.zeros((48, 63, 3), np.uint8)],
        [np.zeros((47, 64, 3), np.uint8)],
        [np.zeros((48, 64, 3))],
        [np.zeros((48, 64), np.uint8)],
        [*shades(2), np.zeros((96, 64, 3), np.uint8)],
    ],
    ids=["odd width", "odd height", "float", "grey", "another size"],
)
def test_frames_that_cannot_be_encoded_unchanged_are_rejected(tmp_path, frames):
    with pytest.raises(ShapeError, match=r"a\.mp4: frame of .* expected uint8 \(H, W, 3\) with H and W even"):
        write_video(tmp_path / "a.mp4", frames, fps=12)
    assert not list(tmp_path.iterdir())


def test_no_frames_are_an_error(tmp_path):
    with pytest.raises(MediaError, match="no frames to write; a video needs at least one"):
        write_video(tmp_path / "a.mp4", [], fps=12)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_invalid_rate_is_rejected(tmp_path, fps):
    with pytest.raises(ShapeError, match="expected a number above 0"):
        write_video(tmp_path / "a.mp4", shades(), fps=fps)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros((2, 100), np.float32)])
def test_sound_that_is_not_mono_is_rejected(tmp_path, samples):
    with pytest.raises(ShapeError, match=r"expected \(samples,\) and at least one"):
        write_video(tmp_path / "a.mp4", shades(), fps=12, sound=(samples, 16_000))


def test_an_unsupported_sound_rate_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="sound needs a standard rate"):
        write_video(tmp_path / "a.mp4", shades(), fps=12, sound=(np.zeros(100, np.float32), 123_456))


def test_a_missing_encoder_is_reported_with_the_remedy(tmp_path, monkeypatch):
    def no_encoder(*_):
        raise writer.UnknownCodecError("libx264")

    monkeypatch.setattr(writer, "_add_video", no_encoder)
    with pytest.raises(MediaError, match=r"has no encoder libx264; install PyAV from PyPI: pip install av"):
        write_video(tmp_path / "a.mp4", shades(), fps=12)


def test_nothing_is_left_if_the_frames_raise_an_error(tmp_path):
    def breaking():
        yield from shades(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "a.mp4", breaking(), fps=12)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError, match=r"a\.mp4"):
        write_video(tmp_path / "a.mp4", shades(), fps=12)
