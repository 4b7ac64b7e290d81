"""The benchmark of the senses: its scores, its generated videos and pictures, and its files that repeat."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import sense_runs
import sense_shots
import sense_text
import senses
from sense_scores import NO_MATCHES, Span, edit_distance, match, num_touched, share_correct

from videotag.media.synthetic import BACKGROUNDS
from videotag.media.video import FrameReader, probe
from videotag.media.writer import write_video
from videotag.senses.text import Line

CUTS = [Span(10, 10), Span(50, 50), Span(90, 90)]


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([10, 50, 90], CUTS, (1.0, 1.0, 1.0)),
        ([8, 52], CUTS, (1.0, 2 / 3, 0.8)),
        ([7, 53], CUTS, (0.0, 0.0, 0.0)),
        ([9, 11, 50, 70], CUTS, (0.5, 2 / 3, 4 / 7)),  # a second boundary at a cut is false
        ([], CUTS, (1.0, 0.0, 0.0)),
        ([3], [], (0.0, 1.0, 0.0)),
        ([], [], (1.0, 1.0, 1.0)),
        ([18, 42], [Span(20, 40)], (0.5, 1.0, 2 / 3)),  # a dissolve of 20 frames
        ([17], [Span(20, 40)], (0.0, 0.0, 0.0)),
    ],
)
def test_boundaries_count_within_two_frames_and_once(found, truth, expected):
    matches = match(found, truth, tolerance=2)
    assert (matches.precision, matches.recall, matches.f1) == pytest.approx(expected)


def test_matches_of_videos_add_up():
    total = NO_MATCHES + match([10, 30], CUTS, tolerance=2) + match([10], CUTS[:1], tolerance=2)
    assert (len(total.hits), len(total.misses), total.false) == (2, 2, (30,))
    assert total.f1 == pytest.approx(4 / 7)


def test_a_flash_counts_once_however_many_boundaries_it_makes():
    assert num_touched([20, 22, 60], [Span(20, 22), Span(40, 41)], tolerance=2) == 1


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("intention", "execution", 5),
        ("abcdef", "xabcdef", 1),
        ("特价买二送一", "特价买三送", 2),
    ],
)
def test_edit_distance(first, second, expected):
    assert edit_distance(first, second) == edit_distance(second, first) == expected


def test_the_share_of_correct_characters_is_that_of_all_texts_together():
    assert share_correct([("abcd", "abcd"), ("123456", "12x45")]) == pytest.approx(0.8)
    assert share_correct([("a", "nothing of it")]) == 0.0


# ---------------------------------------------------------------- generated material


@pytest.fixture
def scenes():
    """Two continuous shots of one brightness each."""
    size = (30, sense_shots.HEIGHT_PX, sense_shots.WIDTH_PX, 3)
    return [
        sense_shots.Scene(name, np.full(size, value, np.uint8)) for name, value in (("a", 60), ("b", 180))
    ]


@pytest.mark.parametrize("dissolve", [0, 6])
def test_the_truth_of_a_generated_video_is_where_its_picture_changes(scenes, dissolve, monkeypatch):
    monkeypatch.setattr(sense_shots, "GENERATED_SHARE", 0.0)
    monkeypatch.setattr(sense_shots, "NUM_PIECES", 4)
    video = sense_shots.make_video(scenes, np.random.default_rng(0), dissolve=dissolve)
    values = video.frames[:, 0, 0, 0]
    first, *_ = np.flatnonzero(np.diff(values.astype(int))) + 1
    assert (video.joins[0].first, len(video.joins)) == (first, 3)
    for span in video.joins:
        assert span.last - span.first == dissolve
        inside = values[span.first : span.last]
        assert len(set(inside.tolist())) == dissolve
        assert not {60, 180} & set(inside.tolist())
        assert {values[span.first - 1], values[span.last]} == {60, 180}


def test_flashes_are_short_bright_and_inside_of_pieces(scenes, monkeypatch):
    monkeypatch.setattr(sense_shots, "GENERATED_SHARE", 0.0)
    video = sense_shots.make_video(scenes, np.random.default_rng(1), flashes=True)
    assert len(video.flashes) == sense_shots.NUM_PIECES
    bright = np.zeros(len(video.frames), bool)
    for span in video.flashes:
        assert 1 <= span.last - span.first <= 3
        bright[span.first : span.last] = True
    np.testing.assert_array_equal(video.frames[:, 0, 0, 0] > 190, bright)


def test_neighbors_come_from_different_shots_and_backgrounds(scenes):
    video = sense_shots.make_video(scenes, np.random.default_rng(2))
    names = [name for name, _ in video.pieces]
    assert set(names) & set(BACKGROUNDS)
    assert set(names) & {"a", "b"}
    assert all(before != after for before, after in itertools.pairwise(names))


def test_what_is_read_in_a_band_belongs_to_its_line():
    def line(text, left, band):
        top = (band + 0.3) / sense_text.NUM_BANDS
        return Line(text, (left, top, left + 0.1, top + 0.05), 0.9)

    lines = [line("two", 0.5, 0), line("one", 0.1, 0), line("next", 0.1, 1)]
    assert [sense_text.in_band(lines, band) for band in (0, 1, 2)] == ["one two", "next", ""]


def test_a_film_is_repeated_without_encoding(work_dir):
    frames = [np.full((32, 32, 3), 10 * number, np.uint8) for number in range(10)]
    tone = np.zeros(16_000, np.float32), 16_000
    write_video("one.mp4", frames, fps=10, sound=tone)
    sense_runs.repeat_film(Path("one.mp4"), Path("long.mp4"), 2.5)
    info = probe("long.mp4")
    assert (info.num_frames, info.has_audio) == (30, True)
    once, repeated = (
        [frame.image for frame in FrameReader(path, short_side_px=None)] for path in ("one.mp4", "long.mp4")
    )
    np.testing.assert_array_equal(repeated, once * 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts=shots,none"], "--parts=shots,none: expected some of shots, ocr, speed, memory"),
        (["--parts="], "--parts=: expected some of shots"),
        (["--parts=speed", "--video=none.mp4"], "--video=none.mp4: no such file"),
        (["--parts=ocr", "--font=none.ttf"], "--font=none.ttf: no font with Chinese letters; give the path"),
    ],
)
def test_mistakes_end_the_benchmark(flags, message, work_dir, capsys):
    assert senses.main([*flags, "--out_dir=out"]) == 2
    assert message in capsys.readouterr().err
