"""Sound of media files: the right samples at the right times, for any codec, layout, length and gap."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from sound_files import tone, write_sound

from videotag.errors import MediaError, MissingInputError
from videotag.media.decode_pool import DecodePool
from videotag.media.log_mel import log_mel_patches
from videotag.media.sound import SAMPLE_RATE_HZ, SoundReader


def sound_of(path):
    reader = SoundReader(path)
    blocks = list(reader)
    starts = np.cumsum([0, *[len(block.samples) for block in blocks]]) / SAMPLE_RATE_HZ
    assert [block.start_sec for block in blocks] == pytest.approx(starts[:-1].tolist())
    return np.concatenate([block.samples for block in blocks]), reader


def loudness(x, start_sec, end_sec):
    part = x[round(start_sec * SAMPLE_RATE_HZ) : round(end_sec * SAMPLE_RATE_HZ)]
    return float(np.sqrt((part**2).mean()))


def test_samples_are_those_of_the_file(tmp_path):
    path = write_sound(tmp_path / "a.wav", [tone(1.5, 16_000)], rate=16_000, codec="pcm_s16le")
    x, reader = sound_of(path)
    np.testing.assert_allclose(x, tone(1.5, 16_000)[0], atol=1e-4)
    assert (reader.info.duration_sec, reader.info.sample_rate_hz, reader.info.num_tracks) == (1.5, 16_000, 1)
    assert reader.warning is None


@pytest.mark.parametrize(
    ("rate", "codec"), [(8_000, "pcm_s16le"), (44_100, "pcm_f32le"), (48_000, "pcm_s16le")]
)
def test_any_rate_becomes_16_khz(tmp_path, rate, codec):
    x, _ = sound_of(write_sound(tmp_path / "a.wav", [tone(2, rate)], rate=rate, codec=codec))
    assert len(x) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=2)
    middle = slice(1000, 31_000)  # a filter needs both sides
    np.testing.assert_allclose(x[middle], tone(2, SAMPLE_RATE_HZ)[0][middle], atol=2e-3)


def test_equal_channels_keep_their_level(tmp_path):
    sound = tone(1, 16_000, channels=2)
    path = write_sound(tmp_path / "a.wav", [sound], rate=16_000, codec="pcm_s16le", layout="stereo")
    np.testing.assert_allclose(sound_of(path)[0], sound[0], atol=1e-3)


def test_the_center_of_5_1_channels_is_heard_and_the_low_frequency_channel_is_not(tmp_path):
    levels = []
    for channel in (2, 3):  # center, low frequencies
        sound = np.zeros((6, 16_000), np.float32)
        sound[channel] = tone(1, 16_000)[0]
        path = write_sound(tmp_path / "a.wav", [sound], rate=16_000, codec="pcm_s16le", layout="5.1")
        levels.append(loudness(sound_of(path)[0], 0.1, 0.9))
    assert levels[0] > 0.05
    assert levels[1] < 1e-3


@pytest.mark.parametrize(
    ("seconds", "patches"), [(0.1, 0), (0.5, 0), (0.95, 0), (0.97, 0), (0.976, 1), (2, 2)]
)
def test_short_sounds_are_read_whole(tmp_path, seconds, patches):
    path = write_sound(tmp_path / "a.wav", [tone(seconds, 16_000)], rate=16_000, codec="pcm_s16le")
    x, _ = sound_of(path)
    assert len(x) == round(seconds * 16_000)
    assert len(log_mel_patches(x)) == patches


def test_mp3_in_mp4_is_read(tmp_path):
    path = write_sound(tmp_path / "a.mp4", [tone(1, 44_100)], rate=44_100, codec="libmp3lame")
    assert loudness(sound_of(path)[0], 0.2, 0.8) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_a_file_without_sound_lacks_the_input(make_video):
    with pytest.raises(MissingInputError, match=r"a.mp4: no sound"):
        list(SoundReader(make_video("a.mp4")))
    with DecodePool() as pool, pytest.raises(MissingInputError, match=r"a.mp4: no sound"):
        list(pool.reader(make_video("a.mp4"), kind=SoundReader))


def test_silence_is_a_sound(tmp_path):
    x, reader = sound_of(write_sound(tmp_path / "a.mp4", [np.zeros((1, 48_000), np.float32)], picture_sec=1))
    assert len(x) == pytest.approx(16_000, abs=1024)
    assert not x.any()
    assert reader.warning is None


def test_sound_that_starts_later_follows_silence(tmp_path):
    path = write_sound(tmp_path / "a.mkv", [tone(1, 48_000)], picture_sec=3, starts=(1.5,), codec="pcm_s16le")
    x, _ = sound_of(path)
    assert len(x) == pytest.approx(2.5 * SAMPLE_RATE_HZ, abs=50)
    assert loudness(x, 0, 1.48) == 0
    assert loudness(x, 1.55, 2.45) == pytest.approx(0.5 / 2**0.5, rel=0.02)


def test_sound_longer_than_the_film_is_read_to_its_end(tmp_path):
    path = write_sound(tmp_path / "a.mkv", [tone(3, 48_000)], picture_sec=1, codec="pcm_s16le")
    x, reader = sound_of(path)
    assert reader.info.duration_sec == pytest.approx(3, abs=0.01)
    assert loudness(x, 2, 2.9) == pytest.approx(0.5 / 2**0.5, rel=0.02)


def test_gaps_are_silence_and_overlaps_are_heard_once(tmp_path):
    rate, path = 16_000, tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        for start in (0.0, 0.5, 2.0, 2.4):  # a gap from 1.0 to 2.0, an overlap of 0.1
            samples = (tone(0.5, rate) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    x, reader = sound_of(path)
    assert len(x) == pytest.approx(2.9 * rate, abs=50)
    assert loudness(x, 1.01, 1.99) < 1e-3
    for start, end in ((0.02, 0.98), (2.02, 2.88)):
        assert loudness(x, start, end) == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert reader.warning is None


def test_a_clock_that_starts_anew_is_ignored_with_a_warning(tmp_path):
    parts = [write_sound(tmp_path / f"{n}.ts", [tone(2, 48_000)], codec="mp2") for n in "ab"]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    x, reader = sound_of(path)
    assert len(x) == pytest.approx(4 * SAMPLE_RATE_HZ, rel=0.05)
    assert loudness(x, 2.2, 3.8) == pytest.approx(0.5 / 2**0.5, rel=0.05)
    assert "its clock jumps at 2.0 s; ignored" in reader.warning


def test_the_default_track_is_heard_or_the_one_of_the_highest_rate(tmp_path):
    quiet, loud = tone(1, 48_000) * 0.1, tone(1, 48_000)
    path = write_sound(tmp_path / "a.mkv", [quiet, loud], codec="pcm_s16le")
    x, reader = sound_of(path)
    assert reader.info.num_tracks == 2
    assert loudness(x, 0.1, 0.9) == pytest.approx(0.05 / 2**0.5, rel=0.05)  # the first of two equal ones


def test_a_damaged_file_gives_what_can_be_decoded(tmp_path):
    path = write_sound(tmp_path / "a.wav", [tone(2, 16_000)], rate=16_000, codec="pcm_s16le")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    x, _ = sound_of(path)
    assert len(x) == pytest.approx(16_000, abs=2000)
    path.write_bytes(data[:40])
    with pytest.raises(MediaError, match=r"a.wav: "):
        list(SoundReader(path))


def test_a_child_gives_the_same_blocks(tmp_path):
    path = write_sound(tmp_path / "a.mp4", [tone(2.5, 48_000)], picture_sec=2)
    own = SoundReader(path)
    expected = list(own)
    with DecodePool() as pool:
        reader = pool.reader(path, kind=SoundReader)
        blocks = list(reader)
    for block, wanted in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block.samples, wanted.samples)
        assert block.start_sec == wanted.start_sec
    assert reader.info == own.info
