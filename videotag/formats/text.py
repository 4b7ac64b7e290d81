"""Text files that people write: UTF-8 only, with the remedy for those that are not."""

from __future__ import annotations

import codecs
from pathlib import Path

from videotag.errors import VideotagError


def read_text(path: str | Path, *, error: type[VideotagError], missing: str) -> str:
    """The text of a UTF-8 file, without a byte order mark; line ends stay as they are.

    Args:
        path: the file.
        error: class of every error raised.
        missing: what to do if there is no such file; ends the message.

    Raises:
        error: no such file, not readable, or not UTF-8 (with the command that converts it).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: no such file; {missing}") from None
    except OSError as problem:
        raise error(f"{path}: cannot read ({problem.strerror or problem}); {missing}") from problem
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as problem:
        line = data.removeprefix(codecs.BOM_UTF8).count(b"\n", 0, problem.start) + 1
        name = _guess_encoding(data)
        raise error(
            f"{path}:{line}: not UTF-8, probably {name}; convert it: iconv -f {name} -t UTF-8 {path} > new"
        ) from None


def _guess_encoding(data: bytes) -> str:
    """UTF-16 by its byte order mark; else GBK, usual for Chinese lists, or Latin-1, which takes any byte."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    try:
        data.decode("gbk")
    except UnicodeDecodeError:
        return "LATIN1"
    return "GBK"
