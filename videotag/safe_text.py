"""Values that come from files, as messages, tables and pages show them: short and without control characters.

The cost is bounded too: a value of nested aliases is not formatted beyond what is shown.
"""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Callable
from typing import Any

MAX_VALUE = 80  # characters; a message is one line
MAX_TEXT = 300  # characters of a name, such as a path or a class name
_DIGITS = 40  # of an integer; Python refuses to format those of thousands of digits
_CUT = "..."
_JOINERS = (
    "\u200c\u200d"  # signs without a width that words of Persian and Hindi, and many emoji, are made with
)


def safe_repr(value: object, *, limit: int = MAX_VALUE) -> str:
    """The repr of a value in one line, cut to `limit` characters; never raises.

    Args:
        value: Anything; of containers a few elements are shown, three levels deep.
        limit: Number of characters kept, at least 10.
    """
    return escaped(_REPR.repr(value), limit=limit)  # that of an array has several lines


def escaped(text: str, *, limit: int = MAX_TEXT) -> str:
    """Text without quotes around it, control characters escaped, cut to `limit` characters.

    Args:
        text: Such as a path, a class name or a line of a file.
        limit: Number of characters kept, at least 10.
    """
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(c if is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in cut)
    return cut if len(cut) <= limit else cut[: limit - len(_CUT)] + _CUT


def reason_of(error: BaseException, *, limit: int = 120) -> str:
    """What a library says of an error, as one line for users: its type if it says nothing.

    Python's advice for a number of thousands of digits, to change its own limit, is left out.

    Args:
        error: Of a library, or Python's own.
        limit: Number of characters kept, at least 10.
    """
    text = " ".join(str(error).split()).partition("; use sys.set_int_max_str_digits")[0]
    return escaped(text, limit=limit) or type(error).__name__


def is_plain(character: str) -> bool:
    """Whether a character may be shown as it is: no control, no change of direction, no half of a pair."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


class _Repr(reprlib.Repr):
    """Python's own abbreviating repr, for subclasses of containers too, and with a limit on integers."""

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
            if isinstance(x, kind):  # the repr of an OrderedDict would format all that is in it
                return method(x, level)
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**_DIGITS else f"an integer of {x.bit_length()} bits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring]) + (_CUT if len(x) > self.maxstring else "")


_REPR = _Repr()
