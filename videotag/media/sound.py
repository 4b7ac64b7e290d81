"""Reads the sound of media files: mono at 16 kHz, aligned with the picture.

FFmpeg's swresample mixes and resamples. Against VGGish's reference, which resamples with resampy, the log-mel
patches of a recording at 44.1 kHz differ by 0.009 on average, and by up to 0.46 in the bands at the cutoff.
Mixing keeps the level: two equal channels give the same mono sound; of 5.1 channels, center and front count
most and the low-frequency channel is dropped.
Shapes: n samples of a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import av.error
import numpy as np
from av.filter import Graph
from av.stream import Disposition

from videotag.errors import AGAIN, MediaError, MissingInputError
from videotag.media.container import decode_packet, open_container, packets, shown_streams

SAMPLE_RATE_HZ = 16_000
BLOCK_SAMPLES = SAMPLE_RATE_HZ  # one second
MAX_SEC = 24 * 3600.0
_TOLERANCE_SEC = 0.05  # timestamps that differ less are jitter
_SLACK_SEC = 60.0  # added to the header's duration, which a gap cannot exceed
_MAX_OVERLAP_SEC = 1.0  # a clock that jumps back further has started anew


@dataclass(frozen=True)
class SoundInfo:
    """Facts about the sound of a file.

    Attributes:
        duration_sec: Duration in seconds from the first frame of the picture, or from the first sample if
            there is no picture, to the last sample.
        sample_rate_hz: Sample rate in the file.
        num_channels: Number of channels in the file.
        num_tracks: Number of tracks of sound.
    """

    duration_sec: float
    sample_rate_hz: int
    num_channels: int
    num_tracks: int


@dataclass(frozen=True)
class SoundBlock:
    """Part of a sound.

    Attributes:
        samples: (n,) float32 mono samples at 16 kHz in [-1, 1].
        start_sec: Time of the first sample in seconds, see SoundInfo.
    """

    samples: np.ndarray
    start_sec: float


class SoundReader:
    """Yields the sound of a file in blocks of one second; the last block is shorter.

    Time 0 is the first frame of the picture. Silence stands for sound that starts later and for gaps; sound
    before time 0 is dropped. Of several tracks, the default one is read, or the one with the highest sample
    rate. Iterating again decodes again.

    Args:
        path: Path of a local file, never interpreted as a URL.

    Attributes:
        info: Facts about the sound; available after iterating.
        warning: Faults of the file that did not prevent reading it, or None; available after iterating.
        rows: Empty, see MediaReader.

    Raises:
        MissingInputError: The file has no sound; while iterating.
        MediaError: The path is not a local media file, or no sound can be decoded; while iterating.
    """

    item: ClassVar[type] = SoundBlock
    info_class: ClassVar[type] = SoundInfo
    info: SoundInfo

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self.warning: str | None = None
        self.rows: list[int] = []

    def __iter__(self) -> Iterator[SoundBlock]:
        self._num_written = 0  # samples of all blocks and of the buffer
        self._faults: list[str] = []
        buffer: list[np.ndarray] = []
        size = start = 0
        for part in self._parts():
            buffer.append(part)
            size += len(part)
            while size >= BLOCK_SAMPLES:
                joined = np.concatenate(buffer)
                yield SoundBlock(joined[:BLOCK_SAMPLES], start / SAMPLE_RATE_HZ)
                buffer, size = [joined[BLOCK_SAMPLES:]], size - BLOCK_SAMPLES
                start += BLOCK_SAMPLES
        if size:
            yield SoundBlock(np.concatenate(buffer), start / SAMPLE_RATE_HZ)
        self.warning = f"{self._path}: sound: {'; '.join(self._faults)}" if self._faults else None

    def _parts(self) -> Iterator[np.ndarray]:
        """Yields the samples of the sound in pieces of any length, (n,) float32."""
        with open_container(self._path) as container:
            stream = _sound_stream(container, self._path)
            origin = _origin(container, stream)
            max_gap_sec = float(container.duration or 0) / av.time_base + _SLACK_SEC
            run: _Run | None = None
            num_frames = num_damaged = 0
            shift_sec = -origin  # from the file's clock to ours
            for packet in itertools.chain(packets(container, stream), [None]):
                frames = decode_packet(stream, packet)
                num_damaged += packet is not None and not frames and num_frames > 0
                for frame in frames:
                    num_frames += 1
                    time_sec = None if frame.pts is None else float(frame.pts * frame.time_base) + shift_sec
                    if run is not None and run.accepts(frame, time_sec):
                        yield from self._written(run.push(frame))
                        continue
                    if run is not None:
                        yield from self._written(run.flush())
                    written_sec = self._num_written / SAMPLE_RATE_HZ
                    gap_sec = 0.0 if time_sec is None else time_sec - written_sec
                    if gap_sec > max_gap_sec or (run is not None and gap_sec < -_MAX_OVERLAP_SEC):
                        self._faults.append(f"its clock jumps at {written_sec:.1f} s; ignored")
                        shift_sec, gap_sec = shift_sec - gap_sec, 0.0
                    yield from self._silence(gap_sec)
                    run = _Run(frame, written_sec + gap_sec, num_dropped=round(-gap_sec * SAMPLE_RATE_HZ))
                    yield from self._written(run.push(frame))
                if self._num_written > MAX_SEC * SAMPLE_RATE_HZ:
                    self._faults.append(f"only the first {MAX_SEC / 3600:.0f} h are read")
                    break
            if run is None:
                raise MediaError(f"{self._path}: no sound can be decoded; {AGAIN}")
            yield from self._written(run.flush())
            if num_damaged:
                self._faults.append(f"{num_damaged} packets could not be decoded; {AGAIN}")
            codec = stream.codec_context
            self.info = SoundInfo(
                duration_sec=self._num_written / SAMPLE_RATE_HZ,
                sample_rate_hz=codec.sample_rate,
                num_channels=codec.channels,
                num_tracks=len(container.streams.audio),
            )

    def _written(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Yields samples (n,), counted."""
        if len(samples):
            self._num_written += len(samples)
            yield samples

    def _silence(self, duration_sec: float) -> Iterator[np.ndarray]:
        """Yields silence, in pieces of one second at most."""
        missing = round(duration_sec * SAMPLE_RATE_HZ)
        while missing > 0:
            count = min(missing, BLOCK_SAMPLES)
            yield from self._written(np.zeros(count, np.float32))
            missing -= count


class _Run:
    """Resamples consecutive frames of one format.

    Args:
        frame: First frame, an av.AudioFrame.
        time_sec: Its time in seconds.
        num_dropped: Number of samples to drop at the start; none if negative.
    """

    def __init__(self, frame: Any, time_sec: float, *, num_dropped: int) -> None:
        self._format = _format_of(frame)
        self._end_sec = time_sec  # of the frames so far
        self._num_dropped = max(0, num_dropped)  # samples still to drop
        self._graph = Graph()
        source = self._graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base,
        )
        options = f"{SAMPLE_RATE_HZ}:out_chlayout=mono:out_sample_fmt=flt:rematrix_maxval=1"
        resampler = self._graph.add("aresample", options)
        sink = self._graph.add("abuffersink")
        source.link_to(resampler)
        resampler.link_to(sink)
        self._graph.configure()

    def accepts(self, frame: Any, time_sec: float | None) -> bool:
        """Whether a frame continues the run without a gap or an overlap."""
        is_next = time_sec is None or abs(time_sec - self._end_sec) <= _TOLERANCE_SEC
        return is_next and self._format == _format_of(frame)

    def push(self, frame: Any) -> np.ndarray:
        """The samples (n,) that a frame completes."""
        self._end_sec += frame.samples / frame.sample_rate
        self._graph.push(frame)
        return self._pull()

    def flush(self) -> np.ndarray:
        """The last samples (n,)."""
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> np.ndarray:
        pieces = [np.zeros(0, np.float32)]
        while True:
            try:
                pieces.append(self._graph.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                break
        samples = np.concatenate(pieces)
        dropped = min(self._num_dropped, len(samples))
        self._num_dropped -= dropped
        # A damaged stream of floats may hold anything.
        return np.clip(np.nan_to_num(samples[dropped:]), -1, 1)


def _format_of(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _sound_stream(container: Any, path: str | Path) -> Any:
    """The av.AudioStream to hear."""
    streams = container.streams.audio
    if not streams:
        raise MissingInputError(f"{path}: no sound; a sample without sound is recorded as missing")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaError(f"{path}: FFmpeg has no decoder for this kind of sound; convert it to AAC")
    return max(known, key=lambda s: (bool(s.disposition & Disposition.default), s.codec_context.sample_rate))


def _origin(container: Any, stream: Any) -> float:
    """Time 0 in seconds of the container's clock."""
    shown = [video for video in shown_streams(container) if video.start_time is not None]
    first = shown[0] if shown else stream
    return float((first.start_time or 0) * first.time_base)
