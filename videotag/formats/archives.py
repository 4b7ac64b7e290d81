"""Opens untrusted zip and tar archives without trusting their declared sizes.

Memory is bounded in three places: the bytes that describe the members, the bytes that an archive unpacks to,
and the xz window.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol

from videotag.safe_text import escaped

#: First bytes of compressed files: gzip, bzip2, xz.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
# Bytes. zipfile uses 20 times as much memory, 80 MB. A checkpoint of 10,000 arrays needs 1 MB.
MAX_ZIP_DIRECTORY = 2**22
# Bytes of tar headers and long names, enough for 1,000 members. tarfile copies pax's global headers to each
# member, so it can use 300 times as much memory, 160 MB.
MAX_TAR_HEADERS = 2**19
MAX_XZ_WINDOW = 2**27  # bytes; xz -9 uses 2**26
_CHUNK = 2**16  # compressed bytes read at a time
_PIECE = 2**20  # decompressed bytes produced at a time
_ZIP_END = 2**17  # bytes in which zipfile searches for the end of the directory


class ArchiveError(ValueError):
    """An archive exceeds one of the memory bounds; the message says which."""


class _ByteFile(Protocol):
    """The file methods that zipfile and tarfile call."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


@contextlib.contextmanager
def open_zip(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Opens the zip archive in a binary file.

    Raises:
        ArchiveError: The directory is larger than MAX_ZIP_DIRECTORY.
        Exception: Whatever zipfile raises for a damaged archive.
    """
    bounded: Any = _Bounded(file, MAX_ZIP_DIRECTORY + _ZIP_END, "a directory of members")
    with zipfile.ZipFile(bounded) as archive:
        bounded.left = None
        yield archive


@contextlib.contextmanager
def open_tar(
    file: IO[bytes], *, max_unpacked: int
) -> Iterator[tuple[tarfile.TarFile, list[tarfile.TarInfo]]]:
    """Opens the tar archive in a binary file, compressed or not, and lists its members.

    Args:
        file: Binary file, positioned at its start.
        max_unpacked: Largest decompressed size in bytes, headers included.

    Raises:
        ArchiveError: The archive unpacks to more, or its headers are larger than MAX_TAR_HEADERS.
        Exception: Whatever tarfile and the decompressors raise for a damaged archive.
    """
    head = file.read(8)
    file.seek(0)
    content = Decompressed(file, max_unpacked) if head.startswith(COMPRESSED) else file
    bounded: Any = _Bounded(content, MAX_TAR_HEADERS, "headers")
    with tarfile.open(fileobj=bounded, mode="r:") as archive:
        members = []
        for member in archive:  # seeks past the contents
            if member.size > max_unpacked:
                raise ArchiveError(f"{escaped(member.name)} unpacks to {member.size} bytes")
            members.append(member)
        bounded.left = None
        yield archive, members


class Decompressed:
    """Seekable, read-only view of a gzip, bzip2 or xz file; seeking back decompresses from the start again.

    Args:
        file: Binary file, positioned at its start.
        max_bytes: Largest decompressed size; reading beyond it raises ArchiveError.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._rewind()

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            size = self._max_bytes + 1 - self._position
        parts = bytearray()
        while len(parts) < size and (part := self._next(min(size - len(parts), _PIECE))):
            parts += part
        return bytes(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            while self._next(_PIECE):
                pass
        target = offset if whence == os.SEEK_SET else self._position + offset
        if target < self._position:
            self._rewind()
        while self._position < target and self._next(min(target - self._position, _PIECE)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def _rewind(self) -> None:
        self._file.seek(0)
        self._packed = b""
        self._position = 0
        self._unpacker = _unpacker(self._fill(8))

    def _next(self, size: int) -> bytes:
        """At most `size` of the next bytes; empty at the end."""
        while True:
            if self._unpacker.eof:  # another compressed stream may follow, after zero padding
                self._packed = (self._unpacker.unused_data or self._packed).lstrip(b"\0")
                while not self._packed:
                    if not (block := self._file.read(_CHUNK)):
                        return b""
                    self._packed = block.lstrip(b"\0")
                self._unpacker = _unpacker(self._fill(8))
            if not self._packed and self._unpacker.needs_input:
                self._fill(1)
            at_end = not self._packed
            part = self._unpacker.decompress(self._packed, size)
            self._packed = b""
            if part:
                self._position += len(part)
                if self._position > self._max_bytes:
                    raise ArchiveError(f"unpacks to more than {self._max_bytes} bytes")
                return part
            if at_end and self._unpacker.needs_input and not self._unpacker.eof:
                raise EOFError("it ends too early")

    def _fill(self, least: int) -> bytes:
        """The buffered compressed bytes, refilled to at least `least` unless the file ends."""
        while len(self._packed) < least and (block := self._file.read(_CHUNK)):
            self._packed += block
        return self._packed


class _Gzip:
    """zlib's decompressor with the interface of those in bz2 and lzma."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        return not self._unpacker.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + data, size)


def _unpacker(head: bytes) -> Any:
    """A new decompressor for a stream that begins with `head`."""
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_WINDOW)
    return _Gzip()


class _Bounded:
    """A file of which at most `budget` bytes can be read in all; unlimited once `left` is None."""

    def __init__(self, file: _ByteFile, budget: int, what: str) -> None:
        self._file = file
        self._budget = budget
        self._what = what
        self.left: int | None = budget

    def read(self, size: int = -1, /) -> bytes:
        if self.left is None:
            return self._file.read(size)
        wanted = min(size, self.left + 1) if size >= 0 else self.left + 1
        data = bytearray()  # read in pieces, as one large read would allocate all of `wanted`
        while len(data) < wanted and (part := self._file.read(min(wanted - len(data), _CHUNK))):
            data += part
        if len(data) > self.left:
            raise ArchiveError(f"{self._what} of more than {self._budget} bytes")
        self.left -= len(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True
