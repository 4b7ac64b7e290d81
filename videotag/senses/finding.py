"""A timed finding, and the interface of what finds it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

from videotag.media.sound import SoundBlock
from videotag.media.video import SampledFrame
from videotag.media.views import View

Kind = Literal["shots", "text", "speech", "sound"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Key of each kind's list in JSON.
JSON_KEYS: dict[Kind, str] = {"shots": "shots", "text": "texts", "speech": "speech", "sound": "sounds"}


@dataclass(frozen=True)
class Finding:
    """Something that lasts from one time to another.

    Attributes:
        kind: What it is.
        start_sec: Start in seconds from the first frame.
        end_sec: End in seconds.
        source: Name of the network that found it.
        text: Words that are read or heard, or the class name of a sound; empty for a shot.
        probability: Probability in [0, 1]; None if the network gives none.
        box: Left, top, right and bottom of a text, relative to width and height, in [0, 1]; None for others.
        language: Code of the language of speech, such as "zh"; None for others.
    """

    kind: Kind
    start_sec: float
    end_sec: float
    source: str
    text: str = ""
    probability: float | None = None
    box: tuple[float, float, float, float] | None = None
    language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as written to JSON files, with rounded numbers and the keys of its kind."""
        times = {"start_sec": round(self.start_sec, 3), "end_sec": round(self.end_sec, 3)}
        rounded = None if self.probability is None else round(self.probability, 4)
        if self.kind == "shots":
            return times
        if self.kind == "sound":
            return {"class_name": self.text, **times, "probability": rounded}
        if self.kind == "speech":
            return {"text": self.text, **times, "language": self.language}
        box = None if self.box is None else [round(side, 4) for side in self.box]
        return {"text": self.text, **times, "box": box, "probability": rounded}


class Finder(ABC):
    """Finds one kind of thing in one file while it is decoded; built anew for each file, see Sense.

    A finder takes the frames of `view` or the blocks of sound in order, then `finish` is called once.
    """

    def add_frame(self, frame: SampledFrame) -> None:
        """Takes the next frame of the finder's view."""
        raise NotImplementedError

    def add_sound(self, block: SoundBlock) -> None:
        """Takes the next block of sound."""
        raise NotImplementedError

    @abstractmethod
    def finish(self, duration_sec: float) -> list[Finding]:
        """The findings, by start.

        Args:
            duration_sec: Duration of the video in seconds.
        """


class Sense(ABC):
    """A network with its weights that makes finders; loaded once for many files.

    Attributes:
        kind: What its finders find.
        source: Name of the network.
        view: Frames that its finders take; None for finders of sound.
        lock: Lock that is held while a finder runs, as networks are not thread-safe.
    """

    kind: Kind
    source: str
    view: View | None

    def __init__(self) -> None:
        self.lock = threading.Lock()

    @abstractmethod
    def finder(self) -> Finder:
        """A finder for the next file."""
