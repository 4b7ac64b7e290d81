"""Reads video files: frames sampled over the whole duration, for one or several views.

Reads the file twice: the first pass only splits it into packets, to find out how many frames there are and
when they are displayed; the second decodes all frames in order and scales only the sampled ones, holding one
frame at a time.
Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videotag.errors import AGAIN, MediaError
from videotag.media.container import (
    ENCRYPTED,
    MAX_FRAME_PX,
    check_size,
    declared_frames,
    decode,
    is_scrambled,
    lacks_headers,
    open_container,
    packets,
    video_stream,
)
from videotag.media.frame_scaler import FrameScaler, NewImage, new_image
from videotag.media.orientation import Orientation
from videotag.media.sampling import image_rows
from videotag.media.timeline import TimedFrames, build_timeline
from videotag.media.views import FrameSelection, View


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video.

    Attributes:
        width_px: Displayed width, upright and with square pixels.
        height_px: Displayed height, upright and with square pixels.
        duration_sec: Duration from the first frame to the end of the last one in the file, in seconds.
        num_frames: Number of frames to show that are in the file.
        declared_frames: Number of frames that the header declares, including those that an edit list hides;
            None if it declares none or was never filled in, as in a file written to a pipe.
        fps: Average frame rate, num_frames / duration_sec.
        rotation_deg: Clockwise rotation of 0, 90, 180 or 270 degrees that makes the stored picture upright.
        has_audio: Whether there is sound.
    """

    width_px: int
    height_px: int
    duration_sec: float
    num_frames: int
    declared_frames: int | None
    fps: float
    rotation_deg: int
    has_audio: bool


@dataclass(frozen=True)
class SampledFrame:
    """A frame of a video that is displayed at one or more sampling times.

    Attributes:
        image: (H, W, 3) uint8 RGB, C-contiguous.
        repeats: Number of consecutive sampling times at which it is displayed, at least 1.
        time_sec: Display time in seconds, counted from the video's first frame.
        view: Index of the view that it belongs to.
    """

    image: np.ndarray
    repeats: int
    time_sec: float
    view: int = 0


def probe(path: str | Path) -> VideoInfo:
    """Facts about a video; splits it into packets and decodes only its first frame.

    Raises:
        MediaError: The path is not a local file or not a video, or no frame can be decoded.
    """
    return FrameReader(path, 1).info


class FrameReader:
    """Yields frames of a video: those displayed at the midpoints of num_frames equal parts of it, or all.

    Iterating decodes the file once, and yields each sampled frame of each view once as a SampledFrame, with
    the number of sampling times at which it is displayed; these sum to num_frames (by_videotag: to the number
    of distinct sampled frames). Where frames are lost to damage, the nearest earlier frame is used, and at
    the start the next later one. Iterating again decodes again.

    Args:
        path: Path of a local file, never interpreted as a URL.
        num_frames: Number of sampling times, see View.
        num_threads: Number of threads for decoding and scaling; 0 lets FFmpeg choose. With several threads, a
            damaged packet among the last (threads - 1) also loses the frames after it.
        new_image: Function that allocates the array of each image of the first view.
        others: Further views of the video, as View or as its arguments.
        **options: Further arguments of the first view, see View.

    Attributes:
        info: Facts about the video.
        rows: For each sampled frame of the first view, the index of its image in iteration order; available
            after iterating.
        warning: Faults of the file that did not prevent reading it, or None; available after iterating.

    Raises:
        MediaError: The path is not a local file or not a video, or no frame can be decoded; also raised while
            iterating.
        ValueError: A size or number of a view is below 1.
    """

    item: ClassVar[type] = SampledFrame
    info_class: ClassVar[type] = VideoInfo

    def __init__(
        self,
        path: str | Path,
        num_frames: int | None = None,
        *,
        num_threads: int = 0,
        new_image: NewImage = new_image,
        others: Sequence[View | Mapping[str, Any]] = (),
        **options: Any,
    ) -> None:
        further = [view if isinstance(view, View) else View(**view) for view in others]
        self._views = [View(num_frames, **options), *further]
        self._path = path
        self._num_threads = num_threads
        self._new_image = new_image
        self.rows: list[int] = []
        self.warning: str | None = None
        self._scan()
        self._selections = [FrameSelection(view, self._timeline) for view in self._views]
        self._sizes = [view.scaled_size(self.info.width_px, self.info.height_px) for view in self._views]
        for size in self._sizes:
            check_size(path, *size)

    def _scan(self) -> None:
        """Sets the timeline, the orientation and the facts about the video."""
        # Players show all frames of a file whose edit list has the duration 0.
        for ignore_edit_list in (False, True):
            self._ignore_edit_list = ignore_edit_list
            with self._opened() as container:
                stream = video_stream(container, self._path)
                built = build_timeline(container, stream, self._path)
                if built is not None:
                    self._timeline, first = built
                    self._orientation = Orientation.from_frame(first)
                    self.info = self._describe(container, stream, first)
                    return
                if not container.format.name.startswith("mov,"):
                    break
        if is_scrambled(self._path):
            raise MediaError(f"{self._path}: {ENCRYPTED}")
        if lacks_headers(stream):
            raise MediaError(
                f"{self._path}: no frame can be decoded, because the stream's headers are missing; cut or "
                "record it again from its start"
            )
        # FFmpeg resets the width if it rejects frames for their size.
        reason = "" if stream.width else f", or its frames have more than {MAX_FRAME_PX} pixels"
        raise MediaError(f"{self._path}: no frame can be decoded{reason}; {AGAIN}")

    def _opened(self) -> AbstractContextManager[Any]:
        return open_container(self._path, ignore_edit_list=self._ignore_edit_list)

    def __iter__(self) -> Iterator[SampledFrame]:
        repeats = []
        for frame in self._frames():
            if frame.view == 0:
                repeats.append(frame.repeats)
            yield frame
        self.rows = image_rows(repeats, self._selections[0].all_indices).tolist()

    def _frames(self) -> Iterator[SampledFrame]:
        decoded = damaged = interlaced = 0
        num_sampled = [0] * len(self._views)
        shown: tuple[Any, int] | None = None  # the latest frame and its display time
        scalers = [
            FrameScaler(
                self._path,
                size,
                orientation=self._orientation,
                crop_px=view.crop_px,
                num_threads=self._num_threads,
                new_image=new_image if number else self._new_image,
            )
            for number, (view, size) in enumerate(zip(self._views, self._sizes, strict=True))
        ]

        def sampled(view: int, due: int) -> Iterator[SampledFrame]:
            """Yields the latest frame for a view if it has not been sampled `due` times in all."""
            count = due - num_sampled[view]
            if shown is not None and count > 0:
                num_sampled[view] = due
                frame, time = shown
                time_sec = float((time - self._timeline.start) * self._timeline.time_base)
                yield SampledFrame(scalers[view].image(frame), count, time_sec, view)

        with self._opened() as container:
            stream = video_stream(container, self._path)
            stream.codec_context.thread_count = self._num_threads
            stream.codec_context.thread_type = "AUTO"
            numbered = self._timeline.number_packets(packets(container, stream), stream)
            timed = TimedFrames(self._timeline, decode(numbered, stream))
            for frame, time in timed:
                for view, selection in enumerate(self._selections):
                    yield from sampled(view, selection.num_due(time, decoded))
                shown = frame, time
                decoded += 1
                damaged += bool(frame.is_corrupt)
                interlaced += bool(frame.interlaced_frame)
            if shown is None:
                raise MediaError(f"{self._path}: no frame can be decoded; {AGAIN}")
            for view, selection in enumerate(self._selections):
                yield from sampled(view, decoded if selection.num_frames is None else selection.num_frames)
        matrices = [scaler.unknown_matrix for scaler in scalers if scaler.unknown_matrix is not None]
        faults = timed.faults() + self._faults(matrices, decoded, damaged, interlaced)
        self.warning = f"{self._path}: {'; '.join(faults)}" if faults else None

    def _describe(self, container: Any, stream: Any, frame: Any) -> VideoInfo:
        """The facts about the video, from its headers, its packets and its first frame."""
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)  # width / height of a pixel
        width, height = self._orientation.rotated_size(
            max(round(frame.width * pixel_aspect), 1), frame.height
        )
        duration_sec = self._timeline.duration_sec
        return VideoInfo(
            width_px=width,
            height_px=height,
            duration_sec=duration_sec,
            num_frames=self._timeline.num_frames,
            declared_frames=declared_frames(stream),
            fps=self._timeline.num_frames / duration_sec,
            rotation_deg=self._orientation.rotation_deg,
            has_audio=bool(container.streams.audio),
        )

    def _faults(self, matrices: Sequence[int], decoded: int, damaged: int, interlaced: int) -> list[str]:
        """Descriptions of the file's faults, other than the times of its frames; empty if there are none."""
        faults = []
        if self._ignore_edit_list:
            faults.append("its edit list hides every frame; ignored")
        if matrices:
            faults.append(f"color matrix {matrices[0]} is not supported; converted with a similar one")
        # A packet of interlaced video may hold half a frame.
        lost = decoded + interlaced < self._timeline.num_frames
        expected = self._timeline.num_expected
        if lost or damaged or expected != self._timeline.num_frames:
            suffix = f", {damaged} of them damaged" if damaged else ""
            in_doubt = self._timeline.by_duration and not lost and not damaged
            doubt = "if players show no more frames, its header is wrong; otherwise " if in_doubt else ""
            faults.append(f"{decoded} of {expected} frames could be decoded{suffix}; {doubt}{AGAIN}")
        return faults
