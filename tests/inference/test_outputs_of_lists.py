"""extract and frames never replace a list, an input, or what was made of another input; reruns go on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.formats.feature_files import read_stamp, write_features

EXTRACT = ["extract", "--precision=f32", "--set=INFER.seg_num=2"]


@pytest.fixture
def command(tsn_dir, noise_video, monkeypatch, capsys):
    """command("train", "--filelist=v.list", code=2): runs extract in a folder; what it says on stderr."""

    def run(folder, *words, code=0, name="extract"):
        words = [
            *EXTRACT,
            f"--config={tsn_dir / 'tsn.yaml'}",
            f"--weights={tsn_dir / 'tsn.pdparams'}",
            *words,
        ]
        if name == "frames":
            words = ["frames", "--num_frames=2", *words[5:]]
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            assert main(words) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return err if code else out

    return run


def listed(folder, *videos, name="v.list"):
    Path(folder).mkdir(exist_ok=True)
    Path(folder, name).write_text("".join(f"{video} 1\n" for video in videos), encoding="utf-8")


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def two_splits(noise_video):
    """train/fight/a.mp4 and test/fight/a.mp4, each in the v.list of its own folder."""
    for seed, split in enumerate(("train", "test")):
        Path(split, "fight").mkdir(parents=True)
        noise_video(f"{split}/fight/a.mp4", seed=seed)
        listed(split, "fight/a.mp4")


@pytest.mark.parametrize(("name", "made"), [("extract", "a.npy"), ("frames", "a/img_00001.jpg")])
def test_two_runs_whose_inputs_mirror_to_one_output(two_splits, command, name, made):
    words = ["--filelist=v.list", "--save_dir=../out"]
    command("train", *words, name=name)
    before = Path("out/fight", made).read_bytes()
    err = command("test", *words, name=name, code=2)
    what = {"extract": "features", "frames": "frames"}[name]
    assert f"{what} of ../train/fight/a.mp4, not of fight/a.mp4; choose another --save_dir, or" in err
    assert len(err.splitlines()) == 1
    assert Path("out/fight", made).read_bytes() == before
    assert "kept 1" in command("train", *words, name=name)
    command("test", *words, "--overwrite", name=name)
    assert Path("out/fight", made).read_bytes() != before
    assert "kept 1" in command("test", *words, name=name)


@pytest.mark.parametrize("name", ["extract", "frames"])
def test_two_lists_of_absolute_paths_that_mirror_to_one_output(two_splits, command, work_dir, name):
    for split in ("train", "test"):
        listed(".", work_dir / split / "fight/a.mp4", name=f"{split}.list")
    command(".", "--filelist=train.list", "--save_dir=out", name=name)
    err = command(".", "--filelist=test.list", "--save_dir=out", name=name, code=2)
    what = {"extract": "features", "frames": "frames"}[name]
    assert f"{what} of train/fight/a.mp4, not of {work_dir}/test/fight/a.mp4; choose another" in err
    assert not Path("out/test.list").exists()
    command(".", "--filelist=test.list", "--save_dir=out", f"--root={work_dir}", name=name)


@pytest.mark.parametrize("name", ["extract", "frames"])
def test_two_lists_of_one_name_do_not_share_a_save_dir(command, noise_video, name):
    for split in ("train", "test"):
        Path(split).mkdir()
        noise_video(f"{split}/a.mp4")
        noise_video(f"{split}/b.mp4")
        listed(split, f"{split}/a.mp4")
    command(".", "--filelist=train/v.list", "--save_dir=out", name=name)
    before = Path("out/v.list").read_text(encoding="utf-8")
    err = command(".", "--filelist=test/v.list", "--save_dir=out", name=name, code=2)
    what = {"extract": "features", "frames": "frames"}[name]
    entry = {"extract": "out/train/a.npy", "frames": "out/train/a"}[name]
    assert f"out/v.list: lists {entry}, but no {what} of test/v.list; rename one of the two" in err
    assert "choose another --save_dir, or give --overwrite" in err
    assert Path("out/v.list").read_text(encoding="utf-8") == before
    assert not Path("out/test").exists()
    listed("train", "train/b.mp4", "train/a.mp4")  # the same list, longer
    assert "kept 1" in command(".", "--filelist=train/v.list", "--save_dir=out", name=name)
    listed("train", "train/b.mp4")  # and shorter
    command(".", "--filelist=train/v.list", "--save_dir=out", name=name)
    command(".", "--filelist=test/v.list", "--save_dir=out", "--overwrite", name=name)
    assert Path("out/v.list").read_text(encoding="utf-8").startswith("out/test/a")


@pytest.mark.parametrize(
    ("list_name", "message"),
    [
        ("runtime.json", "is an input itself; "),
        (".videotag.lock", "is an input itself; "),
        ("failures.jsonl", "JSON lines, which train, eval, predict and export read; write one"),
    ],
)
def test_a_list_under_a_name_of_the_programs_own_is_not_replaced(noise_video, command, list_name, message):
    noise_video("a.mp4")
    listed(".", "a.mp4", name=list_name)
    err = command(".", f"--filelist={list_name}", "--save_dir=.", "--overwrite", code=2)
    assert f"{list_name}: {message}" in err
    assert Path(list_name).read_text(encoding="utf-8") == "a.mp4 1\n"


@pytest.mark.parametrize("name", ["extract", "frames"])
def test_another_input_of_the_same_size_and_time_is_not_taken_for_the_first(two_splits, command, name):
    words = ["--filelist=v.list", "--save_dir=../out"]
    command("train", *words, name=name)
    shutil.copy2("train/fight/a.mp4", "test/fight/a.mp4")
    command("test", *words, name=name, code=2)
    assert " 1 (in part 0), kept 0" in command("test", *words, "--overwrite", name=name)


@pytest.mark.parametrize("name", ["extract", "frames"])
def test_a_rerun_goes_on_also_with_a_changed_or_moved_input(command, noise_video, name):
    noise_video("a.mp4")
    listed(".", "a.mp4")
    words = ["--filelist=v.list", "--save_dir=out"]
    command(".", *words, name=name)
    assert "kept 1" in command(".", *words, name=name)
    noise_video("a.mp4", num_frames=9, seed=7)
    assert " 1 (in part 0), kept 0" in command(".", *words, name=name)
    Path("p").mkdir()
    for path in ("a.mp4", "v.list", "out"):
        Path(path).rename(Path("p", path))
    assert "kept 1" in command("p", *words, name=name)
    Path("p/out").rename("elsewhere")
    assert "kept 1" in command("p", "--filelist=v.list", "--save_dir=../elsewhere", name=name)
    shutil.copytree("p", "q")
    Path("q/out").symlink_to("../elsewhere")
    assert "kept 1" in command("p", "--filelist=v.list", "--save_dir=../q/out", name=name)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["extract", "frames"])
def test_the_list_of_videos_is_never_replaced_by_that_of_results(command, noise_video, name, overwrite):
    noise_video("a.mp4")
    listed("in", "a.mp4")
    before = Path("in/v.list").read_bytes()
    words = ["--filelist=in/v.list", "--save_dir=in"]
    assert "in/v.list: is an input itself; choose another" in command(
        ".", *words, *overwrite, name=name, code=2
    )
    os.link("in/v.list", "hard.list")
    words = ["--filelist=hard.list", "--save_dir=out"]
    Path("out").mkdir()
    Path("out/hard.list").symlink_to("../in/v.list")
    err = command(".", *words, *overwrite, name=name, code=2)
    assert "out/hard.list: is the same file as the input hard.list; choose another --save_dir" in err
    assert Path("in/v.list").read_bytes() == before
    assert names_in("in") == ["v.list"]


@pytest.mark.parametrize("text", ["clips/b.mp4 1\n", "elsewhere/b.npy 1\n", "out/unstamped.npy\n", "notes\n"])
def test_a_list_of_somebody_else_is_replaced_by_overwrite_alone(command, noise_video, text):
    noise_video("a.mp4")
    listed(".", "a.mp4")
    Path("out").mkdir()
    np.save("out/unstamped.npy", np.ones((2, 3)))
    Path("out/v.list").write_text(text, encoding="utf-8")
    words = ["--filelist=v.list", "--save_dir=out"]
    err = command(".", *words, code=2)
    assert (
        "out/v.list: exists and is not a list of this folder's features written by videotag; choose another"
        in err
    )
    assert Path("out/v.list").read_text(encoding="utf-8") == text
    assert names_in("out") == ["unstamped.npy", "v.list"]
    command(".", *words, "--overwrite")
    assert Path("out/v.list").read_text(encoding="utf-8") == "out/a.npy 1\n"
    command(".", *words)


def test_features_and_frames_do_not_replace_each_others_list(command, noise_video):
    noise_video("a.mp4")
    listed(".", "a.mp4")
    words = ["--filelist=v.list", "--save_dir=out"]
    command(".", *words)
    err = command(".", *words, name="frames", code=2)
    assert "out/v.list: exists and is not a list of this folder's frames written by videotag" in err


def test_unstamped_features_and_other_files_are_replaced_by_overwrite_alone(command, noise_video):
    for name in "abcde":
        noise_video(f"{name}.mp4")
    listed(".", *(f"{name}.mp4" for name in "abcde"))
    Path("out").mkdir()
    np.save("out/a.npy", np.ones((2, 3)))
    Path("out/b.npy").write_text("no features", encoding="utf-8")
    np.save("out/c.npy", np.array([{}], dtype=object), allow_pickle=True)
    os.mkfifo("out/d.npy")
    write_features("out/e.npy", np.ones((2, 3)), stamp={"of": "a version that did not name its input"})
    before = Path("out/a.npy").read_bytes()
    words = ["--filelist=v.list", "--save_dir=out"]
    lines = command(".", *words, code=2).splitlines()
    for line, name in zip(lines[:3], "abc", strict=True):
        assert (
            f"out/{name}.npy: exists and was not written by videotag; choose another --save_dir, or" in line
        )
    assert lines[3] == "out/d.npy: is not a regular file; choose another --save_dir"
    assert len(lines) == 4
    assert Path("out/a.npy").read_bytes() == before
    Path("out/d.npy").unlink()
    assert "extracted 5" in command(".", *words, "--overwrite")
    assert read_stamp("out/a.npy")["input"]["path"] == "../a.mp4"


def test_damaged_and_empty_features_are_made_again(command, noise_video):
    names = ("cut", "header", "empty")
    for name in names:
        noise_video(f"{name}.mp4")
    listed(".", *(f"{name}.mp4" for name in names))
    words = ["--filelist=v.list", "--save_dir=out"]
    command(".", *words)
    for name, size in zip(names, (200, 20, 0), strict=True):
        path = Path(f"out/{name}.npy")
        path.write_bytes(path.read_bytes()[:size])
    assert "extracted 3" in command(".", *words)


def test_stamps_that_do_not_name_their_input_are_kept_and_replaced_as_ours(command, noise_video):
    noise_video("a.mp4")
    listed(".", "a.mp4")
    words = ["--filelist=v.list", "--save_dir=out"]
    command(".", *words)
    stamp = read_stamp("out/a.npy")
    del stamp["input"]["path"]
    write_features("out/a.npy", np.load("out/a.npy"), stamp=stamp)
    assert "kept 1" in command(".", *words)
    noise_video("a.mp4", num_frames=9, seed=7)
    assert "extracted 1" in command(".", *words)
    assert read_stamp("out/a.npy")["input"]["path"] == "../a.mp4"


def test_an_input_at_the_place_of_its_output_is_never_replaced(command, noise_video):
    Path(noise_video("a.mp4")).rename("a.npy")  # a video, whatever its suffix
    before = Path("a.npy").read_bytes()
    listed(".", "a.npy")
    err = command(".", "--filelist=v.list", "--save_dir=.", "--overwrite", code=2)
    assert "a.npy: is an input itself" in err
    Path("a.npy").rename("a")
    listed(".", "a")
    assert "a: is an input itself" in command(".", "--filelist=v.list", "--save_dir=.", name="frames", code=2)
    assert Path("a").read_bytes() == before


def test_foreign_failures_are_not_removed(command, noise_video):
    noise_video("a.mp4")
    Path("out").mkdir()
    Path("out/failures.jsonl").write_text("my own\n", encoding="utf-8")
    err = command(".", "--video_path=a.mp4", "--save_dir=out", code=2)
    assert "out/failures.jsonl: exists and was not written by videotag; give another --save_dir, or" in err
    assert Path("out/failures.jsonl").read_text(encoding="utf-8") == "my own\n"


def test_failures_of_an_earlier_run_are_forgotten(command, noise_video):
    noise_video("a.mp4")
    listed(".", "a.mp4", "gone.mp4")
    words = ["--filelist=v.list", "--save_dir=out"]
    command(".", *words, code=1)
    command(".", *words, code=1)
    assert Path("out/failures.jsonl").read_text(encoding="utf-8").count("\n") == 1


def test_frames_are_not_written_into_a_folder_of_frames(command, noise_video):
    noise_video("a.mp4")
    command(".", "--video_path=a.mp4", "--save_dir=out", name="frames")
    Path("a").mkdir()
    noise_video("a/b.mp4")
    err = command(".", "--video_path=a/b.mp4", "--save_dir=out", name="frames", code=2)
    assert "a/b.mp4: would write out/a/b inside out/a, a folder of frames; choose another --save_dir" in err


def test_a_foreign_folder_is_found_before_the_first_video(command, noise_video):
    for name in ("a.mp4", "b.mp4"):
        noise_video(name)
    listed(".", "a.mp4", "b.mp4")
    Path("out/b").mkdir(parents=True)
    Path("out/b/mine.txt").touch()
    words = ["--filelist=v.list", "--save_dir=out", "--overwrite"]
    err = command(".", *words, name="frames", code=2)
    assert "out/b: holds mine.txt that `videotag frames` did not write; move it away" in err
    assert names_in("out") == ["b"]
