"""Rejects MP4 and MOV files whose tables declare more samples than fit, before FFmpeg opens them.

A track of samples of one size needs no table of sizes: a number stands for all of them, and FFmpeg reserves
36 bytes for each, so that 1,000 bytes cost gigabytes; for each name of a metadata key that a file promises it
reserves 8. Boxes are those of ISO 14496-12 and the QuickTime File Format, looked for wherever FFmpeg looks;
every other file ends after a box or two.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO

from videotag.errors import AGAIN, MediaError
from videotag.system.regular_file import open_regular

#: Samples that tables may declare whatever the file's size, also of one that breaks off early: ten hours at
#: 30 frames a second, 40 MB in FFmpeg. Of larger files: one for each _LEAST_SAMPLE bytes.
FREE_SAMPLES = 2**20
_LEAST_SAMPLE = 2  # bytes: sound of 16 bits in fragments
_LEAST_KEY = 8  # bytes of a metadata key
_MAX_COMPRESSED = 2**26  # bytes of a compressed header; one of a day's film has 10 MB
_MAX_DEPTH = 10  # of boxes, as in FFmpeg
#: What FFmpeg reads as boxes of boxes, whatever the standard says may be in them.
_CONTAINERS = frozenset(
    b"moov trak mdia minf stbl moof traf mvex udta cmov edts dinf tref ilst sinf schi wave iprp".split()
)
_MAX_HEAD = 2**20  # bytes of a description of samples, or before the handler of a metadata box


def check_tables(path: str | Path) -> None:
    """Rejects an MP4 or MOV whose tables declare more samples than it can hold.

    Raises:
        MediaError: It is rejected, or no regular file.
        OSError: It cannot be read.
    """
    with open_regular(path, error=MediaError) as file:
        size = os.fstat(file.fileno()).st_size
        found = _Tables(path, max(FREE_SAMPLES, size // _LEAST_SAMPLE), size)
        found.walk(file, 0, size, 0)


class _Tables:
    """The number of samples that tables have declared so far."""

    def __init__(self, path: str | Path, most: int, size: int) -> None:
        self._path = path
        self._most = most
        self._size = size
        self._count = 0
        self._has_unpacked = False
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
                _READERS[kind](self, file.read(min(last - first, 64)), last - first)
            elif kind == b"meta":
                self._metadata(file, first, last, depth)
            elif kind == b"stsd":
                self._descriptions(file, first, last)
            elif kind == b"cmvd":
                self._unpack(file, first, last, depth)
            start = last

    def _add(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            raise self._too_many(f"{self._count} frames or samples")

    def _too_many(self, what: str) -> MediaError:
        return MediaError(
            f"{self._path}: its tables declare {what}, more than fit in {self._size} bytes; {AGAIN}"
        )

    def _handler(self, data: bytes, _: int) -> None:
        self._is_sound, self._is_pcm = data[8:12] == b"soun", False

    def _times(self, data: bytes, _: int) -> None:
        # FFmpeg reads sound whose samples all last 1 by chunks, and keeps nothing for each sample.
        self._is_pcm = self._is_sound and _number(data, 4) == 1 and _number(data, 12) == 1

    def _sizes(self, data: bytes, _: int) -> None:
        if _number(data, 4) and not self._is_pcm:  # of all samples; 0: a table, which is as long as it is
            self._add(_number(data, 8))

    def _run(self, data: bytes, _: int) -> None:
        self._add(_number(data, 4))

    def _keys(self, data: bytes, size: int) -> None:
        if (count := _number(data, 4)) > size // _LEAST_KEY:
            raise self._too_many(f"{count} metadata keys")

    def _metadata(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Walks through a box of metadata, which begins with its handler, in some files behind a number."""
        file.seek(start)
        head = file.read(min(end - start, _MAX_HEAD))
        place = head.find(b"hdlr", 4)
        while place % 4 and place > 0:  # FFmpeg looks at every fourth byte
            place = head.find(b"hdlr", place + 1)
        if place > 0:
            self.walk(file, start + place - 4, end, depth + 1)
        elif end - start > _MAX_HEAD:
            raise self._too_long("metadata", end - start)

    def _descriptions(self, file: BinaryIO | io.BytesIO, start: int, end: int) -> None:
        """Looks for tables behind the fields of a sample description, whose length depends on the codec."""
        if end - start > _MAX_HEAD:
            raise self._too_long("sample descriptions", end - start)
        file.seek(start)
        content = file.read(end - start)
        for found in re.finditer(b"stsz|keys", content):
            data = content[found.end() : found.end() + 64]
            _READERS[found[0]](self, data, len(content))

    def _too_long(self, what: str, size: int) -> MediaError:
        return MediaError(f"{self._path}: {size} bytes of {what}, expected at most {_MAX_HEAD}; {AGAIN}")

    def _unpack(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Walks through a header that is compressed, as QuickTime 3 wrote it.

        A file has at most one: one that holds others would unpack to any size.
        """
        if self._has_unpacked:
            raise MediaError(f"{self._path}: several compressed headers, expected one; {AGAIN}")
        self._has_unpacked = True
        file.seek(start)
        length = int.from_bytes(file.read(4), "big")
        if length > _MAX_COMPRESSED:
            raise MediaError(
                f"{self._path}: a header that unpacks to {length} bytes, expected at most {_MAX_COMPRESSED}; "
                f"{AGAIN}"
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
    b"keys": _Tables._keys,
}


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")
