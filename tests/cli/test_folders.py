"""Folders in place of lists: all their videos are taken, and what else is in them is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.media.writer import write_video

WEIGHTS = "efficientnet_lite0_imagenet"
LEFT_OUT = "clips: 2 videos; 3 files left out (.txt 2, .srt 1)"


@pytest.fixture
def clips(work_dir):
    """A folder of two videos, three other files and a hidden one; and a folder of a video alone."""
    for path in ("clips/a.mp4", "clips/deep/b.MOV", "more/c.m4v"):
        frames = np.random.default_rng(0).integers(0, 255, (8, 64, 80, 3), dtype=np.uint8)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_video(Path(path).with_suffix(".mp4"), frames, fps=8)
        Path(path).with_suffix(".mp4").rename(path)
    for path in ("clips/a.txt", "clips/deep/b.TXT", "clips/a.srt", "clips/.a.mp4"):
        Path(path).touch()
    return work_dir


def test_tag_counts_what_it_leaves_out_on_stderr_and_prints_json_alone(clips, capsys):
    assert main(["tag", "clips/", "more", "--seg_num=2", "--json"]) == 0
    out, err = capsys.readouterr()
    tagged = [result["video_id"] for result in json.loads(out)]
    assert tagged == ["clips/a.mp4", "clips/deep/b.MOV", "more/c.m4v"]
    lines = err.splitlines()
    assert [line for line in lines if "left out" in line] == [LEFT_OUT, LEFT_OUT]  # first and last
    assert (lines[0], lines[-1]) == (LEFT_OUT, LEFT_OUT)


def test_predict_counts_what_it_leaves_out(clips, capsys):
    words = ["predict", f"--weights={WEIGHTS}", "--video_path=clips", "--set=INFER.seg_num=2", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["video_id"] for line in out.splitlines()] == ["clips/a.mp4", "clips/deep/b.MOV"]
    assert err.splitlines().count(LEFT_OUT) == 2


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (["extract", f"--weights={WEIGHTS}", "--set=INFER.seg_num=2"], "extracted 2 (in part 0), kept 0"),
        (["frames", "--num_frames=1"], "written 2 (in part 0), kept 0"),
    ],
)
def test_summaries_count_what_was_left_out(clips, capsys, words, done):
    assert main([*words, "--video_path=clips", "--save_dir=out"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [f"{done}, failed 0", LEFT_OUT]
    assert err.splitlines().count(LEFT_OUT) == 1
    assert main([*words, "--video_path=more", "--save_dir=out"]) == 0
    assert "left out" not in "".join(capsys.readouterr())


BAD_NAMES = {  # as Python holds them -> as lines show them, and why
    "clips/caf\udce9.mp4": (r"clips/caf\udce9.mp4", "the name is not UTF-8, as a list must be"),
    "clips/n\nl.mp4": (r"clips/n\nl.mp4", "a list cannot hold an empty path, a line break or NUL"),
}


@pytest.mark.parametrize(
    "words", [["extract", f"--weights={WEIGHTS}", "--set=INFER.seg_num=2"], ["frames", "--num_frames=1"]]
)
def test_files_whose_names_no_list_can_hold_fail_and_the_others_are_done(clips, capsys, words):
    for name in BAD_NAMES:
        shutil.copy("clips/a.mp4", name)
    assert main([*words, "--video_path=clips", "--save_dir=out"]) == 1
    out, err = capsys.readouterr()
    assert "2 (in part 0), kept 0, failed 2" in out
    for name, why in BAD_NAMES.values():
        assert f"failed: '{name}': {why}; rename the file\n" in err
    (list_path,) = Path("out").glob("*.list")
    assert len(list_path.read_text(encoding="utf-8").splitlines()) == 2
    failures = Path("out/failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["video_id"] for line in failures] == list(BAD_NAMES)


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (["extract", f"--weights={WEIGHTS}", "--set=INFER.seg_num=2"], 3),
        (["frames", "--num_frames=1"], 2),
    ],
)
def test_files_of_long_names_are_done_where_a_disk_takes_their_outputs(clips, capsys, words, done):
    for name in ("x" * 219 + ".mp4", "x" * 251 + ".mp4", "x" * 252 + ".ts"):
        shutil.copy("clips/a.mp4", f"clips/{name}")
    for kept in (0, done + 1):
        assert main([*words, "--video_path=clips", "--save_dir=out"]) == 1
        out, err = capsys.readouterr()
        assert f"{done + 1 - kept} (in part 0), kept {kept}, failed {4 - done}" in out
        assert err.count("the path of its output is too long; rename the file") == 4 - done


@pytest.mark.parametrize(
    "words",
    [["tag", "clips", "--seg_num=2"], ["predict", f"--weights={WEIGHTS}", "--video_path=clips"]],
)
def test_tag_and_predict_take_names_that_are_not_utf8_as_they_write_no_list(clips, capsys, words):
    shutil.copy("clips/a.mp4", "clips/caf\udce9.mp4")
    assert main([*words, "--save_dir=out"]) == 0
    assert "\nclips/caf\\udce9.mp4\n" in capsys.readouterr().out
    predictions = json.loads(Path("out/predictions.json").read_text(encoding="utf-8"))
    assert "clips/caf\udce9.mp4" in [prediction["video_id"] for prediction in predictions]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no videos in this folder or below it, nor other files; check the path"),
        ((".a.mp4",), "no videos in this folder or below it, nor other files; check the path"),
        (
            ("a.dat", "b/a.dat", "b/c.npy"),
            "no videos in this folder or below it, 3 files left out (.dat 2, .npy 1); if one of them is a "
            "video, give its own path",
        ),
    ],
)
@pytest.mark.parametrize("words", [["tag", "x"], ["frames", "--video_path=x"]])
def test_a_folder_without_videos_says_what_is_in_it(work_dir, capsys, words, files, message):
    Path("x/b").mkdir(parents=True)
    for name in files:
        Path("x", name).touch()
    assert main(words) == 2
    assert capsys.readouterr().err == f"videotag {words[0]}: x: {message}\n"


def test_a_file_that_is_named_itself_is_read_whatever_its_suffix(clips, capsys):
    Path("clips/a.mp4").rename("clips/a.dat")
    assert main(["frames", "--video_path=clips/a.dat", "--num_frames=1", "--save_dir=out"]) == 0
    assert "written 1" in capsys.readouterr().out


def test_control_characters_in_a_suffix_do_not_reach_the_terminal(clips, capsys):
    Path("clips/x.\x1b[2J\n").touch()
    assert main(["frames", "--video_path=clips", "--num_frames=1", "--save_dir=out"]) == 0
    out, err = capsys.readouterr()
    line = "clips: 2 videos; 4 files left out (.txt 2, .srt 1, other 1)"
    assert line in out
    assert line in err
    assert "\x1b[2j" not in (out + err).lower()
