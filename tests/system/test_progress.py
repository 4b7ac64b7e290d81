"""Progress where stderr is no terminal: log lines; and the time left in words."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from videotag.system import progress
from videotag.system.progress import time_left, track, track_bytes


@pytest.fixture
def lines(monkeypatch, caplog):
    """The messages logged so far, with a heartbeat every 10 ms."""
    monkeypatch.setattr(progress, "HEARTBEAT_SEC", 0.01)
    caplog.set_level(logging.INFO, logger="videotag")
    return lambda: [record.getMessage() for record in caplog.records]


def wait_for(found, timeout_sec=20.0):
    end = time.monotonic() + timeout_sec
    while not found():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_long_work_without_a_terminal_logs_how_far_it_is(lines):
    for number in track(range(3), "validation", 3):
        if number == 2:
            wait_for(lambda: any(line.startswith("validation: 2 of 3, ") for line in lines()))
    assert all(line.endswith(" left") for line in lines() if line.startswith("validation: 2 of 3"))


def test_a_first_item_that_takes_long_is_a_sign_of_life(lines):
    for _ in track(range(3), "validation", 3):
        wait_for(lambda: "validation: 0 of 3" in lines())
        break


def test_short_work_without_a_terminal_logs_nothing(lines, monkeypatch):
    monkeypatch.setattr(progress, "HEARTBEAT_SEC", 60.0)
    assert list(track("abc", "validation", 3)) == ["a", "b", "c"]
    assert lines() == []


def test_a_loop_that_is_left_early_logs_no_further_lines(lines):
    for _ in track(range(3), "validation", 3):
        wait_for(lines)
        break
    time.sleep(0.05)
    count = len(lines())
    time.sleep(0.1)
    assert len(lines()) == count


def test_bytes_are_logged_in_megabytes(lines):
    with track_bytes("weights.tar", done=3_000_000, total=9_000_000) as advance:
        advance(1_000_000)
        wait_for(lambda: any(line.startswith("weights.tar: 4 of 9 MB") for line in lines()))


def test_a_bar_leaves_stdout_alone(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, a terminal
    for item in track("ab", "tag", 2):
        sys.stdout.write(f"{item}\n")
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize(
    ("elapsed_sec", "done", "total", "text"),
    [
        (10, 1, 5, "40 s left"),
        (10, 5, 5, "0 s left"),
        (60, 1, 3, "2 min left"),
        (60, 1, 201, "3 h 20 min left"),
        (10, 0, 5, ""),
    ],
)
def test_time_left_in_words(elapsed_sec, done, total, text):
    assert time_left(elapsed_sec, done=done, total=total) == text
