"""Rejects MP4 and MOV files whose tables declare more samples than fit, before FFmpeg opens them.

A track whose samples all have one size stores only their number, and FFmpeg allocates 36 bytes per sample: a
file of 1,000 bytes can take gigabytes. For each metadata key that a file declares it allocates 8 bytes.
Boxes are those of ISO 14496-12 and the QuickTime File Format, searched wherever FFmpeg searches. In other
formats the walk ends after a box or two.
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

#: Samples that the tables of any file may declare, even of a truncated one: ten hours at 30 frames a second,
#: 40 MB in FFmpeg. Larger files may declare one sample per _MIN_SAMPLE_BYTES.
FREE_SAMPLES = 2**20
_MIN_SAMPLE_BYTES = 2  # 16-bit sound in fragments
_MIN_KEY_BYTES = 8  # minimum size of a metadata key
_MAX_UNPACKED = 2**26  # bytes of a header after unpacking; that of a day-long film has 10 MB
_MAX_DEPTH = 10  # nesting of boxes, as in FFmpeg
#: Boxes that FFmpeg reads as containers, whatever the standard allows in them.
_CONTAINERS = frozenset(
    b"moov trak mdia minf stbl moof traf mvex udta cmov edts dinf tref ilst sinf schi wave iprp".split()
)
_MAX_HEAD = 2**20  # bytes of sample descriptions, or before the handler of a metadata box


def check_tables(path: str | Path) -> None:
    """Checks that the tables of an MP4 or MOV do not declare more samples than fit in the file.

    Raises:
        MediaError: The tables declare too many samples, or the path is not a regular file.
        OSError: The file cannot be read.
    """
    with open_regular(path, error=MediaError) as file:
        size = os.fstat(file.fileno()).st_size
        counter = _SampleCounter(path, max(FREE_SAMPLES, size // _MIN_SAMPLE_BYTES), size)
        counter.walk(file, 0, size, 0)


class _SampleCounter:
    """Counts the samples that tables declare, up to a limit."""

    def __init__(self, path: str | Path, limit: int, size: int) -> None:
        self._path = path
        self._limit = limit
        self._size = size
        self._count = 0
        self._has_unpacked = False
        self._is_sound = self._is_pcm = False  # kind of the current track

    def walk(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Counts the samples of the boxes between two byte offsets."""
        while end - start >= 8 and depth <= _MAX_DEPTH:
            file.seek(start)
            head = file.read(16)
            length, kind, first = int.from_bytes(head[:4], "big"), head[4:8], start + 8
            if length == 1:  # a 64-bit length follows
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
        if self._count > self._limit:
            raise self._too_many(f"{self._count} frames or samples")

    def _too_many(self, what: str) -> MediaError:
        return MediaError(
            f"{self._path}: its tables declare {what}, more than fit in {self._size} bytes; {AGAIN}"
        )

    def _handler(self, data: bytes, _: int) -> None:
        self._is_sound, self._is_pcm = data[8:12] == b"soun", False

    def _times(self, data: bytes, _: int) -> None:
        # FFmpeg reads sound whose samples all last 1 unit by chunks and stores nothing per sample.
        self._is_pcm = self._is_sound and _number(data, 4) == 1 and _number(data, 12) == 1

    def _sizes(self, data: bytes, _: int) -> None:
        if _number(data, 4) and not self._is_pcm:  # the size of all samples; 0 if a table of sizes follows
            self._add(_number(data, 8))

    def _run(self, data: bytes, _: int) -> None:
        self._add(_number(data, 4))

    def _keys(self, data: bytes, size: int) -> None:
        if (count := _number(data, 4)) > size // _MIN_KEY_BYTES:
            raise self._too_many(f"{count} metadata keys")

    def _metadata(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Walks a metadata box, which begins with its handler, which some files precede with a number."""
        file.seek(start)
        head = file.read(min(end - start, _MAX_HEAD))
        offset = head.find(b"hdlr", 4)
        while offset % 4 and offset > 0:  # FFmpeg looks at every fourth byte
            offset = head.find(b"hdlr", offset + 1)
        if offset > 0:
            self.walk(file, start + offset - 4, end, depth + 1)
        elif end - start > _MAX_HEAD:
            raise self._too_long("metadata", end - start)

    def _descriptions(self, file: BinaryIO | io.BytesIO, start: int, end: int) -> None:
        """Searches for tables after the fields of a sample description, whose length depends on the codec."""
        if end - start > _MAX_HEAD:
            raise self._too_long("sample descriptions", end - start)
        file.seek(start)
        content = file.read(end - start)
        for match in re.finditer(b"stsz|keys", content):
            data = content[match.end() : match.end() + 64]
            _READERS[match[0]](self, data, len(content))

    def _too_long(self, what: str, size: int) -> MediaError:
        return MediaError(f"{self._path}: {size} bytes of {what}, expected at most {_MAX_HEAD}; {AGAIN}")

    def _unpack(self, file: BinaryIO | io.BytesIO, start: int, end: int, depth: int) -> None:
        """Walks a compressed header as written by QuickTime 3.

        A file may have only one, since nested ones could unpack to any size.
        """
        if self._has_unpacked:
            raise MediaError(f"{self._path}: several compressed headers, expected one; {AGAIN}")
        self._has_unpacked = True
        file.seek(start)
        length = int.from_bytes(file.read(4), "big")
        if length > _MAX_UNPACKED:
            raise MediaError(
                f"{self._path}: compressed header of {length} bytes when unpacked, expected at most "
                f"{_MAX_UNPACKED}; {AGAIN}"
            )
        try:
            content = zlib.decompressobj().decompress(file.read(end - start - 4), max(length, 1))
        except zlib.error:
            return  # FFmpeg will report what is wrong
        self.walk(io.BytesIO(content), 0, len(content), depth + 1)


_READERS = {
    b"hdlr": _SampleCounter._handler,
    b"stts": _SampleCounter._times,
    b"stsz": _SampleCounter._sizes,
    b"trun": _SampleCounter._run,
    b"keys": _SampleCounter._keys,
}


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")
