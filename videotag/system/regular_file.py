"""Files opened for reading only if they are regular ones: a pipe would hang, and a device never ends.

Every reader of videotag opens a user's file here, FFmpeg's apart (see media/container.py).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from videotag.errors import VideotagError
from videotag.safe_text import escaped


def open_regular(path: str | Path, *, error: type[VideotagError], buffering: int = -1) -> BinaryIO:
    """The file, open for reading bytes; `path` is its name.

    Args:
        path: A file, or a link to one.
        error: Exception class raised if the path is not a regular file.
        buffering: As of the built-in open; 0 reads without a buffer.

    Raises:
        error: A folder, a pipe, a socket, a device, or a path with a NUL character.
        OSError: No such file (also a broken link), or it cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        _check(Path(name).stat(), path, error)  # first, as opening a device may do something
        # By now it may be another one: O_NONBLOCK opens even a pipe at once, and no terminal is taken over.
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
    """The whole content of a file of at most `max_bytes`; no more than that is ever read.

    Args:
        path: A file, or a link to one.
        error: Exception class raised if the path is not a regular file, or the file is too large.
        max_bytes: What the caller allows for its kind of file.
        remedy: What to do about a larger file; ends the message.

    Raises:
        error: As of open_regular; or the file is larger.
        OSError: As of open_regular; or it cannot be read.
    """
    with open_regular(path, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        # The size alone does not tell: files of /proc say 0, and others may still grow.
        data = file.read(max_bytes + 1) if size <= max_bytes else b""
    size = max(size, len(data))
    if size > max_bytes:
        raise error(f"{escaped(str(path))}: {size} bytes or more, expected at most {max_bytes}; {remedy}")
    return data


def non_regular_kind(status: os.stat_result) -> str | None:
    """What something is instead of a regular file, such as "a folder"; None for a regular file."""
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
