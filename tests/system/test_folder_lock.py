"""One run at a time in an output folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from videotag.errors import OutputError
from videotag.system import folder_lock as module
from videotag.system.folder_lock import LOCK_FILE, folder_lock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, pathlib
from videotag.system.folder_lock import folder_lock
with folder_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_second_run_is_rejected_until_the_first_ends(tmp_path):
    folder = tmp_path / "new" / "out"
    with folder_lock(folder):
        with (
            pytest.raises(
                OutputError, match=r"out: another videotag process .*wait until .*another --save_dir"
            ),
            folder_lock(folder),
        ):
            pass
        with folder_lock(tmp_path / "other"):
            pass
    with folder_lock(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]


def test_an_error_inside_passes_through_and_frees_the_folder(tmp_path):
    with pytest.raises(BlockingIOError, match="mine"), folder_lock(tmp_path):
        raise BlockingIOError("mine")
    with folder_lock(tmp_path):
        pass


def test_a_killed_process_holds_no_lock(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another videotag process"), folder_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with folder_lock(tmp_path):
        pass


def test_a_path_that_is_not_a_folder_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"file: cannot write .*choose another --save_dir"),
        folder_lock(tmp_path / "file"),
    ):
        pass


def test_a_drive_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    with folder_lock(tmp_path):
        assert "cannot be locked (No locks available); run only one command" in caplog.text


def test_a_drive_without_locks_warns_once_and_is_used(tmp_path, monkeypatch, caplog):
    def no_locks(handle, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with (tmp_path / "file").open("w") as file:
        assert module.lock(file.fileno(), tmp_path / "file", wait=True)
    assert "file: cannot be locked (No locks available); run only one command there" in caplog.text
