"""Atomic files and folders."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from videotag.errors import OutputError
from videotag.system import atomic
from videotag.system.atomic import (
    PARTIAL_MARK,
    append_whole,
    check_room,
    open_atomic,
    remove_partial,
    replace_folder,
    temporary_folder,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_content_appears_when_the_block_ends_and_parents_are_made(tmp_path):
    path = tmp_path / "new" / "a.bin"
    with open_atomic(path) as file:
        file.write(b"\x00\n\r")
        assert not path.exists()
        assert PARTIAL_MARK in names_in(path.parent)[0]
    assert path.read_bytes() == b"\x00\n\r"
    assert names_in(path.parent) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_inside_the_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail_half_way():
        with open_atomic(path, "w") as file:
            file.write("new")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_text_is_utf8_with_unix_line_ends_and_replaces_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(str(tmp_path / "a.txt"), "标签\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == "标签\r\n\n".encode()


def test_folder_of_that_name_is_an_output_error(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(
        OutputError, match=r"a\.txt: cannot write \(Is a directory\); check the folder's permissions and"
    ):
        write_text(tmp_path / "a.txt", "x")
    assert names_in(tmp_path) == ["a.txt"]


def test_file_in_place_of_the_parent_folder_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_name_too_long_for_the_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / ("a" * 300), "x")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["a" * 255, "鲸" * 85, "a" + "鲸" * 84, "caf\udce9" + "b" * 251], ids=[0, 1, 2, 3]
)
def test_the_longest_names_that_a_disk_takes_are_written(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert names_in(tmp_path) == [name]
    (tmp_path / name).unlink()
    folder = tmp_path / os.fsdecode(os.fsencode(name)[: atomic.MAX_FOLDER_NAME_BYTES])
    for text in ("old", "new"):
        with replace_folder(folder) as aside:
            (aside / "a.txt").write_text(text, encoding="utf-8")
            left = tmp_path / f"{aside.name[:-40]}{'0' * 32}{PARTIAL_MARK}"
        left.mkdir(exist_ok=True)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "new"
    remove_partial(tmp_path)
    assert names_in(tmp_path) == [folder.name]


def test_a_folder_is_replaced_whole_when_the_block_ends(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old.txt").write_text("old", encoding="utf-8")
    with replace_folder(tmp_path / "f") as new:
        assert names_in(new) == []
        (new / "new.txt").write_text("new", encoding="utf-8")
        assert names_in(tmp_path / "f") == ["old.txt"]
    assert names_in(tmp_path / "f") == ["new.txt"]
    assert names_in(tmp_path) == ["f"]
    with replace_folder(tmp_path / "a" / "b"):
        pass
    assert names_in(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old.txt").write_text("old", encoding="utf-8")

    def fail_half_way():
        with replace_folder(tmp_path / "f") as new:
            (new / "new.txt").write_text("new", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert names_in(tmp_path / "f") == ["old.txt"]
    assert names_in(tmp_path) == ["f"]


def test_an_error_about_a_file_inside_names_its_final_path(tmp_path):
    with (
        pytest.raises(OutputError, match=f"^{tmp_path}/f/a.onnx: cannot write"),
        replace_folder(tmp_path / "f") as new,
        open_atomic(new / "a.onnx"),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(5, "Input/output error"), OutputError, r"f: cannot write \(Input/output error\)"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch, error, expected, message):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old.txt").write_text("old", encoding="utf-8")
    rename = Path.rename

    def only_away(self, target):
        if ".new." in self.name:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_away)
    with pytest.raises(expected, match=message), replace_folder(tmp_path / "f"):
        pass
    assert names_in(tmp_path / "f") == ["old.txt"]
    assert names_in(tmp_path) == ["f"]


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A folder in which a process was killed between the two renames of replace_folder(tmp_path / "f.x")."""
    (tmp_path / "f.x").mkdir()
    (tmp_path / "f.x" / "old.txt").write_text("old", encoding="utf-8")
    rename = Path.rename

    def only_once(self, target):
        if ".new." in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", only_once)
        patched.setattr(atomic, "_restore_backup", lambda folder: None)
        patched.setattr(atomic, "_remove", lambda path: None)
        with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "f.x") as new:
            (new / "new.txt").write_text("new", encoding="utf-8")
    assert not (tmp_path / "f.x").exists()
    assert all(name.startswith(".") and name.endswith(PARTIAL_MARK) for name in names_in(tmp_path))
    assert len(names_in(tmp_path)) == 2
    return tmp_path


def test_a_folder_whose_replacement_was_killed_is_restored(killed):
    remove_partial(killed)
    assert names_in(killed) == ["f.x"]
    assert names_in(killed / "f.x") == ["old.txt"]


def test_a_restored_folder_survives_a_second_failure(killed):
    with pytest.raises(ValueError, match="no"), replace_folder(killed / "f.x"):
        raise ValueError("no")
    assert names_in(killed / "f.x") == ["old.txt"]
    with replace_folder(killed / "f.x") as new:
        (new / "newer.txt").touch()
    assert names_in(killed / "f.x") == ["newer.txt"]


def test_a_backup_is_removed_if_the_new_folder_exists(killed):
    (killed / "f.x").mkdir()
    (killed / "f.x" / "newer.txt").touch()
    remove_partial(killed)
    assert names_in(killed) == ["f.x"]
    assert names_in(killed / "f.x") == ["newer.txt"]


def test_unfinished_folders_and_files_are_removed_and_nothing_else(tmp_path, caplog):
    caplog.set_level("INFO", logger="videotag")
    new = tmp_path / f".f.new.{'0123456789abcdef' * 2}{PARTIAL_MARK}"
    new.mkdir()
    (new / "a.bin").touch()
    (tmp_path / f".a.txt.7.7{PARTIAL_MARK}").touch()
    (tmp_path / "a.txt").touch()
    remove_partial(tmp_path)
    assert names_in(tmp_path) == ["a.txt"]
    assert caplog.messages == [f"removing the unfinished output of an earlier run: {new}"]


def test_a_leftover_of_a_process_with_the_same_id_does_not_prevent_writing(tmp_path):
    for kind in ("new", "old"):
        (tmp_path / f".f.{os.getpid()}.{kind}{PARTIAL_MARK}").mkdir()
    with replace_folder(tmp_path / "f") as new:
        (new / "a.txt").touch()
    assert names_in(tmp_path / "f") == ["a.txt"]


def test_the_working_folder_can_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    monkeypatch.chdir(tmp_path / "f")
    with replace_folder(Path()) as new:
        (new / "a.txt").touch()
    assert names_in(tmp_path / "f") == ["a.txt"]
    assert names_in(tmp_path) == ["f"]


# ---------------------------------------------------------------- leftovers of killed processes

KILLED = """
import os, signal, sys
from pathlib import Path
from videotag.system.atomic import open_atomic, replace_folder, temporary_folder
with open_atomic(sys.argv[1] + "/a.txt") as file, replace_folder(Path(sys.argv[1], "f")) as new:
    with temporary_folder() as passing:
        (new / "x").touch()
        (passing / "x").touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left(tmp_path, monkeypatch):
    """A folder in which a process was killed while it wrote a file and a folder; t has its temporary one."""
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    monkeypatch.setattr(atomic, "_cleaned", set())
    environment = os.environ | {"TMPDIR": str(tmp_path / "t"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len([name for name in names_in(tmp_path) if PARTIAL_MARK in name]) == 2
    assert len(names_in(tmp_path / "t")) == 1
    return tmp_path


def test_the_next_write_into_a_folder_removes_what_a_killed_process_left(left):
    write_text(left / "b.txt", "x")
    assert sorted(names_in(left)) == ["b.txt", "t"]
    with temporary_folder() as folder:
        assert names_in(left / "t") == [folder.name]
    assert names_in(left / "t") == []


def test_files_that_a_running_process_writes_stay(left):
    code = "import sys; from pathlib import Path; from videotag.system.atomic import *; "
    code += "write_text(sys.argv[1] + '/b.txt', 'x'); remove_partial(Path(sys.argv[1]))\n"
    code += "with temporary_folder(): pass"
    environment = os.environ | {"TMPDIR": str(left / "t"), "PYTHONPATH": str(ROOT)}
    with (
        open_atomic(left / "a.txt") as file,
        replace_folder(left / "f") as new,
        temporary_folder() as passing,
    ):
        subprocess.run([sys.executable, "-c", code, str(left)], env=environment, check=True)
        file.write(b"whole")
        (new / "y").touch()
        assert names_in(left / "t") == [passing.name]
    assert sorted(names_in(left)) == ["a.txt", "b.txt", "f", "t"]
    assert (left / "a.txt").read_bytes() == b"whole"
    assert names_in(left / "f") == ["y"]


@pytest.mark.parametrize(
    "name",
    [
        *("film.mp4.partial", ".film.mp4.partial", "film.mp4.partial.json", ".old.txt"),
        *(
            ".notes.new.partial",
            ".notes.12.new.partial",
            f".notes.new.{'0' * 31}.partial",
            ".notes.old.partial",
        ),
    ],
)
def test_files_with_other_names_stay(tmp_path, name):
    """Downloads that can be resumed are among these."""
    (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert names_in(tmp_path) == [name]


def test_a_link_named_like_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    (tmp_path / f".f.old{PARTIAL_MARK}").symlink_to(tmp_path / "mine")
    remove_partial(tmp_path)
    assert names_in(tmp_path / "mine") == ["a.txt"]


# ---------------------------------------------------------------- full disks


@pytest.fixture
def no_room():
    """no_room(size): files get no longer than `size` bytes, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_temporary_folder_names_the_folder_and_its_variable(tmp_path, monkeypatch, no_room):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fill():
        with temporary_folder() as folder:
            no_room(1000)
            check_room(folder)

    with pytest.raises(OutputError, match=rf"{tmp_path}: cannot write \(File too large\); .*TMPDIR"):
        fill()
    assert names_in(tmp_path) == []


def test_an_error_of_the_block_is_not_taken_for_a_full_temporary_folder():
    with pytest.raises(FileNotFoundError), temporary_folder():
        Path("nowhere").read_bytes()
    with pytest.raises(OSError, match=r"No space left on device: '/out/a.npy'"), temporary_folder():
        raise OSError(errno.ENOSPC, "No space left on device", "/out/a.npy")


def test_a_file_that_a_full_temporary_folder_cannot_hold_is_not_named():
    with pytest.raises(OutputError, match=r"cannot write .*; free space there"), temporary_folder() as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "a.npy"))


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, no_room):
    path = tmp_path / "a.jsonl"
    with path.open("ab", buffering=0) as file:
        append_whole(file, b"first\n")
        no_room(10)
        with pytest.raises(OSError, match="File too large"):
            append_whole(file, b"second line\n")
    assert path.read_bytes() == b"first\n"
