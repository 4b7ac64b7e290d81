"""The HTML page: self-contained, safe, and showing why."""

from __future__ import annotations

import json
import re

import numpy as np

from videotag.formats.predictions import read_predictions
from videotag.media.writer import write_video
from videotag.reports.tags_report import NUM_THUMBNAILS, curve_points, thumbnails, write_report

TAGS = [
    {"class_id": 0, "class_name": "cat", "probability": 0.75},
    {"class_id": 1, "class_name": "<script>alert(1)</script>", "probability": 0.25},
]


def result(video_id, **more):
    return {"video_id": video_id, "tags": TAGS, **more}


def page_of(tmp_path, results, **options):
    write_report(tmp_path / "r.html", results, **options)
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def make_video(path):
    write_video(path, np.random.default_rng(0).integers(0, 255, (10, 32, 48, 3), dtype=np.uint8), fps=5)
    return str(path)


def test_the_page_holds_everything_itself_and_runs_nothing(tmp_path):
    page = page_of(tmp_path, [result(make_video(tmp_path / "a.mp4"))])
    assert page.count("data:image/jpeg;base64,") == NUM_THUMBNAILS
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_names_from_files_are_shown_as_text(tmp_path):
    page = page_of(tmp_path, [result('"><img src=x onerror=alert(1)>.mp4')], title="<b>", note="<i>")
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page


def test_attention_is_a_curve_of_one_point_per_step(tmp_path):
    page = page_of(tmp_path, [result("a.mp4", duration_sec=3.0, attention={"rgb": [0.1, 0.4, 0.5]})])
    (points,) = re.findall(r'<polyline points="([^"]*)"', page)
    assert points == "0.5,80.0 1.5,20.0 2.5,0.0"  # the largest weight at the top, 0 at 100
    assert "peak weight 0.500, uniform would be 0.333" in page


def test_a_curve_of_zeros_or_of_nothing_lies_at_the_bottom():
    assert curve_points([0.0, 0.0]) == "0.5,100.0 1.5,100.0"
    assert curve_points([]) == ""


def test_true_tags_are_marked_and_missed_ones_named(tmp_path):
    page = page_of(tmp_path, [result("a.mp4")], truth={"a.mp4": ["cat", "dog"]})
    assert re.search(r'class="true">cat &#10003;', page)
    assert "True tags that were not predicted: dog" in page
    assert "True, but" not in page_of(tmp_path, [result("a.mp4")])


def test_a_video_that_is_gone_is_shown_without_thumbnails(tmp_path):
    page = page_of(tmp_path, [result("gone.mp4")])
    assert "No thumbnails" in page
    assert "cat" in page


def test_predictions_of_features_have_tags_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    assert "cat" in page_of(tmp_path, [result(str(tmp_path / "a.npy"))])


def test_segments_show_their_first_tag_and_metrics_their_numbers(tmp_path):
    segments = [{"start_sec": 0, "end_sec": 1, "tags": TAGS}, {"start_sec": 1, "end_sec": 2, "tags": []}]
    page = page_of(tmp_path, [result("a.mp4", segments=segments)], metrics={"gap": 0.123456, "num_videos": 3})
    assert 'class="segments"' in page
    assert "0.1235" in page
    assert "<td>3</td>" in page


def test_findings_are_tracks_placed_by_their_times(tmp_path):
    found = {
        "duration_sec": 10.0,
        "shots": [{"start_sec": 0.0, "end_sec": 4.0}, {"start_sec": 4.0, "end_sec": 10.0}],
        "texts": [{"text": "<b>hi</b>", "start_sec": 2.5, "end_sec": 30.0, "box": None, "probability": 0.9}],
        "sounds": None,
    }
    (tmp_path / "p.json").write_text(json.dumps([result("a.mp4", **found), result("b.mp4")]))
    read = read_predictions(tmp_path / "p.json")
    assert (read[0]["sounds"], "speech" in read[0], "shots" in read[1]) == (None, False, False)
    page = page_of(tmp_path, read)
    assert page.count('class="track"') == 3
    assert 'style="left: 40.000%; width: 60.000%" title="4.00 - 10.00 s' in page
    assert 'style="left: 25.000%; width: 75.000%" title="2.50 - 30.00 s' in page  # cut at the film's end
    assert "&lt;b&gt;hi&lt;/b&gt;" in page
    assert "none: the file has no sound" in page


def test_what_is_not_sure_is_marked_and_keeps_its_tags(tmp_path):
    segments = [
        {"start_sec": 0, "end_sec": 1, "tags": TAGS, "not_sure": True},
        {"start_sec": 1, "end_sec": 2, "tags": TAGS},
    ]
    page = page_of(tmp_path, [result("a.mp4", segments=segments, not_sure=True), result("b.mp4")])
    assert page.count("Not sure: the probability of the best class is too low") == 1
    assert page.count(">not sure</div>") == 1
    assert page_of(tmp_path, [result("a.mp4")]).lower().count("not sure") == 0
    (tmp_path / "p.json").write_text(json.dumps([result("a.mp4", segments=segments, not_sure=True)]))
    read = read_predictions(tmp_path / "p.json")
    assert read[0]["not_sure"] is True
    assert [segment["not_sure"] for segment in read[0]["segments"]] == [True, False]


def test_a_short_video_fills_the_strip(tmp_path):
    write_video(tmp_path / "one.mp4", [np.zeros((32, 32, 3), np.uint8)], fps=5)
    assert len(thumbnails(str(tmp_path / "one.mp4"))) == NUM_THUMBNAILS
