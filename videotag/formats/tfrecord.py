"""TFRecord files: reads and writes the bytes of their records, independent of the encoded content.

TensorFlow's format. A record is its length (8 bytes, little-endian), the masked CRC-32C of those 8 bytes, the
data, and the masked CRC-32C of the data. Differs: the content decides whether a file is plain, gzip or zlib;
both checksums are always verified; a length beyond the end of the file is an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from crc32c import crc32c

from videotag.errors import RecordError
from videotag.system.atomic import open_atomic
from videotag.system.regular_file import open_regular

_LOG = logging.getLogger(__name__)

OnError: TypeAlias = Literal["raise", "stop"]
Compression: TypeAlias = Literal["gzip", "zlib"]

_HEADER_SIZE = 12  # length and its checksum
_CRC_SIZE = 4
_KEPT = 2  # records
_CHUNK = 2**16  # compressed bytes read at a time
# Bounds for compressed files. A record may have _FREE_BYTES, or _MAX_RATIO times the size of the file, ...
_FREE_BYTES = 2**24
_MAX_RATIO = 20
_FREE_TOTAL = 2**27  # ... all records together this many bytes (features unpack to 1.5 times their size), ...
_FREE_RECORDS = 2**17  # ... and a file this many records plus one per byte.
_WBITS: dict[Compression, int] = {"gzip": 31, "zlib": 15}
_EITHER_WBITS = 47  # zlib detects gzip or zlib
_AGAIN = "download or copy the file again"


class Record(NamedTuple):
    """One record and its place."""

    data: bytes
    place: str  # file, record number from 0, and byte offset; begins error messages


def read_records(path: str | Path, *, on_error: OnError = "raise") -> Iterator[Record]:
    """Yields the records of a file in order; none for an empty file.

    Args:
        path: TFRecord file; plain, gzip or zlib.
        on_error: What to do at the first bad record: "raise", or "stop" to log a warning and end. Records
            after it are never read, as its length cannot be trusted.

    Raises:
        RecordError: The file is missing, unreadable, not a TFRecord file or truncated, or a checksum is
            wrong. With "stop", only if the file is missing or unreadable.
    """
    with _open_source(path) as source, handle_errors(on_error):
        number = offset = 0
        # If a record were freed as soon as its reader is done, glibc would often return the memory and
        # request it again for the next record, which can cost more than everything else here.
        kept = deque[bytes](maxlen=_KEPT)
        while True:
            place = f"{path}: record {number} at {source.unit} {offset}"
            data = _next_record(source, place)
            if data is None:
                return
            kept.append(data)
            yield Record(data, place)
            number += 1
            offset += _HEADER_SIZE + len(data) + _CRC_SIZE


def record_sizes(path: str | Path) -> np.ndarray:
    """Data size of every record in bytes, (n,) int64; (0,) for an empty file.

    Reads only the headers of a plain file, and decompresses a compressed one. Data checksums are not
    verified.

    Raises:
        RecordError: The file is missing, not a TFRecord file or truncated, or the checksum of a length is
            wrong.
    """
    with _open_source(path) as source:
        sizes = array("q")
        offset = 0
        while True:
            place = f"{path}: record {len(sizes)} at {source.unit} {offset}"
            size = _skip_record(source, place)
            if size is None:
                return np.array(sizes, np.int64)
            sizes.append(size)
            offset += _HEADER_SIZE + size + _CRC_SIZE


def read_record(file: IO[bytes], *, number: int, offset: int, size: int) -> Record:
    """Reads one record of a plain file; thread-safe.

    Args:
        file: Open file whose `name` is its path.
        number: Index of the record, for messages.
        offset: Position of the record's header, bytes from the start of the file.
        size: Size of the record's data in bytes.

    Raises:
        RecordError: The file is truncated there, a checksum is wrong, or no record of that size is there.
    """
    place = f"{file.name}: record {number} at {_Plain.unit} {offset}"
    descriptor, start = file.fileno(), offset + _HEADER_SIZE
    try:
        header = os.pread(descriptor, _HEADER_SIZE, offset)
        data = os.pread(descriptor, size, start)
        crc = os.pread(descriptor, _CRC_SIZE, start + size)
    except OSError as error:
        raise RecordError(f"{place}: cannot read ({error.strerror or error})") from error
    if len(crc) < _CRC_SIZE:
        raise RecordError(_cut_short(place, size))
    if _masked_crc(header[:8]) != header[8:] or int.from_bytes(header[:8], "little") != size:
        raise RecordError(f"{place}: expected a record of {size} bytes: the file has changed; start again")
    if _masked_crc(data) != crc:
        raise RecordError(f"{place}: wrong checksum of the data: damaged; {_AGAIN}")
    return Record(data, place)


def record_offsets(sizes: np.ndarray) -> np.ndarray:
    """Byte offsets of the records in a plain file, (n,) int64, from their data sizes, (n,) int64."""
    whole = sizes + (_HEADER_SIZE + _CRC_SIZE)
    return np.cumsum(whole) - whole


def max_record_bytes(size: int) -> int:
    """Largest record, in bytes, that is accepted from a compressed file of `size` bytes."""
    return max(_FREE_BYTES, _MAX_RATIO * size)


def is_compressed(path: str | Path) -> bool:
    """Whether the file is gzip or zlib, where a record can only be read after those before it.

    Raises:
        RecordError: The file cannot be read.
    """
    with _open_source(path) as source:
        return isinstance(source, _Compressed)


def write_records(
    path: str | Path, records: Iterable[bytes], *, compression: Compression | None = None
) -> int:
    """Writes a TFRecord file, atomically; equal records give equal bytes.

    Args:
        path: The file to write.
        records: Data of each record; consumed one at a time.
        compression: "gzip", "zlib", or None for a plain file.

    Returns:
        Number of records written.

    Raises:
        OutputError: The file cannot be written.
    """
    count = 0
    with open_atomic(path) as file:
        packer = None if compression is None else zlib.compressobj(wbits=_WBITS[compression])
        for data in records:
            length = len(data).to_bytes(8, "little")
            for part in (length + _masked_crc(length), data, _masked_crc(data)):
                file.write(part if packer is None else packer.compress(part))
            count += 1
        if packer is not None:
            file.write(packer.flush())
    return count


@contextlib.contextmanager
def handle_errors(on_error: OnError) -> Iterator[None]:
    """Turns a RecordError of the block into a warning if `on_error` is "stop"."""
    try:
        yield
    except RecordError as error:
        if on_error != "stop":
            raise
        _LOG.warning("%s; skipping the rest of the file", error)


def _masked_crc(data: bytes) -> bytes:
    """TensorFlow's masked CRC-32C; a plain CRC is weak for data that contains CRCs."""
    crc = crc32c(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(_CRC_SIZE, "little")


def _next_record(source: _Source, place: str) -> bytes | None:
    """The data of the next record; None at the end of the file."""
    try:
        header = source.read(_HEADER_SIZE)
        return _read_data(source, header, place) if header else None
    except zlib.error as error:
        raise RecordError(f"{place}: cannot decompress ({error}): damaged or truncated; {_AGAIN}") from error


def _skip_record(source: _Source, place: str) -> int | None:
    """Skips the next record and returns the size of its data; None at the end of the file."""
    try:
        header = source.read(_HEADER_SIZE)
        if not header:
            return None
        length = _length(source, header, place)
        if source.skip(length + _CRC_SIZE) < length + _CRC_SIZE:
            raise RecordError(_cut_short(place, length))
        return length
    except zlib.error as error:
        raise RecordError(f"{place}: cannot decompress ({error}): damaged or truncated; {_AGAIN}") from error


def _length(source: _Source, header: bytes, place: str) -> int:
    """Data size in bytes of the record whose header was just read."""
    if len(header) < _HEADER_SIZE:
        raise RecordError(f"{place}: truncated: the file ends inside the record's header; {_AGAIN}")
    if _masked_crc(header[:8]) != header[8:]:
        raise RecordError(f"{place}: wrong checksum of the length: not a TFRecord file, or damaged; {_AGAIN}")
    length = int.from_bytes(header[:8], "little")
    source.records_left -= 1
    if source.records_left < 0:
        raise RecordError(f"{place}: too many records for a file of its size; unpack it on disk first")
    if length + _CRC_SIZE > source.bytes_left:
        raise RecordError(
            f"{place}: truncated: a record of {length} bytes, but at most {source.bytes_left} are left in"
            f" the file; {_AGAIN}"
        )
    return length


def _cut_short(place: str, length: int) -> str:
    return f"{place}: truncated: the file ends inside the record of {length} bytes; {_AGAIN}"


def _read_data(source: _Source, header: bytes, place: str) -> bytes:
    """The data of the record whose header was just read."""
    length = _length(source, header, place)
    data = source.read(length)
    crc = source.read(_CRC_SIZE)
    if len(crc) < _CRC_SIZE:
        raise RecordError(_cut_short(place, length))
    if _masked_crc(data) != crc:
        raise RecordError(f"{place}: wrong checksum of the data: damaged; {_AGAIN}")
    return data


class _Source(Protocol):
    """The bytes of a TFRecord file, decompressed."""

    unit: str  # unit of offsets in messages
    records_left: int  # upper bound on the records that follow

    @property
    def bytes_left(self) -> int:
        """Upper bound on the size of the next record."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""

    def skip(self, size: int) -> int:
        """Skips `size` bytes, fewer at the end, and returns their number."""


class _Plain:
    """An uncompressed file."""

    unit = "byte"

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.bytes_left = size
        self.records_left = size  # a record has at least 16 bytes

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self.bytes_left))
        self.bytes_left -= len(data)
        return data

    def skip(self, size: int) -> int:
        size = min(size, self.bytes_left)
        self._file.seek(size, os.SEEK_CUR)
        self.bytes_left -= size
        return size


class _Compressed:
    """A gzip or zlib file, decompressed on demand."""

    unit = "unpacked byte"

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(_EITHER_WBITS)
        self._packed = b""
        self.bytes_left = max_record_bytes(size)
        self.records_left = _FREE_RECORDS + size
        self._left = self._most = max(_FREE_TOTAL, _MAX_RATIO * size)

    def read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size and not self._at_end():
            self._packed = self._packed or self._file.read(_CHUNK)
            at_file_end = not self._packed  # the decompressor may still hold some output
            part = self._unpacker.decompress(self._packed, size - len(parts))
            self._packed = self._unpacker.unconsumed_tail
            if at_file_end and not part and not self._unpacker.eof:
                raise zlib.error("it ends too early")
            parts += part
        self._left -= len(parts)
        if self._left < 0:
            raise zlib.error(f"unpacks to more than {self._most} bytes, more than features ever do")
        return bytes(parts)

    def skip(self, size: int) -> int:
        left = size
        while left and (part := self.read(min(left, _CHUNK))):
            left -= len(part)
        return size - left

    def _at_end(self) -> bool:
        """Whether the content ends here; another compressed stream may follow, after zero padding."""
        if not self._unpacker.eof:
            return False
        rest = self._unpacker.unused_data
        while not (rest := rest.lstrip(b"\0")):
            rest = self._file.read(_CHUNK)
            if not rest:
                return True
        self._unpacker = zlib.decompressobj(_EITHER_WBITS)
        self._packed = rest
        return False


@contextlib.contextmanager
def _open_source(path: str | Path) -> Iterator[_Source]:
    """Opens a plain or compressed file; OSError becomes RecordError."""
    try:
        with open_regular(path, error=RecordError) as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER_SIZE)
            file.seek(0)
            yield _Compressed(file, size) if _is_compressed(header) else _Plain(file, size)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; correct the path") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror or error}); correct the path") from error


def _is_compressed(header: bytes) -> bool:
    """Whether a file begins like gzip or zlib. A valid checksum identifies a record of 0x088b1f bytes."""
    if _masked_crc(header[:8]) == header[8:]:
        return False
    return header[:3] == b"\x1f\x8b\x08" or (
        header[:1] == b"\x78" and int.from_bytes(header[:2], "big") % 31 == 0
    )
