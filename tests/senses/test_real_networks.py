"""The networks of installed packages on made-up videos; skipped where a package is missing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sound_files import tone, write_sound

from videotag.errors import ConfigError, WeightsError
from videotag.inference.load_senses import load_senses
from videotag.inputs.frames import OtherView
from videotag.media.decode_pool import DecodePool
from videotag.media.video import FrameReader
from videotag.media.views import View
from videotag.media.writer import write_video
from videotag.senses.search import Search


def sense(kind):
    try:
        (found,) = load_senses([kind])
    except (ConfigError, WeightsError) as error:
        pytest.skip(str(error))
    return found


def found_in(path, kind, duration_sec):
    search = Search([sense(kind)])
    for other in search.others:
        assert isinstance(other, OtherView)
        assert isinstance(other.view, View)
        options = {
            "fps": other.view.fps,
            "short_side_px": other.view.short_side_px,
            "size_px": other.view.size_px,
        }
        for frame in FrameReader(path, **options):
            other.take(frame)
    return search.finish(duration_sec)[kind]


def title(words):
    """(360, 640, 3): white words on dark blue."""
    picture = Image.new("RGB", (640, 360), (10, 20, 60))
    font = ImageFont.load_default(size=48)
    ImageDraw.Draw(picture).text((60, 150), words, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def test_text_is_read_with_its_times_and_place(tmp_path):
    first, second = title("Season finale"), title("Episode 42")
    write_video(tmp_path / "a.mp4", np.stack([first] * 20 + [second] * 20), fps=10)
    texts = found_in(tmp_path / "a.mp4", "text", 4.0)
    assert [one.text for one in texts] == ["Season finale", "Episode 42"]
    assert texts[0].start_sec < 0.5
    assert texts[0].end_sec == pytest.approx(2.0, abs=0.5)
    assert texts[1].end_sec == pytest.approx(4.0)
    left, top, right, bottom = texts[0].box
    assert 0.05 < left < 0.15
    assert 0.35 < top < bottom < 0.65
    assert right < 0.8


def test_a_cut_divides_two_shots_and_motion_does_not(tmp_path):
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(2):
        wide = rng.integers(0, 255, (6, 20, 3)).repeat(40, axis=0).repeat(40, axis=1).astype(np.uint8)
        scenes.append(np.stack([wide[:, 2 * t : 2 * t + 320] for t in range(60)]))  # a slow pan
    write_video(tmp_path / "a.mp4", np.concatenate(scenes), fps=25)
    shots = found_in(tmp_path / "a.mp4", "shots", 4.8)
    assert [one.start_sec for one in shots] == pytest.approx([0, 2.4], abs=0.05)
    assert shots[-1].end_sec == pytest.approx(4.8, abs=0.05)


@pytest.mark.parametrize("kind", ["sound", "speech"])
def test_a_tone_is_neither_speech_nor_words(tmp_path, kind):
    search = Search([sense(kind)])
    write_sound(tmp_path / "a.mp4", [tone(3.0, 48_000)], picture_sec=3.0)
    with DecodePool() as pool:
        search.hear(tmp_path / "a.mp4", pool, stall_limit_sec=60, stop=threading.Event())
    assert [one.text for one in search.finish(3.0)[kind] if one.text != "music"] == []
