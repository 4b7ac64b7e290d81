"""Times of packets with faults of every kind: the frames sampled are those of the timeline without the fault.

A film is made as encoders and containers make it: frames in display order at true times, packets in decoding
order, decoding times as MP4 stores them or as FFmpeg derives them. The film's own order plays the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.media.packet_clock import NO_TIME
from videotag.media.packet_times import display_times
from videotag.media.timeline import TimedFrames, Timeline

UNITS_PER_SEC = 1000
STREAM = SimpleNamespace(codec_context=SimpleNamespace(name="h264"))
STEP = 40


@dataclass
class Film:
    """pts, dts and durations of packets in decoding order; frame[i] is the number in display of packet i."""

    frame: np.ndarray
    pts: np.ndarray
    dts: np.ndarray
    durations: np.ndarray
    true_times: np.ndarray  # by frame number, from 0
    end: int
    stores_dts: bool
    reorder_depth: int


PYRAMID = 7  # B frames in a row of which some are references: the middle one, then the middles of the halves


def decoding_order(num_frames, num_b):
    """Frame numbers in decoding order: every (num_b + 1)th frame is coded ahead of those before it."""
    order = [0]
    for start in range(1, num_frames, num_b + 1):
        group = list(range(start, min(start + num_b + 1, num_frames)))
        order += [group[-1], *(halved(group[:-1]) if num_b == PYRAMID else group[:-1])]
    return np.array(order)


def halved(frames):
    middle = len(frames) // 2
    return [frames[middle], *halved(frames[:middle]), *halved(frames[middle + 1 :])] if frames else []


def depth(num_b):
    """Number of frames by which a decoder delays output."""
    return 3 if num_b == PYRAMID else int(num_b > 0)


def film(spacings, *, num_b=0, start=0, tells_durations=False, stored=True):
    """A film whose frame k is shown for spacings[k]; `stored`: its container holds decoding times, as MP4."""
    times = np.concatenate([[0], np.cumsum(spacings[:-1])]).astype(np.int64)
    frame = decoding_order(len(times), num_b)
    pts = times[frame] + start
    delay = depth(num_b)
    dts = np.concatenate([pts.min() - STEP * np.arange(delay, 0, -1), np.sort(pts)])[: len(pts)]
    if not stored:
        dts[:delay] = NO_TIME
    durations = np.array(spacings)[frame] if tells_durations else np.full(len(pts), STEP)
    return Film(frame, pts, dts, durations, times, int(times[-1] + spacings[-1]), stored, delay)


def derive_dts(made, num_b):
    """Decoding times as FFmpeg makes them for Matroska: the smallest display time among the last few."""
    delay = depth(num_b)
    waiting, dts = [], []
    for time in made.pts.tolist():
        waiting = sorted([*waiting, time]) if time != NO_TIME else waiting
        dts.append(waiting.pop(0) if len(waiting) > delay and time != NO_TIME else NO_TIME)
    return replace(made, dts=np.array(dts))


def sampled(made, num_samples):
    """The frames at the midpoints of num_samples parts, the duration, and the kinds of faults found."""
    shown = display_times(
        made.pts,
        made.dts,
        made.durations,
        units_per_sec=UNITS_PER_SEC,
        stores_dts=made.stores_dts,
        reorder_depth=made.reorder_depth,
    )
    assert shown is not None
    timeline = Timeline(
        start=shown.start,
        end=shown.end,
        time_base=Fraction(1, UNITS_PER_SEC),
        by_order=shown.by_order,
        num_frames=len(made.pts),
        num_expected=len(made.pts),
        times=shown.times,
        uncertain=shown.uncertain,
        step=shown.step,
        times_faults=shown.faults,
    )
    coded = [SimpleNamespace(pts=int(time), is_discard=False) for time in made.pts]
    numbered = list(timeline.number_packets(coded, STREAM))
    decoded = [numbered[packet] for packet in np.argsort(made.frame)]
    times = np.array([time for _, time in TimedFrames(timeline, decoded)])
    assert (np.diff(times) >= 0).all()
    due = [timeline.num_targets_before(int(time), num_samples) for time in times]
    rows = np.repeat(np.arange(-1, len(times)), np.diff([0, *due, num_samples]))
    return rows, timeline.end - timeline.start, {fault.category for fault in shown.faults}


def expected(made, num_samples):
    midpoints = (2 * np.arange(num_samples) + 1) * made.end / (2 * num_samples)
    return np.searchsorted(made.true_times, midpoints, side="right") - 1


def check(made, faulty, *, frames=1, longest=STEP):
    for num_samples in (7, 50):
        rows, duration, repairs = sampled(faulty, num_samples)
        assert np.abs(rows - expected(made, num_samples)).max() <= frames
        assert duration == pytest.approx(made.end, abs=1.5 * frames * longest)
    return repairs


def jump(made, at, by):
    """Everything decoded from frame `at` on is `by` later; `at` begins a group, which no frame crosses."""
    behind = made.frame >= at
    moved = np.where(behind, by, 0)
    pts, dts = (np.where(times == NO_TIME, NO_TIME, times + moved) for times in (made.pts, made.dts))
    return replace(made, pts=pts, dts=dts)


num_bs = st.sampled_from([0, 1, 2, 3, PYRAMID])
big = st.sampled_from([11_000, 60_000, 5_000_000, 90_000_000])
even = st.integers(30, 160).map(lambda count: [STEP] * count)
uneven = st.lists(
    st.sampled_from([STEP, STEP, STEP, 2 * STEP, 10 * STEP, 100 * STEP]), min_size=30, max_size=160
).map(lambda drawn: [*[STEP] * 5, *drawn, *[STEP] * 5])


@given(st.one_of(even, uneven), num_bs, st.booleans())
@settings(max_examples=200)
def test_whole_times_are_kept(spacings, num_b, stored):
    made = film(spacings, num_b=num_b, stored=stored)
    shown = display_times(
        made.pts,
        made.dts,
        made.durations,
        units_per_sec=UNITS_PER_SEC,
        stores_dts=stored,
        reorder_depth=depth(num_b),
    )
    assert shown.times.tolist() == made.pts.tolist()
    assert not shown.faults
    assert not check(made, made, frames=0)


def faults(made, num_b, data, kinds, big=big):
    """`made` with the faults, applied one after the other, and the tolerance in frames.

    Two faults within a few packets may hide from each other what the frames around tell.
    """
    group = num_b + 1
    places: list[tuple[int, int]] = []  # first and last packet of each fault
    starts = [0]  # packets that begin a recording
    for kind in kinds:
        packet = last = data.draw(st.integers(0, len(made.pts) - 1))
        pts, dts = made.pts.copy(), made.dts.copy()
        if kind == "jump":
            at = 1 + group * data.draw(st.integers(0, (len(pts) - 2) // group))
            made = jump(made, at, data.draw(big) * data.draw(st.sampled_from([1, -1])))
            starts.append(at)
            places.append((at, at))
            continue
        # What falls behind the first frame of a recording makes that one longer.
        at_start = any(start <= packet < start + 2 * group for start in starts)
        if pts[packet] == NO_TIME or (kind == "step back" and at_start):
            continue
        if kind == "outlier":
            pts[packet] += data.draw(st.sampled_from([-1, 1])) * data.draw(big)
        elif kind == "step back":
            pts[packet] -= data.draw(st.integers(1, 2 * STEP))
        elif kind == "missing":
            pts[packet] = NO_TIME
        elif kind == "missing with its decoding time":
            pts[packet] = dts[packet] = NO_TIME
        elif kind == "run missing":
            last = packet + data.draw(st.integers(1, min(11, len(pts) // 10)))
            pts[packet : last + 1] = NO_TIME
        made = replace(made, pts=pts, dts=dts)
        places.append((packet, last))
    are_near = (
        len(places) == 2 and max(start for start, _ in places) - min(last for _, last in places) < 3 * group
    )
    return made, 1 + group if are_near else 1


KINDS = ["jump", "outlier", "step back", "missing", "run missing", "missing with its decoding time"]
TOLD = {"jump": "break", "outlier": "wrong"} | {kind: "missing" for kind in KINDS[3:]}


def check_told(kinds, is_faulty, repairs):
    """A single fault is reported as its kind; small steps back may be none, jumps near an end outliers."""
    if len(kinds) == 1 and is_faulty and kinds != ["step back"]:
        assert repairs
        assert repairs <= ({"break", "wrong"} if kinds == ["jump"] else {TOLD[kinds[0]]})


@given(even, num_bs, st.data(), st.lists(st.sampled_from(KINDS), min_size=1, max_size=2))
@settings(max_examples=500)
def test_stored_decoding_times_and_one_or_two_faults(spacings, num_b, data, kinds):
    made = film(spacings, num_b=num_b)
    faulty, tolerance = faults(made, num_b, data, kinds)
    repairs = check(made, faulty, frames=tolerance)
    check_told(kinds, faulty is not made, repairs)


@given(even, num_bs, st.data(), st.lists(st.sampled_from(KINDS[:5]), min_size=1, max_size=2))
@settings(max_examples=500)
def test_derived_decoding_times_and_one_or_two_faults(spacings, num_b, data, kinds):
    made = film(spacings, num_b=num_b, stored=False)
    faulty, tolerance = faults(made, num_b, data, kinds)
    repairs = check(made, derive_dts(faulty, num_b), frames=tolerance)
    check_told(kinds, faulty is not made, repairs)


@given(even, num_bs, st.booleans(), st.sampled_from([2, 3]), st.integers(0, 2))
@settings(max_examples=200)
def test_every_second_or_third_time_missing(spacings, num_b, stored, every, first):
    made = film(spacings, num_b=num_b, stored=stored)
    pts = made.pts.copy()
    pts[first::every] = NO_TIME
    faulty = replace(made, pts=pts)
    assert check(made, faulty if stored else derive_dts(faulty, num_b), frames=4) == {"missing"}


def test_every_second_time_missing_of_two_rates_makes_no_longer_stream():
    made = film([200] * 99 + [100] * 99, num_b=1)
    pts = made.pts.copy()
    pts[1::2] = NO_TIME
    _, duration, _ = sampled(replace(made, pts=pts), 7)
    assert duration == pytest.approx(made.end, abs=1500)


@given(uneven, num_bs, st.data(), st.sampled_from([*KINDS[:4], KINDS[5]]), st.booleans())
@settings(max_examples=500)
def test_variable_rates_and_a_fault(spacings, num_b, data, kind, stored):
    if kind == "jump":  # times after a break do not show how long the frames before it last
        at = data.draw(st.integers(0, (len(spacings) - 2) // (num_b + 1))) * (num_b + 1) + 1
        spacings = [
            STEP if abs(k - at) <= max(4, num_b + 1) else spacing for k, spacing in enumerate(spacings)
        ]
        made = film(spacings, num_b=num_b, stored=stored)
        faulty = jump(made, at, data.draw(st.sampled_from([-60_000, 60_000, 5_000_000])))
        check(made, faulty if stored else derive_dts(faulty, num_b), frames=2, longest=3 * STEP)
        return
    made = film(spacings, num_b=num_b, stored=stored)
    # Ten seconds are far more than the usual spacing only if there are no pauses of several.
    faulty, _ = faults(made, num_b, data, [kind], st.sampled_from([60_000, 5_000_000]))
    check(made, faulty if stored else derive_dts(faulty, num_b), frames=2, longest=3 * STEP)


anything = st.lists(
    st.one_of(
        st.just(NO_TIME),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.integers(-(2**60), 2**60),
        st.sampled_from([2**59, 2**60 - 1, -(2**60) + 1]),
        st.integers(-500, 5000),
    ),
    min_size=1,
)


@given(anything, anything, anything, st.booleans(), st.booleans(), st.integers(0, 4), st.floats(0, 1e18))
@settings(max_examples=1000)
def test_any_timestamps_give_a_valid_span(pts, dts, durations, stores_dts, is_slotted, depth, declared):
    count = min(len(pts), len(dts), len(durations))
    shown = display_times(
        np.array(pts[:count]),
        np.array(dts[:count]),
        np.array(durations[:count]),
        units_per_sec=UNITS_PER_SEC,
        declared=declared,
        stores_dts=stores_dts,
        is_slotted=is_slotted,
        reorder_depth=depth,
    )
    if shown is not None:
        assert shown.end > shown.times.max()
        assert shown.times.max() >= shown.start >= shown.times.min()
