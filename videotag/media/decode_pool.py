"""Decodes media in child processes, so that a file that hangs or crashes FFmpeg affects no other.

A child runs one reader after another and sends what they yield through a pipe, one frame or block of sound at
a time. It imports only videotag.media, which takes 0.2 s and 45 MB, and is reused for further files. Its
memory is limited.

Protocol: for each file the parent writes the name of a reader and its arguments as one line of JSON. The
child replies with messages: 4 bytes for the length of a JSON text, the text, and for a frame or block its
array's bytes. The last message has the facts about the file, or the error. A child exits as soon as its stdin
is closed, so it cannot outlive its parent, however the parent dies.
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
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, cast

import numpy as np

from videotag.errors import AGAIN, DecoderLostError, MediaError, MissingInputError
from videotag.media.frame_scaler import NewImage, new_image
from videotag.media.video import FrameReader

#: The class that a child calls for a FrameReader, as "module:name"; tests replace it by one that hangs.
READER = f"{FrameReader.__module__}:{FrameReader.__name__}"

# Limit on a child's address space in bytes. The largest frames, 8192 x 8192 with 10 bits in 4:2:0, take
# 200 MB; H.264 references up to 16 of them, and 16 threads hold one or two each: 7 GB. Real 4K videos with
# many threads need 2 GB.
MAX_MEMORY = 2**33
# Added per core: a decoder thread and a swscale thread, each with a stack of 8 MB and a glibc arena of up to
# 128 MB, most of which is never used.
MEMORY_PER_CORE = 2**28

_LENGTH = struct.Struct("!I")
_PIPE_BYTES = 2**20  # holds at least one frame; with the default 64 KiB, transfer takes 15% of decoding
_POLL_SEC = 0.1  # interval at which a waiting parent checks whether it should stop
_REAP_SEC = 5.0
#: Classes of errors that cross the pipe, derived ones first.
_ERRORS = {cls.__name__: cls for cls in (DecoderLostError, MissingInputError, MediaError)}
# Sets sys.path first: the working folder, which -c puts in front, may contain an unrelated numpy.py.
_CODE = "import sys; sys.path[:] = sys.argv[1:]; from videotag.media.decode_pool import serve; serve()"


class MediaReader(Protocol):
    """A reader that a child can run, built as cls(path, **options) with JSON values; FrameReader is one.

    Attributes:
        item: Dataclass of what iterating yields; its first field is an array, the others are JSON values.
        info_class: Dataclass of `info`.
        info: Facts about the file, JSON values; available after iterating.
        rows: See FrameReader; empty for other readers.
        warning: Faults of the file that did not prevent reading it, or None; available after iterating.
    """

    item: ClassVar[type]
    info_class: ClassVar[type]
    info: Any
    rows: list[int]
    warning: str | None

    def __iter__(self) -> Iterator[Any]: ...


class Stopped(Exception):  # noqa: N818 - not an error: another thread failed or the user pressed Ctrl-C
    """Decoding stopped because `stop` was set."""


class DecodePool:
    """A pool of decoding processes, one for each video being read; a context manager.

    Thread-safe. Child processes start on demand, and end with the block or by `close`.
    """

    def __init__(self) -> None:
        self._idle: list[_Child] = []

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the idle child processes."""
        while self._idle:
            self._idle.pop().kill()

    def reader(
        self,
        path: str | Path,
        *,
        kind: type[MediaReader] = FrameReader,
        stall_limit_sec: float = 0.0,
        stop: threading.Event | None = None,
        new_image: NewImage = new_image,
        **options: Any,
    ) -> PooledReader:
        """A reader that yields what kind(path, **options) yields, decoded in a child process.

        Args:
            path: Path of a media file.
            kind: Class of the reader.
            stall_limit_sec: Maximum time to wait for a frame, in seconds; 0 waits indefinitely.
            stop: Event that makes iterating raise Stopped once it is set.
            new_image: Function that allocates the array of each image of the first view, which is filled from
                the child's pipe.
            **options: Further arguments of the reader, which must be JSON values.
        """
        request = {"path": str(path), **options}
        return PooledReader(self, kind, request, stall_limit_sec, stop, new_image)

    def acquire(self) -> _Child:
        """A running child that no other thread uses."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                child = self._idle.pop()
                if child.is_alive():
                    return child
                child.kill()
        return _Child()

    def release(self, child: _Child) -> None:
        """Returns a child that is ready for another request to the pool."""
        self._idle.append(child)


class PooledReader:
    """Yields what a reader yields, decoded in a child of a DecodePool.

    Attributes:
        info: Facts about the file; available after iterating.
        rows: FrameReader.rows; available after iterating.
        warning: The reader's warning; available after iterating.

    Raises:
        MediaError: The reader raised an error while iterating.
        DecoderLostError: No frame arrived within the time limit, or the child died.
        Stopped: `stop` was set.
    """

    info: Any
    rows: list[int]
    warning: str | None = None

    def __init__(
        self,
        pool: DecodePool,
        kind: type[MediaReader],
        request: dict[str, Any],
        limit_sec: float,
        stop: threading.Event | None,
        new_image: NewImage,
    ) -> None:
        self._pool = pool
        self._kind = kind
        self._request = request
        self._limit_sec = limit_sec
        self._stop = stop
        self._new_image = new_image

    def __iter__(self) -> Iterator[Any]:
        try:
            child = self._pool.acquire()
        except OSError as error:
            raise DecoderLostError(
                f"{self._request['path']}: no process can be started to decode it ({error.strerror}); free "
                "memory or set a smaller batch_size"
            ) from error
        done = False
        try:
            name = READER if self._kind is FrameReader else f"{self._kind.__module__}:{self._kind.__name__}"
            request = {"reader": name, **self._request}
            messages = child.messages(request, self._limit_sec, self._stop, self._new_image)
            for message, array in messages:
                if array is not None:
                    yield self._kind.item(array, **message)
                    continue
                done = True  # without it, the child is still in the middle of a file
                if "error" in message:
                    raise _ERRORS[message["class"]](message["error"])
                self.info, self.warning = self._kind.info_class(**message["info"]), message["warning"]
                self.rows = message["rows"]
        finally:
            if done:
                self._pool.release(child)
            else:
                child.kill()


class _Child:
    """A decoding process, as its parent sees it."""

    def __init__(self) -> None:
        # A new session, so that Ctrl-C reaches only the parent, which then decides about the child.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._stdin, self._stdout = self._process.stdin, cast(io.FileIO, self._process.stdout)
        with contextlib.suppress(OSError):  # the user's limit on pipe memory is reached
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        # A process that waits in the kernel for a dead network drive cannot be killed; it is abandoned.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SEC)

    def messages(
        self,
        request: dict[str, Any],
        limit_sec: float,
        stop: threading.Event | None,
        new_image: NewImage,
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """Sends a request; yields each message of the reply, with its array if it has one."""

        def fill(array: np.ndarray) -> np.ndarray:
            self._fill(array.data.cast("B"), request["path"], limit_sec, stop)
            return array

        def read(size: int) -> bytes:
            return fill(np.empty(size, np.uint8)).tobytes()

        with contextlib.suppress(BrokenPipeError):  # the child has died; reading reports it
            self._stdin.write(json.dumps(request).encode() + b"\n")
        while True:
            message = json.loads(read(_LENGTH.unpack(read(_LENGTH.size))[0]))
            shape, dtype = message.pop("shape", None), message.pop("dtype", None)
            if shape is None:
                yield message, None
                return
            is_first_view = message.get("view") == 0
            yield message, fill(new_image(tuple(shape)) if is_first_view else np.empty(tuple(shape), dtype))

    def _fill(self, rest: memoryview, path: str, limit_sec: float, stop: threading.Event | None) -> None:
        """Fills `rest` with the next bytes from the pipe."""
        while rest:
            if not self._wait(limit_sec, stop):
                raise DecoderLostError(
                    f"{path}: no frame for {limit_sec:g} s, decoding was stopped; raise stall_limit_sec if "
                    f"the file is long or the disk slow, otherwise {AGAIN}"
                )
            count = self._stdout.readinto(rest)
            if not count:
                raise DecoderLostError(f"{path}: {self._exit_reason()}")
            rest = rest[count:]

    def _wait(self, limit_sec: float, stop: threading.Event | None) -> bool:
        """Waits for data; False if none arrives within the limit."""
        # Counts polls instead of reading a clock, which runs on while Ctrl-Z or sleep suspends the process.
        waited_sec = 0.0
        while True:
            if stop is not None and stop.is_set():
                raise Stopped
            if self._poll.poll(_POLL_SEC * 1000):
                return True
            waited_sec += _POLL_SEC
            if 0 < limit_sec <= waited_sec:
                return False

    def _exit_reason(self) -> str:
        """The reason why the child exited, and the remedy."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return (
                "the decoding process was killed, probably because memory ran out; free memory or set a "
                "smaller batch_size"
            )
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"the decoder crashed ({how}); run again, and if it crashes again convert the file to H.264"


def serve() -> None:
    """Handles requests on stdin until it is closed; the main loop of a child."""
    _limit_memory()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # sends the output of libraries to stderr instead of the stream of frames
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    while True:
        _answer(out, json.loads(requests.get()))


def _receive(requests: queue.SimpleQueue[bytes]) -> None:
    """Queues requests, and exits when the parent does, even while decoding hangs."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _answer(out: BinaryIO, request: dict[str, Any]) -> None:
    """Sends what one reader yields, then the facts about its file or the error."""
    path = request["path"]
    message: dict[str, Any]
    try:
        module, _, name = request.pop("reader").partition(":")
        make_reader: Callable[..., MediaReader] = getattr(importlib.import_module(module), name)
        reader = make_reader(**request)
        for item in reader:
            first, *others = fields(item)
            array = getattr(item, first.name)
            header = {"shape": array.shape, "dtype": array.dtype.name}
            _send(out, header | {field.name: getattr(item, field.name) for field in others}, array)
        message = {
            "info": asdict(reader.info),
            "rows": reader.rows,
            "warning": reader.warning,
        }
    except BrokenPipeError:  # the parent has exited
        os._exit(0)
    except MediaError as error:
        message = {"error": str(error), "class": _class_of(error)}
    except MemoryError:
        message = _out_of_memory(path)
    except Exception as error:  # an unexpected error must not stop the other files
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        message = {"error": f"{path}: a bug in videotag: {text}; report it", "class": "MediaError"}
    _send(out, message)


def _class_of(error: MediaError) -> str:
    """Name of the class as which the parent raises an error."""
    return next(name for name, cls in _ERRORS.items() if isinstance(error, cls))


def _limit_memory() -> None:
    """Limits this process's memory, so that one file cannot exhaust the machine's; keeps a lower limit."""
    limit = MAX_MEMORY + MEMORY_PER_CORE * (os.cpu_count() or 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _out_of_memory(path: str) -> dict[str, Any]:
    """The message for lack of memory: the file exceeds the limit, or the machine has too little."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _peak_memory() > limit // 2 > 0:
        text = (
            f"{path}: decoding it takes more than the limit of {limit / 2**30:.1f} GiB per file; convert it "
            "to H.264 with smaller frames, or remove it from the list"
        )
        return {"error": text, "class": "MediaError"}
    text = f"{path}: not enough memory to decode it; free memory or set a smaller batch_size"
    return {"error": text, "class": "DecoderLostError"}


def _peak_memory() -> int:
    """Peak address space of this process in bytes; 0 if the system does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmPeak:")[1].split()[0]) * 1024
    return 0


def _send(out: BinaryIO, message: dict[str, Any], array: np.ndarray | None = None) -> None:
    text = json.dumps(message).encode()
    out.write(_LENGTH.pack(len(text)) + text)
    if array is not None:
        out.write(np.ascontiguousarray(array).data)
    out.flush()
