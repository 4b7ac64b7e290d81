"""What outputs never replace: inputs under any name, files of others, the program's own names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from videotag.errors import OutputError
from videotag.inference import outputs as module
from videotag.inference.input_files import input_identity, is_same_input
from videotag.inference.outputs import FileOutput, check_files, is_own_list, plan_outputs

OURS = re.compile("ours")


def write(path, text="text"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "failures.jsonl.mp4",
        "Runtime.JSON.mp4",
        "my.list.mp4",
        "my.list/a.mp4",
        ".videotag.lock.mp4",
        "a/info.json.mp4",
        "a/.b.new.partial.mp4",
    ],
)
def test_a_name_of_the_programs_own_files_is_reserved(work_dir, path):
    with pytest.raises(OutputError, match="is a name of the program's own files; rename the file or its"):
        plan_outputs([path], work_dir / "out", suffix="")


def test_names_that_only_hold_a_reserved_one_are_free(work_dir):
    paths = ["list.mp4", "a.list.b.mp4", "failures.jsonl2.mp4", "failures.jsonl.mp4"]
    assert len(plan_outputs(paths, work_dir / "out")) == 4, "features end in .npy, whatever stands before"


def test_two_outputs_that_are_one_through_a_link_are_named(work_dir):
    Path("out/x").mkdir(parents=True)
    Path("out/y").symlink_to("x")
    with pytest.raises(OutputError, match=r"y/a\.mp4: would write .*y/a\.npy, the output of x/a\.mp4"):
        plan_outputs(["x/a.mp4", "y/a.mp4"], work_dir / "out")


def test_where_case_does_not_count_names_that_differ_in_it_are_one(work_dir, monkeypatch):
    assert len(plan_outputs(["a.mp4", "A.mp4"], work_dir / "out")) == 2
    monkeypatch.setattr(module, "_folds_case", lambda folder: True)
    with pytest.raises(OutputError, match=r"A\.mp4: would write .*A\.npy, the output of a\.mp4"):
        plan_outputs(["a.mp4", "A.mp4"], work_dir / "out")


def test_case_is_looked_up_by_a_name_that_is_there(work_dir):
    Path("Here").mkdir()
    assert not module._folds_case(Path("Here/not/there"))
    Path("hERE").symlink_to("Here")  # as a file system answers that takes both for one name
    assert module._folds_case(Path("Here/not/there"))


@pytest.mark.parametrize("path", ["caf\udce9.mp4", "caf\udce9/a.mp4", "a\nb.mp4"])
def test_a_video_whose_output_no_list_can_hold_has_none(work_dir, path):
    assert list(plan_outputs([path, "b.mp4"], work_dir / "out")) == ["b.mp4"]


@pytest.mark.parametrize(
    ("suffix", "most"), [(".npy", 251), ("", 242)], ids=["features", "folders of frames, which are set aside"]
)
def test_a_video_whose_output_no_disk_can_hold_has_none(work_dir, suffix, most):
    names = ["b" * most + ".ts", "c" * (most + 1) + ".ts", "鲸" * 84 + ".ts", "b.mp4"]
    assert list(plan_outputs(names, work_dir / "out", suffix=suffix)) == [names[0], "b.mp4"]
    deep = "/".join(["d" * 100] * 37)
    assert not plan_outputs([f"{deep}/a.mp4"], work_dir / "out", suffix=suffix)


def test_what_is_not_part_of_the_output_path_need_not_be_utf8(work_dir):
    paths = ["/caf\udce9/a.mp4", "/caf\udce9/b.m\udce9", "/caf\udce9/c\t\x1b.mp4"]
    outputs = plan_outputs(paths, work_dir / "out")
    assert [output.name for output in outputs.values()] == ["a.npy", "b.npy", "c\t\x1b.npy"]


def test_a_save_dir_that_no_list_can_hold_is_refused(work_dir):
    with pytest.raises(
        OutputError, match=r"caf\\udce9': the name is not UTF-8, .*; choose another --save_dir"
    ):
        plan_outputs(["a.mp4"], work_dir / "caf\udce9")


# --- single files ---------------------------------------------------------------------------------------


def refused(output, *, inputs=(), overwrite=False):
    with pytest.raises(OutputError) as caught:
        check_files([FileOutput(Path(output), "--report", OURS)], inputs=inputs, overwrite=overwrite)
    return str(caught.value)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("how", ["itself", "another spelling", "symlink", "hard link", "linked folder"])
def test_an_input_is_never_replaced_whatever_it_is_called(work_dir, how, overwrite):
    write("in/a.txt", "ours")
    Path("soft").symlink_to("in/a.txt")
    os.link("in/a.txt", "hard")
    Path("folder").symlink_to("in")
    output = {
        "itself": "in/a.txt",
        "another spelling": "in/../in/a.txt",
        "symlink": "soft",
        "hard link": "hard",
        "linked folder": "folder/a.txt",
    }[how]
    text = refused(output, inputs=[None, "gone", "in/a.txt"], overwrite=overwrite)
    assert text.endswith("; give another --report")
    assert ("is an input itself" in text) or ("is the same file as the input in/a.txt" in text)


def test_what_the_program_made_and_what_is_empty_is_replaced(work_dir):
    for name, text in (("a", "ours, and more"), ("b", "")):
        check_files([FileOutput(write(name, text), "--report", OURS)], inputs=["other"])
    check_files([FileOutput(Path("new"), "--report", OURS)], inputs=["new"])


def test_what_somebody_else_made_is_replaced_by_overwrite_alone(work_dir):
    write("a", "theirs")
    expected = "a: exists and was not written by videotag; give another --report, or --overwrite"
    assert refused("a") == expected
    check_files([FileOutput(Path("a"), "--report", OURS)], inputs=(), overwrite=True)
    assert refused("a", overwrite=None) == expected.removesuffix(", or --overwrite")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_or_a_pipe_is_never_replaced(work_dir, overwrite):
    Path("folder").mkdir()
    os.mkfifo("pipe")
    assert "folder: a folder, expected a file" in refused("folder", overwrite=overwrite)
    assert "pipe: is not a regular file" in refused("pipe", overwrite=overwrite)


def test_two_outputs_in_one_file_are_named(work_dir):
    outputs = [FileOutput(Path("x/../a"), "--save_dir", OURS), FileOutput(Path("a"), "--report", OURS)]
    with pytest.raises(OutputError, match="a: --save_dir and --report write the same file; give another"):
        check_files(outputs, inputs=(), overwrite=True)


def test_a_link_to_nowhere_is_not_ours(work_dir):
    Path("a").symlink_to("nowhere")
    assert "a: exists and was not written by videotag" in refused("a")


# --- inputs that are the same ---------------------------------------------------------------------------


def test_an_input_is_the_same_where_it_was_whatever_is_in_it(work_dir):
    known = input_identity(str(write("in/a.mp4")), Path("out/a.npy"))
    assert known["path"] == "../in/a.mp4"
    write("in/a.mp4", "other and longer")
    assert is_same_input(known, "in/a.mp4", Path("out/a.npy"))
    assert is_same_input(known, str(work_dir / "in/a.mp4"), work_dir / "out/a.npy")
    Path("link.mp4").symlink_to("in/a.mp4")
    assert is_same_input(known, "link.mp4", Path("out/a.npy"))


def test_an_input_elsewhere_is_another_one_even_of_the_same_size_and_time(work_dir):
    known = input_identity(str(write("one/a.mp4")), Path("out/a.npy"))
    shutil.copy2("one/a.mp4", write("two/a.mp4"))
    assert not is_same_input(known, "two/a.mp4", Path("out/a.npy"))
    Path("one/a.mp4").unlink()
    assert is_same_input(known, "two/a.mp4", Path("out/a.npy")), "it was moved"
    write("two/a.mp4", "longer than before")
    assert not is_same_input(known, "two/a.mp4", Path("out/a.npy"))


def test_inputs_and_outputs_that_are_copied_together_stay_as_they_were(work_dir):
    known = input_identity(str(write("p/in/a.mp4")), write("p/out/a.npy"))
    shutil.copytree("p", "q")
    assert is_same_input(known, "q/in/a.mp4", Path("q/out/a.npy"))


@pytest.mark.parametrize("known", [{}, {"size": 1, "mtime_ns": 2}, {"path": 3}])
def test_outputs_of_versions_that_name_no_input_fit_any(work_dir, known):
    assert is_same_input(known, "a.mp4", Path("a.npy"))


# --- lists ----------------------------------------------------------------------------------------------


def own(path="out/v.list", folder="out"):
    return is_own_list(Path(path), Path(folder), is_listed=lambda place: place.suffix == ".npy")


def test_a_list_is_ours_if_it_names_outputs_in_the_folder_alone(work_dir):
    write("out/v.list", 'out/a.npy 1\n"out/b c.npy"\n')
    assert own()
    assert own(folder=str(work_dir / "out"))
    write("out/v.list", "out/a.npy 1\nelsewhere/b.npy\n")
    assert not own()
    write("out/v.list", "out/a.mp4\n")
    assert not own()
    write("out/v.list", "notes of mine")
    assert not own()
    Path("out/v.list").write_bytes(b"\x00\xff")
    assert not own()


def test_the_list_of_a_folder_that_was_moved_is_still_ours(work_dir):
    write("old/x/a.npy")
    write("old/v.list", "old/x/a.npy 1\n")
    Path("old").rename("new")
    assert own("new/v.list", "new")
    write("new/v.list", "old/x/gone.npy 1\n")
    assert not own("new/v.list", "new")
