"""Computes the display times of frames from the timestamps of their packets, repairing faulty ones.

Timestamps jump where recordings were joined, single ones may be wrong or missing, and some containers store
no display times. Timestamps that agree with their neighbors are kept; the others are interpolated. After a
break the stream is shifted to continue where it stopped, as players do for MPEG-TS.

Legend: dts is the decoding time of a packet, which rises from packet to packet; pts is the display time of
its frame, which need not rise. Times are int64 in units of the stream's time_base. (n,) arrays run over the
packets of shown frames in file order, which is decoding order.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from videotag.media.packet_clock import (
    NO_TIME,
    PAUSE_SEC,
    PAUSE_STEPS,
    REORDER,
    PacketClock,
    has_span,
)

_MAX_TIME = 2**60  # larger numbers are not timestamps
_MAX_SPAN = 2**60  # units; larger sums would overflow
_MAX_EQUAL = 4  # packets; a frame rate above the clock's resolution gives some equal times
_BLOCK = 65_536  # packets checked at once


@dataclass(frozen=True)
class Fault:
    """One kind of timestamp fault, and the packets affected.

    Attributes:
        category: "break": recordings were joined here. "wrong", "missing": single times are wrong or missing.
            "order": the display times are decoding times. "pause": the previous frame is held very long in an
            otherwise even stream; kept, since the duration of that frame confirms it. "end": the duration of
            the last frame is implausibly long and replaced by the usual one.
        frames: (n,) bool, True for the packets affected; for a break or a pause, the first packet after it.
    """

    category: Literal["break", "pause", "order", "wrong", "missing", "end"]
    frames: np.ndarray


@dataclass(frozen=True)
class DisplayTimes:
    """When the frames of a stream are displayed.

    Attributes:
        times: (n,) int64 display time of the frame in each packet; sorted in display order if by_order.
        by_order: Whether the packets have no display times, so that frames take `times` in display order.
        uncertain: (n,) bool, True for reordered frames without a good time, which belong between their
            neighbors in display order; None if there are none.
        end: Time at which the last frame ends.
        step: Usual spacing of frames in units, at least 1.
        num_leading: Number of frames that follow the first keyframe in the file but are shown before it. In
            an excerpt of a film they mostly depend on frames before the cut and cannot be decoded.
        faults: Faults that were repaired; empty if `times` are those of the packets.
    """

    times: np.ndarray
    by_order: bool
    uncertain: np.ndarray | None
    end: int
    step: int
    num_leading: int
    faults: list[Fault]

    @property
    def start(self) -> int:
        """Time at which the first frame is displayed."""
        return int(np.delete(self.times, np.s_[1 : 1 + self.num_leading]).min())


class PacketTimes:
    """Collects the times of packets, 24 bytes each.

    Attributes:
        num_shown: Number of packets whose frames are shown.
        num_hidden: Number of packets whose frames are not shown.
    """

    def __init__(self) -> None:
        self.num_shown = 0
        self.num_hidden = 0
        self._pts, self._dts, self._durations = array("q"), array("q"), array("q")

    def add(self, packet: Any, *, shown: bool, sound_duration: int = 0) -> None:
        """Adds the next av.Packet of the stream.

        Args:
            packet: Packet of the stream.
            shown: Whether its frame is shown.
            sound_duration: Duration, in units, of the sound between the previous packet and this one in the
                file. The previous frame lasts at least as long: sound continues in a pause, not in a break.
        """
        if self._durations and sound_duration > self._durations[-1]:
            self._durations[-1] = sound_duration
        if not shown:
            self.num_hidden += 1
            return
        self.num_shown += 1
        self._pts.append(NO_TIME if packet.pts is None else packet.pts)
        self._dts.append(NO_TIME if packet.dts is None else packet.dts)
        self._durations.append(packet.duration or 0)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n,) int64 pts, dts and durations, the arguments of display_times."""
        pts, dts, durations = (np.frombuffer(x, np.int64) for x in (self._pts, self._dts, self._durations))
        return pts, dts, durations


def display_times(
    pts: np.ndarray,
    dts: np.ndarray,
    durations: np.ndarray,
    *,
    units_per_sec: float,
    declared: float | None = None,
    stores_dts: bool = True,
    reorder_depth: int = REORDER,
    first_pts: int | None = None,
    holds_decoding_times: bool = False,
    has_durations: bool = False,
    is_slotted: bool = False,
) -> DisplayTimes | None:
    """The display times of a stream's frames.

    Args:
        pts: (n,) int64 display times, NO_TIME where there is none; n is at least 1.
        dts: (n,) int64 decoding times, NO_TIME where there is none.
        durations: (n,) int64 durations of frames in units, 0 where unknown.
        units_per_sec: Units per second, 1 / time_base.
        declared: Duration that the container's header declares, in units; None if it declares none.
        stores_dts: Whether the container stores decoding times. FFmpeg generates those of Matroska.
        reorder_depth: Number of frames by which the decoder delays its output for reordering; 0 for none.
        first_pts: Display time of the frame that is decoded first; None if it has none.
        holds_decoding_times: Whether `pts` are decoding times, so that frames take them in display order.
        has_durations: Whether the container stores the duration of every frame, and the header their sum.
        is_slotted: Whether decoding times count equal time slots, as in AVI, where an empty slot repeats a
            frame.

    Returns:
        The display times; None if the timestamps are missing, all equal or out of range.
    """
    pause = PAUSE_SEC * units_per_sec
    num_leading = _num_leading(pts, reorder_depth, first_pts)
    by_order = is_slotted or holds_decoding_times
    if not by_order and _is_plain(pts, reorder_depth, pause):
        step = max(int(np.median(np.diff(np.sort(pts)))), 1) if len(pts) > 1 else 1
        end, faults = _end(pts, durations, step, pause, declared)
        return DisplayTimes(pts, False, None, end, step, num_leading, faults)
    pts, durations = _without_runs(_bounded(pts)), np.clip(durations, 0, _MAX_SPAN // len(pts))
    by_order = by_order or 4 * int((pts != NO_TIME).sum()) < len(pts)
    if by_order:
        times = _slot_times(pts, dts, is_slotted=is_slotted)
    else:
        times, pts = _rising_times(pts, durations, dts, units_per_sec, reorder_depth, stores_dts=stores_dts)
    if not has_span(times):
        return None
    clock = PacketClock(
        times, durations, units_per_sec, declared=declared, has_durations=has_durations, is_slotted=is_slotted
    )
    spans = (int(np.ptp(clock.times[part])) for part in clock.recordings())
    if clock.step * len(times) + sum(spans) > _MAX_SPAN:
        return None
    uncertain = None
    if by_order:
        displayed, good = clock.joined(clock.times), ~clock.wrong & (times != NO_TIME)
        if is_slotted and reorder_depth:  # the first frame is displayed when packet 1 + reorder_depth is read
            beyond = displayed[-1] + clock.step * np.arange(1, reorder_depth + 1)
            displayed = np.concatenate([displayed, beyond])[reorder_depth:]
    else:
        good = _agreeing(pts, clock)
        displayed, is_certain = _completed(pts, good, clock, reorder_depth)
        uncertain = None if is_certain else ~good
    missing = (times if by_order else pts) == NO_TIME
    end, faults = _end(displayed, durations, clock.step, pause, declared)
    faults += [
        Fault("break", clock.breaks),
        Fault("pause", clock.pauses),
        Fault("order", np.full(len(pts), holds_decoding_times)),
        Fault("wrong", ~good & ~missing),
        Fault("missing", missing),
    ]
    faults = [fault for fault in faults if fault.frames.any()]
    num_leading = 0 if by_order else num_leading
    return DisplayTimes(displayed, by_order, uncertain, end, clock.step, num_leading, faults)


def _slot_times(pts: np.ndarray, dts: np.ndarray, *, is_slotted: bool) -> np.ndarray:
    """(n,) int64 times that frames take in display order; all NO_TIME if most packets have none.

    Elementary streams have no times, and some program streams one for several frames.
    """
    dts = _bounded(dts) if is_slotted else _without_runs(_bounded(dts))  # packets of an AVI may share a slot
    times = np.where(dts != NO_TIME, dts, pts)
    has_most = 2 * int((times != NO_TIME).sum()) >= len(times)
    return times if has_most else np.full(len(times), NO_TIME)


def _rising_times(
    pts: np.ndarray,
    durations: np.ndarray,
    dts: np.ndarray,
    units_per_sec: float,
    reorder_depth: int,
    *,
    stores_dts: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 times that rise from packet to packet if none is wrong, and (n,) int64 plausible pts."""
    known = pts != NO_TIME
    if not _num_disorderly(pts[known], reorder_depth):
        times = pts.copy()
        times[known] = np.sort(pts[known])
        return times, pts
    running = _without_runs(_bounded(dts))
    if stores_dts and 4 * int((running != NO_TIME).sum()) >= len(dts):
        # Display times are stored as offsets from decoding times, whose clock may have stopped.
        return running, np.where((running == NO_TIME) & (dts != NO_TIME), NO_TIME, pts)
    return _sorted_times(pts, durations, units_per_sec, reorder_depth), pts


def _bounded(times: np.ndarray) -> np.ndarray:
    """(n,) int64 `times`, with implausibly large values replaced by NO_TIME."""
    return np.where((times > -_MAX_TIME) & (times < _MAX_TIME), times, NO_TIME)


def _without_runs(times: np.ndarray) -> np.ndarray:
    """(n,) int64 `times`; of more than _MAX_EQUAL equal ones in a row (a stopped clock), only one is kept."""
    repeats = np.append(False, times[1:] == times[:-1])
    run = np.cumsum(~repeats)
    return np.where(repeats & (np.bincount(run)[run] > _MAX_EQUAL), NO_TIME, times)


def _end(
    times: np.ndarray, durations: np.ndarray, step: int, pause: float, declared: float | None
) -> tuple[int, list[Fault]]:
    """The end of the last displayed frame, and a fault if the header contradicts its very long duration."""
    last = int(times.argmax())
    duration = int(durations[last])
    span = int(times[last]) + duration - int(times.min())
    if duration > max(pause, PAUSE_STEPS * step) and not (declared and declared >= 0.9 * span):
        return int(times[last]) + step, [Fault("end", np.arange(len(times)) == last)]
    return int(times[last]) + (duration if duration > 0 else step), []


def _is_plain(pts: np.ndarray, reorder_depth: int, pause: float) -> bool:
    """Whether all (n,) display times are present and none jumps, as in most files; checked in blocks."""
    for start in range(0, len(pts), _BLOCK):
        block = pts[max(start - REORDER, 0) : start + _BLOCK + REORDER]
        if block.min() <= -_MAX_TIME or block.max() >= _MAX_TIME or _num_disorderly(block, reorder_depth):
            return False
        ordered = np.sort(block)
        if len(block) > 1 and not 0 < np.diff(ordered).max() <= pause:
            return False
        if (ordered[_MAX_EQUAL:] == ordered[:-_MAX_EQUAL]).any():
            return False
    return True


def _num_leading(pts: np.ndarray, reorder_depth: int, first_pts: int | None) -> int:
    """Number of frames that directly follow the first one in decoding order and are shown before it.

    Counted only if the first frame is decoded first, since they were not decoded then. In Matroska they may
    have no time, as it stores none below 0.
    """
    head = pts[1 : REORDER + 1]
    is_leading = (head == NO_TIME) | (head < pts[0])
    count = int(np.append(is_leading, False).argmin())
    if not reorder_depth or count == len(head) or pts[0] == NO_TIME or first_pts != pts[0]:
        return 0
    if (pts[1 + count :] == NO_TIME).any():  # leading frames without a time may be shown anywhere
        return int(np.flatnonzero(head[:count] != NO_TIME).max(initial=-1)) + 1
    return count


def _num_disorderly(pts: np.ndarray, reorder_depth: int) -> int:
    """Number of the (n,) display times that are further out of order than reordering explains."""
    order = np.arange(len(pts))
    late = np.empty(len(pts), np.int64)
    sorted_order = np.argsort(pts, kind="stable")
    late[sorted_order] = sorted_order - order
    return int(((late > reorder_depth) | (late < -REORDER)).sum())


def _sorted_times(
    pts: np.ndarray, durations: np.ndarray, units_per_sec: float, reorder_depth: int
) -> np.ndarray:
    """(n,) int64 rising times of a stream without decoding times: its display times, sorted per recording.

    Times further off than reordering explains become NO_TIME.
    """
    known = pts != NO_TIME
    rises = np.diff(pts[known])
    falls = -rises[rises < 0]
    if not has_span(pts):
        return pts
    # Reordering may span any pause, or only the usual distance; uses whichever explains more timestamps.
    spacing = float(np.median(np.diff(np.sort(pts[known]))))
    usual = min(2.0 * float(np.median(falls)), REORDER * spacing) if len(falls) else 0.0
    candidates = []
    for slack in (PAUSE_SEC * units_per_sec, usual):
        clock = PacketClock(pts, durations, units_per_sec, slack=slack)
        kept = known & ~clock.wrong
        parts = [part.start + np.flatnonzero(kept[part]) for part in clock.recordings()]
        disorder = sum(_num_disorderly(pts[part], reorder_depth) for part in parts)
        candidates.append((disorder + int(clock.wrong.sum()), kept, parts))
    _, kept, parts = min(candidates, key=lambda candidate: candidate[0])
    times = np.where(kept, pts, NO_TIME)
    for part in parts:
        times[part] = np.sort(times[part])
    return times


def _agreeing(pts: np.ndarray, clock: PacketClock) -> np.ndarray:
    """(n,) bool, True for display times within the range of the clock that reordering explains."""
    usual = int(np.median((pts - clock.times)[pts != NO_TIME]))
    low, high = clock.bounds(REORDER)
    return (pts != NO_TIME) & (pts - usual >= low) & (pts - usual <= high)


def _completed(
    pts: np.ndarray, good: np.ndarray, clock: PacketClock, reorder_depth: int
) -> tuple[np.ndarray, bool]:
    """(n,) int64 display times with recordings joined and gaps filled; and whether all of them are certain.

    If frames are shown in file order, the clock gives the times that are not good. Those of reordered frames
    are known only after decoding; here they only extend the span of the good times.
    """
    delays = (pts - clock.times)[good]
    usual = int(np.median(delays)) if len(delays) else 0
    times = np.where(good, pts, clock.times + usual)
    if good.all() or not good.any() or not reorder_depth:
        return clock.joined(times), True
    joined = clock.joined(times, good)
    first, last = int(joined[good].min()), int(joined[good].max())
    widened = np.where(good, joined, np.clip(joined, first, last))
    ordered = np.sort(joined[good])
    num_before = 0
    if not good[0]:  # the first packet holds a keyframe, which is shown first
        num_before = max(_num_outside(good[::-1], -ordered[::-1], clock.step), 1)
        widened[0] = first - num_before * clock.step
    num_beyond = int((~good).sum()) - num_before - _num_holes(ordered, clock.step)
    if num_beyond < 0:  # pauses leave more holes than missing frames, so only those near the end count
        num_beyond = _num_outside(good, ordered, clock.step)
    num_beyond = min(num_beyond, _num_near(good))
    if num_beyond:
        widened[np.flatnonzero(~good)[-1]] = last + num_beyond * clock.step
    return widened, False


def _num_holes(ordered: np.ndarray, step: int) -> int:
    """Number of frames missing between (k,) ascending times, less the times that are too close together."""
    return int((np.rint(np.diff(ordered) / step) - 1).sum())


def _num_near(good: np.ndarray) -> int:
    """Number of packets without a good time near the end, whose frames may be shown last."""
    return int((~good[-int(good[::-1].argmax()) - REORDER :]).sum())


def _num_outside(good: np.ndarray, ordered: np.ndarray, step: int) -> int:
    """Number of frames near the end that have no hole between the last good times.

    Args:
        good: (n,) bool, True for packets with a good time.
        ordered: (k,) int64 good times, ascending.
        step: Usual spacing in units.
    """
    # Counts from where no time is missing, since the frames of a gap there may belong to either side of it.
    is_clear = np.convolve(~good, np.ones(REORDER), "same") == 0
    starts = np.flatnonzero(is_clear[: -int(good[::-1].argmax()) - REORDER])
    is_good = good[starts[-1] :] if len(starts) else good
    num_missing = int((~is_good).sum()) - _num_holes(ordered[-int(is_good.sum()) :], step)
    return min(max(num_missing, 0), _num_near(good))
