"""Computes the display times of a video's frames and finds the frame at each sampling time, with integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videotag.errors import MediaError
from videotag.media.avi import read_layout
from videotag.media.container import (
    ENCRYPTED,
    declared_duration,
    declared_frames,
    decode_packet,
    has_encryption_key,
    is_encrypted,
    is_shown,
    packets,
)
from videotag.media.packet_clock import NO_TIME, PAUSE_SEC, REORDER
from videotag.media.packet_times import DisplayTimes, Fault, PacketTimes, display_times

_DEFAULT_FPS = Fraction(25)  # for raw streams without a frame rate; FFmpeg's default
_ORDER_PACKETS = 2 * REORDER  # enough packets to observe the decoder's reordering
_MAX_FPS = 1000  # closer timestamps are not frame times
_DURATION_SLACK_SEC = 0.5  # allowed error of a header's duration of all streams in an intact file


@dataclass(frozen=True)
class _ContainerTraits:
    """What the timestamps of a container format mean.

    Attributes:
        stores_dts: Whether it stores decoding times; otherwise FFmpeg derives them from the display times.
        stores_durations: Whether it stores the duration of every frame.
        is_slotted: Whether every packet takes one of equal time slots.
        duration_of: What the duration in its header covers; "none" if FFmpeg derives it from the timestamps.
    """

    stores_dts: bool = False
    stores_durations: bool = False
    is_slotted: bool = False
    duration_of: Literal["stream", "all streams", "none"] = "stream"


_TRAITS = {
    "mov,mp4,m4a,3gp,3g2,mj2": _ContainerTraits(stores_dts=True, stores_durations=True),
    "avi": _ContainerTraits(is_slotted=True),
    "mpegts": _ContainerTraits(stores_dts=True, duration_of="none"),
    "mpeg": _ContainerTraits(stores_dts=True, duration_of="none"),
    "flv": _ContainerTraits(stores_dts=True, duration_of="all streams"),
    "asf": _ContainerTraits(duration_of="all streams"),
    "matroska,webm": _ContainerTraits(duration_of="all streams"),
}


@dataclass(frozen=True)
class Timeline:
    """The time span of a stream and the display times of its frames.

    Attributes:
        start: Time at which the first frame is displayed, in units of time_base.
        end: Time at which the last frame ends, in units of time_base.
        time_base: Seconds per unit.
        by_order: Whether frames are timed in display order, because their packets have no display times.
        num_frames: Number of frames to show that are in the file.
        num_expected: Sum of num_frames and the frames that the header declares but the file lacks.
        times: (n,) int64 display times, in units of time_base: if by_order, of the frames in display order;
            otherwise, of the packets' frames in file order. None for a steady rate, where the time of a frame
            is its number.
        uncertain: (n,) bool, True for packets whose frames have no good time and are placed between their
            neighbors; None if there are none.
        step: Usual spacing of frames, in units of time_base.
        by_duration: Whether num_expected is derived from a duration alone, which may be wrong.
        has_unusable_times: Whether all timestamps are unusable, so that frames are spaced evenly.
        times_faults: Faults of the packets' times that were repaired.
    """

    start: int
    end: int
    time_base: Fraction
    by_order: bool
    num_frames: int
    num_expected: int
    times: np.ndarray | None = None
    uncertain: np.ndarray | None = None
    step: int = 1
    by_duration: bool = False
    has_unusable_times: bool = False
    times_faults: list[Fault] = field(default_factory=list)

    @property
    def duration_sec(self) -> float:
        """Duration in seconds, from the first frame to the end of the last one."""
        return float((self.end - self.start) * self.time_base)

    def num_targets_before(self, time: int, num_targets: int) -> int:
        """Number of sampling times before `time`; they are the midpoints of equal parts of the span.

        Midpoint i, start + span (2 i + 1) / (2 n), lies before `time` if i < n (time - start) / span - 1/2.

        Args:
            time: Time in units of time_base.
            num_targets: Number n of parts.
        """
        span = self.end - self.start
        before = -((span - 2 * num_targets * (time - self.start)) // (2 * span))  # rounded up
        return min(max(before, 0), num_targets)

    def position(self, time: int) -> float:
        """Relative position of `time` in the span: 0 at its start, 1 at its end."""
        return (time - self.start) / (self.end - self.start)

    def number_packets(self, packets: Iterable[Any], stream: Any) -> Iterator[Any]:
        """Yields the packets to decode; if times were repaired, replaces each packet's times by its number.

        The decoder copies the number to the frame. Packets are those of the av.VideoStream in file order.
        """
        if self.by_order or not self.times_faults:
            yield from packets
            return
        number = 0
        for packet in packets:
            shown = is_shown(packet, stream)
            packet.pts = packet.dts = number if shown else None
            number += shown
            yield packet


class TimedFrames:
    """The decoded frames of a stream with their display times, in non-decreasing order.

    Iterating yields (av.VideoFrame, time in units of time_base); it can be done once.

    Args:
        timeline: Timeline of the stream.
        frames: Frames decoded from the packets of `number_packets`, in display order.
    """

    def __init__(self, timeline: Timeline, frames: Iterable[Any]) -> None:
        self._timeline = timeline
        self._frames = frames
        self._is_numbered = timeline.by_order or bool(timeline.times_faults)
        self._seen = np.zeros(0 if timeline.times is None else len(timeline.times), bool)  # decoded frames
        self._num_late = 0  # number of frames timed before the previous frame
        self._first_late = 0  # display time of the first of these

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        timeline = self._timeline
        time = timeline.start
        for order, frame in enumerate(self._frames):
            number = order if timeline.by_order else frame.pts
            if number is None:  # damage may leave a frame without a time, or with a wrong one
                shown = time
            elif timeline.times is None or not self._is_numbered:
                shown = number
            else:
                number = min(number, len(timeline.times) - 1)
                self._seen[number] = True
                shown = int(timeline.times[number])
                if timeline.uncertain is not None and timeline.uncertain[number] and order:
                    shown = time + self._gap_after(time)
            if shown < time and order:
                shown = time + self._gap_after(time)
                self._first_late = self._first_late if self._num_late else shown
                self._num_late += 1
            time = max(time, shown)
            yield frame, time

    def _gap_after(self, time: int) -> int:
        """Delay after `time` of a frame without a good time: one step, at most half the gap to the next."""
        index = int(np.searchsorted(self._good_times, time, side="right"))
        ahead = self._good_times[index : index + 1]
        return min([self._timeline.step, *((ahead - time) // 2).tolist()])

    @cached_property
    def _good_times(self) -> np.ndarray:
        """(k,) int64 times of frames that are not uncertain, ascending."""
        times, uncertain = self._timeline.times, self._timeline.uncertain
        assert times is not None
        return np.sort(times if uncertain is None else times[~uncertain])

    def faults(self) -> list[str]:
        """Descriptions of the faults in the times of the decoded frames; empty if there are none."""
        if self._timeline.has_unusable_times:
            return [f"no usable timestamps; frames spread at {float(1 / self._timeline.time_base):g} fps"]
        faults = [
            self._describe(fault.category, fault.frames & self._seen)
            for fault in self._timeline.times_faults
            if (fault.frames & self._seen).any()
        ]
        if self._num_late:
            counted = f"{self._num_late} frame{'s' if self._num_late > 1 else ''}"
            since = f"from {self._sec(self._first_late):.1f} s"
            faults.append(f"{counted} with timestamps out of order, {since}, interpolated")
        return faults

    def _describe(self, kind: str, frames: np.ndarray) -> str:
        assert self._timeline.times is not None
        num, first = int(frames.sum()), int(frames.argmax())
        first_sec = self._sec(int(self._timeline.times[first]))
        often = "" if num == 1 else f" {num} times, first"
        counted = f"{num} frame{'s' if num > 1 else ''}"
        if kind == "break":
            moved = len(frames) - first
            follow = "the frame after it was" if moved == 1 else f"the {moved} frames after it were"
            where = f"at {first_sec:.1f} s, a break"
            return f"timestamps jump{often} {where}; {follow} shifted to continue from there"
        if kind == "pause":
            return f"a frame is held{often} until {first_sec:.1f} s, as the file declares"
        if kind == "end":
            return "the last frame's duration is implausible; replaced by the usual one"
        if kind == "order":
            return f"{counted} with timestamps in decoding order, from {first_sec:.1f} s, sorted"
        if kind == "wrong":
            return f"{counted} with wrong timestamps, from {first_sec:.1f} s, interpolated"
        return f"{counted} without a timestamp, from {first_sec:.1f} s, interpolated"

    def _sec(self, time: int) -> float:
        return float((time - self._timeline.start) * self._timeline.time_base)


class _FirstFrames:
    """Decodes the start of a stream until the order of its frames is known.

    Attributes:
        frame: The first decoded av.VideoFrame; None if there is none yet.
        are_out_of_order: Whether decoded frames have falling display times although the packets' times rise.
            Then these are decoding times, as in an H.264 stream with B-frames in ASF or in an MP4 without
            ctts.
    """

    def __init__(self, stream: Any) -> None:
        self.frame: Any = None
        self.are_out_of_order = False
        self._stream = stream
        self._num_left = _ORDER_PACKETS if stream.codec_context.reorder_depth else 0
        self._last_packet = self._last_frame = NO_TIME

    def add(self, packet: Any | None) -> None:
        """Decodes the next packet of the stream; None flushes the decoder."""
        if self.frame is not None and not self._num_left:
            return
        if packet is not None:
            rises = packet.pts is not None and packet.pts > self._last_packet
            self._num_left = self._num_left - 1 if rises and self._num_left else 0
            self._last_packet = packet.pts if rises else NO_TIME
        for frame in decode_packet(self._stream, packet):
            self.frame = self.frame or frame
            if frame.pts is not None and self._num_left:
                self.are_out_of_order |= frame.pts < self._last_frame
                self._last_frame = frame.pts


def build_timeline(container: Any, stream: Any, path: str | Path) -> tuple[Timeline, Any] | None:
    """The timeline of a stream and its first av.VideoFrame, from one pass over all packets.

    Args:
        container: Opened av.InputContainer.
        stream: The av.VideoStream.
        path: Path of the file.

    Returns:
        The timeline and the first frame; None if no frame can be decoded.

    Raises:
        MediaError: The stream is encrypted.
    """
    time_bases = {s.index: s.time_base or Fraction(0) for s in container.streams}
    ends = dict.fromkeys(time_bases, 0)  # end of the last packet of each stream
    times = PacketTimes()
    first = _FirstFrames(stream)
    encrypted = has_encryption_key(stream)
    own, sound = stream.index, container.streams.audio[0].index if container.streams.audio else None
    sound_duration = 0  # duration of the sound since the last packet of the stream
    # Shorter stretches of sound are just interleaving.
    long = PAUSE_SEC / 2 / time_bases[sound] if sound is not None and time_bases[sound] else np.inf
    for packet in packets(container):
        index, duration, pts = packet.stream_index, packet.duration or 0, packet.pts
        if pts is not None and pts + duration > ends[index]:
            ends[index] = pts + duration
        if index == sound:
            sound_duration += duration
        elif index == own:
            encrypted = encrypted or (packet.is_keyframe and is_encrypted(packet))
            first.add(packet)
            is_pause = sound_duration > long
            pause = round(sound_duration * time_bases[sound] / time_bases[own]) if is_pause else 0
            times.add(packet, shown=is_shown(packet, stream), sound_duration=pause)
            sound_duration = 0
    last_sec = float(max(end * time_bases[index] for index, end in ends.items()))
    if encrypted:
        raise MediaError(f"{path}: {ENCRYPTED}")
    if first.frame is None:
        first.add(None)
    if first.frame is None or not times.num_shown:
        return None
    traits = _TRAITS.get(container.format.name, _ContainerTraits())
    shown = display_times(
        *times.arrays(),
        units_per_sec=float(1 / stream.time_base),
        declared=_declared(container, stream) if traits.duration_of != "none" else None,
        stores_dts=traits.stores_dts,
        reorder_depth=stream.codec_context.reorder_depth,
        first_pts=first.frame.pts,
        holds_decoding_times=first.are_out_of_order and not traits.is_slotted,
        has_durations=traits.stores_durations and bool(declared_frames(stream)),
        is_slotted=traits.is_slotted,
    )
    if shown is None or shown.step * _MAX_FPS * stream.time_base < 1:
        return _by_order(stream, times), first.frame
    if traits.is_slotted:
        return _by_slots(stream, times, shown, path), first.frame
    return _by_time(container, stream, times, shown, last_sec, traits.duration_of), first.frame


def _declared(container: Any, stream: Any) -> float | None:
    """The duration declared in the header, in units of the stream's time_base; None if there is none."""
    if stream.duration:
        return declared_duration(stream)
    return container.duration / 1e6 / float(stream.time_base) if container.duration else None


def _by_time(
    container: Any, stream: Any, times: PacketTimes, shown: DisplayTimes, last_sec: float, duration_of: str
) -> Timeline:
    """The timeline of a stream whose packets have times; last_sec is the end of all streams."""
    start, count = shown.start, times.num_shown - shown.num_leading
    duration_sec = float((shown.end - start) * stream.time_base)
    missing_sec = slack_sec = 0.0
    if duration_of == "none" or any(fault.category == "break" for fault in shown.faults):
        pass  # the declared duration, if any, includes the jumps
    elif duration_of == "all streams":
        missing_sec = container.duration / 1e6 - last_sec if container.duration else 0.0
        slack_sec = _DURATION_SLACK_SEC
    elif duration := declared_duration(stream):  # for an excerpt of a stream it may count from time 0
        missing_sec = float(duration * stream.time_base) - max(
            duration_sec, float(shown.end * stream.time_base)
        )
    frame_sec = duration_sec / count
    num_missing = round(missing_sec / frame_sec) if missing_sec > max(2 * frame_sec, slack_sec) else 0
    declared = declared_frames(stream)
    if declared:  # the header's frame count is more reliable than its duration
        num_missing = min(num_missing, max(declared - times.num_hidden - count, 0))
    return Timeline(
        start=start,
        end=shown.end,
        time_base=stream.time_base,
        by_order=shown.by_order,
        num_frames=count,
        num_expected=count + num_missing,
        times=shown.times,
        uncertain=shown.uncertain,
        step=shown.step,
        by_duration=not declared,
        times_faults=shown.faults,
    )


def _by_slots(stream: Any, times: PacketTimes, shown: DisplayTimes, path: str | Path) -> Timeline:
    """The timeline of an AVI, in which an empty chunk takes a time slot and is not a missing frame."""
    start, count = shown.start, times.num_shown
    layout = read_layout(path, stream.index)
    num_slots = layout.num_slots or declared_frames(stream) or 0
    num_missing = max(len(stream.index_entries) - times.num_hidden - count, 0)
    end = shown.end
    if layout.is_truncated:
        num_missing = max(num_missing, round((num_slots + start - end) * count / (end - start)))
    elif not num_missing and layout.num_slots:  # the header's own count may be too high
        _, slots, _ = times.arrays()  # the first slot comes after empty chunks at the start of the file
        end = max(end, layout.num_slots + start - int(slots[0]))
    return Timeline(
        start=start,
        end=end,
        time_base=stream.time_base,
        by_order=True,
        num_frames=count,
        num_expected=count + num_missing,
        times=shown.times,
        times_faults=shown.faults,
    )


def _by_order(stream: Any, times: PacketTimes) -> Timeline:
    """The timeline of a stream whose frames have a constant rate."""
    rates = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate, _DEFAULT_FPS)
    rate = next(rate for rate in rates if rate and rate <= _MAX_FPS)
    count = times.num_shown
    expected = max(count, (declared_frames(stream) or 0) - times.num_hidden)
    pts, _, _ = times.arrays()
    return Timeline(
        start=0,
        end=count,
        time_base=1 / Fraction(rate),
        by_order=True,
        num_frames=count,
        num_expected=expected,
        has_unusable_times=count > 1 and 2 * int((pts != NO_TIME).sum()) > count,
    )
