"""Scores of what the senses find: boundaries of shots with a tolerance, and characters of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """A change of shots, from the first frame that it touches to the first frame of the next shot.

    Attributes:
        first: Number of the first frame; for a hard cut, the first frame of the next shot.
        last: Number of the last frame; for a hard cut, the same.
        what: What is joined, for tables.
    """

    first: int
    last: int
    what: str = ""


@dataclass(frozen=True)
class Matches:
    """Found boundaries against those of the truth.

    Attributes:
        hits: Spans that are found.
        misses: Spans that are not found.
        false: Found frame numbers without a span.
    """

    hits: tuple[Span, ...]
    misses: tuple[Span, ...]
    false: tuple[int, ...]

    @property
    def precision(self) -> float:
        """Share of the found boundaries that are true; 1.0 if none is found."""
        return _share(len(self.hits), len(self.hits) + len(self.false))

    @property
    def recall(self) -> float:
        """Share of the true boundaries that are found; 1.0 if there is none."""
        return _share(len(self.hits), len(self.hits) + len(self.misses))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1.0 if nothing is true and nothing is found."""
        return _share(2 * len(self.hits), 2 * len(self.hits) + len(self.misses) + len(self.false))

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.hits + other.hits, self.misses + other.misses, self.false + other.false)


NO_MATCHES = Matches((), (), ())


def match(found: Sequence[int], truth: Sequence[Span], *, tolerance: int) -> Matches:
    """Pairs found boundaries with true ones, each at most once, in the order of time.

    Args:
        found: Frame numbers of found boundaries.
        truth: True boundaries that do not overlap.
        tolerance: Number of frames that a boundary may lie outside its span.
    """
    rest = sorted(found)
    hits, misses = [], []
    for span in sorted(truth, key=lambda one: one.first):
        inside = [at for at in rest if span.first - tolerance <= at <= span.last + tolerance]
        if inside:
            hits.append(span)
            rest.remove(inside[0])
        else:
            misses.append(span)
    return Matches(tuple(hits), tuple(misses), tuple(rest))


def num_touched(found: Sequence[int], spans: Sequence[Span], *, tolerance: int) -> int:
    """Number of spans, such as flashes, in which a boundary is found."""
    return sum(any(span.first - tolerance <= at <= span.last + tolerance for at in found) for span in spans)


def edit_distance(first: str, second: str) -> int:
    """Least number of characters to insert, delete or replace that turns one text into the other."""
    before = np.arange(len(second) + 1)
    letters = np.array([ord(letter) for letter in second], np.int64)
    for row, letter in enumerate(first, start=1):
        steps = np.minimum(before[1:] + 1, before[:-1] + (letters != ord(letter)))
        costs = np.concatenate([[row], steps])
        # An insertion costs 1 per character, wherever the run of insertions starts.
        index = np.arange(len(costs))
        before = np.minimum.accumulate(costs - index) + index
    return int(before[-1])


def share_correct(pairs: Sequence[tuple[str, str]]) -> float:
    """Share of correct characters: 1 - edit distance / length, over all texts together; at least 0.

    Args:
        pairs: Text as written, and as read; the written ones are not all empty.
    """
    distance = sum(edit_distance(written, read) for written, read in pairs)
    return max(0.0, 1 - distance / sum(len(written) for written, _ in pairs))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
