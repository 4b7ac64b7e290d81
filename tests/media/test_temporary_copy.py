"""Media in memory or in an open file, copied to a file with a name."""

from __future__ import annotations

import io
import os
import re
import resource
import tempfile

import pytest

from videotag.errors import MediaError, OutputError
from videotag.media.temporary_copy import temporary_copy


def read_from_second(file):
    file.read(1)
    return file


class Fails(io.RawIOBase):
    def read(self, size=-1):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    "source",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a.b.c")[::2], io.BytesIO(b"abc")],
    ids=["bytes", "bytearray", "memoryview", "every other byte", "file"],
)
def test_the_copy_holds_the_content_and_is_deleted(source):
    with temporary_copy(source, "a") as path:
        assert path.read_bytes() == b"abc"
    assert not path.exists()


def test_a_file_is_read_from_its_current_position():
    with temporary_copy(read_from_second(io.BytesIO(b"." + bytes(3 * 2**20))), "a") as path:
        assert path.read_bytes() == bytes(3 * 2**20)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (io.BytesIO(), "nothing left to read; seek to its beginning first"),
        (io.StringIO("text"), "expected a path, an array of frames, bytes, or a file opened as 'rb' (memory"),
        (7, "expected a path, an array of frames, bytes, or a file opened as 'rb' ('int' object has no"),
        (Fails(), "cannot be read ([Errno 5] Input/output error); give a path instead"),
    ],
)
def test_an_unreadable_source_is_named(source, message):
    with pytest.raises(MediaError, match=f"^a: {re.escape(message)}"), temporary_copy(source, "a"):
        pass


def test_a_temporary_folder_that_is_missing_or_full_is_one_remedy(tmp_path, monkeypatch):
    def no_folder():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", no_folder)
    message = "^the temporary folder: cannot write .*; free space there, or set TMPDIR to another folder$"
    with pytest.raises(OutputError, match=message), temporary_copy(b"x", "a"):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        message = f"^{tmp_path}: cannot write .*; free space there, or set TMPDIR to another folder$"
        with pytest.raises(OutputError, match=message), temporary_copy(bytes(2000), "a"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
