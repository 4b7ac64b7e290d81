"""Every reader opens regular files only, and reads no more than its limit."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from videotag.errors import FeatureFileError, VideotagError
from videotag.formats.feature_files import list_modalities, read_features
from videotag.formats.filelist import read_filelist
from videotag.formats.record_files import read_sizes
from videotag.formats.weight_files import read_weights
from videotag.labels import read_labels
from videotag.media.frame_folder import FolderReader
from videotag.media.video import probe
from videotag.system.regular_file import open_regular, read_regular
from videotag.weights import find_weights


def opened(path):
    return open_regular(path, error=FeatureFileError)


def test_a_file_and_a_link_to_it_are_read_and_keep_their_name(tmp_path):
    file, link = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"content")
    link.symlink_to(file)
    for path in (file, link, str(file)):
        with opened(path) as found:
            assert found.read() == b"content"
            assert found.name == str(path)
    with open_regular(file, error=FeatureFileError, buffering=0) as found:
        assert found.read(3) == b"con"


def test_a_pipe_a_folder_a_socket_and_a_device_are_rejected_by_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    os.mkfifo("pipe")
    os.mkdir("folder")  # noqa: PTH102
    os.symlink("pipe", "link")  # noqa: PTH211
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        cases = {"pipe": "a pipe", "link": "a pipe", "folder": "a folder", "socket": "a socket"}
        for name, kind in {**cases, "/dev/zero": "a device", "/dev/null": "a device"}.items():
            with pytest.raises(
                FeatureFileError, match=f"^{name}: cannot read: {kind}, expected a regular file; give"
            ):
                opened(name)


def test_a_pipe_that_replaces_a_file_is_rejected_too(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    status = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda path: status)
    with pytest.raises(FeatureFileError, match="a pipe, expected a regular file"):
        opened(tmp_path / "pipe")


def test_a_missing_file_is_left_to_the_caller(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    for name in ("nothing", "broken"):
        with pytest.raises(FileNotFoundError):
            opened(tmp_path / name)


def test_a_nul_in_the_path_is_one_line(tmp_path):
    with pytest.raises(FeatureFileError, match=r"^a\\x00b: a NUL character in the path"):
        opened("a\0b")


def test_no_more_is_read_than_allowed(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_regular(file, error=FeatureFileError, max_bytes=5) == b"12345"
    with pytest.raises(FeatureFileError, match="a: 5 bytes or more, expected at most 4; cut it"):
        read_regular(file, error=FeatureFileError, max_bytes=4, remedy="cut it")


def test_a_huge_file_is_rejected_unread(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FeatureFileError, match=f"{2**40} bytes or more"):
        read_regular(tmp_path / "a", error=FeatureFileError, max_bytes=4)


def test_a_file_without_a_size_is_limited_too():
    with pytest.raises(FeatureFileError, match="expected at most 4"):
        read_regular("/proc/self/status", error=FeatureFileError, max_bytes=4)


READERS = {
    "a.npy": read_features,
    "a.npz": list_modalities,
    "a.list": read_filelist,
    "labels.txt": read_labels,
    "a.pdparams": read_weights,
    "a.tar": find_weights,
    "a.pkl": read_sizes,
    "a.tfrecord": read_sizes,
    "a.safetensors": read_sizes,
    "a.mp4": probe,
    "img_00001.jpg": lambda path: list(FolderReader(Path(path).parent, 1, 1)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "broken link"])
def test_every_reader_rejects_what_is_not_a_regular_file(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    if name == "a.tar" and kind == "folder":
        pytest.skip("a folder of weights")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
    {
        "pipe": os.mkfifo,
        "device": lambda path: Path(path).symlink_to("/dev/zero"),
        "socket": lambda path: None,
        "folder": lambda path: Path(path).mkdir(),
        "broken link": lambda path: Path(path).symlink_to("nowhere"),
    }[kind](name)
    what = "no weights|no such" if kind == "broken link" else kind
    with pytest.raises(VideotagError, match=what) as caught:
        READERS[name](name)
    assert "\n" not in str(caught.value)
