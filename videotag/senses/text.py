"""Text in the picture: read in frames where the picture changes, and merged over frames.

An optical character reader sees at most two frames a second, and only those that differ from the last one
read. Lines at the same place with nearly the same words are one finding.
Shapes: H height and W width in pixels of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Protocol, TypeAlias

import numpy as np

from videotag.media.video import SampledFrame
from videotag.media.views import View
from videotag.senses.finding import Finder, Finding, Kind, Sense

FRAMES_PER_SEC = 2.0
SHORT_SIDE_PX = 720  # smaller letters are rarely meant to be read
SAME_WORDS = 0.8  # ratio of matching characters from which two lines are the same
SAME_PLACE = 0.5  # intersection over union of their boxes
_THUMBNAIL = 64  # pixels per side that are compared
_CHANGED = 6.0  # of 255: mean difference of a changed picture, in its most changed tile
_TILES = 8  # per side: a subtitle changes few tiles
_MAX_LINES = 200  # per frame
#: Least probability of a line, and of one with a single character, which textures often look like.
_MIN_PROBABILITY, _MIN_OF_ONE = 0.8, 0.95

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Line:
    """A line of text in a frame.

    Attributes:
        text: Its words.
        box: Left, top, right and bottom, relative to width and height.
        probability: Probability of the words.
    """

    text: str
    box: Box
    probability: float


class TextReader(Protocol):
    """An optical character reader.

    Attributes:
        source: Name of its network.
    """

    source: str

    def read(self, image: np.ndarray) -> list[Line]:
        """The lines in an image (H, W, 3) uint8 RGB, from top to bottom."""


class Text(Sense):
    """Reads the text in videos.

    Args:
        reader: Optical character reader.
    """

    kind: Kind = "text"
    view: View | None = View(fps=FRAMES_PER_SEC, short_side_px=SHORT_SIDE_PX)

    def __init__(self, reader: TextReader) -> None:
        super().__init__()
        self._reader = reader
        self.source = reader.source

    def finder(self) -> TextFinder:
        """A finder for the next video."""
        return TextFinder(self._reader)


class TextFinder(Finder):
    """Reads the text in one video.

    Args:
        reader: Optical character reader.
    """

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader
        self._last: np.ndarray | None = None  # thumbnail of the frame that was read last
        self._shown: list[_Shown] = []  # lines of that frame
        self._done: list[_Shown] = []

    def add_frame(self, frame: SampledFrame) -> None:
        """Reads the next frame (H, W, 3) if the picture has changed."""
        small = thumbnail(frame.image)
        if self._last is not None and not has_changed(self._last, small):
            return
        self._last = small
        lines = list(filter(is_readable, self._reader.read(frame.image)))[:_MAX_LINES]
        before, self._shown = self._shown, []
        for line in lines:
            same = next((shown for shown in before if shown.is_same(line)), None)
            if same is None:
                self._shown.append(_Shown(line, frame.time_sec))
            else:
                before.remove(same)
                same.see(line)
                self._shown.append(same)
        self._end(before, frame.time_sec)

    def finish(self, duration_sec: float) -> list[Finding]:
        """The texts, by start; a text lasts until the next frame that was read without it."""
        self._end(self._shown, duration_sec)
        self._shown = []
        source = self._reader.source
        found = [
            Finding("text", x.start_sec, x.end_sec, source, x.best.text, x.best.probability, x.best.box)
            for x in self._done
        ]
        return sorted(found, key=lambda one: (one.start_sec, one.box and one.box[1]))

    def _end(self, shown: Sequence[_Shown], time_sec: float) -> None:
        for one in shown:
            one.end_sec = time_sec
            self._done.append(one)


class _Shown:
    """A line that is seen in one or more frames, with its most probable reading."""

    def __init__(self, line: Line, start_sec: float) -> None:
        self.best = self._latest = line
        self.start_sec = self.end_sec = start_sec

    def see(self, line: Line) -> None:
        """Takes the line as it is read in the next frame."""
        self._latest = line
        if line.probability > self.best.probability:
            self.best = line

    def is_same(self, line: Line) -> bool:
        """Whether a line of the next frame is this one."""
        if overlap(self._latest.box, line.box) < SAME_PLACE:
            return False
        return SequenceMatcher(None, self._latest.text, line.text, autojunk=False).ratio() >= SAME_WORDS


def is_readable(line: Line) -> bool:
    """Whether a line is probable enough to be text."""
    return line.probability >= (_MIN_PROBABILITY if len(line.text.strip()) > 1 else _MIN_OF_ONE)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Brightness (64, 64) float32 of an image (H, W, 3) uint8; each value is a mean over its pixels."""
    gray = image.mean(axis=2, dtype=np.float32)
    height, width = gray.shape
    rows = np.linspace(0, height, _THUMBNAIL, endpoint=False).astype(int)
    columns = np.linspace(0, width, _THUMBNAIL, endpoint=False).astype(int)
    sums = np.add.reduceat(np.add.reduceat(gray, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return np.asarray(sums / np.maximum(counts, 1), np.float32)


def has_changed(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two thumbnails (64, 64) differ in any tile."""
    side = _THUMBNAIL // _TILES
    tiles = np.abs(after - before).reshape(_TILES, side, _TILES, side).mean(axis=(1, 3))
    return bool(tiles.max() > _CHANGED)
