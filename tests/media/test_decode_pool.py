"""Decoding in child processes: the same frames, and a crash is an error of its video alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import DecoderLostError, MediaError
from videotag.media import decode_pool
from videotag.media.decode_pool import DecodePool, Stopped
from videotag.media.video import FrameReader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pool():
    with DecodePool() as pool:
        yield pool


@pytest.fixture
def faulty(monkeypatch, make_video):
    """faulty("hangs"): a video whose decoding misbehaves in that way."""
    monkeypatch.setattr(decode_pool, "READER", "faulty_reader:FaultyReader")
    return lambda what: make_video(f"{what}.mp4")


def has_ended(pid):
    """Whether a process has ended, or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": 5},
        {"num_frames": 20, "short_side_px": 31},
        {"short_side_px": None, "num_threads": 1},
        {"fps": 10.0, "short_side_px": 40, "crop_px": 39},
    ],
)
def test_frames_from_a_child_are_those_of_a_reader(pool, make_noise, options):
    path = make_noise("a.mp4", 12)
    here, there = FrameReader(path, **options), pool.reader(path, **options)
    expected, frames = list(here), list(there)
    assert len(frames) == len(expected)
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.array_equal(frame.image, wanted.image)
        assert (frame.repeats, frame.time_sec) == (wanted.repeats, wanted.time_sec)
    assert (there.info, there.warning) == (here.info, here.warning)


@pytest.mark.parametrize("in_child", [False, True])
def test_images_are_written_into_the_callers_arrays(pool, make_noise, in_child):
    path, rows = make_noise("a.mp4", 12), []

    def new_image(shape):
        rows.append(np.zeros(shape, np.uint8))
        return rows[-1]

    expected = [frame.image for frame in FrameReader(path, 5)]
    reader = (pool.reader if in_child else FrameReader)(path, num_frames=5, new_image=new_image)
    images = [frame.image for frame in reader]
    assert all(image is row for image, row in zip(images, rows, strict=True))
    assert np.array_equal(rows, expected)


def test_warnings_reach_the_parent(pool, make_noise):
    path = make_noise("a.mkv", 60, codec_options={"g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    here, there = FrameReader(path, 4), pool.reader(path, num_frames=4)
    assert len(list(here)) == len(list(there))
    assert there.warning == here.warning
    assert there.warning


def test_one_child_serves_one_video_after_the_other(pool, make_video):
    paths = [make_video(f"{i}.mp4") for i in range(3)]
    pids = set()
    for path in paths:
        list(pool.reader(path, num_frames=2))
        with pytest.raises(MediaError, match="no such file") as caught:
            list(pool.reader(path.with_name("no.mp4"), num_frames=2))
        assert not caught.value.retriable
        pids |= {child._process.pid for child in pool._idle}
    assert len(pids) == 1


def test_names_that_are_not_unicode_are_read(pool, make_video):
    path = make_video("a.mp4").rename(os.fsdecode(os.fsencode(make_video("b.mp4").parent) + b"/\xff.mp4"))
    assert sum(frame.repeats for frame in pool.reader(path, num_frames=4)) == 4


def test_a_hanging_decoder_is_killed_and_the_next_video_is_read(pool, faulty, make_video):
    with pytest.raises(
        DecoderLostError, match=r"hangs.mp4: no frame for 1 s.*raise stall_limit_sec"
    ) as caught:
        list(pool.reader(faulty("hangs"), num_frames=4, stall_limit_sec=1.0))
    assert caught.value.retriable
    assert len(list(pool.reader(make_video("a.mp4"), num_frames=4, stall_limit_sec=300.0))) == 4


@pytest.mark.parametrize(
    ("what", "message", "retriable"),
    [
        ("segfaults", r"crashed \(signal SIGSEGV\); run again, and if it crashes again convert", True),
        (
            "killed",
            r"was killed, probably because memory ran out; free memory or set a smaller batch_size",
            True,
        ),
        ("greedy", r"not enough memory to decode it; free memory", True),
        ("buggy", r"a bug in videotag: ZeroDivisionError: division by zero; report it", False),
    ],
)
def test_a_crash_is_an_error_of_that_video(pool, faulty, make_video, what, message, retriable):
    with pytest.raises(MediaError, match=message) as caught:
        list(pool.reader(faulty(what), num_frames=4))
    assert str(caught.value).startswith(str(make_video(f"{what}.mp4")))
    assert "\n" not in str(caught.value)
    assert caught.value.retriable is retriable
    assert len(list(pool.reader(make_video("a.mp4"), num_frames=4))) == 4


def test_output_of_libraries_does_not_corrupt_the_frames(pool, faulty):
    assert len(list(pool.reader(faulty("chatty"), num_frames=4))) == 4


def test_a_child_that_died_while_idle_loses_no_video(pool, make_video):
    list(pool.reader(make_video("a.mp4"), num_frames=2))
    (child,) = pool._idle
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert len(list(pool.reader(make_video("a.mp4"), num_frames=2))) == 2


def test_an_abandoned_iteration_does_not_affect_the_next(pool, make_video):
    for _ in pool.reader(make_video("a.mp4"), num_frames=8):
        break
    numbers = [int(frame.image[0, 0, 0]) for frame in pool.reader(make_video("a.mp4"), num_frames=8)]
    assert numbers == sorted(numbers)
    assert len(numbers) == 8


def test_stop_ends_a_hanging_decoder(pool, faulty):
    stop = threading.Event()
    frames = iter(pool.reader(faulty("hangs"), num_frames=4, stop=stop))
    next(frames)
    stop.set()
    with pytest.raises(Stopped):
        next(frames)


def test_a_process_that_cannot_start_is_an_error_of_that_video(pool, make_video, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(decode_pool.subprocess, "Popen", refuse)
    with pytest.raises(DecoderLostError, match=r"a.mp4: no process can be started .*smaller batch_size"):
        list(pool.reader(make_video("a.mp4"), num_frames=2))


def test_children_end_with_the_pool(make_video):
    with DecodePool() as pool:
        list(pool.reader(make_video("a.mp4"), num_frames=2))
        process = pool._idle[0]._process
    assert process.returncode is not None


@pytest.mark.parametrize("what", ["hangs", "idle"])
def test_children_end_when_the_parent_is_killed(faulty, what):
    code = (
        "import sys\n"
        "from videotag.media import decode_pool\n"
        "from videotag.media.video import new_image as new\n"
        "decode_pool.READER = 'faulty_reader:FaultyReader'\n"
        "pool = decode_pool.DecodePool()\n"
        "child = pool.acquire()\n"
        "print(child._process.pid, flush=True)\n"
        "request = {'reader': decode_pool.READER, 'path': sys.argv[1], 'num_frames': 4}\n"
        "for a, i in child.messages(request, 0.0, None, new):\n"
        "    print(i is None, flush=True)\n"
        "input()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(faulty(what))],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        pid = int(parent.stdout.readline())
        ends = ["False"] if what == "hangs" else [*["False"] * 4, "True"]  # it hangs, or has nothing to do
        assert [parent.stdout.readline().decode().strip() for _ in ends] == ends
        assert not has_ended(pid)
        parent.kill()
    deadline = time.monotonic() + 300
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert has_ended(pid)
