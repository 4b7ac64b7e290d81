"""Whether the tables of an MP4 or MOV name more samples than the file can hold, asked before FFmpeg opens it.

A track of samples of one size needs no table of sizes: a number stands for all of them, and FFmpeg reserves
36 bytes for each, so that 1,000 bytes cost gigabytes. Boxes are those of ISO 14496-12 and the QuickTime File
Format; every other file ends after a box or two.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from videotag.errors import MediaError
from videotag.regular_file import open_regular

#: Samples that tables may name whatever the file's size, also of one that breaks off early: ten hours at 30
#: frames a second, 40 MB in FFmpeg. Of larger files: one for each _LEAST_SAMPLE bytes.
FREE_SAMPLES = 2**20
_LEAST_SAMPLE = 2  # bytes: sound of 16 bits in fragments
_MAX_COMPRESSED = 2**26  # bytes of a compressed header; one of a day's film has 10 MB
_MAX_DEPTH = 10  # of boxes, as in FFmpeg
_CONTAINERS = frozenset(b"moov trak mdia minf stbl moof traf mvex udta cmov".split())


def check_tables(path: str | Path) -> None:
    """Refuses an MP4 or MOV whose tables name more samples than it can hold.

    Raises:
        MediaError: It is refused, or no regular file.
        OSError: It cannot be read.
    """
    with open_regular(path, error=MediaError) as file:
        size = os.fstat(file.fileno()).st_size
        found = _Tables(path, max(FREE_SAMPLES, size // _LEAST_SAMPLE), size)
        found.walk(file, 0, size, 0)


class _Tables:
    """How many samples have been named so far."""

    def __init__(self, path: str | Path, most: int, size: int) -> None:
        self._path = path
        self._most = most
        self._size = size
        self._count = 0
        self._is_sound = self._is_pcm = False  # of the track that is walked through

    def walk(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Adds up the samples of the boxes from `start` to `end`."""
        while end - start >= 8 and depth <= _MAX_DEPTH:
            file.seek(start)
            head = file.read(16)
            length, kind, first = int.from_bytes(head[:4], "big"), head[4:8], start + 8
            if length == 1:  # the real one follows
                length, first = int.from_bytes(head[8:], "big"), start + 16
            last = end if length == 0 else min(start + length, end)
            if len(head) < 8 or last < first:
                return
            if kind in _CONTAINERS:
                self.walk(file, first, last, depth + 1)
            elif kind in _READERS:
                file.seek(first)
                _READERS[kind](self, file.read(min(last - first, 64)))
            elif kind == b"cmvd":
                self._unpack(file, first, last, depth)
            start = last

    def _add(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            raise MediaError(
                f"{self._path}: its tables name {self._count} frames or samples, more than a file of "
                f"{self._size} bytes holds; copy or download it again"
            )

    def _handler(self, data: bytes) -> None:
        self._is_sound, self._is_pcm = data[8:12] == b"soun", False

    def _times(self, data: bytes) -> None:
        # FFmpeg reads sound whose samples all last 1 by chunks, and keeps nothing for each sample.
        self._is_pcm = self._is_sound and _number(data, 4) == 1 and _number(data, 12) == 1

    def _sizes(self, data: bytes) -> None:
        if _number(data, 4) and not self._is_pcm:  # of all samples; 0: a table, which is as long as it is
            self._add(_number(data, 8))

    def _run(self, data: bytes) -> None:
        self._add(_number(data, 4))

    def _unpack(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Walks through a header that is compressed, as QuickTime 3 wrote it."""
        file.seek(start)
        length = int.from_bytes(file.read(4), "big")
        if length > _MAX_COMPRESSED:
            raise MediaError(
                f"{self._path}: a header that unpacks to {length} bytes, expected at most {_MAX_COMPRESSED}; "
                "copy or download it again"
            )
        try:
            content = zlib.decompressobj().decompress(file.read(end - start - 4), max(length, 1))
        except zlib.error:
            return  # FFmpeg will say what is wrong
        self.walk(io.BytesIO(content), 0, len(content), depth + 1)


_READERS = {
    b"hdlr": _Tables._handler,
    b"stts": _Tables._times,
    b"stsz": _Tables._sizes,
    b"trun": _Tables._run,
}


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")
