"""Text files that people write: UTF-8 only, with the remedy for those that are not."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from videotag.errors import VideotagError
from videotag.system.regular_file import read_regular

#: Largest file of class names or the like: a million short lines, or YouTube-8M's vocabulary.csv twice.
#: A line of few characters takes 100 times as much memory where each is an object: 400 MB.
MAX_TEXT_BYTES = 2**22
#: Largest list of videos or features: 6 million, as of YouTube-8M, have 400 MB.
MAX_LIST_BYTES = 2**29
#: Most lines of a list, empty ones and comments too: each costs time although it may hold nothing.
MAX_LIST_LINES = 10_000_000


def read_text(
    path: str | Path,
    *,
    error: type[VideotagError],
    missing: str,
    binary: str = "give a text file",
    max_bytes: int = MAX_TEXT_BYTES,
    max_lines: int | None = None,
) -> str:
    """The text of a UTF-8 file, without a byte order mark; line ends stay as they are.

    Args:
        path: The file.
        error: Class of every error raised.
        missing: What to do if there is no such file; ends the message.
        binary: What to do if the file is no text at all, such as a video; ends the message.
        max_bytes: Size of the largest file of this kind.
        max_lines: Most lines that such a file has; None for no limit of their own.

    Raises:
        error: No such file, no regular one, not readable, larger than max_bytes, of more than max_lines, or
            not UTF-8 (with the command that converts it).
    """
    try:
        data = read_regular(path, error=error, max_bytes=max_bytes, remedy=binary)
    except FileNotFoundError:
        raise error(f"{path}: no such file; {missing}") from None
    except OSError as problem:
        raise error(f"{path}: cannot read ({problem.strerror or problem}); {missing}") from problem
    if max_lines is not None and (lines := data.count(b"\n")) > max_lines:
        raise error(f"{path}: {lines} lines, expected at most {max_lines}; split it into several")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as problem:
        encodings = _possible_encodings(data)
        if not encodings:
            raise error(f"{path}: a binary file such as a video, not a text; {binary}") from None
        line = data.removeprefix(codecs.BOM_UTF8).count(b"\n", 0, problem.start) + 1
        name = shlex.quote(str(path))
        commands = ", or ".join(f"iconv -f {encoding} -t UTF-8 {name} > new" for encoding in encodings)
        raise error(
            f"{path}:{line}: not UTF-8, probably {' or '.join(encodings)}; convert it: {commands}"
        ) from None


def _possible_encodings(data: bytes) -> list[str]:
    """What the bytes may be, under iconv's names; none for a binary file.

    Any bytes are Latin-1, and many Latin-1 texts are GBK too: an accented letter and the one after it make a
    rare character. GBK's common characters, which are GB 2312, have no such second byte.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["UTF-16"]
    if b"\0" in data:
        return []
    if _is(data, "gb2312"):
        return ["GBK"]
    return ["LATIN1", "GBK"] if _is(data, "gbk") else ["LATIN1"]


def _is(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
