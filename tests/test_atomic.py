"""Files that are either whole or not there."""

from pathlib import Path

import pytest

from videotag.atomic import PARTIAL_MARK, open_atomic, replace_folder, write_text
from videotag.errors import OutputError


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
        OutputError, match=r"a\.txt: cannot write \(Is a directory\); check the folder's rights and"
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


def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old.txt").write_text("old", encoding="utf-8")
    rename = Path.rename

    def only_away(self, target):
        if ".new." in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_away)
    with (
        pytest.raises(OutputError, match=r"f: cannot write \(Input/output error\)"),
        replace_folder(tmp_path / "f"),
    ):
        pass
    assert names_in(tmp_path / "f") == ["old.txt"]
    assert names_in(tmp_path) == ["f"]
