"""Reads what FFmpeg does not expose of an AVI: empty chunks, and whether the file is truncated.

Every picture chunk takes one time slot; an empty one repeats the previous picture, as in captures with
dropped frames. FFmpeg silently skips empty chunks, including those at the end.
Source: AVI RIFF File Reference; OpenDML AVI 1.02 (several consecutive RIFF chunks).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from videotag.errors import MediaError
from videotag.system.regular_file import open_regular

_HEADER = 8  # bytes: a four-letter name and the size of the content
_INDEX_ENTRY = np.dtype([("id", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])
_PICTURE = (b"db", b"dc")  # an uncompressed or compressed picture; preceded by the two digits of the stream
_UNFILLED = 2**32 - 1  # chunk size in a file written to a pipe, where it cannot be filled in at the end
_MAX_CHUNKS = 10_000  # limit on outer chunks; real files have few
_ENTRIES_PER_READ = 65_536


@dataclass(frozen=True)
class AviLayout:
    """The chunk layout of an AVI.

    Attributes:
        is_truncated: Whether the file ends before its chunks do.
        num_slots: Number of the stream's chunks in the index, including empty ones; None without a classic
            index.
    """

    is_truncated: bool
    num_slots: int | None


def read_layout(path: str | Path, stream_index: int) -> AviLayout:
    """The layout of an AVI; reads only its outer chunk headers and its index.

    Args:
        path: Path of the file.
        stream_index: Index of the video stream, from 0.

    Raises:
        MediaError: The path is not a regular file.
        OSError: The file cannot be read.
    """
    wanted = [f"{stream_index:02d}".encode() + kind for kind in _PICTURE]
    is_truncated, num_slots = False, None
    with open_regular(path, error=MediaError) as file:
        file_size = os.fstat(file.fileno()).st_size
        for name, start, size in _outer_chunks(file, file_size):
            is_truncated |= start + size > file_size and size != _UNFILLED
            if name == b"idx1" and num_slots is None:
                num_slots = _count_entries(file, start, min(size, file_size - start), wanted)
            elif name == b"AVIX":
                num_slots = None  # the classic index covers the first RIFF chunk only
                break
    return AviLayout(is_truncated, num_slots)


def _outer_chunks(file: BinaryIO, file_size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, content offset, size) of each RIFF chunk and of its children, in bytes."""
    offset = 0
    for _ in range(_MAX_CHUNKS):
        if offset + _HEADER > file_size:
            return
        file.seek(offset)
        header = file.read(_HEADER + 4)
        name, size = header[:4], int.from_bytes(header[4:8], "little")
        if name == b"RIFF":
            yield header[8:], offset + _HEADER, size
            offset += _HEADER + 4
        else:
            yield name, offset + _HEADER, size
            offset += _HEADER + size + size % 2


def _count_entries(file: BinaryIO, start: int, size: int, wanted: list[bytes]) -> int:
    """Number of index entries whose chunk has one of the wanted names."""
    file.seek(start)
    count, left = 0, size // _INDEX_ENTRY.itemsize
    while left > 0:
        entries = np.frombuffer(file.read(min(left, _ENTRIES_PER_READ) * _INDEX_ENTRY.itemsize), _INDEX_ENTRY)
        if not len(entries):
            break
        count += int(np.isin(entries["id"], wanted).sum())
        left -= len(entries)
    return count
