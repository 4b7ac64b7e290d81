"""Reads hand-written text files: UTF-8 only, with a remedy for other encodings."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from videotag.errors import VideotagError
from videotag.system.regular_file import read_regular

#: Size limit of a file of class names or the like: a million short lines, or twice YouTube-8M's
#: vocabulary.csv. As one object per short line it takes 100 times as much memory, 400 MB.
MAX_TEXT_BYTES = 2**22
#: Size limit of a list of videos or features; the 6 million of YouTube-8M take 400 MB.
MAX_LIST_BYTES = 2**29
#: Line limit of a list, including empty lines and comments, since these take time too.
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
    """The text of a UTF-8 file, without a byte order mark; line ends are not converted.

    Args:
        path: The file.
        error: Class of every error raised.
        missing: What to do if the file does not exist; ends the message.
        binary: What to do if the file is binary, such as a video; ends the message.
        max_bytes: Size limit of this kind of file.
        max_lines: Line limit of this kind of file; None for no limit.

    Raises:
        error: The file does not exist, is not regular or not readable, exceeds max_bytes or max_lines, or is
            not UTF-8 (the message then has the command that converts it).
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
            raise error(f"{path}: a binary file such as a video, not text; {binary}") from None
        line = data.removeprefix(codecs.BOM_UTF8).count(b"\n", 0, problem.start) + 1
        name = shlex.quote(str(path))
        commands = ", or ".join(f"iconv -f {encoding} -t UTF-8 {name} > new" for encoding in encodings)
        raise error(
            f"{path}:{line}: not UTF-8, probably {' or '.join(encodings)}; convert it: {commands}"
        ) from None


def _possible_encodings(data: bytes) -> list[str]:
    """Encodings that the bytes may have, under iconv's names; empty for a binary file.

    Any bytes are valid Latin-1, and many Latin-1 texts are valid GBK: an accented letter and the next letter
    form a rare character. GBK's common characters, those of GB 2312, have no such second byte.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["UTF-16"]
    if b"\0" in data:
        return []
    if _is_valid(data, "gb2312"):
        return ["GBK"]
    return ["LATIN1", "GBK"] if _is_valid(data, "gbk") else ["LATIN1"]


def _is_valid(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
