"""A video file -> frames spread evenly over its whole duration.

A file is read twice: the first pass only splits it into packets, to learn how many frames there are and when
they are shown; the second decodes all in order and scales only the wanted ones. One frame is held at a time.
Shapes: H height and W width after scaling; images are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

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
from videotag.media.orientation import Orientation
from videotag.media.sampling import image_rows, videotag_indices
from videotag.media.timeline import TimedFrames, survey
from videotag.media.transforms import center_crop, forced_size, scaled_size

# Bilinear averages all pixels under an output pixel when it shrinks. Without the other two flags swscale is
# up to 2 of 255 too dark at even widths.
_SCALING = 0x2 | 0x2000 | 0x40000  # SWS_BILINEAR, FULL_CHR_H_INT, ACCURATE_RND; PyAV 14 has no names for them
# Matrices from YCbCr to RGB that swscale has, of those in ITU-T H.273, table 4; 2 is "unspecified". The next
# have a near one there. The rest are no YCbCr, such as YCgCo (8) and ICtCp (14).
_MATRICES = frozenset([0, 1, 2, 4, 5, 6, 7, 9])
_NEAR_MATRICES = frozenset(
    [3, 10, 12, 13]
)  # reserved; constant luminance; by the primaries, with and without
_BT709, _BT2020 = 1, 9


#: The shape (H, W, 3) of the next image -> the uint8 array that it is to be written into.
NewImage: TypeAlias = Callable[[tuple[int, int, int]], np.ndarray]


def new_image(shape: tuple[int, int, int]) -> np.ndarray:
    """An image of its own, not yet written."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        width_px: Width as displayed: upright and with square pixels.
        height_px: Height as displayed.
        duration_sec: From the first frame to the end of the last one that is in the file.
        num_frames: Frames to show that are in the file, counted.
        declared_frames: Frames that the header counts, also those an edit list hides; None if it does not,
            or if the header was never filled in, as of a file written to a pipe.
        fps: num_frames by duration_sec.
        rotation_deg: 0, 90, 180 or 270; the clockwise turn of the stored picture that makes it upright.
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
    """A frame of a video that is shown at one or more sampling times.

    Attributes:
        image: (H, W, 3) uint8 RGB, C-contiguous.
        repeats: At how many sampling times, one after the other, it is shown.
        time_sec: When it appears, from the video's first frame.
    """

    image: np.ndarray
    repeats: int
    time_sec: float


def probe(path: str | Path) -> VideoInfo:
    """Facts about a video; splits the file into packets and decodes its first frame.

    Raises:
        MediaError: Not a local file, not a video, or nothing in it can be decoded.
    """
    return FrameReader(path, 1).info


class FrameReader:
    """The frames shown at the midpoints of num_frames equal parts of a video's duration, or all frames.

    Iterating decodes the file and yields each wanted frame once, with the number of sampling times it is
    shown at; these numbers sum to num_frames (by_videotag: to the number of distinct frames wanted). Where
    damage left no frame, the nearest earlier one stands, at the start the first later one. It may be iterated
    again, which decodes again.

    Args:
        path: A local file; a text with ":" in it is a file name like any other.
        num_frames: Number of sampling times, at least 1; the frames of a shorter video are repeated evenly.
            None takes every frame once.
        fps: Sampling times per second, above 0, in place of num_frames; not more than there are frames.
        offsets: With num_frames: where in each part the sampling time lies, from 0 to below 1; in the middle
            if not given.
        by_videotag: num_frames are chosen by VideoTag's rule (sampling.py), and each once.
        short_side_px: The frames are scaled to it, keeping the aspect ratio; None keeps their size.
        force_4_by_3: As VideoTag the long side becomes 4/3 of the short one, unless the short one fits.
        crop_px: Side of the square that is cut from the middle; None keeps all.
        num_threads: Threads for decoding and scaling; 0 lets FFmpeg choose. Of several threads, a damaged
            packet among the last (threads - 1) also costs the frames behind it.
        new_image: Where images are written.

    Attributes:
        info: Facts about the video.
        rows: The image, counted from 0 as they come, that each sampled frame shows; known after iterating.
        warning: What is wrong with a file that could be read all the same; known after iterating.

    Raises:
        MediaError: Not a local file, not a video, or nothing in it can be decoded; iterating raises it too.
    """

    def __init__(
        self,
        path: str | Path,
        num_frames: int | None = None,
        *,
        fps: float | None = None,
        offsets: Sequence[float] | None = None,
        by_videotag: bool = False,
        short_side_px: int | None = 256,
        force_4_by_3: bool = False,
        crop_px: int | None = None,
        num_threads: int = 0,
        new_image: NewImage = new_image,
    ) -> None:
        if any(value is not None and value < 1 for value in (num_frames, short_side_px, crop_px)):
            raise ValueError(
                f"num_frames {num_frames}, short_side_px {short_side_px}, crop_px {crop_px}: expected at "
                "least 1"
            )
        self._path = path
        self._num_frames = num_frames
        self._crop_px = crop_px
        self._num_threads = num_threads
        self._new_image = new_image
        self.rows: list[int] = []
        self.warning: str | None = None
        self._survey()
        if fps is not None:
            self._num_frames = min(max(round(self.info.duration_sec * fps), 1), self.info.num_frames)
        self._plan(offsets, by_videotag=by_videotag)
        short_side_px = short_side_px or min(self.info.width_px, self.info.height_px)
        scaled = forced_size if force_4_by_3 else scaled_size
        self._size = scaled(self.info.width_px, self.info.height_px, short_side_px)
        check_size(path, *self._size)

    def _survey(self) -> None:
        """Learns when which frames are shown, and what they look like."""
        for ignore_edit_list in (
            False,
            True,
        ):  # players show all of a file whose edit list has the duration 0
            self._ignore_edit_list = ignore_edit_list
            with self._opened() as container:
                stream = video_stream(container, self._path)
                found = survey(container, stream, self._path)
                if found is not None:
                    self._timeline, first = found
                    self._orientation = Orientation.from_frame(first)
                    self.info = self._describe(container, stream, first)
                    return
                if not container.format.name.startswith("mov,"):
                    break
        if is_scrambled(self._path):
            raise MediaError(f"{self._path}: {ENCRYPTED}")
        if lacks_headers(stream):
            raise MediaError(
                f"{self._path}: no frame can be decoded, as the stream's headers are missing; cut or record "
                "it again from its start"
            )
        # FFmpeg forgets the size of frames that it refuses.
        why = "" if stream.width else f", or its frames have more than {MAX_FRAME_PX} pixels"
        raise MediaError(f"{self._path}: no frame can be decoded{why}; {AGAIN}")

    def _opened(self) -> AbstractContextManager[Any]:
        return open_container(self._path, ignore_edit_list=self._ignore_edit_list)

    def __iter__(self) -> Iterator[SampledFrame]:
        repeats = []
        for frame in self._frames():
            repeats.append(frame.repeats)
            yield frame
        self.rows = image_rows(repeats, self._all_indices).tolist()

    def _frames(self) -> Iterator[SampledFrame]:
        answered = decoded = damaged = interlaced = 0
        shown: tuple[Any, int] | None = None  # the newest frame, and when it appears
        scaler = FrameScaler(
            self._path,
            self._size,
            orientation=self._orientation,
            crop_px=self._crop_px,
            num_threads=self._num_threads,
            new_image=self._new_image,
        )
        with self._opened() as container:
            stream = video_stream(container, self._path)
            stream.codec_context.thread_count = self._num_threads
            stream.codec_context.thread_type = "AUTO"
            coded = self._timeline.numbered(packets(container, stream), stream)
            timed = TimedFrames(self._timeline, decode(coded, stream))
            for frame, time in timed:
                due = self._num_due(time, decoded)
                if shown is not None and due > answered:
                    yield self._sampled(scaler, *shown, due - answered)
                    answered = due
                shown = frame, time
                decoded += 1
                damaged += bool(frame.is_corrupt)
                interlaced += bool(frame.interlaced_frame)
            if shown is None:
                raise MediaError(f"{self._path}: no frame can be decoded; {AGAIN}")
            total = decoded if self._num_frames is None else self._num_frames
            if answered < total:
                yield self._sampled(scaler, *shown, total - answered)
        faults = timed.faults() + self._faults(scaler, decoded, damaged, interlaced)
        self.warning = f"{self._path}: {'; '.join(faults)}" if faults else None

    def _plan(self, offsets: Sequence[float] | None, *, by_videotag: bool) -> None:
        """Selects the frames to sample when they are not at the midpoints."""
        self._positions: list[float] | None = None  # of the sampling times in the span, 0..1
        self._indices: list[int] | None = None  # of the wanted frames, ascending
        self._all_indices: np.ndarray | None = None  # of all sampled frames, in their order
        if by_videotag and self._num_frames is not None:
            self._all_indices = videotag_indices(self.info.num_frames, self._num_frames, offsets)
            self._indices = np.unique(self._all_indices).tolist()
            self._num_frames = len(self._indices)
        elif offsets is not None:
            self._positions = [(part + offset) / len(offsets) for part, offset in enumerate(offsets)]

    def _num_due(self, time: int, decoded: int) -> int:
        """Sampling times before `time`, where as many frames were decoded before it."""
        if self._num_frames is None:
            return decoded
        if self._indices is not None:
            return bisect.bisect_left(self._indices, decoded)
        if self._positions is not None:
            return bisect.bisect_left(self._positions, self._timeline.position(time))
        return self._timeline.num_targets_before(time, self._num_frames)

    def _describe(self, container: Any, stream: Any, frame: Any) -> VideoInfo:
        """Facts about the video, from its headers, its packets and its first frame."""
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)  # width of a pixel by its height
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

    def _sampled(self, scaler: FrameScaler, frame: Any, time: int, repeats: int) -> SampledFrame:
        """A wanted frame, scaled and upright."""
        image = scaler.image(frame)
        return SampledFrame(image, repeats, float((time - self._timeline.start) * self._timeline.time_base))

    def _faults(self, scaler: FrameScaler, decoded: int, damaged: int, interlaced: int) -> list[str]:
        """What is wrong with the file, but for the times of its frames."""
        faults = []
        if self._ignore_edit_list:
            faults.append("its edit list hides every frame; ignored")
        if scaler.unknown_matrix is not None:
            faults.append(f"colour matrix {scaler.unknown_matrix} is not supported; converted by a near one")
        # A packet of interlaced video may hold half a frame.
        lost = decoded + interlaced < self._timeline.num_frames
        expected = self._timeline.num_expected
        if lost or damaged or expected != self._timeline.num_frames:
            suffix = f", {damaged} of them damaged" if damaged else ""
            in_doubt = self._timeline.by_duration and not lost and not damaged
            doubt = "if players show no more frames, its header is wrong; otherwise " if in_doubt else ""
            faults.append(f"{decoded} of {expected} frames could be decoded{suffix}; {doubt}{AGAIN}")
        return faults


class FrameScaler:
    """Decoded frames -> images: scaled, upright, RGB, cropped.

    Args:
        place: Name of the video, for messages.
        size: (width, height) of the scaled, upright picture.
        orientation: How stored pictures are turned for display.
        crop_px: Side of the square that is cut from the middle; None keeps all.
        num_threads: Threads of swscale; 0 lets FFmpeg choose.
        new_image: Where images are written.

    Attributes:
        unknown_matrix: Colour matrix for which a near one was taken; None if there was no such frame.
    """

    def __init__(
        self,
        place: str | Path,
        size: tuple[int, int],
        *,
        orientation: Orientation,
        crop_px: int | None,
        num_threads: int = 0,
        new_image: NewImage = new_image,
    ) -> None:
        self._place = place
        self._size = orientation.rotated_size(*size)
        self._orientation = orientation
        self._crop_px = crop_px
        self._num_threads = num_threads
        self._new_image = new_image
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self.unknown_matrix: int | None = None

    def image(self, frame: Any) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an av.VideoFrame.

        Raises:
            MediaError: The frame is too large, or of a pixel format that swscale cannot read.
        """
        check_size(self._place, frame.width, frame.height)
        if frame.colorspace in _NEAR_MATRICES:
            self.unknown_matrix = frame.colorspace
            frame.colorspace = _BT2020 if frame.color_primaries == _BT2020 else _BT709
        elif frame.colorspace not in _MATRICES:
            raise MediaError(
                f"{self._place}: colour matrix {frame.colorspace} (ITU-T H.273) is not supported; convert it "
                "to BT.709"
            )
        try:
            # Colour by colour, which takes swscale half as long as pixel by pixel.
            scaled = self._reformatter.reformat(
                frame, *self._size, "gbrp", interpolation=_SCALING, threads=self._num_threads
            )
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self._place}: cannot read pixels of format {frame.format.name} ({error.strerror}); "
                "convert it to H.264"
            ) from error
        green, blue, red = (self._cut(plane) for plane in scaled.planes)  # each (H, W, 1)
        image = self._new_image((*red.shape[:2], 3))
        return np.concatenate([red, green, blue], axis=2, out=image)

    def _cut(self, plane: Any) -> np.ndarray:
        """One colour of a scaled frame, upright and cropped, as a view (H, W, 1)."""
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size, 1)
        upright = self._orientation.upright(rows[: plane.height, : plane.width])
        return upright if self._crop_px is None else center_crop(upright, self._crop_px)
