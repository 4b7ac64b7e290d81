"""Breaks, pauses and outliers: where the line between them runs, one case each.

Times are in milliseconds; the films have a frame every 40 ms unless said otherwise.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from videotag.media.packet_clock import NO_TIME, PacketClock
from videotag.media.packet_times import display_times
from videotag.media.timeline import TimedFrames, Timeline


def rising(spacings):
    return np.concatenate([[0], np.cumsum(spacings)]).astype(np.int64)


def even(count=100, step=40):
    return np.arange(count, dtype=np.int64) * step


def clock_of(times, durations=None, **how):
    durations = np.zeros(len(times), np.int64) if durations is None else durations
    return PacketClock(times, durations, 1000, **how)


def kinds(clock):
    """Kind -> packets of it."""
    found = {kind: np.flatnonzero(getattr(clock, kind)).tolist() for kind in ("breaks", "wrong", "pauses")}
    return {kind: packets for kind, packets in found.items() if packets}


@pytest.mark.parametrize(
    ("gap_ms", "found"), [(9_000, {}), (9_900, {}), (10_100, {"breaks": [50]}), (60_000, {"breaks": [50]})]
)
def test_a_jump_of_ten_seconds_is_a_break_unless_confirmed(gap_ms, found):
    assert kinds(clock_of(even() + gap_ms * (np.arange(100) >= 50))) == found


@pytest.mark.parametrize(("gap_ms", "found"), [(45_000, {}), (120_000, {"breaks": [50]})])
def test_a_longer_slide_of_a_slide_show_is_not_a_break(gap_ms, found):
    assert kinds(clock_of(rising([5_000] * 49 + [gap_ms] + [5_000] * 50))) == found


def test_a_show_with_some_long_slides_may_have_a_longer_one():
    spacings = ([1_000] * 4 + [9_000]) * 10 + [60_000] + ([1_000] * 4 + [9_000]) * 10
    assert kinds(clock_of(rising(spacings))) == {}


def test_a_header_confirms_pauses_up_to_ten_times_the_rest():
    for gap_ms, found in [(30_000, {"pauses": [50]}), (60_000, {"breaks": [50]})]:  # the rest is 4 s
        times = even() + gap_ms * (np.arange(100) >= 50)
        assert kinds(clock_of(times, declared=float(times[-1] + 40))) == found
        assert kinds(clock_of(times, declared=float(times[-1] / 2))) == {"breaks": [50]}
        whole = clock_of(times, declared=float(times[-1] + 40), has_durations=True)
        assert kinds(whole) == {"pauses": [50]}


def test_the_duration_of_the_previous_frame_confirms_a_pause():
    times = even() + 60_000 * (np.arange(100) >= 50)
    for packet in (20, 33, 49, 66, 80):  # frames are reordered over 16 at most
        durations = np.full(100, 40)
        durations[packet] = 60_000
        expected = {"breaks": [50]} if packet in (20, 80) else {"pauses": [50]}
        assert kinds(clock_of(times, durations)) == expected
    half = np.full(100, 40)
    half[49] = 31_000  # frames' durations may be counted in fields, half as long
    assert kinds(clock_of(times, half)) == {"pauses": [50]}


def test_pauses_are_reported_for_even_streams_only():
    telecine = [33, 50] * 50
    gap = [*telecine[:50], 60_000, *telecine[50:]]
    vouched = {"has_durations": True}
    assert kinds(clock_of(rising(gap), declared=float(sum(gap)), **vouched)) == {"pauses": [51]}
    uneven = [40, 40, 40, 120] * 25
    gap = [*uneven[:50], 60_000, *uneven[50:]]
    assert kinds(clock_of(rising(gap), declared=float(sum(gap)), **vouched)) == {}
    often = ([40] * 9 + [60_000]) * 10
    assert kinds(clock_of(rising(often), declared=float(sum(often)), **vouched)) == {}


@pytest.mark.parametrize("by_ms", [-60_000, 60_000])
@pytest.mark.parametrize(
    ("first", "stop", "found"),
    [
        (50, 51, {"wrong": [50]}),
        (50, 54, {"wrong": [50, 51, 52, 53]}),
        (50, 58, {"breaks": [50, 58]}),
        (98, 100, {"wrong": [98, 99]}),
        (97, 100, {"breaks": [97]}),
        (0, 2, {"wrong": [0, 1]}),
        (0, 8, {"breaks": [8]}),
    ],
)
def test_few_times_in_a_row_are_outliers_and_more_are_a_recording(by_ms, first, stop, found):
    number = np.arange(100)
    clock = clock_of(even() + by_ms * ((number >= first) & (number < stop)))
    assert kinds(clock) == found
    if "wrong" in found:
        assert clock.times.tolist() == even().tolist()
    else:
        assert np.diff(clock.joined(clock.times)).tolist() == [40] * 99


@pytest.mark.parametrize(("packet", "time_ms"), [(50, 1_965), (50, 2_075)])
def test_of_two_times_out_of_order_the_uneven_one_is_wrong(packet, time_ms):
    times = even()
    times[packet] = time_ms - 40 if time_ms < 2_000 else time_ms
    assert kinds(clock_of(times)) == {"wrong": [packet]}


@pytest.mark.parametrize(("num_missing", "found"), [(4, {}), (20, {"breaks": [70]})])
def test_a_clock_that_stalled_for_long_has_a_break(num_missing, found):
    times = even()
    times[50 : 50 + num_missing] = NO_TIME
    assert kinds(clock_of(times)) == {}
    times[50 + num_missing :] -= 40 * num_missing
    clock = clock_of(times)
    assert kinds(clock) == found
    if found:
        assert clock.joined(clock.times).tolist() == even().tolist()


def test_recordings_are_joined_at_the_usual_spacing_whatever_times_they_lack():
    times = even()
    times[50:] += 60_000
    clock = clock_of(times)
    good = np.ones(100, bool)
    good[47:53] = False  # three at the end of the first, three at the start of the second
    assert clock.joined(times, good).tolist() == even().tolist()


def shown(pts, **how):
    nothing = np.full(len(pts), NO_TIME)
    return display_times(
        np.array(pts), how.pop("dts", nothing), np.full(len(pts), 40), units_per_sec=1000, **how
    )


@pytest.mark.parametrize("packet", [65_534, 65_535, 65_536, 65_537, 69_999])
def test_a_long_stream_is_checked_whole(packet):
    pts = even(70_000)
    pts[1:-1] = pts[1:-1].reshape(-1, 2)[:, ::-1].ravel()  # pairs out of order
    assert shown(pts, reorder_depth=1).faults == []
    pts[packet] += 10**7
    (fault,) = shown(pts, reorder_depth=1).faults
    assert (fault.category, np.flatnonzero(fault.frames).tolist()) == ("wrong", [packet])


@pytest.mark.parametrize("packet", [65_535, 65_536, 65_537])
def test_a_break_between_two_blocks_of_a_long_stream_is_found(packet):
    pts = even(70_000)
    pts[packet:] -= 40 * packet
    (fault,) = shown(pts, reorder_depth=0).faults
    assert (fault.category, np.flatnonzero(fault.frames).tolist()) == ("break", [packet])


def reordered(pts):
    """Groups of two B frames behind the frame that is shown after them."""
    pts = pts.copy()
    pts[1:] = pts[1:].reshape(-1, 3)[:, [2, 0, 1]].ravel()
    return pts


@pytest.mark.parametrize("num_missing", [1, 4, 20])
def test_times_missing_at_the_end_of_a_stream_with_a_pause_add_their_steps(num_missing):
    true = even(121)
    true[60:] += 1_000
    pts = reordered(true)
    pts[-num_missing:] = NO_TIME
    found = shown(pts, reorder_depth=1, stores_dts=False)
    assert found.end - found.start == pytest.approx(true[-1] + 40, abs=2 * 40)


def test_recordings_whose_sum_would_overflow_have_no_times():
    pts = np.tile(np.linspace(-(2**59), 2**59, 9).astype(np.int64), 20)
    assert shown(pts, reorder_depth=0) is None


@pytest.mark.parametrize("back_ms", [3_000, 60_000])
def test_a_step_back_of_seconds_is_a_break_in_a_stream_without_decoding_times(back_ms):
    pts = reordered(even(121))
    pts[61:] -= back_ms
    found = shown(pts, stores_dts=False, reorder_depth=1)
    assert [(fault.category, np.flatnonzero(fault.frames).tolist()) for fault in found.faults] == [
        ("break", [61])
    ]
    assert sorted(found.times.tolist()) == even(121).tolist()


@pytest.mark.parametrize(("times", "kind"), [(4, []), (5, ["missing"])])
def test_few_equal_times_are_those_of_a_high_rate_and_many_of_a_stopped_clock(times, kind):
    pts = even()
    pts[50 : 50 + times] = pts[50]
    found = display_times(pts, pts, np.full(100, 40), units_per_sec=1000, reorder_depth=0)
    assert [fault.category for fault in found.faults] == kind
    assert found.times.tolist() == (even() if kind else pts).tolist()


def test_reordering_around_a_pause_is_not_a_break():
    pts = even(121)
    pts[60:] += 8_000
    pts = reordered(pts)
    found = shown(pts, stores_dts=False, reorder_depth=1)
    assert found.faults == []
    assert found.times.tolist() == pts.tolist()


@pytest.mark.parametrize(("last_ms", "declared", "kind"), [(5_000, None, []), (60_000, None, ["end"])])
def test_a_last_frame_of_a_minute_is_accepted_if_the_header_agrees(last_ms, declared, kind):
    durations = np.full(100, 40)
    durations[-1] = last_ms
    found = display_times(even(), even(), durations, units_per_sec=1000)
    assert [fault.category for fault in found.faults] == kind
    assert found.end == 99 * 40 + (40 if kind else last_ms)
    told = display_times(even(), even(), durations, units_per_sec=1000, declared=99 * 40.0 + last_ms)
    assert told.faults == []
    assert told.end == 99 * 40 + last_ms
    short = display_times(even(), even(), durations, units_per_sec=1000, declared=99 * 40.0 + 0.8 * last_ms)
    assert [fault.category for fault in short.faults] == kind


def test_the_last_slide_of_a_show_may_last_longer_than_the_others():
    durations = np.full(10, 5_000)
    durations[-1] = 45_000
    found = display_times(even(10, 5_000), even(10, 5_000), durations, units_per_sec=1000)
    assert (found.faults, found.end) == ([], 90_000)


def timed(times, decoded, **how):
    timeline = Timeline(
        start=0,
        end=1000,
        time_base=1,
        by_order=how.pop("by_order", False),
        num_frames=4,
        num_expected=4,
        times=np.array(times),
        step=40,
        **how,
    )
    frames = TimedFrames(timeline, [SimpleNamespace(pts=pts) for pts in decoded])
    return [time for _, time in frames], frames.faults()


def test_frames_that_come_without_a_packet_of_their_own_share_the_last_time():
    assert timed([0, 40, 80], [None] * 5, by_order=True) == ([0, 40, 80, 80, 80], [])


def test_a_frame_without_a_time_shares_that_of_the_one_before():
    assert timed([0, 40, 80, 120], [0, None, 80, 120]) == ([0, 0, 80, 120], [])


@pytest.mark.parametrize(("next_ms", "placed_ms"), [(100, 90), (120, 100), (400, 120)])
def test_a_late_frame_is_put_before_the_next_time(next_ms, placed_ms):
    found, told = timed([0, 80, 60, next_ms], [0, 80, 60, next_ms])
    assert found == [0, 80, placed_ms, next_ms]
    assert told == [f"1 frame with timestamps out of order, from {placed_ms:.1f} s, interpolated"]
