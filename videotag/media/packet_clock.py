"""A clock that rises from packet to packet, as far as its times can be trusted.

It is cut into recordings where it breaks, and its wrong and missing times are interpolated. Times are int64
in units of the stream's time_base; arrays (n,) run over packets in file order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

NO_TIME = -(2**63)  # FFmpeg's own value for "none"; PyAV says None
PAUSE_SEC = (
    10.0  # longer forward jumps are breaks, unless the file vouches for them; FFmpeg's dts_delta_threshold
)

_PAUSE_STEPS = 10  # a pause is longer than so many of the stream's longer spacings; for slide shows
_OUTLIERS = 6  # more wrong times in a row than this are a recording of their own
_BREAK_COST = 2.5  # a break is as likely as so many wrong times in a row
_UNEVEN = 0.1  # a rate is variable from this share of unusual spacings
_UNUSUAL = 0.75  # spacings are unusual from this many steps off; telecine's 2:3 is not


class PacketClock:
    """Rising times of packets.

    Args:
        given: (n,) int64 times as the file has them, NO_TIME where there is none.
        durations: (n,) int64 durations of the packets' frames, 0 where unknown.
        units_per_sec: 1 / time_base.
        declared: Duration that the header states, in units; None if it states none.
        is_slotted: Whether every forward jump is a pause.
        slack: How far the clock may fall without a break.

    Attributes:
        is_usable: Whether there are two different times, or one packet with one; if not, nothing else is set.
        given: As passed in.
        times: (n,) int64, `given` with its wrong and missing times interpolated; recordings are not joined.
        wrong: (n,) bool, times that disagree with their neighbours.
        breaks: (n,) bool, the first packet of every recording but the first.
        pauses: (n,) bool, the first packet behind a long pause in an otherwise even clock.
        step: Usual spacing, at least 1.
    """

    def __init__(
        self,
        given: np.ndarray,
        durations: np.ndarray,
        units_per_sec: float,
        *,
        declared: float | None = None,
        is_slotted: bool = False,
        slack: float = 0.0,
    ) -> None:
        num = len(given)
        known = np.flatnonzero(given != NO_TIME)
        self.is_usable = (num == 1 and len(known) == 1) or (len(known) > 1 and bool(np.ptp(given[known])))
        if not self.is_usable:
            return
        self.given = given
        self._slack = slack
        self._durations = durations
        self._ahead = np.concatenate([[0], np.cumsum(durations)])  # sums of durations
        values = given[known]
        spacings = np.diff(values) / np.maximum(np.diff(known), 1)
        pause = np.inf if is_slotted else PAUSE_SEC * units_per_sec
        self.step = _usual_step(spacings, durations, pause)
        uneven = 0.0
        sane = spacings[(spacings > 0) & (spacings <= max(pause, _PAUSE_STEPS * self.step))]
        if len(sane):
            pause = max(pause, _PAUSE_STEPS * float(np.quantile(sane, 0.9)))
            uneven = float(np.mean(np.abs(sane - self.step) > _UNUSUAL * self.step))
            whole = declared and abs(declared - (values[-1] - values[0])) <= max(0.02 * declared, pause / 10)
            if whole and uneven > _UNEVEN:  # the header's duration vouches for the long pauses, too
                pause = np.inf
        self._pause = pause
        kept, breaks = self._chain(known, values)
        long = kept[1:] & kept[:-1] & ~breaks[1:] & (np.diff(values) - np.diff(known) * self.step > pause)
        self.pauses = np.zeros(num, bool)
        self.pauses[known[1:][long]] = uneven <= _UNEVEN and 2 * long.sum() <= _UNEVEN * len(long)
        self.breaks = np.zeros(num, bool)
        self.breaks[known[breaks]] = True
        self.wrong = np.zeros(num, bool)
        self.wrong[known[~kept]] = True
        self._parts = np.cumsum(self.breaks)  # number of the recording that a packet belongs to
        self.times = self._interpolated(known[kept], values[kept])

    def joined(self, times: np.ndarray, good: np.ndarray | None = None) -> np.ndarray:
        """(n,) `times` with every recording moved to where the one before it ends.

        If given, only their `good` times count; each packet before or behind these adds a step.
        """
        if not self.breaks.any():
            return times
        moved = times.copy()
        end: int | None = None
        for part in self.recordings():
            telling, before, behind = times[part], 0, 0
            if good is not None and good[part].any():
                telling = times[part][good[part]]
                before, behind = int(good[part].argmax()), int(good[part][::-1].argmax())
            if end is not None:
                moved[part] += end - int(telling.min()) + before * self.step
            end = int(telling.max() - times[part.start] + moved[part.start]) + (behind + 1) * self.step
        return moved

    def recordings(self) -> Iterator[slice]:
        """The packets of every recording."""
        edges = [0, *np.flatnonzero(self.breaks).tolist(), len(self.breaks)]
        yield from map(slice, edges, edges[1:])

    def bounds(self, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,), (n,): the line `reach` packets before and behind each one, within its recording."""
        order = np.arange(len(self.times))
        edges = np.flatnonzero(np.diff(self._parts)) + 1
        starts = np.concatenate([[0], edges])[self._parts]
        stops = np.concatenate([edges, [len(order)]])[self._parts] - 1
        low, high = np.maximum(order - reach, starts), np.minimum(order + reach, stops)
        before = self.times[low] - (reach - (order - low)) * self.step
        return before, self.times[high] + (reach - (high - order)) * self.step

    def last_duration(self, index: int) -> int:
        """How long the frame of a packet is shown if none follows it."""
        duration = int(self._durations[index])
        return duration if 0 < duration <= self._pause else self.step

    def _fits(self, first: int, second: int, elapsed: float) -> bool:
        """Whether the clock may rise by `elapsed` from one packet to a later one."""
        if elapsed < -self._slack:
            return False
        expected = (second - first) * self.step
        # A pause that the frames' own durations tell is one.
        return elapsed - expected <= self._pause or elapsed <= 2 * (self._ahead[second] - self._ahead[first])

    def _chain(self, known: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(k,), (k,) bool: which of the k known times are kept, and which of them begin a recording."""
        kept, breaks = np.ones(len(known), bool), np.zeros(len(known), bool)
        rises = np.diff(values)
        told = 2 * (self._ahead[known[1:]] - self._ahead[known[:-1]])
        with np.errstate(invalid="ignore"):
            paused = rises - np.diff(known) * self.step > self._pause
        odd = np.flatnonzero((rises < -self._slack) | (paused & (rises > told)))
        while len(odd):
            start = max(int(odd[0]) - _OUTLIERS, 0)
            # All places closer than two reaches are decided together.
            apart = np.flatnonzero(np.diff(odd) > 2 * _OUTLIERS + 2)
            count = int(apart[0]) + 1 if len(apart) else len(odd)
            stop = min(int(odd[count - 1]) + _OUTLIERS + 2, len(known))
            self._decide(known, values, start, stop, kept, breaks)
            odd = odd[count:]
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
        """Sets `kept` and `breaks` from start to stop by the cheapest chain of times that are kept.

        A time left out costs 1, a break more; uneven spacing decides between equal ones.
        """
        places, times = known[start:stop].tolist(), values[start:stop].tolist()
        count = len(places)
        costs: list[float] = []
        via: list[tuple[int, bool]] = []  # the kept time before, and whether a break lies between
        for second in range(count):
            first_is_open = start == 0 and second <= _OUTLIERS
            best = (float(second), -1, False) if second == 0 or first_is_open else (np.inf, -1, False)
            for first in range(max(second - _OUTLIERS, 0), second):
                elapsed, steps = times[second] - times[first], places[second] - places[first]
                cost = costs[first] + (second - first - 1)
                is_break = not self._fits(places[first], places[second], elapsed)
                uneven = abs(elapsed - steps * self.step) / (steps * self.step)
                cost += _BREAK_COST if is_break else 0.1 * min(1.0, uneven)
                best = min(best, (cost, first, is_break), key=lambda choice: choice[0])
            costs.append(best[0])
            via.append(best[1:])
        last = count - 1
        if stop == len(known):  # the last times may be wrong, too
            tail = range(max(count - _OUTLIERS, 0), count)
            last = min(reversed(tail), key=lambda index: costs[index] + (count - 1 - index))
        kept[start:stop] = False
        while last >= 0:
            kept[start + last] = True
            breaks[start + last] = via[last][1]
            last = via[last][0]

    def _interpolated(self, known: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(n,) int64: between the known times of each recording a line, beyond them the usual steps."""
        order = np.arange(len(self._parts))
        times = np.empty(len(order), np.int64)
        for recording in self.recordings():
            inside = slice(*np.searchsorted(known, [recording.start, recording.stop]))
            places, own = known[inside], values[inside]
            base = int(own[0])  # float64 is exact up to 2**53 only
            part = order[recording]
            line = np.rint(np.interp(part, places, own - base)).astype(np.int64) + base
            line -= np.maximum(places[0] - part, 0) * self.step
            line += np.maximum(part - places[-1], 0) * self.step
            times[recording] = line
        return times


def _usual_step(spacings: np.ndarray, durations: np.ndarray, pause: float) -> int:
    """The median spacing of neighbours, at least 1; by the durations where most spacings make no sense."""
    sane = spacings[(spacings > 0) & (spacings <= pause)]
    if 2 * len(sane) < len(spacings) or not len(sane):
        told = durations[durations > 0]
        sane = told if len(told) else np.abs(spacings[spacings != 0])
    return max(round(float(np.median(sane))), 1) if len(sane) else 1
