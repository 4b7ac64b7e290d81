"""Video files -> RGB frames, sampled evenly over the whole video.

A first pass reads the packets' timestamps without decoding; a second one decodes in order and converts only the
wanted frames. So memory does not grow with the video's length (eight bytes per packet aside), variable frame
rates come out right, and nothing is sought. Files are opened with a list of allowed formats and the file
protocol alone: a playlist or script in disguise cannot make the decoder open another file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np

from videotag.errors import MediaError
from videotag.media.transforms import scaled_size

MAX_FRAME_PX = 67_108_864  # 8192 x 8192; a larger frame is a decompression bomb or a mistake
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .flv .ts .mts .m2ts .mpg .mpeg .wmv .asf .3gp .ogv .gif .h264".split()
)
# Container formats that hold their own data; none of them names other files to open.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,ogg,gif,ivf,rm,nut,mxf,dv,"
    "h264,hevc,m4v,mjpeg,vc1,av1,obu,wav,mp3,flac,aac"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "probesize": "20000000"}


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its video.

    Attributes:
        width_px: as stored, before rotation.
        height_px: as stored, before rotation.
        duration_sec: from the first frame to the end of the last.
        num_frames: shown frames that the file really holds, counted.
        fps: mean frames per second.
        has_audio: whether there is sound.
    """

    width_px: int
    height_px: int
    duration_sec: float
    num_frames: int
    fps: float
    has_audio: bool


@dataclass(frozen=True)
class SampledFrame:
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright, the short side scaled.
        repeats: for how many of the sampling times it is the one shown.
        time_sec: when it is shown, from the start of the video.
    """

    image: np.ndarray
    repeats: int
    time_sec: float


class FrameReader:
    """Iterates over frames spread evenly over a whole video.

    The video's time is cut into num_frames equal parts, and the frame shown at the middle of each is taken. A
    frame shown at several of these times is yielded once, with their number; so the `repeats` of all frames
    always sum to num_frames, however short the video is.

    Args:
        path: a regular local file.
        num_frames: sampling times.
        short_side_px: of the images; the aspect ratio is kept.
        num_threads: of the decoder; 0 for one per core.

    Attributes:
        info: what the file says of itself.
        warning: after the iteration, what was missing, with the counts; None if nothing was.

    Raises:
        MediaError: missing, empty, not a video, or too large frames; while iterating: no frame can be
            decoded.
    """

    def __init__(
        self, path: str | Path, num_frames: int, *, short_side_px: int = 256, num_threads: int = 0
    ) -> None:
        self.warning: str | None = None
        self._path = str(path)
        self._short_side_px = short_side_px
        self._num_threads = num_threads
        self._scan = _scan(self._path)
        self.info = self._scan.info
        self._wanted, self._repeats = self._scan.sample(num_frames)

    def __iter__(self) -> Iterator[SampledFrame]:
        """The sampled frames in the order of time; reads the file anew each time."""
        decoded, damaged, index, previous = 0, 0, 0, None
        with _open(self._path) as (container, stream):
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = self._num_threads
            for frame in _decode(container, stream):
                if frame is None:
                    damaged += 1
                    continue
                key = decoded if self._scan.by_order or frame.pts is None else frame.pts
                decoded += 1
                while index < len(self._wanted) and self._wanted[index] <= key:
                    # The wanted frame itself, or, if it could not be decoded, the one shown before it.
                    late = self._wanted[index] < key and previous is not None
                    yield self._sampled(previous if late else frame, index)
                    index += 1
                previous = frame
            if previous is None:
                raise MediaError(f"{self._path}: no frame can be decoded; the file is damaged, make it anew")
            while index < len(self._wanted):
                yield self._sampled(previous, index)
                index += 1
        self.warning = self._missing(decoded, damaged)

    def _sampled(self, frame: av.VideoFrame, index: int) -> SampledFrame:
        return SampledFrame(
            image=_to_image(frame, self._path, self._short_side_px, self._scan.pixel_aspect),
            repeats=int(self._repeats[index]),
            time_sec=self._scan.time_sec(int(self._wanted[index])),
        )

    def _missing(self, decoded: int, damaged: int) -> str | None:
        expected = self._scan.expected_frames
        # Some codecs store frames that are never shown, so a small gap alone means nothing.
        if not damaged and decoded >= 0.97 * expected - 1:
            return None
        parts = f", {damaged} packets are damaged" if damaged else ""
        return f"{self._path}: decoded {decoded} of {expected} frames{parts}; tags rest on these alone"


@dataclass(frozen=True)
class _Scan:
    """What the first pass learns.

    Attributes:
        info: for the user.
        timeline: (num_frames,) int64 ascending timestamps in ticks, or 0, 1, 2 ... if by_order.
        by_order: the file has no timestamps; frames are told by their order.
        end: the tick at which the last frame ends.
        tick_sec: seconds per tick.
        pixel_aspect: width of a pixel over its height.
        expected_frames: num_frames, or what the header promises if that is more.
    """

    info: VideoInfo
    timeline: np.ndarray
    by_order: bool
    end: float
    tick_sec: float
    pixel_aspect: Fraction
    expected_frames: int

    def sample(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps of the distinct frames to take, and how often each is shown."""
        start = float(self.timeline[0])
        times = start + (np.arange(num_frames) + 0.5) / num_frames * (self.end - start)
        shown = np.searchsorted(self.timeline, times, side="right") - 1
        rows, repeats = np.unique(shown, return_counts=True)
        return self.timeline[rows], repeats

    def time_sec(self, tick: int) -> float:
        """Seconds from the start of the video."""
        return float((tick - self.timeline[0]) * self.tick_sec)


def probe(path: str | Path) -> VideoInfo:
    """What a file says of its video; every packet is counted, none is decoded.

    Raises:
        MediaError: missing, empty, or not a video.
    """
    return _scan(str(path)).info


def list_videos(folder: str | Path) -> list[Path]:
    """All files below a folder that have a video's suffix, sorted by path."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())


@contextlib.contextmanager
def _open(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream; whatever FFmpeg says becomes a MediaError."""
    file = Path(path)
    if not file.is_file():
        what = "not a regular file" if file.exists() else "no such file"
        raise MediaError(f"{path}: {what}; check the path")
    if file.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; make or copy it anew")
    try:
        # "file:" keeps a name such as concat:a.mp4 from being read as a protocol.
        with av.open(f"file:{file.absolute()}", options=_OPEN_OPTIONS, metadata_errors="replace") as container:
            yield container, _video_stream(container, path)
    except av.FFmpegError as error:
        raise MediaError(f"{path}: cannot be decoded ({error.strerror}); is it a complete video file?") from error


def _video_stream(container: Any, path: str) -> Any:
    """The largest video stream that is not a cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        what = "sound only" if container.streams.audio else "no video in it"
        raise MediaError(f"{path}: {what}; frames can only come from a video")
    stream = max(streams, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))
    _check_size(stream.codec_context.width, stream.codec_context.height, path)
    return stream


def _check_size(width: int, height: int, path: str) -> None:
    if width * height > MAX_FRAME_PX:
        raise MediaError(f"{path}: frames of {width} x {height} pixels, at most {MAX_FRAME_PX} pixels are read; scale it down")


def _scan(path: str) -> _Scan:
    """Reads all packets of the video without decoding them."""
    with _open(path) as (container, stream):
        ticks, last_duration, discarded = [], 0, 0
        with contextlib.suppress(av.FFmpegError):  # what follows a damaged place is not there
            for packet in container.demux(stream):
                if packet.is_discard:  # cut away by an edit list, never shown
                    discarded += 1
                elif packet.size:
                    ticks.append(packet.pts if packet.pts is not None else packet.dts)
                    last_duration = packet.duration or last_duration
        if not ticks:
            raise MediaError(f"{path}: no video data in it; the file is damaged, make it anew")
        by_order = None in ticks
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        timeline = np.arange(len(ticks)) if by_order else np.unique(np.array(ticks, np.int64))
        tick_sec = 1 / rate if by_order else float(stream.time_base)
        length = 1 if by_order else last_duration or max(1, round(1 / rate / tick_sec))
        end = float(timeline[-1]) + length
        duration_sec = (end - float(timeline[0])) * tick_sec
        context = stream.codec_context
        return _Scan(
            info=VideoInfo(
                width_px=context.width,
                height_px=context.height,
                duration_sec=duration_sec,
                num_frames=len(timeline),
                fps=len(timeline) / duration_sec,
                has_audio=bool(container.streams.audio),
            ),
            timeline=timeline,
            by_order=by_order,
            end=end,
            tick_sec=tick_sec,
            pixel_aspect=Fraction(context.sample_aspect_ratio or 1),
            expected_frames=max(len(timeline), _promised_frames(container, stream, rate) - discarded),
        )


def _promised_frames(container: Any, stream: Any, rate: float) -> int:
    """Frames by the header's count, else by its length, where sound is not what makes it long; else 0."""
    if stream.frames:
        return int(stream.frames)
    if container.duration and not container.streams.audio:
        return round(container.duration / av.time_base * rate)
    return 0


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """All frames in order; None for every packet that cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the container breaks off here: take what the decoder still holds
            packet = None
        try:
            yield from stream.codec_context.decode(packet)
        except av.EOFError:
            return
        except av.FFmpegError:
            yield None
        if packet is None or not packet.size:
            return


def _to_image(frame: Any, path: str, short_side_px: int, pixel_aspect: Fraction) -> np.ndarray:
    """(H, W, 3) uint8 RGB, scaled with square pixels, upright."""
    _check_size(frame.width, frame.height, path)
    width, height = scaled_size(max(1, round(frame.width * pixel_aspect)), frame.height, short_side_px)
    image = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, k=round(frame.rotation / 90) % 4))
