"""Records of a TFRecord file: the bytes between its checksums, whatever they mean.

TensorFlow's format. A record is its length (8 bytes, little-endian), the masked CRC-32C of those 8 bytes, the
data, and the masked CRC-32C of the data. Differs: whether a file is plain, gzip or zlib, its content decides;
both checksums are always compared; a length is believed only as far as the file reaches.
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
_CHUNK = 2**16  # bytes of a compressed file at a time
# A record of a compressed file may have so many bytes whatever the file's size, or so many times its size ...
_FREE_BYTES = 2**24
_MAX_RATIO = 20
_FREE_TOTAL = 2**27  # ... and all of them so many; features unpack to 1.5 times their size
# ... and there may be so many of them, and one more for each byte of the file.
_FREE_RECORDS = 2**17
_WBITS: dict[Compression, int] = {"gzip": 31, "zlib": 15}
_EITHER_WBITS = 47  # zlib finds out which of the two it is
_AGAIN = "download or copy the file again"


class Record(NamedTuple):
    """One record and where it stands."""

    data: bytes
    place: str  # file, record number from 0, and byte offset, to begin a message with


def read_records(path: str | Path, *, on_error: OnError = "raise") -> Iterator[Record]:
    """The records of a file, in its order; none for an empty file.

    Args:
        path: the file; plain, gzip or zlib.
        on_error: at the first bad record "raise", or "stop": log the message as a warning, and end. Nothing
            behind a bad record is read, as its length cannot be trusted.

    Raises:
        RecordError: missing, not a TFRecord file, truncated, or a checksum is wrong. With "stop" too if the
            file cannot be opened or read.
    """
    with _opened(path) as source, handled(on_error):
        number = offset = 0
        # Were a record freed as soon as its reader is done, glibc would often give the memory back and take
        # it anew for the next one, which can cost more than all else here.
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
    """Bytes of every record's data, (n,) int64; the data themselves are neither kept nor checked.

    Of a plain file only the headers are read; one that is packed must be unpacked for it.

    Raises:
        RecordError: missing, not a TFRecord file, truncated, or the checksum of a length is wrong.
    """
    with _opened(path) as source:
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
    """One record of a plain file; any threads may read from it at once.

    Args:
        file: open, with its path as its name.
        number: of the record, for messages.
        offset: of its header, bytes from the file's start.
        size: bytes of its data.

    Raises:
        RecordError: truncated there, a checksum is wrong, or no record of that size is there.
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
        raise RecordError(f"{place}: no record of {size} bytes there: the file has changed; start again")
    if _masked_crc(data) != crc:
        raise RecordError(f"{place}: wrong checksum of the data: damaged; {_AGAIN}")
    return Record(data, place)


def record_offsets(sizes: np.ndarray) -> np.ndarray:
    """Where records of these sizes begin in a plain file; (n,) int64, bytes."""
    whole = sizes + (_HEADER_SIZE + _CRC_SIZE)
    return np.cumsum(whole) - whole


def most_unpacked(size: int) -> int:
    """Bytes that a packed file of this size may hold in one piece: no more is believed."""
    return max(_FREE_BYTES, _MAX_RATIO * size)


def is_packed(path: str | Path) -> bool:
    """Whether the file is gzip or zlib, of which no record can be read without those before it.

    Raises:
        RecordError: the file cannot be read.
    """
    with _opened(path) as source:
        return isinstance(source, _Unpacked)


def write_records(
    path: str | Path, records: Iterable[bytes], *, compression: Compression | None = None
) -> int:
    """Writes a file of records, whole or not at all, the same bytes for the same records.

    Args:
        path: of the finished file.
        records: the data of each; taken one at a time.
        compression: None writes a plain file.

    Returns:
        How many there were.

    Raises:
        OutputError: the place cannot be written.
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
def handled(on_error: OnError) -> Iterator[None]:
    """Lets the block end at a RecordError with a warning if `on_error` is "stop"."""
    try:
        yield
    except RecordError as error:
        if on_error != "stop":
            raise
        _LOG.warning("%s; the rest of the file is left out", error)


def _masked_crc(data: bytes) -> bytes:
    """TensorFlow masks checksums, as the CRC of data that hold their own CRC is weak."""
    crc = crc32c(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(_CRC_SIZE, "little")


def _next_record(source: _Source, place: str) -> bytes | None:
    """The data of the next record; None at the file's end."""
    try:
        header = source.read(_HEADER_SIZE)
        return _read_data(source, header, place) if header else None
    except zlib.error as error:
        raise RecordError(f"{place}: cannot be unpacked ({error}): damaged or truncated; {_AGAIN}") from error


def _skip_record(source: _Source, place: str) -> int | None:
    """The size of the next record's data, which is passed over; None at the file's end."""
    try:
        header = source.read(_HEADER_SIZE)
        if not header:
            return None
        length = _length(source, header, place)
        if source.skip(length + _CRC_SIZE) < length + _CRC_SIZE:
            raise RecordError(_cut_short(place, length))
        return length
    except zlib.error as error:
        raise RecordError(f"{place}: cannot be unpacked ({error}): damaged or truncated; {_AGAIN}") from error


def _length(source: _Source, header: bytes, place: str) -> int:
    """Bytes of data of the record whose header was just read."""
    if len(header) < _HEADER_SIZE:
        raise RecordError(f"{place}: truncated: the file ends inside the record's header; {_AGAIN}")
    if _masked_crc(header[:8]) != header[8:]:
        raise RecordError(f"{place}: wrong checksum of the length: no TFRecord file, or damaged; {_AGAIN}")
    length = int.from_bytes(header[:8], "little")
    source.records_left -= 1
    if source.records_left < 0:
        raise RecordError(f"{place}: more records than files of videos have; unpack it on disk first")
    if length + _CRC_SIZE > source.bytes_left:
        raise RecordError(
            f"{place}: truncated: a record of {length} bytes, but {source.bytes_left} is the most that"
            f" the file can still hold; {_AGAIN}"
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
    """Where records are read from."""

    unit: str  # what offsets count
    records_left: int  # no more can follow

    @property
    def bytes_left(self) -> int:
        """No record that is longer can follow."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""

    def skip(self, size: int) -> int:
        """Passes over `size` bytes, fewer at the end; how many."""


class _Plain:
    """A file as it is."""

    unit = "byte"

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.bytes_left = size
        self.records_left = size  # each has at least 16 bytes

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self.bytes_left))
        self.bytes_left -= len(data)
        return data

    def skip(self, size: int) -> int:
        size = min(size, self.bytes_left)
        self._file.seek(size, os.SEEK_CUR)
        self.bytes_left -= size
        return size


class _Unpacked:
    """The content of a gzip or zlib file, of which no more is held than is asked for."""

    unit = "unpacked byte"

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(_EITHER_WBITS)
        self._packed = b""
        self.bytes_left = most_unpacked(size)
        self.records_left = _FREE_RECORDS + size
        self._left = self._most = max(_FREE_TOTAL, _MAX_RATIO * size)

    def read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size and not self._at_end():
            self._packed = self._packed or self._file.read(_CHUNK)
            at_file_end = not self._packed  # the unpacker may still hold something
            part = self._unpacker.decompress(self._packed, size - len(parts))
            self._packed = self._unpacker.unconsumed_tail
            if at_file_end and not part and not self._unpacker.eof:
                raise zlib.error("it ends too early")
            parts += part
        self._left -= len(parts)
        if self._left < 0:
            raise zlib.error(f"unpacks to more than {self._most} bytes, as features never do")
        return bytes(parts)

    def skip(self, size: int) -> int:
        left = size
        while left and (part := self.read(min(left, _CHUNK))):
            left -= len(part)
        return size - left

    def _at_end(self) -> bool:
        """Whether all is unpacked. Packed files may stand one behind the other, and end in zeros."""
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
def _opened(path: str | Path) -> Iterator[_Source]:
    """The file, whichever way it is packed; what the operating system refuses becomes a RecordError."""
    try:
        with open_regular(path, error=RecordError) as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER_SIZE)
            file.seek(0)
            yield _Unpacked(file, size) if _is_packed(header) else _Plain(file, size)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; correct the path") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror or error}); correct the path") from error


def _is_packed(header: bytes) -> bool:
    """By a file's first bytes. A record of 0x088b1f bytes begins like gzip: its checksum tells them apart."""
    if _masked_crc(header[:8]) == header[8:]:
        return False
    return header[:3] == b"\x1f\x8b\x08" or (
        header[:1] == b"\x78" and int.from_bytes(header[:2], "big") % 31 == 0
    )
