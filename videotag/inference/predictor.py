"""Requests from any thread -> tags: one thread owns the networks, others decode, with bounded queues between.

    with Predictor(tagger) as predictor:
        future = predictor.submit("any.mp4")
        future.result()

The next free thread decodes a request in a child process. The thread that owns the networks takes one decoded
request at a time on a CPU, and all that wait on a GPU. Results equal those of sequential requests.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from videotag.errors import BusyError, ClosedError, ConfigError, MediaError, ShapeError
from videotag.formats.filelist import ListEntry
from videotag.inference.frame_tagging import FrameTagger
from videotag.inference.tag_result import TagResult
from videotag.inputs.frames import Frames, frames_of_array, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.media.temporary_copy import MediaBytes, temporary_copy
from videotag.safe_text import safe_repr
from videotag.sections import VideoSplitSection
from videotag.senses.finding import Sense
from videotag.senses.search import Findings, Search

#: Input to tag: the path of a media file, an entry of a list, the bytes of a file, or an array of frames.
Source: TypeAlias = str | Path | ListEntry | np.ndarray | MediaBytes
MAX_WAITING = 64  # requests queued for decoding
CLOSED_MESSAGE = "this Tagger or Predictor is closed; create a new one"
_FORKED_MESSAGE = (
    "this Tagger or Predictor belongs to the process before the fork; create one in each process"
)
_CLOSED_CHECK_SEC = 0.2  # how often a blocked `submit` checks whether the predictor was closed


@dataclass
class _Request:
    source: Source
    fps: float | Fraction | None
    name: str
    features: bool  # return features instead of tags
    future: Future[Any] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)  # set when the result is no longer needed


class Predictor:
    """Tags sources submitted from any thread; usable as a context manager.

    Args:
        tagger: Networks to run; only the predictor may call them from now on.
        senses: What to find besides tags, in media files.
        max_waiting: Maximum number of requests queued for decoding; `submit` blocks beyond it.
    """

    def __init__(
        self, tagger: FrameTagger, *, senses: Sequence[Sense] = (), max_waiting: int = MAX_WAITING
    ) -> None:
        section = tagger.section
        ahead = max(1, section.videos_ahead - section.videos_at_once)
        self._shared = _Shared(tagger, senses, max_waiting, ahead=ahead)
        # The threads hold no reference to the predictor, so that garbage collection can close it.
        self._finalizer = weakref.finalize(self, _close_unused, self._shared)

    def submit(
        self,
        source: Source,
        *,
        fps: float | Fraction | None = None,
        name: str | None = None,
        wait: bool = True,
    ) -> Future[TagResult]:
        """Submits a source for tagging; `cancel` of the returned future works even during decoding.

        Args:
            source: Path of a media file; its bytes; a binary file open for reading, read from its current
                position; or frames (num_frames, height, width, 3) uint8 RGB.
            fps: Frame rate in frames per second; required for an array, an error for anything else.
            name: Value of TagResult.path; by default the path, the open file's name, "bytes" or "frames".
            wait: Whether to block while the queue is full.

        Raises:
            BusyError: The queue is full, and `wait` is False.
            ClosedError: The predictor is closed, or belongs to the process before a fork.

        The future is cancelled if the predictor is garbage-collected first. It raises:
            MediaError: The video cannot be decoded, or decoding stalls.
            ShapeError: An array has another shape or dtype, or fps is missing.
            ConfigError: fps is given for a media file, which has its own frame rate.
            OutputError: The temporary folder has no space for a copy of bytes or an open file.
        """
        request = _Request(source, fps, name or source_name(source), features=False)
        self._shared.put(request, wait=wait)
        return request.future

    def submit_features(self, source: Source, *, fps: float | Fraction | None = None) -> Future[np.ndarray]:
        """Submits a source for extraction of its features (T, D) float32; needs a tagger with a first stage.

        Args:
            source: Source as for `submit`.
            fps: Frame rate in frames per second; required for an array, an error for anything else.

        Raises:
            ClosedError: The predictor is closed, or belongs to the process before a fork.

        The future raises the same errors as that of `submit`.
        """
        request = _Request(source, fps, source_name(source), features=True)
        self._shared.put(request, wait=True)
        return request.future

    def check_open(self) -> None:
        """Checks that requests are accepted.

        Raises:
            ClosedError: The predictor is closed, or belongs to the process before a fork.
        """
        self._shared.check_open()

    def close(self, *, cancel: bool = False) -> None:
        """Waits for all submitted requests, then ends the threads and child processes.

        Args:
            cancel: Whether to cancel the futures of unfinished requests instead of waiting for them.
        """
        self._shared.close(cancel=cancel)

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(cancel=kind is not None)


class _Shared:
    """State and threads of a predictor."""

    def __init__(self, tagger: FrameTagger, senses: Sequence[Sense], max_waiting: int, *, ahead: int) -> None:
        self._tagger = tagger
        self._senses = senses
        self._waiting: queue.Queue[_Request | None] = queue.Queue(max_waiting)
        self._decoded: queue.Queue[tuple[_Request, Decoded] | None] = queue.Queue(ahead)
        self._pool = DecodePool()
        self._lock = threading.RLock()  # the garbage collector may close the predictor while it is held
        self._is_closed = False
        self._process = os.getpid()  # a forked process has neither the threads nor the child processes
        self._unfinished: dict[int, _Request] = {}
        self._decoders = [_start(self._decode) for _ in range(tagger.section.videos_at_once)]
        self._owner = _start(self._run_networks)
        self.threads = frozenset([*self._decoders, self._owner])

    def check_open(self) -> None:
        if os.getpid() != self._process:
            raise ClosedError(_FORKED_MESSAGE)
        if self._is_closed:
            raise ClosedError(CLOSED_MESSAGE)

    def put(self, request: _Request, *, wait: bool) -> None:
        self.check_open()  # first, as the lock may have been held at a fork
        with self._lock:
            self.check_open()
            self._unfinished[id(request)] = request
        request.future.add_done_callback(lambda _: self._done(request))
        while True:
            try:
                self._waiting.put(request, block=wait, timeout=_CLOSED_CHECK_SEC)
                break
            except queue.Full:
                if self._is_closed:
                    break
                if not wait:
                    request.future.cancel()
                    text = f"{self._waiting.maxsize} requests are already queued; try again later"
                    raise BusyError(text) from None
        if self._is_closed and request.future.cancel():  # meanwhile, and no thread may be left
            raise ClosedError(CLOSED_MESSAGE)

    def _done(self, request: _Request) -> None:
        request.stop.set()  # stops decoding after a cancellation
        with self._lock:
            self._unfinished.pop(id(request), None)

    def _decode(self) -> None:
        """Loop of a decoding thread; None in the queue ends it."""
        while (request := self._waiting.get()) is not None:
            if request.future.cancelled():
                request.future.set_running_or_notify_cancel()  # notifies concurrent.futures.wait
                continue
            try:
                senses = () if request.features else self._senses
                decoded = read_source(request, self._tagger.section, self._pool, senses)
            except BaseException as error:
                _fail([request], error)
            else:
                self._decoded.put((request, decoded))

    def _run_networks(self) -> None:
        """Loop of the thread that owns the networks; None in the queue ends it."""
        max_batch = self._decoded.maxsize if self._tagger.batches_across_videos else 1
        while (first := self._decoded.get()) is not None:
            taken = [first, *self._more(max_batch - 1)]
            self._tag([pair for pair in taken if pair[0].future.set_running_or_notify_cancel()])

    def _more(self, count: int) -> Iterator[tuple[_Request, Decoded]]:
        """Yields up to `count` requests that are already decoded."""
        for _ in range(count):
            try:
                pair = self._decoded.get_nowait()
            except queue.Empty:
                return
            if pair is None:
                self._decoded.put(None)  # ends the loop after these requests
                return
            yield pair

    def _tag(self, pairs: list[tuple[_Request, Decoded]]) -> None:
        waiting = list(pairs)
        try:
            for result in self._tagger.results(
                (request.name, decoded.frames, request.features) for request, decoded in pairs
            ):
                request, decoded = waiting.pop(0)
                if decoded.findings:
                    result = replace(result, findings=decoded.findings)
                request.future.set_result(result)
        except BaseException as error:
            _fail([request for request, _ in waiting], error)

    def close(self, *, cancel: bool) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            unfinished = list(self._unfinished.values()) if cancel else []
        for request in unfinished:
            request.future.cancel()
        for _ in self._decoders:
            self._waiting.put(None)
        for decoder in self._decoders:
            decoder.join()
        self._decoded.put(None)
        self._owner.join()
        self._pool.close()
        for request in self._unfinished.copy().values():  # submitted during the close
            request.future.cancel()
            request.future.set_running_or_notify_cancel()


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name="videotag-predictor", daemon=True)
    thread.start()
    return thread


def _close_unused(shared: _Shared) -> None:
    """Closes a predictor that is garbage-collected, possibly in one of its own threads, which it joins."""
    close = partial(shared.close, cancel=True)
    if threading.current_thread() in shared.threads:
        _start(close)
    else:
        close()


def _fail(requests: Iterable[_Request], error: BaseException) -> None:
    """Sets an error on the futures that are not cancelled."""
    for request in requests:
        if request.future.running() or request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)


@dataclass(frozen=True)
class Decoded:
    """A decoded source.

    Attributes:
        frames: Its sampled frames.
        findings: What was found besides tags, by kind.
    """

    frames: Frames
    findings: Findings = field(default_factory=dict)


def read_source(
    request: _Request, section: VideoSplitSection, pool: DecodePool, senses: Sequence[Sense] = ()
) -> Decoded:
    """The sampled frames of a request's source, and what senses find in it.

    Args:
        request: Request to decode.
        section: Section with sampling and frame size.
        pool: Child processes to decode in.
        senses: What to find; nothing is found in an array.

    Raises:
        MediaError, ShapeError, ConfigError, OutputError: The source is unusable; see Predictor.submit.
    """
    source, fps, name = request.source, request.fps, request.name
    if isinstance(source, np.ndarray):
        if fps is None:
            raise ShapeError(f"{name}: fps is missing; pass the frame rate of the array")
        return Decoded(frames_of_array(source, fps, section, name=name))
    if isinstance(source, list | tuple):
        raise ShapeError(f"{name}: a {type(source).__name__}; stack the frames into an array with np.stack")
    if fps is not None:
        raise ConfigError(
            f"{name}: fps {safe_repr(fps)} applies only to arrays; a media file has its own frame rate"
        )
    if isinstance(source, str | Path | ListEntry):
        entry = source if isinstance(source, ListEntry) else ListEntry(str(source))
        return _read_entry(entry, section, pool, request.stop, senses)
    with temporary_copy(source, name) as path:
        try:
            decoded = _read_entry(ListEntry(str(path)), section, pool, request.stop, senses)
        except MediaError as error:
            raise type(error)(str(error).replace(str(path), name)) from error
    frames = decoded.frames
    warning = frames.warning and frames.warning.replace(str(path), name)
    return replace(decoded, frames=replace(frames, warning=warning))


def _read_entry(
    entry: ListEntry,
    section: VideoSplitSection,
    pool: DecodePool,
    stop: threading.Event,
    senses: Sequence[Sense],
) -> Decoded:
    """The frames of a media file, decoded once for tagging and for all senses; then its sound."""
    search = Search(senses)
    frames = read_frames(entry, section, pool=pool, stop=stop, others=search.others)
    search.hear(entry.path, pool, stall_limit_sec=section.stall_limit_sec, stop=stop)
    warnings = [text for text in (frames.warning, search.warning) if text]
    findings = search.finish(frames.duration_sec)
    shots = [shot.start_sec for shot in findings.get("shots") or []]
    return Decoded(replace(frames, warning="; ".join(warnings) or None, borders_sec=shots), findings)


def source_name(source: Source) -> str:
    """The default name of a source."""
    if isinstance(source, np.ndarray):
        return "frames"
    if isinstance(source, ListEntry):
        return source.path
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    name = getattr(source, "name", None)  # an integer for temporary files
    return name if isinstance(name, str) else "file"
