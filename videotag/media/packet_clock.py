"""Fits a clock that rises from packet to packet to timestamps, some of which may be wrong.

The clock is split into recordings at its breaks, and wrong or missing times are interpolated. Times are int64
in units of the stream's time_base; (n,) arrays run over packets in file order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

NO_TIME = -(2**63)  # FFmpeg's AV_NOPTS_VALUE; PyAV uses None
REORDER = 17  # packets; H.264 and HEVC reorder over at most 16
# Longer forward jumps are breaks unless the file confirms them; FFmpeg's dts_delta_threshold for MPEG-TS.
PAUSE_SEC = 10.0
PAUSE_STEPS = 10  # minimum length of a pause, in multiples of the 90th-percentile spacing; for slide shows

_PAUSE_SHARE = 10  # longest pause that a header can confirm, as a multiple of the sum of all other spacings
_OUTLIERS = 6  # a longer run of wrong times counts as a recording of its own
_BREAK_COST = 2.5  # cost of a break, where dropping a timestamp costs 1
_MANY_GAPS = 0.2  # share of consecutive known times that have missing ones between them
_WIDE = 8  # number of known times over which spacings are measured if there are many gaps
_UNEVEN = 0.1  # the rate is variable from this share of unusual spacings
_UNUSUAL = 0.75  # deviation in steps from which a spacing is unusual; telecine's 2:3 is below it


class PacketClock:
    """Rising times of packets, fitted to the times in the file.

    Args:
        given: (n,) int64 times in the file, NO_TIME where there is none.
        durations: (n,) int64 durations of the packets' frames, 0 where unknown.
        units_per_sec: Units per second, 1 / time_base.
        declared: Duration that the header declares, in units; None if it declares none.
        has_durations: Whether the container stores the duration of every frame, and the header their sum.
        is_slotted: Whether packets take equal time slots, so that every forward jump is a pause.
        slack: Largest fall that is not a break, in units.

    Attributes:
        times: (n,) int64, `given` with wrong and missing times interpolated; recordings are not joined.
        wrong: (n,) bool, True for times that disagree with their neighbors.
        breaks: (n,) bool, True for the first packet of every recording except the first.
        pauses: (n,) bool, True for the first packet after a long pause in an otherwise even clock.
        step: Usual spacing in units, at least 1.
    """

    def __init__(
        self,
        given: np.ndarray,
        durations: np.ndarray,
        units_per_sec: float,
        *,
        declared: float | None = None,
        has_durations: bool = False,
        is_slotted: bool = False,
        slack: float = 0.0,
    ) -> None:
        known = np.flatnonzero(given != NO_TIME)
        values = given[known]
        self._slack = slack
        self._elapsed = np.concatenate([[0], np.cumsum(durations)])  # (n + 1,), from the durations alone
        spacings = np.diff(values) / np.maximum(np.diff(known), 1)
        pause = np.inf if is_slotted else PAUSE_SEC * units_per_sec
        has_many_gaps = len(known) > 1 and np.mean(np.diff(known) > 1) > _MANY_GAPS
        measured = _wide_spacings(known, values) if has_many_gaps else spacings
        self.step = _usual_step(measured, durations, pause)
        pause = max(pause, PAUSE_STEPS * self.step)
        uneven, unusual = 0.0, pause
        sane = spacings[(spacings > 0) & (spacings <= pause)]
        if len(sane):
            pause = max(pause, PAUSE_STEPS * float(np.quantile(sane, 0.9)))
            unusual = pause
            uneven = float(np.mean(np.abs(sane - self.step) > _UNUSUAL * self.step))
            whole = declared and abs(declared - np.ptp(values)) <= max(0.02 * declared, pause / 10)
            if whole:  # the header confirms the pauses, unless the muxer derived its duration from the times
                pause = max(pause, np.inf if has_durations else _PAUSE_SHARE * float(sane.sum()))
        self._pause = pause
        kept, breaks = self._chain(known, values)
        num = len(given)
        self.breaks = np.zeros(num, bool)
        self.breaks[known[breaks]] = True
        self.wrong = np.zeros(num, bool)
        self.wrong[known[~kept]] = True
        long = kept[1:] & kept[:-1] & ~breaks[1:] & (np.diff(values) - np.diff(known) * self.step > unusual)
        self.pauses = np.zeros(num, bool)
        self.pauses[known[1:][long]] = uneven <= _UNEVEN and 2 * long.sum() <= _UNEVEN * len(long)
        self._parts = np.cumsum(self.breaks)  # (n,) index of each packet's recording
        self.times = self._interpolated(known[kept], values[kept])

    def joined(self, times: np.ndarray, good: np.ndarray | None = None) -> np.ndarray:
        """(n,) int64 `times` with every recording shifted to start where the previous one ends.

        Args:
            times: (n,) int64 times of the packets.
            good: (n,) bool; if given, the ends of a recording are those of its good times, extended by one
                step per packet beyond them.
        """
        if not self.breaks.any():
            return times
        moved = times.copy()
        end: int | None = None
        for part in self.recordings():
            reliable, before, after = times[part], 0, 0
            if good is not None and good[part].any():
                reliable = times[part][good[part]]
                before, after = int(good[part].argmax()), int(good[part][::-1].argmax())
            if end is not None:
                moved[part] += end - int(reliable.min()) + before * self.step
            end = int(reliable.max() - times[part.start] + moved[part.start]) + (after + 1) * self.step
        return moved

    def recordings(self) -> Iterator[slice]:
        """Yields the packets of every recording as a slice."""
        edges = [0, *np.flatnonzero(self.breaks).tolist(), len(self.breaks)]
        yield from map(slice, edges, edges[1:])

    def bounds(self, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,) and (n,): the clock `reach` packets before and after each packet, within its recording.

        Where a recording ends earlier, the clock is extended by the usual step.
        """
        order = np.arange(len(self.times))
        edges = np.flatnonzero(np.diff(self._parts)) + 1
        starts = np.concatenate([[0], edges])[self._parts]
        stops = np.concatenate([edges, [len(order)]])[self._parts] - 1
        low, high = np.maximum(order - reach, starts), np.minimum(order + reach, stops)
        before = self.times[low] - (reach - (order - low)) * self.step
        return before, self.times[high] + (reach - (high - order)) * self.step

    def _fits(self, first: int, second: int, elapsed: float) -> bool:
        """Whether the clock may rise by `elapsed` from packet `first` to packet `second`.

        A clock that stalls for many packets without catching up has a break there.
        """
        expected = (second - first) * self.step
        if elapsed < -self._slack or (second - first > _OUTLIERS and elapsed < expected / 2):
            return False
        return elapsed - expected <= self._pause or elapsed <= self._covered(first, second)

    def _covered(self, first: Any, second: Any) -> Any:
        """Maximum length of a pause between two packets: twice the durations of the frames around it.

        Includes packets as far away as frames may be reordered.
        """
        last = len(self._elapsed) - 1
        return 2 * (
            self._elapsed[np.minimum(second + REORDER, last)] - self._elapsed[np.maximum(first - REORDER, 0)]
        )

    def _chain(self, known: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(k,) and (k,) bool: which of the k known times are kept, and which of them begin a recording."""
        kept, breaks = np.ones(len(known), bool), np.zeros(len(known), bool)
        rises, steps = np.diff(values), np.diff(known)
        covered = self._covered(known[:-1], known[1:])
        with np.errstate(invalid="ignore"):
            paused = rises - steps * self.step > self._pause
        stopped = (steps > _OUTLIERS) & (rises < steps * self.step / 2)
        suspects = np.flatnonzero((rises < -self._slack) | stopped | (paused & (rises > covered)))
        # Suspects whose neighborhoods overlap are decided together.
        for group in np.split(suspects, np.flatnonzero(np.diff(suspects) > 2 * _OUTLIERS + 2) + 1):
            if len(group):
                start = max(int(group[0]) - _OUTLIERS, 0)
                stop = min(int(group[-1]) + _OUTLIERS + 2, len(known))
                self._decide(known, values, start, stop, kept, breaks)
        return kept, breaks

    def _decide(
        self,
        known: np.ndarray,
        values: np.ndarray,
        start: int,
        stop: int,
        kept: np.ndarray,
        breaks: np.ndarray,
    ) -> None:
        """Sets `kept` and `breaks` from start to stop to the cheapest chain of kept times.

        Dropping a time costs 1, a break costs more, and uneven spacing decides ties.
        """
        count = stop - start  # up to a whole film, hence compact arrays
        positions, times = array("q", known[start:stop].tobytes()), array("q", values[start:stop].tobytes())
        costs = array("d")
        via, via_break = array("q"), array("b")  # the previous kept time, and whether a break lies between
        for second in range(count):
            first_is_open = start == 0 and second <= _OUTLIERS
            best = (float(second), -1, False) if second == 0 or first_is_open else (np.inf, -1, False)
            for first in range(max(second - _OUTLIERS, 0), second):
                elapsed, steps = times[second] - times[first], positions[second] - positions[first]
                cost = costs[first] + (second - first - 1)
                is_break = not self._fits(positions[first], positions[second], elapsed)
                uneven = abs(elapsed - steps * self.step) / (steps * self.step)
                cost += _BREAK_COST if is_break else 0.1 * min(1.0, uneven)
                best = min(best, (cost, first, is_break), key=lambda choice: choice[0])
            costs.append(best[0])
            via.append(best[1])
            via_break.append(best[2])
        last = count - 1
        if stop == len(known):  # the last times may be wrong too
            tail = range(max(count - _OUTLIERS, 0), count)
            last = min(reversed(tail), key=lambda index: costs[index] + (count - 1 - index))
        kept[start:stop] = False
        while last >= 0:
            kept[start + last] = True
            breaks[start + last] = via_break[last]
            last = via[last]

    def _interpolated(self, known: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(n,) int64 times, linear between the known times of a recording and in usual steps beyond them."""
        order = np.arange(len(self._parts))
        times = np.empty(len(order), np.int64)
        for recording in self.recordings():
            inside = slice(*np.searchsorted(known, [recording.start, recording.stop]))
            positions, own = known[inside], values[inside]
            base = int(own[0])  # keeps the values small, since float64 is exact only up to 2**53
            part = order[recording]
            line = np.rint(np.interp(part, positions, own - base)).astype(np.int64) + base
            line -= np.maximum(positions[0] - part, 0) * self.step
            line += np.maximum(part - positions[-1], 0) * self.step
            times[recording] = line
        return times


def _usual_step(spacings: np.ndarray, durations: np.ndarray, pause: float) -> int:
    """The median spacing of neighbors, at least 1; the median duration if most spacings are implausible."""
    rising = spacings[spacings > 0]
    sane = rising[rising <= pause]
    if 2 * len(sane) < len(spacings) or not len(sane):
        known = durations[durations > 0]
        is_steady = 2 * len(rising) > len(spacings) and np.ptp(np.quantile(rising, [0.1, 0.9])) < 0.1 * pause
        sane = (
            rising if is_steady or not len(known) else known
        )  # steady: a slide show with a frame every 20 s
    return max(round(float(np.median(sane))), 1) if len(sane) else 1


def _wide_spacings(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(k - r,) spacings over r of the k known times, for streams that lack every second or third time.

    Spacings of adjacent times are half or twice the true one there, since frames are reordered.
    """
    reach = min(_WIDE, max(len(known) - 1, 1))
    return (values[reach:] - values[:-reach]) / (known[reach:] - known[:-reach])


def has_span(times: np.ndarray) -> bool:
    """Whether (n,) int64 times suffice to fit a clock: two of them differ, or the only packet has one."""
    known = times[times != NO_TIME]
    return len(times) == len(known) == 1 or (len(known) > 1 and bool(np.ptp(known)))
