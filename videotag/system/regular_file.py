"""Opens regular files only: reading a pipe may hang, and reading a device may never end.

All readers open users' files with these functions, except FFmpeg (see media/container.py).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from videotag.errors import VideotagError
from videotag.safe_text import escaped


def open_regular(path: str | Path, *, error: type[VideotagError], buffering: int = -1) -> BinaryIO:
    """Opens a regular file for reading bytes.

    Args:
        path: Path of a file, or of a link to one.
        error: Exception class raised if the path is not a regular file.
        buffering: Buffer size as in the built-in open; 0 disables buffering.

    Raises:
        error: The path is a folder, a pipe, a socket or a device, or contains a NUL character.
        OSError: The file does not exist (or is a broken link), or cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        _check(Path(name).stat(), path, error)  # before opening, which on a device may have side effects
        # It may have been replaced since: O_NONBLOCK never waits for a pipe's writer, and O_NOCTTY prevents a
        # terminal from becoming the controlling one.
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            _check(os.fstat(descriptor), path, error)
        except VideotagError:
            os.close(descriptor)
            raise
        return descriptor

    try:
        return open(path, "rb", buffering=buffering, opener=opener)
    except ValueError:
        raise error(f"{escaped(str(path))}: a NUL character in the path; correct it") from None


def read_regular(
    path: str | Path, *, error: type[VideotagError], max_bytes: int, remedy: str = "give another file"
) -> bytes:
    """The content of a regular file of at most `max_bytes` bytes; never reads more than one byte beyond.

    Args:
        path: Path of a file, or of a link to one.
        error: Exception class raised if the path is not a regular file, or the file is too large.
        max_bytes: Size limit of this kind of file.
        remedy: What to do if the file is larger; ends the message.

    Raises:
        error: The path is not a regular file or contains a NUL character, or the file is too large.
        OSError: The file does not exist (or is a broken link), or cannot be opened or read.
    """
    with open_regular(path, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        # The size is not reliable: files in /proc report 0, and others may still grow.
        data = file.read(max_bytes + 1) if size <= max_bytes else b""
    size = max(size, len(data))
    if size > max_bytes:
        raise error(f"{escaped(str(path))}: {size} bytes or more, expected at most {max_bytes}; {remedy}")
    return data


def non_regular_kind(status: os.stat_result) -> str | None:
    """The kind of a file that is not regular, such as "a folder"; None for a regular file."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _check(status: os.stat_result, path: str | Path, error: type[VideotagError]) -> None:
    if kind := non_regular_kind(status):
        raise error(
            f"{escaped(str(path))}: cannot read: {kind}, expected a regular file; give the path of a file"
        )
