"""Display times of frames from the timestamps of their packets, with faulty ones repaired.

Timestamps jump where recordings were joined, and single ones may be wrong or missing; some containers have
none for display. Those that agree with their neighbours are kept, the others are interpolated. Behind a break
the stream is shifted to continue where it stopped, as players do for MPEG-TS.

Legend: dts is the decoding time of a packet, which rises from packet to packet; pts is the display time of
its frame, which need not. Times are int64 in units of the stream's time_base. Arrays (n,) run over the
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
_MAX_SPAN = 2**60  # units; sums beyond it would overflow
_MAX_EQUAL = 4  # packets; rates above that of the clock give some equal times
_BLOCK = 65_536  # packets that are checked at once


@dataclass(frozen=True)
class Fault:
    """One kind of timestamp fault, and the packets affected.

    Attributes:
        kind: "break": recordings were joined here; "wrong" and "missing": single times; "order": display
            times that are decoding times; "pause": the frame before is held for very long in an otherwise
            even stream. Pauses are kept, since the duration of that frame vouches for them. "end": the last
            frame is said to last for so long that it is given the usual time.
        frames: (n,) bool, the packets concerned; of a break or a pause, the first packet behind it.
    """

    kind: Literal["break", "pause", "order", "wrong", "missing", "end"]
    frames: np.ndarray


@dataclass(frozen=True)
class DisplayTimes:
    """When the frames of a stream are displayed.

    Attributes:
        times: (n,) int64, the time of the frame in each packet; in display order if by_order.
        by_order: Whether the packets have no display times, so that frames take `times` in display order.
        uncertain: (n,) bool, reordered frames without a good time, which belong between their neighbours in
            display order; None if there are none.
        end: When the last frame ends.
        step: Usual spacing of frames, at least 1.
        num_leading: Number of frames that follow the first keyframe in the file and are shown before it. In a
            cut out of a film they mostly need frames from before the cut, and cannot be decoded.
        faults: What was wrong; empty if `times` are those of the packets.
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
        """When the first frame appears."""
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

    def add(self, packet: Any, *, shown: bool, heard: int = 0) -> None:
        """Adds the next av.Packet of the file.

        Args:
            packet: Packet of the stream.
            shown: Whether its frame is shown.
            heard: Duration of the sound that lies before it in the file and behind the packet before it, in
                units. The frame before lasts at least as long: sound goes on in a pause, not in a break.
        """
        if self._durations and heard > self._durations[-1]:
            self._durations[-1] = heard
        if not shown:
            self.num_hidden += 1
            return
        self.num_shown += 1
        self._pts.append(NO_TIME if packet.pts is None else packet.pts)
        self._dts.append(NO_TIME if packet.dts is None else packet.dts)
        self._durations.append(packet.duration or 0)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n,), (n,), (n,) int64: pts, dts and durations, as display_times takes them."""
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
    """When the frames of a stream are displayed; None if its timestamps are missing or all equal.

    Args:
        pts: (n,) int64 display times, NO_TIME where there is none.
        dts: (n,) int64 decoding times, NO_TIME where there is none.
        durations: (n,) int64 durations of frames, 0 where unknown.
        units_per_sec: 1 / time_base.
        declared: Duration that the container's header states, in units; None if it states none.
        stores_dts: Whether the container holds decoding times. FFmpeg makes up those of Matroska.
        reorder_depth: Number of frames by which the decoder delays output to reorder it; 0 if it does not.
        first_pts: Display time of the frame that is decoded first; None if it has none.
        holds_decoding_times: Whether `pts` are decoding times, so that frames take them in display order.
        has_durations: Whether the container holds the duration of every frame, which its header sums up.
        is_slotted: Whether decoding times count equal slots, as in AVI, where an empty slot repeats a frame.
    """
    pause = PAUSE_SEC * units_per_sec
    num_leading = _num_leading(pts, reorder_depth, first_pts)
    by_order = is_slotted or holds_decoding_times
    if not by_order and _is_plain(pts, reorder_depth, pause):
        step = max(int(np.median(np.diff(np.sort(pts)))), 1) if len(pts) > 1 else 1
        end, faults = _end(pts, durations, step, pause, declared)
        return DisplayTimes(pts, False, None, end, step, num_leading, faults)
    pts, durations = _single(_bounded(pts)), np.clip(durations, 0, _MAX_SPAN // len(pts))
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
        if is_slotted and reorder_depth:  # the first frame appears when packet 1 + reorder_depth is read
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
    """(n,) int64 times that frames take in display order; NO_TIME everywhere if most packets have none.

    Elementary streams have none, and some program streams one for several frames.
    """
    dts = _bounded(dts) if is_slotted else _single(_bounded(dts))  # packets of an AVI may share a slot
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
    """(n,) int64 times that rise from packet to packet if none is wrong; (n,) the pts that may be right."""
    known = pts != NO_TIME
    if not _num_disorderly(pts[known], reorder_depth):
        times = pts.copy()
        times[known] = np.sort(pts[known])
        return times, pts
    single = _single(_bounded(dts))
    if stores_dts and 4 * int((single != NO_TIME).sum()) >= len(dts):
        # Display times are stored as differences from decoding times, whose clock may have stopped.
        return single, np.where((single == NO_TIME) & (dts != NO_TIME), NO_TIME, pts)
    return _sorted_times(pts, durations, units_per_sec, reorder_depth), pts


def _bounded(times: np.ndarray) -> np.ndarray:
    """(n,) int64 `times`, with implausibly large values replaced by NO_TIME."""
    return np.where((times > -_MAX_TIME) & (times < _MAX_TIME), times, NO_TIME)


def _single(times: np.ndarray) -> np.ndarray:
    """(n,) int64 `times`; of more than _MAX_EQUAL equal ones in a row, as of a stopped clock, one stays."""
    repeats = np.append(False, times[1:] == times[:-1])
    run = np.cumsum(~repeats)
    return np.where(repeats & (np.bincount(run)[run] > _MAX_EQUAL), NO_TIME, times)


def _end(
    times: np.ndarray, durations: np.ndarray, step: int, pause: float, declared: float | None
) -> tuple[int, list[Fault]]:
    """When the frame shown last ends. Very long durations are accepted only if the header agrees."""
    last = int(times.argmax())
    duration = int(durations[last])
    span = int(times[last]) + duration - int(times.min())
    if duration > max(pause, PAUSE_STEPS * step) and not (declared and declared >= 0.9 * span):
        return int(times[last]) + step, [Fault("end", np.arange(len(times)) == last)]
    return int(times[last]) + (duration if duration > 0 else step), []


def _is_plain(pts: np.ndarray, reorder_depth: int, pause: float) -> bool:
    """Whether every packet has a display time and none jumps, as in most files; checked block by block."""
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

    Only where that one is decoded first: those before it were not decoded. Matroska has no times below 0.
    """
    head = pts[1 : REORDER + 1]
    is_leading = (head == NO_TIME) | (head < pts[0])
    count = int(np.append(is_leading, False).argmin())
    if not reorder_depth or count == len(head) or pts[0] == NO_TIME or first_pts != pts[0]:
        return 0
    if (pts[1 + count :] == NO_TIME).any():  # the first ones without a time may lie anywhere
        return int(np.flatnonzero(head[:count] != NO_TIME).max(initial=-1)) + 1
    return count


def _num_disorderly(pts: np.ndarray, reorder_depth: int) -> int:
    """Number of display times that are further out of order than frames are reordered."""
    order = np.arange(len(pts))
    late = np.empty(len(pts), np.int64)
    sorted_order = np.argsort(pts, kind="stable")
    late[sorted_order] = sorted_order - order
    return int(((late > reorder_depth) | (late < -REORDER)).sum())


def _sorted_times(
    pts: np.ndarray, durations: np.ndarray, units_per_sec: float, reorder_depth: int
) -> np.ndarray:
    """(n,) int64 rising times of a stream without decoding times: its display times, sorted per recording.

    Times further off than frames can be reordered become NO_TIME.
    """
    known = pts != NO_TIME
    rises = np.diff(pts[known])
    falls = -rises[rises < 0]
    if not has_span(pts):
        return pts
    # Reordering may span any pause or only the usual distance: whichever explains more timestamps is taken.
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
    """(n,) bool: display times no further off the clock around them than frames can be reordered."""
    usual = int(np.median((pts - clock.times)[pts != NO_TIME]))
    low, high = clock.bounds(REORDER)
    return (pts != NO_TIME) & (pts - usual >= low) & (pts - usual <= high)


def _completed(
    pts: np.ndarray, good: np.ndarray, clock: PacketClock, reorder_depth: int
) -> tuple[np.ndarray, bool]:
    """(n,) int64 display times with recordings joined and gaps filled; whether the filled ones are certain.

    Where frames are shown in file order, the clock tells the times that are not good. Reordered ones
    are known only once their frames are decoded; here they just widen the span of the good times.
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
    if num_beyond < 0:  # pauses make more holes than frames are missing, so that only those near the end tell
        num_beyond = _num_outside(good, ordered, clock.step)
    num_beyond = min(num_beyond, _num_near(good))
    if num_beyond:
        widened[np.flatnonzero(~good)[-1]] = last + num_beyond * clock.step
    return widened, False


def _num_holes(ordered: np.ndarray, step: int) -> int:
    """Number of frames missing between ascending times; times too close together count against it."""
    return int((np.rint(np.diff(ordered) / step) - 1).sum())


def _num_near(good: np.ndarray) -> int:
    """Number of packets without a good time near the end, whose frames may be shown last."""
    return int((~good[-int(good[::-1].argmax()) - REORDER :]).sum())


def _num_outside(good: np.ndarray, ordered: np.ndarray, step: int) -> int:
    """Number of frames near the end that find no hole between the last good times.

    Args:
        good: (n,) bool, the packets with a good time.
        ordered: The good times, ascending.
        step: Usual spacing.
    """
    # Counted from where none is missing, as the frames of a gap there may belong to either side of it.
    is_clear = np.convolve(~good, np.ones(REORDER), "same") == 0
    starts = np.flatnonzero(is_clear[: -int(good[::-1].argmax()) - REORDER])
    is_good = good[starts[-1] :] if len(starts) else good
    num_missing = int((~is_good).sum()) - _num_holes(ordered[-int(is_good.sum()) :], step)
    return min(max(num_missing, 0), _num_near(good))
