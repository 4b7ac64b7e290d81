"""Types of flag values for argparse: functions from text to value, which raise ArgumentTypeError."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Literal

from videotag.safe_text import safe_repr

_UNITS_SEC = {"s": 1, "m": 60, "h": 3600}


class BackendNames:
    """Lazy `choices` of a flag whose value is a backend, looked up when the flag or its help is used.

    Such a flag needs a metavar: without one, argparse looks up the choices immediately.

    Args:
        others: Further choices, listed before the backends.
    """

    def __init__(self, *others: str) -> None:
        self._others = others

    def __iter__(self) -> Iterator[str]:
        from videotag.runtime.backends import backend_names

        return iter([*self._others, *backend_names()])


def boolean(text: str) -> bool:
    """True or False, also written as 1, 0, yes or no, ignoring case."""
    value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{safe_repr(text)} is neither True nor False")
    return value


def boolean_or_auto(text: str) -> bool | Literal["auto"]:
    """True, False or auto."""
    return "auto" if text.lower() == "auto" else boolean(text)


def integer(least: int, most: int) -> Callable[[str], int]:
    """An argparse type for integers from `least` to `most`, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{safe_repr(text)} is not an integer from {least} to {most}")
        return value

    return parse


def natural(text: str) -> int:
    """An integer of at least 1."""
    return _whole(text, 1)


def whole(text: str) -> int:
    """An integer of at least 0."""
    return _whole(text, 0)


def fraction(text: str) -> float:
    """A number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{safe_repr(text)} is not a number from 0 to 1")
    return value


def duration_sec(text: str) -> float:
    """A duration such as 90s, 10m or 2h, in seconds; minutes without a unit."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS_SEC else (text, "m")
    try:
        value = float(number) * _UNITS_SEC[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{safe_repr(text)} is not a duration such as 90s, 10m or 2h")
    return value


def shares(text: str) -> tuple[float, float, float]:
    """Three fractions for train, val and test that sum to 1."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        train = val = test = -1.0
    if not (min(train, val, test) >= 0 and abs(train + val + test - 1) < 1e-6):  # also rejects NaN
        raise argparse.ArgumentTypeError(
            f"{safe_repr(text)} is not three fractions that sum to 1, such as 0.6,0.2,0.2"
        )
    return train, val, test


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{safe_repr(text)} is not an integer of at least {least}")
    return value
