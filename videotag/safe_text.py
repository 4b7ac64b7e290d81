"""Formats untrusted values for messages, tables and pages: short and without control characters.

The cost is bounded: a deeply nested value, such as one built from YAML aliases, is formatted only as far as
it is shown.
"""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Callable
from typing import Any

MAX_VALUE = 80  # characters of a value in a message
MAX_TEXT = 300  # characters of a name, such as a path or a class name
_MAX_DIGITS = 40  # maximum length of an integer; Python refuses to format integers of thousands of digits
_ELLIPSIS = "..."
_JOINERS = "\u200c\u200d"  # zero-width characters that Persian, Hindi and many emoji need


def safe_repr(value: object, *, limit: int = MAX_VALUE) -> str:
    """The repr of a value on one line, truncated to `limit` characters; never raises.

    Args:
        value: Any value; containers show a few elements, three levels deep.
        limit: Maximum number of characters, at least 10.
    """
    return escaped(_REPR.repr(value), limit=limit)  # the repr of an array has several lines


def escaped(text: str, *, limit: int = MAX_TEXT) -> str:
    """The text without quotes, with control characters escaped, truncated to `limit` characters.

    Args:
        text: Untrusted text, such as a path, a class name or a line of a file.
        limit: Maximum number of characters, at least 10.
    """
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(c if is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in shown)
    return shown if len(shown) <= limit else shown[: limit - len(_ELLIPSIS)] + _ELLIPSIS


def reason_of(error: BaseException, *, limit: int = 120) -> str:
    """The message of a library's error on one line, or the name of its class if it has no message.

    Python's advice to raise its limit on the digits of an integer is removed.

    Args:
        error: Error raised by a library or by Python itself.
        limit: Maximum number of characters, at least 10.
    """
    text = " ".join(str(error).split()).partition("; use sys.set_int_max_str_digits")[0]
    return escaped(text, limit=limit) or type(error).__name__


def is_plain(character: str) -> bool:
    """Whether a character may be shown unescaped: no control or bidi character, no lone surrogate."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


class _Repr(reprlib.Repr):
    """reprlib's abbreviating repr, extended to subclasses of containers and limited for integers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = MAX_TEXT
        self._containers: list[tuple[type, Callable[[Any, int], str]]] = [
            (dict, self.repr_dict),
            (list, self.repr_list),
            (tuple, self.repr_tuple),
            (set, self.repr_set),
            (frozenset, self.repr_frozenset),
        ]

    def repr1(self, x: Any, level: int) -> str:
        for kind, method in self._containers:
            if isinstance(x, kind):  # the repr of an OrderedDict would format every element
                return method(x, level)
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**_MAX_DIGITS else f"an integer of {x.bit_length()} bits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring]) + (_ELLIPSIS if len(x) > self.maxstring else "")


_REPR = _Repr()
