"""When the frames of a video are shown, and which sampling times fall on which frame, in whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from videotag.media.container import decode_packet, is_shown, packets

_DEFAULT_FPS = Fraction(25)  # of raw streams that do not tell; FFmpeg's habit
# Their header has one duration for picture and sound together, and no number of frames.
_DURATION_OF_ALL_STREAMS = {"matroska,webm", "flv"}
_DURATION_SLACK_SEC = 0.5  # how far such a header may be off in a whole file


@dataclass(frozen=True)
class Timeline:
    """The span over which a stream is shown.

    Attributes:
        start: when the first frame appears, in units of time_base.
        end: when the last frame ends.
        time_base: seconds per unit.
        by_order: the unit is a frame, as the file holds no usable times.
        num_frames: frames to show that are in the file.
        num_expected: with those that the header promises and the file lacks.
    """

    start: int
    end: int
    time_base: Fraction
    by_order: bool
    num_frames: int
    num_expected: int

    @property
    def duration_sec(self) -> float:
        """From the first frame to the end of the last one."""
        return float((self.end - self.start) * self.time_base)

    def num_targets_before(self, time: int, num_targets: int) -> int:
        """How many midpoints of num_targets equal parts of the span lie before `time`.

        Midpoint i, start + span (2 i + 1) / (2 n), lies before `time` if i < n (time - start) / span - 1/2.
        """
        span = self.end - self.start
        before = -((span - 2 * num_targets * (time - self.start)) // (2 * span))  # rounded up
        return min(max(before, 0), num_targets)

    def position(self, time: int) -> float:
        """Where `time` lies in the span: 0 at its start, 1 at its end."""
        return (time - self.start) / (self.end - self.start)

    def timed(self, frames: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        """Every decoded av.VideoFrame with the time when it appears; times never fall."""
        time = self.start
        for order, frame in enumerate(frames):
            if self.by_order:
                time = order
            elif frame.pts is not None:  # damage may leave a frame without time, or with a wrong one
                time = max(time, frame.pts)
            yield frame, time


def survey(container: Any, stream: Any) -> tuple[Timeline, Any] | None:
    """The timeline of an av.VideoStream and its first frame, from one pass over all packets.

    None if no frame can be decoded.
    """
    seconds = {s.index: float(s.time_base or 0) for s in container.streams}
    times = _Times()
    first_frames: list[Any] = []
    last_sec = 0.0  # of all streams
    for packet in packets(container):
        if packet.pts is not None:
            last_sec = max(last_sec, (packet.pts + (packet.duration or 0)) * seconds[packet.stream_index])
        if packet.stream_index == stream.index:
            first_frames = first_frames or decode_packet(stream, packet)
            times.add(packet, shown=is_shown(packet, stream))
    first_frames = first_frames or decode_packet(stream, None)
    if not first_frames or not times.num_shown:
        return None
    # AVI has no display times, and those that FFmpeg makes up are wrong if frames are reordered.
    if times.are_usable and container.format.name != "avi":
        return _by_time(container, stream, times, last_sec), first_frames[0]
    return _by_order(stream, times), first_frames[0]


class _Times:
    """What the packets of a stream say about time, taken in one after the other."""

    def __init__(self) -> None:
        self.num_shown = 0
        self.num_hidden = 0
        self.are_usable = True
        self.start: int | None = None
        self.last: int | None = None  # when the last frame appears
        self.last_duration = 0
        self._dts: int | None = None

    def add(self, packet: Any, *, shown: bool) -> None:
        """Takes in the next packet of the file."""
        if packet.dts is not None:
            # Times that jump back come from files that were put together; a frame may then have any time.
            self.are_usable &= self._dts is None or packet.dts >= self._dts
            self._dts = packet.dts
        if not shown:
            self.num_hidden += 1
            return
        self.num_shown += 1
        if packet.pts is None:
            self.are_usable = False
            return
        self.start = packet.pts if self.start is None else min(self.start, packet.pts)
        if self.last is None or packet.pts >= self.last:
            self.last, self.last_duration = packet.pts, packet.duration or 0


def _by_time(container: Any, stream: Any, times: _Times, last_sec: float) -> Timeline:
    """The timeline of a stream whose every frame has a time."""
    assert times.start is not None
    assert times.last is not None
    count = times.num_shown
    last_duration = times.last_duration or (times.last - times.start) // max(count - 1, 1) or 1
    end = times.last + last_duration
    duration_sec = float((end - times.start) * stream.time_base)
    if stream.duration:
        missing_sec = float(stream.duration * stream.time_base) - duration_sec
        slack_sec = 0.0
    elif container.format.name in _DURATION_OF_ALL_STREAMS and container.duration:
        missing_sec = container.duration / 1e6 - last_sec
        slack_sec = _DURATION_SLACK_SEC
    else:
        missing_sec = slack_sec = 0.0
    frame_sec = duration_sec / count
    num_missing = round(missing_sec / frame_sec) if missing_sec > max(2 * frame_sec, slack_sec) else 0
    return Timeline(times.start, end, stream.time_base, False, count, count + num_missing)


def _by_order(stream: Any, times: _Times) -> Timeline:
    """The timeline of a stream whose frames follow each other at a steady rate."""
    rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
    count = times.num_shown
    expected = max(count, (stream.frames or 0) - times.num_hidden)
    return Timeline(0, count, 1 / Fraction(rate), True, count, expected)
