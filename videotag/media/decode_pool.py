"""Decoding in child processes, so that a file that hangs or crashes FFmpeg costs only itself.

A child runs one FrameReader after the other and sends the frames through a pipe, one at a time. It imports
videotag.media alone: 0.2 s and 45 MB to start, then it is used from video to video. Its memory is limited.

Protocol: the parent writes one line of JSON per video, the arguments of a FrameReader. The child answers in
messages: 4 bytes with the length of a JSON text, the text, and behind that of a frame its (H, W, 3) bytes.
The last message has the facts about the video, or the error. A child whose stdin is closed ends at once, so
that it cannot outlive its parent, however that one dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from videotag.errors import AGAIN, DecoderLostError, MediaError
from videotag.media.video import FrameReader, NewImage, SampledFrame, VideoInfo, new_image

#: What a child calls for a video, as "module:name"; tests put a hanging one here.
READER = f"{FrameReader.__module__}:{FrameReader.__name__}"

# Bytes of address space of a child. The largest frames, 8192 x 8192 of 10 bits in 4:2:0, have 200 MB; H.264
# refers to 16 of them, and 16 threads hold one or two each: 7 GB. Real 4K videos with many threads need 2 GB.
MAX_MEMORY = 2**33
# For each core besides: a thread of the decoder and one of swscale, each with a stack of 8 MB and up to
# 128 MB that glibc sets apart for its allocations, mostly never used.
MEMORY_PER_CORE = 2**28

_LENGTH = struct.Struct("!I")
_PIPE_BYTES = 2**20  # holds a frame or more; with the usual 64 KiB, handing frames over costs 15% of decoding
_SLICE_SEC = 0.1  # how often a waiting parent looks whether it should stop
_REAP_SEC = 5.0
# sys.path first: the working folder, which -c puts in front, may hold anyone's numpy.py.
_CODE = (
    "import sys; sys.path[:] = sys.argv[2:]; from videotag.media.decode_pool import serve; serve(sys.argv[1])"
)


class Stopped(Exception):  # noqa: N818 - not an error: someone else has failed or pressed Ctrl-C
    """Decoding was given up because `stop` was set."""


class DecodePool:
    """Child processes that decode, one for every video that is read at the same time; a context manager.

    Threads may share it. The children start when they are needed, and end with the block or by `close`.
    """

    def __init__(self) -> None:
        self._idle: list[_Child] = []

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Terminates idle child processes."""
        while self._idle:
            self._idle.pop().end()

    def reader(
        self,
        path: str | Path,
        *,
        stall_limit_sec: float = 0.0,
        stop: threading.Event | None = None,
        new_image: NewImage = new_image,
        **options: Any,
    ) -> PooledReader:
        """What a FrameReader of `path` would be.

        Args:
            path: A media file.
            stall_limit_sec: Seconds to wait for a frame; 0 waits for ever.
            stop: When set, iterating ends with Stopped.
            new_image: Where images are written, straight from the child's pipe.
            **options: of FrameReader.
        """
        return PooledReader(self, {"path": str(path), **options}, stall_limit_sec, stop, new_image)

    def take(self) -> _Child:
        """A living child that nobody else uses."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                child = self._idle.pop()
                if child.is_alive():
                    return child
                child.end()
        return _Child()

    def give_back(self, child: _Child) -> None:
        """Keeps a child, which awaits a request, for the next video."""
        self._idle.append(child)


class PooledReader:
    """The frames that a FrameReader yields, decoded in a child of a DecodePool.

    Attributes:
        info: Facts about the video; known after iterating.
        rows: As FrameReader's; known after iterating.
        warning: As FrameReader's; known after iterating.

    Raises:
        MediaError: Iterating raises what FrameReader raises.
        DecoderLostError: No frame came within the limit, or the child died.
        Stopped: `stop` was set.
    """

    info: VideoInfo
    rows: list[int]
    warning: str | None = None

    def __init__(
        self,
        pool: DecodePool,
        request: dict[str, Any],
        limit_sec: float,
        stop: threading.Event | None,
        new_image: NewImage,
    ) -> None:
        self._pool = pool
        self._request = request
        self._limit_sec = limit_sec
        self._stop = stop
        self._new_image = new_image

    def __iter__(self) -> Iterator[SampledFrame]:
        try:
            child = self._pool.take()
        except OSError as error:
            raise DecoderLostError(
                f"{self._request['path']}: no process can be started to decode it ({error.strerror}); free "
                "memory or set a smaller batch_size"
            ) from error
        done = False
        try:
            answers = child.answers(self._request, self._limit_sec, self._stop, self._new_image)
            for answer, image in answers:
                if image is not None:
                    yield SampledFrame(image, **answer)
                    continue
                done = True  # any other way out of the loop leaves a child in the middle of a video
                if "error" in answer:
                    raise (DecoderLostError if answer["retriable"] else MediaError)(answer["error"])
                self.info, self.warning = VideoInfo(**answer["info"]), answer["warning"]
                self.rows = answer["rows"]
        finally:
            if done:
                self._pool.give_back(child)
            else:
                child.end()


class _Child:
    """One decoding process, seen by its parent."""

    def __init__(self) -> None:
        # A session of its own, so that Ctrl-C reaches the parent alone, which decides what becomes of it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, READER, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._stdin, self._stdout = self._process.stdin, cast(io.FileIO, self._process.stdout)
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kills it, whatever it is doing."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        # One that waits in the kernel for a dead network drive cannot end; it is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SEC)

    def answers(
        self,
        request: dict[str, Any],
        limit_sec: float,
        stop: threading.Event | None,
        new_image: NewImage,
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """The messages that answer a request, those of frames with the image."""

        def fill(array: np.ndarray) -> np.ndarray:
            self._fill(array.data.cast("B"), request["path"], limit_sec, stop)
            return array

        def read(size: int) -> bytes:
            return fill(np.empty(size, np.uint8)).tobytes()

        with contextlib.suppress(BrokenPipeError):  # it has died, which reading will tell
            self._stdin.write(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(read(_LENGTH.unpack(read(_LENGTH.size))[0]))
            shape = answer.pop("shape", None)
            if shape is None:
                yield answer, None
                return
            yield answer, fill(new_image(tuple(shape)))

    def _fill(self, rest: memoryview, path: str, limit_sec: float, stop: threading.Event | None) -> None:
        """Fills `rest` with the next bytes."""
        while rest:
            if not self._wait(limit_sec, stop):
                raise DecoderLostError(
                    f"{path}: no frame for {limit_sec:g} s, decoding was ended; raise stall_limit_sec if the "
                    f"file is long or the disk slow, else {AGAIN}"
                )
            count = self._stdout.readinto(rest)
            if not count:
                raise DecoderLostError(f"{path}: {self._death()}")
            rest = rest[count:]

    def _wait(self, limit_sec: float, stop: threading.Event | None) -> bool:
        """False if nothing came within the limit."""
        # Slices are counted, not the clock: while Ctrl-Z or a sleeping laptop holds us, nothing can come.
        waited_sec = 0.0
        while True:
            if stop is not None and stop.is_set():
                raise Stopped
            if self._poll.poll(_SLICE_SEC * 1000):
                return True
            waited_sec += _SLICE_SEC
            if 0 < limit_sec <= waited_sec:
                return False

    def _death(self) -> str:
        """How the child died, and what to do."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return (
                "its decoding was killed, probably for want of memory; free some or set a smaller batch_size"
            )
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its decoding crashed ({how}); run again, and if it crashes again convert the file to H.264"


def serve(reader_name: str) -> None:
    """Answers the requests on stdin until it is closed; what a child does.

    Args:
        reader_name: FrameReader or what stands for it, as "module:name".
    """
    _limit_memory()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the frames
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    module, _, name = reader_name.partition(":")
    make_reader = getattr(importlib.import_module(module), name)
    while True:
        _answer(out, make_reader, json.loads(requests.get()))


def _receive(requests: queue.SimpleQueue[bytes]) -> None:
    """Passes requests on, and ends the process with its parent, also while a decode hangs."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _answer(out: BinaryIO, make_reader: Callable[..., FrameReader], request: dict[str, Any]) -> None:
    """Sends the frames of one video, then its facts or the error."""
    path = request["path"]
    answer: dict[str, Any]
    try:
        reader = make_reader(**request)
        for frame in reader:
            header = {"shape": frame.image.shape, "repeats": frame.repeats, "time_sec": frame.time_sec}
            _send(out, header, frame.image)
        answer = {"info": asdict(reader.info), "rows": reader.rows, "warning": reader.warning}
    except BrokenPipeError:  # the parent has gone
        os._exit(0)
    except MediaError as error:
        answer = {"error": str(error), "retriable": error.retriable}
    except MemoryError:
        answer = _out_of_memory(path)
    except Exception as error:  # an unexpected error must not stop the other videos
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        answer = {"error": f"{path}: a bug in videotag: {text}; report it", "retriable": False}
    _send(out, answer)


def _limit_memory() -> None:
    """Keeps a file from taking the machine's memory; a lower limit of the user's stays."""
    limit = MAX_MEMORY + MEMORY_PER_CORE * (os.cpu_count() or 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _out_of_memory(path: str) -> dict[str, Any]:
    """The answer when memory ran out: at the limit by the file, else because the machine has none left."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _peak_memory() > limit // 2 > 0:
        text = (
            f"{path}: decoding it takes more than the {limit / 2**30:.1f} GiB that a file may have; convert "
            "it to H.264 with smaller frames, or leave it out"
        )
        return {"error": text, "retriable": False}
    text = f"{path}: not enough memory to decode it; free some or set a smaller batch_size"
    return {"error": text, "retriable": True}


def _peak_memory() -> int:
    """Bytes of address space that this process has had at most; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmPeak:")[1].split()[0]) * 1024
    return 0


def _send(out: BinaryIO, answer: dict[str, Any], image: np.ndarray | None = None) -> None:
    text = json.dumps(answer).encode()
    out.write(_LENGTH.pack(len(text)) + text)
    if image is not None:
        out.write(np.ascontiguousarray(image).data)
    out.flush()
