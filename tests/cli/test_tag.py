"""`videotag tag`: the stage of weights, unsure results, segments that cannot be kept, names in Chinese."""

from __future__ import annotations

import json

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.cli.tables import tags_table
from videotag.cli.tag import DEFAULT_NOTE, segments_note
from videotag.inference import frame_tagging, tagger
from videotag.media.writer import write_video

FAST = ["--seg_num=8", "--precision=f32", "--backend=paddle"]


@pytest.fixture
def film(work_dir):
    """A gray film of 2 s, in which the built-in classifier is sure of nothing."""
    write_video("a.mp4", np.full((16, 64, 80, 3), 128, np.uint8), fps=8)
    return "a.mp4"


def tag(capsys, *words):
    assert main(["tag", *words, *FAST]) == 0
    return capsys.readouterr()


def result(name, end_secs, **values):
    starts = [0.0, *end_secs[:-1]]
    segments = [{"start_sec": a, "end_sec": b, "tags": []} for a, b in zip(starts, end_secs, strict=True)]
    return {"video_id": name, "segments": segments, **values}


def test_an_unsure_default_prints_its_best_guess_and_json_keeps_the_tags(film, capsys, monkeypatch):
    monkeypatch.setattr(tagger, "SURE_FROM", 1.0)
    out, err = tag(capsys, film, "--segment_sec=1")
    assert err.count(DEFAULT_NOTE) == 1
    video, unsure, *segments = out.splitlines()
    assert video == film
    assert unsure.startswith("  not sure (best guess: ")
    assert len(segments) == 2
    assert all("  not sure (best guess: " in line for line in segments)
    out, err = tag(capsys, film, "--segment_sec=1", "--json")
    (found,) = json.loads(out)
    assert found["not_sure"] is True
    assert len(found["tags"]) == 5
    assert [segment["not_sure"] for segment in found["segments"]] == [True, True]
    for flag in ("--threshold=0", "--infer_topk=3"):
        out, _ = tag(capsys, film, flag)
        assert "not sure" not in out
        assert len(out.splitlines()) == (6 if flag == "--threshold=0" else 4)


def test_a_sure_default_prints_tags(film, capsys, monkeypatch):
    monkeypatch.setattr(tagger, "SURE_FROM", 1e-6)
    out, err = tag(capsys, film, "--json")
    assert "not_sure" not in out
    assert err.count(DEFAULT_NOTE) == 1


def test_names_are_chinese_on_request(film, capsys):
    out, _ = tag(capsys, film, "--language=zh", "--json")
    (found,) = json.loads(out)
    assert all("\u4e00" <= name[0] <= "\u9fff" for name in (t["class_name"] for t in found["tags"]))
    assert main(["tag", film, "--language=fr"]) == 2
    assert "--language: invalid choice: 'fr' (choose from " in capsys.readouterr().err


def test_weights_are_put_where_they_belong(trained, capsys):
    """`trained` reads features of another width than those of the default first stage."""
    write_video("a.mp4", np.full((8, 64, 80, 3), 128, np.uint8), fps=8)
    assert main(["tag", "a.mp4", "--weights=ck", *FAST]) == 2
    err = capsys.readouterr().err
    assert "give the extractor that it was trained with by --extractor_weights" in err
    assert main(["tag", "a.mp4", "--weights=ck", "--predictor_weights=ck"]) == 2
    assert "--weights ck and --predictor_weights ck: both are a tagger" in capsys.readouterr().err
    assert main(["tag", "a.mp4", "--weights=ck,ck"]) == 2
    assert "expected one, not several" in capsys.readouterr().err
    out, err = tag(capsys, "a.mp4", "--weights=efficientnet_lite0_imagenet", "--threshold=0")
    assert len(out.splitlines()) == 6
    assert DEFAULT_NOTE in err


def test_segments_that_are_widened_are_said_once_with_the_frames_they_need(film, capsys):
    _, err = tag(capsys, film, film, "--segment_sec=0.5")
    (line,) = [line for line in err.splitlines() if "--segment_sec" in line]
    assert line == (
        "--segment_sec=0.5: too few frames are sampled from 2 of 2 videos for segments of that length; those "
        "of a.mp4 are 1 s long; give --seg_num=16 or a larger --segment_sec"
    )
    assert main(["tag", film, "--segment_sec=0.5", "--seg_num=16"]) == 0
    assert "--segment_sec" not in capsys.readouterr().err


def test_the_note_on_segments_says_what_was_used():
    kept, wide = result("a", [1.0, 2.0]), result("b", [6.0, 12.0])
    assert segments_note([], 1.0, is_given=True) is None
    assert segments_note([kept], 1.0, is_given=True) is None
    note = segments_note([kept, wide], 1.0, is_given=False)
    assert note is not None
    assert note.startswith("segments of 1 s: too few frames are sampled from 1 of 2 videos")
    assert "those of b are 6 s long; give --seg_num=48" in note
    short = [result("c", [3.5])]
    assert segments_note(short, 5.0, is_given=False) is None
    note = segments_note(short, 9.0, is_given=True)
    assert note == (
        "--segment_sec=9: longer than 1 of 1 videos, each of which is one segment; c is 3.5 s long; give a "
        "smaller --segment_sec"
    )
    none = [{"video_id": "d", "segments": []}]
    assert segments_note(none, 5.0, is_given=False) is None
    assert "no segments in 1 of 1 videos, such as d" in str(segments_note(none, 5.0, is_given=True))


def test_names_in_the_line_of_a_guess_are_escaped():
    tags = [{"class_id": 0, "class_name": "a\x1b[31m", "probability": 0.042}]
    text = tags_table({"video_id": "v", "tags": tags, "not_sure": True}, guesses=False)
    assert text == "v\n  not sure (best guess: a\\x1b[31m 0.04)"
    assert "no tag reaches" in tags_table({"video_id": "v", "tags": [], "not_sure": True}, guesses=False)


def test_the_bound_is_the_documented_one():
    assert frame_tagging.SURE_FROM == 0.15
