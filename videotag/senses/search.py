"""Runs finders on one file: on its frames while it is decoded for tagging, then on its sound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from videotag.errors import MissingInputError
from videotag.inputs.frames import OtherView
from videotag.media.decode_pool import DecodePool, Stopped
from videotag.media.sound import SoundBlock, SoundReader
from videotag.media.video import SampledFrame
from videotag.senses.finding import Finder, Finding, Kind, Sense

#: Findings by kind; None if the file lacks the input, such as sound.
Findings: TypeAlias = dict[Kind, list[Finding] | None]


class Search:
    """The finders of one file.

    Args:
        senses: Networks, shared with searches in other threads.

    Attributes:
        lacks_sound: Whether `hear` found no sound.
    """

    def __init__(self, senses: Sequence[Sense]) -> None:
        self._finders = [(sense, sense.finder()) for sense in senses]
        self.lacks_sound = False
        self._faults: list[str] = []

    @property
    def others(self) -> list[OtherView]:
        """The views of the finders of frames, see videotag.inputs.frames.read_frames."""
        return [
            OtherView(sense.view, _taker(sense, finder))
            for sense, finder in self._finders
            if sense.view is not None
        ]

    def hear(
        self,
        path: str | Path,
        pool: DecodePool,
        *,
        stall_limit_sec: float,
        stop: threading.Event,
        listeners: Sequence[Callable[[SoundBlock], None]] = (),
    ) -> None:
        """Runs the finders of sound on a file; sets `lacks_sound` if it has none.

        Args:
            path: Path of a media file.
            pool: Child processes to decode in.
            stall_limit_sec: Maximum time to wait for a block, in seconds; 0 waits indefinitely.
            stop: Event that ends decoding with Stopped.
            listeners: Functions that take each block too, in order.

        Raises:
            MediaError: The sound cannot be decoded; a file without sound is no error.
        """
        listening = [(sense, finder) for sense, finder in self._finders if sense.view is None]
        if not listening and not listeners:
            return
        reader = pool.reader(path, kind=SoundReader, stall_limit_sec=stall_limit_sec, stop=stop)
        try:
            for block in reader:
                if stop.is_set():
                    raise Stopped
                for sense, finder in listening:
                    with sense.lock:
                        finder.add_sound(block)
                for listen in listeners:
                    listen(block)
        except MissingInputError:
            self.lacks_sound = True
        else:
            self._faults += [reader.warning] if reader.warning else []

    def finish(self, duration_sec: float) -> Findings:
        """What was found, by kind.

        Args:
            duration_sec: Duration of the video in seconds.
        """
        findings: Findings = {}
        for sense, finder in self._finders:
            if sense.view is None and self.lacks_sound:
                findings[sense.kind] = None
                continue
            with sense.lock:
                findings[sense.kind] = finder.finish(duration_sec)
        return findings

    @property
    def warning(self) -> str | None:
        """Faults of the sound that did not prevent reading it; None if there are none."""
        return "; ".join(self._faults) or None


def _taker(sense: Sense, finder: Finder) -> Callable[[SampledFrame], None]:
    def take(frame: SampledFrame) -> None:
        with sense.lock:
            finder.add_frame(frame)

    return take
