"""Copies media from memory or an open file to a temporary file, in which FFmpeg can seek."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

from videotag.errors import MediaError
from videotag.system.atomic import temporary_folder

#: The content of a media file, or a binary file open for reading.
MediaBytes: TypeAlias = bytes | bytearray | memoryview | IO[bytes]
_PART_BYTES = 2**20


@contextlib.contextmanager
def temporary_copy(source: MediaBytes, name: str) -> Iterator[Path]:
    """Yields the path of a temporary copy, which is deleted when the block ends.

    Args:
        source: Bytes of a media file, or an open binary file, which is read from its current position.
        name: Name of the source in error messages.

    Raises:
        MediaError: The open file is not binary, cannot be read or is at its end.
        OutputError: The temporary folder cannot be written.
    """
    with temporary_folder() as folder:
        path = folder / "media"
        with path.open("wb") as copy:
            for part in _parts(source, name):
                copy.write(part)
        yield path


def _parts(source: MediaBytes, name: str) -> Iterator[bytes | bytearray | memoryview]:
    """Yields the content in parts.

    Raises:
        MediaError: The open file is not binary, cannot be read or is at its end.
    """
    is_empty = True
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            yield source if memoryview(source).c_contiguous else bytes(source)
            return
        while part := source.read(_PART_BYTES):
            yield memoryview(part)
            is_empty = False
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read ({error}); give a path instead") from error
    except (TypeError, AttributeError) as error:
        raise MediaError(
            f"{name}: expected a path, an array of frames, bytes, or a file opened as 'rb' ({error})"
        ) from error
    if is_empty:
        raise MediaError(f"{name}: nothing left to read; seek to its beginning first")
