"""Videos to folders of JPEGs: which frames, what lies on the disk, what is kept, what is never touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from faulty_reader import use_faulty_reader
from PIL import Image

from videotag.cli.main import main
from videotag.media import frame_folder as module
from videotag.media.writer import write_video
from videotag.system.atomic import PARTIAL_MARK
from videotag.system.folder_lock import LOCK_FILE, folder_lock

GREY_STEP = 25


@pytest.fixture
def grey_video(work_dir):
    """grey_video("a.mp4", 8, fps=8): a video of 64 x 48 pixels whose frame n has the grey 25 n."""

    def make(name, num_frames=8, fps=8):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_video(name, [np.full((48, 64, 3), GREY_STEP * n, np.uint8) for n in range(num_frames)], fps=fps)
        return name

    return make


def frames(names, *flags, code=0):
    Path("videos.list").write_text("\n".join(names), encoding="utf-8")
    assert main(["frames", "--filelist=videos.list", "--save_dir=out", *flags]) == code


def numbers(folder):
    """The frame numbers that a folder's pictures show, in the order of their names."""
    pictures = sorted(Path(folder).glob("*.jpg"))
    assert [p.name for p in pictures] == [f"img_{i:05d}.jpg" for i in range(1, len(pictures) + 1)]
    return [round(np.asarray(Image.open(p)).mean() / GREY_STEP) for p in pictures]


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7]),
        (["--num_frames=4"], [1, 3, 5, 7]),
        (["--num_frames=16"], [n for n in range(8) for _ in range(2)]),
        (["--fps=2"], [2, 6]),  # the middles of half seconds, 0.25 and 0.75 s, at 8 frames per second
        (["--fps=100"], [0, 1, 2, 3, 4, 5, 6, 7]),
        (["--fps=0.01"], [4]),
    ],
)
def test_which_frames_are_written(grey_video, flags, expected):
    frames([grey_video("a.mp4")], *flags)
    assert numbers("out/a") == expected
    assert Path("out/videos.list").read_text(encoding="utf-8") == f"out/a {len(expected)}\n"


@pytest.mark.parametrize(
    ("flags", "size"), [(["--short_size=24"], (32, 24)), (["--short_size=0"], (64, 48)), ([], (341, 256))]
)
def test_size(grey_video, flags, size):
    frames([grey_video("a.mp4")], *flags)
    with Image.open("out/a/img_00001.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", size)


def test_a_higher_quality_is_larger(noise_video):
    sizes = []
    for quality in (20, 95):
        frames([noise_video("a.mp4")], f"--quality={quality}")
        sizes.append(Path("out/a/img_00001.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_folders_mirror_paths_and_the_list_quotes_and_carries_labels(grey_video):
    for name, count in (("in/one/a.mp4", 2), ("in/b c.mp4", 3)):
        grey_video(name, count)
    frames(["in/one/a.mp4 7 2", '"in/b c.mp4" 1', "in/one/a.mp4 5"])
    assert Path("out/videos.list").read_text(encoding="utf-8").splitlines() == [
        "out/in/one/a 2 7 2",
        '"out/in/b c" 3 1',
        "out/in/one/a 2 5",
    ]
    assert names_in("out/in/b c") == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg", "info.json"]
    assert names_in("out") == [LOCK_FILE, "in", "videos.list"]


def test_what_is_there_is_kept_and_what_changed_is_made_again(grey_video, capsys):
    names = [grey_video("a.mp4"), grey_video("b.mp4")]
    frames(names)
    frames(names)
    assert "written 0 (in part 0), kept 2, failed 0" in capsys.readouterr().out

    grey_video("b.mp4", 3)  # another video
    Path("out/a/info.json").write_text("[" * 100_000, encoding="utf-8")  # a damaged marker
    frames(names)
    assert "written 2 (in part 0), kept 0" in capsys.readouterr().out
    assert numbers("out/b") == [0, 1, 2]

    frames(names, "--num_frames=1")
    assert "written 2" in capsys.readouterr().out
    assert (numbers("out/a"), numbers("out/b")) == ([4], [1])
    assert names_in("out") == [LOCK_FILE, "a", "b", "videos.list"]


def test_a_run_broken_off_leaves_no_folder_and_the_next_goes_on(grey_video, monkeypatch, capsys):
    names = [grey_video(f"{i}.mp4") for i in range(3)]
    jpeg, calls = module._jpeg, iter(range(99))

    def interrupt(*args):
        if next(calls) == 11:  # in the middle of the second video
            raise KeyboardInterrupt
        return jpeg(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_jpeg", interrupt)
        frames(names, "--batch_size=1", code=130)
    assert [name for name in names_in("out") if not name.startswith(".")] == ["0"]
    Path("out/.1.new.0123456789abcdef0123456789abcdef.partial").mkdir(exist_ok=True)  # of a killed run
    Path("out/.1.new.0123456789abcdef0123456789abcdef.partial/img_00099.jpg").touch()
    capsys.readouterr()
    frames(names)
    assert "written 2 (in part 0), kept 1, failed 0" in capsys.readouterr().out
    assert numbers("out/1") == list(range(8))
    assert not [name for name in names_in("out") if PARTIAL_MARK in name]


def test_failures_are_listed_and_the_others_written(grey_video, monkeypatch, capsys):
    use_faulty_reader(monkeypatch)
    names = [grey_video("hangs.mp4"), grey_video("good.mp4"), grey_video("segfaults.mp4"), "missing.mp4"]
    frames(names, "--stall_limit_sec=1", code=1)
    out, err = capsys.readouterr()
    assert "written 1 (in part 0), kept 0, failed 3" in out
    assert "failures: out/failures.jsonl" in out
    assert "Traceback" not in err
    records = [json.loads(line) for line in Path("out/failures.jsonl").read_text().splitlines()]
    assert [(r["video_id"], r["retriable"]) for r in records] == [
        ("hangs.mp4", True),
        ("segfaults.mp4", True),
        ("missing.mp4", False),
    ]
    assert [name for name in names_in("out") if "partial" in name or name[0] in "hs"] == []
    assert numbers("out/good") == list(range(8))


@pytest.mark.parametrize("mine", ["notes.txt", "img_00001.jpg"])
def test_a_folder_that_is_not_ours_is_never_touched(grey_video, capsys, mine):
    grey_video("a.mp4")
    Path("out/a").mkdir(parents=True)
    Path("out/a", mine).write_text("mine", encoding="utf-8")
    frames(["a.mp4"], code=2)
    assert "that `videotag frames` did not write; move it away or choose another" in capsys.readouterr().err
    assert Path("out/a", mine).read_text(encoding="utf-8") == "mine"
    assert names_in("out/a") == [mine]


def test_what_was_put_into_our_folder_is_not_removed_with_it(grey_video, capsys):
    frames([grey_video("a.mp4")])
    Path("out/a/notes.txt").write_text("mine", encoding="utf-8")
    frames(["a.mp4"])  # kept
    frames(["a.mp4"], "--num_frames=2", code=2)
    assert "out/a: holds notes.txt that" in capsys.readouterr().err
    assert len(numbers("out/a")) == 8


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(grey_video, monkeypatch, capsys):
    names = [grey_video("a.mp4"), grey_video("b.mp4")]
    write = Path.write_bytes

    def fill(path, data):
        if "b.new" in str(path) and path.name == "img_00005.jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        frames(names, "--batch_size=1", code=2)
    err = capsys.readouterr().err
    assert (
        "out/b: cannot write (No space left on device); check the folder's permissions and free space" in err
    )
    assert "Traceback" not in err
    assert [name for name in names_in("out") if not name.startswith(".")] == ["a"]
    frames(names)
    assert "written 1 (in part 0), kept 1, failed 0" in capsys.readouterr().out


def test_a_second_run_into_a_folder_is_refused(grey_video, capsys):
    with folder_lock(Path("out")):
        frames([grey_video("a.mp4")], code=2)
    assert "out: another videotag process uses this folder" in capsys.readouterr().err


def test_folders_inside_each_other_are_refused_before_work(grey_video, capsys):
    frames([grey_video("a.mp4"), grey_video("a/b.mp4"), grey_video("a.mov.mp4")], code=2)
    assert "a/b.mp4: would write out/a/b inside out/a, the output of a.mp4; rename" in capsys.readouterr().err
    assert not Path("out").exists()


def test_frames_too_wide_for_a_jpeg_are_a_failure(grey_video, monkeypatch, capsys):
    monkeypatch.setattr(module, "_MAX_SIDE_PX", 60)
    frames([grey_video("a.mp4")], "--short_size=0", code=1)
    assert (
        "a.mp4: frames of 64x48 pixels, expected at most 60 on each side of a JPEG" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fps=0"], "--fps 0.0: expected a number above 0"),
        (["--fps=nan"], "--fps nan: expected a number above 0"),
        (["--fps=1e308"], "--fps 1e+308: expected a number above 0, at most 1000000"),
        (["--num_frames=1000001"], "--num_frames 1000001: expected at most 1000000"),
        (["--stall_limit_sec=1e308"], "expected 0 (no limit) to 1000000 seconds"),
        (["--fps=3", "--num_frames=3"], "not allowed with argument"),
        (["--quality=101"], "--quality 101: expected 1 to 100"),
        (["--stall_limit_sec=-1"], "--stall_limit_sec -1.0: expected 0 (no limit)"),
        (["--video_path=a.mp4"], "--video_path and --filelist: give one of them"),
    ],
)
def test_a_mistake_is_one_line(grey_video, capsys, flags, message):
    frames([grey_video("a.mp4")], *flags, code=2)
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_no_videos_named_is_one_line(work_dir, capsys):
    assert main(["frames"]) == 2
    assert "no videos; give --filelist with a list of videos, or --video_path" in capsys.readouterr().err
