"""Reads JSON files within limits on size and nesting; accepts NaN and infinities as Python writes them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from videotag.errors import VideotagError
from videotag.safe_text import escaped, safe_repr
from videotag.system.text import read_text

MAX_BYTES = 32 << 20  # predictions of 15,000 videos; a string takes up to 4 bytes a character in memory
MAX_VALUES = 2_000_000  # each takes about 80 bytes of memory
MAX_CARD_BYTES = 256 << 10  # our cards have a few KB; pydantic takes 3 KB of memory per invalid element
MAX_DEPTH = 64  # Python's parser raises RecursionError at about 1,000
_MAX_DIGITS = (
    40  # maximum length of an integer; Python refuses to format thousands of digits, and a float holds 308
)


def read_json(
    path: str | Path, *, error: type[VideotagError], remedy: str, max_bytes: int = MAX_BYTES
) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        error: Class of every error raised.
        remedy: What to do if the file is missing or not JSON; ends the message.
        max_bytes: Size limit of this kind of file, at most MAX_BYTES.

    Raises:
        error: The file is missing, too large, not UTF-8, not JSON, or exceeds a limit of this module.
    """
    try:
        text = read_text(path, error=error, missing=remedy, binary=remedy, max_bytes=max_bytes)
        return parse_json(text)
    except ValueError as problem:
        raise error(f"{escaped(str(path))}: not JSON: {problem}; {remedy}") from None


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: JSON text, or its UTF-8 bytes.
        unique_keys: Whether a repeated key is an error; otherwise its last value wins.

    Raises:
        ValueError: The text is not JSON or exceeds a limit of this module; the message says which.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} bytes, expected at most {MAX_BYTES}")
    content = text if isinstance(text, str) else text.decode()
    if sum(map(content.count, ",[{")) > MAX_VALUES:  # also counts those inside strings
        raise ValueError(f"more than {MAX_VALUES} values")
    try:
        pairs = _unique if unique_keys else None
        value = json.loads(content, parse_int=_integer, object_pairs_hook=pairs)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits, expected at most {_MAX_DIGITS}")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = counts.most_common(1)[0][0]
        raise ValueError(f"the key {safe_repr(repeated)} appears twice")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects nested deeper than {MAX_DEPTH} levels")
