"""Segments of shots, and intervals of tags over neighboring segments."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.inference.frame_tagging import FrameTagger, TagOptions, rows_between
from videotag.inference.predict import Tag
from videotag.inference.tag_result import Interval, Segment, TagResult, intervals_of
from videotag.inputs.frames import Frames


def segment(start, end, **probabilities):
    tags = [Tag(ord(name) - ord("a"), name, p) for name, p in probabilities.items()]
    return Segment(start, end, tags)


def test_neighboring_segments_of_a_tag_are_one_interval_with_their_mean_probability():
    segments = [segment(0, 1, a=0.8), segment(1, 4, a=0.6, b=0.1), segment(4, 5, b=0.9), segment(5, 6, a=0.5)]
    assert intervals_of(0, segments) == [Interval(0, 4, pytest.approx(0.65)), Interval(5, 6, 0.5)]
    assert intervals_of(1, segments) == [Interval(4, 5, 0.9)]  # 0.1 is less than half of 0.9
    assert intervals_of(2, segments) == []
    assert intervals_of(0, []) == []


def test_intervals_are_keys_of_tags_in_json_if_there_are_segments():
    tags = [Tag(0, "a", 0.5)]
    assert "intervals" not in TagResult("v", tags, [], 1.0).to_dict()["tags"][0]
    (tag,) = TagResult("v", tags, [segment(0, 1.00049, a=0.5)], 1.0).to_dict()["tags"]
    assert tag["intervals"] == [{"start_sec": 0, "end_sec": 1.0, "probability": 0.5}]


@pytest.mark.parametrize(
    ("span", "rows"),
    [
        ((0, 2), (0, 2)),
        ((0.4, 1.6), (0, 2)),
        ((0.6, 1.4), (1, 1 + 1)),
        ((1.6, 1.9), (1, 2)),
        ((3.2, 9), (3, 4)),
    ],
)
def test_a_shot_has_the_frames_that_are_sampled_in_it_or_the_nearest(span, rows):
    """Four frames, sampled at 0.5, 1.5, 2.5 and 3.5 s."""
    found = rows_between(*span, 1.0, 4)
    assert found == rows


class RowTagger(FrameTagger):
    """Scores a segment by the numbers of its rows."""

    def __init__(self, **options):
        self.options = TagOptions(["a", "b"], 2, **options)

    def encode(self, videos):
        for item, _ in videos:
            yield item, None

    def scores(self, prepared, parts):
        return np.array([[0.5, 0.5], *([a / 10, b / 10] for a, b in parts)], np.float32), {}


def test_segments_are_shots_if_asked_for_and_equal_parts_otherwise():
    frames = Frames(np.zeros((8, 2, 2, 3), np.uint8), np.arange(8), 8.0, 8.0, None, (0.0, 1.0, 6.5))
    (by_shots,) = RowTagger(by_shots=True).results([("v", frames, False)])
    assert [(s.start_sec, s.end_sec) for s in by_shots.segments] == [(0, 1), (1, 6.5), (6.5, 8)]
    assert [s.tags[0].probability for s in by_shots.segments] == pytest.approx([0.1, 0.6, 0.8])
    (equal,) = RowTagger(segment_sec=4.0).results([("v", frames, False)])
    assert [(s.start_sec, s.end_sec) for s in equal.segments] == [(0, 4), (4, 8)]
