"""The layout of an AVI, from files of chunk headers alone."""

from __future__ import annotations

import struct

import pytest

from videotag.media.avi import AviLayout, read_layout


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def index(names):
    return chunk(b"idx1", b"".join(name + struct.pack("<III", 0, 0, 0) for name in names))


def riff(kind, *chunks):
    content = kind + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def layout(tmp_path, data, stream_index=0):
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    return read_layout(path, stream_index)


def test_slots_are_the_index_entries_of_the_streams_pictures(tmp_path):
    data = riff(b"AVI ", chunk(b"LIST", b"movi" * 3), index([b"00dc", b"01wb", b"00db", b"01dc", b"00dc"]))
    assert layout(tmp_path, data) == AviLayout(is_truncated=False, num_slots=3)
    assert layout(tmp_path, data, 1) == AviLayout(is_truncated=False, num_slots=1)


def test_chunks_of_odd_size_are_padded(tmp_path):
    data = riff(b"AVI ", chunk(b"LIST", b"movi!"), index([b"00dc"] * 7))
    assert layout(tmp_path, data) == AviLayout(is_truncated=False, num_slots=7)


def test_an_index_of_many_entries_is_counted_whole(tmp_path):
    data = riff(b"AVI ", index([b"00dc", b"01wb"] * 70_000))
    assert layout(tmp_path, data) == AviLayout(is_truncated=False, num_slots=70_000)


def test_the_index_of_an_opendml_file_is_ignored(tmp_path):
    data = riff(b"AVI ", chunk(b"LIST", b"movi"), index([b"00dc"] * 7)) + riff(
        b"AVIX", chunk(b"LIST", b"movi")
    )
    assert layout(tmp_path, data) == AviLayout(is_truncated=False, num_slots=None)


@pytest.mark.parametrize(
    ("missing", "num_slots"),
    [(1, 6), (16, 6), (40, 4), (112, 0), (120, None), (150, None)],
    ids=["last byte", "last entry", "part of an entry", "all entries", "index", "pictures"],
)
def test_a_file_that_ends_before_its_chunks_is_truncated(tmp_path, missing, num_slots):
    pictures = chunk(b"LIST", b"movi" * 20)
    data = riff(b"AVI ", pictures, index([b"00dc"] * 7))  # 7 entries of 16 bytes behind a header of 8
    assert layout(tmp_path, data[:-missing]) == AviLayout(is_truncated=True, num_slots=num_slots)
