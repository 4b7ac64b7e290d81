"""Reads video files: frames sampled evenly over the whole duration.

Reads the file twice: the first pass only splits it into packets, to find out how many frames there are and
when they are displayed; the second decodes all frames in order and scales only the sampled ones, holding one
frame at a time.
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
from videotag.media.timeline import TimedFrames, build_timeline
from videotag.media.transforms import center_crop, forced_size, scaled_size

# When shrinking, bilinear scaling averages all pixels under an output pixel. Without the other two flags
# swscale is up to 2 of 255 too dark at even widths.
_SCALING = 0x2 | 0x2000 | 0x40000  # SWS_BILINEAR, FULL_CHR_H_INT, ACCURATE_RND; PyAV 14 has no names for them
# YCbCr-to-RGB matrices of ITU-T H.273, table 4, that swscale supports; 2 is "unspecified". _NEAR_MATRICES are
# close to one of them: 3 is reserved, 10 is constant luminance, 12 and 13 depend on the color primaries. The
# rest, such as YCgCo (8) and ICtCp (14), are not YCbCr.
_MATRICES = frozenset([0, 1, 2, 4, 5, 6, 7, 9])
_NEAR_MATRICES = frozenset([3, 10, 12, 13])
_BT709, _BT2020 = 1, 9


#: Allocates the uint8 array of an image, given its shape (H, W, 3).
NewImage: TypeAlias = Callable[[tuple[int, int, int]], np.ndarray]


def new_image(shape: tuple[int, int, int]) -> np.ndarray:
    """An uninitialized uint8 array of the shape (H, W, 3)."""
    return np.empty(shape, np.uint8)


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
    """

    image: np.ndarray
    repeats: int
    time_sec: float


def probe(path: str | Path) -> VideoInfo:
    """Facts about a video; splits it into packets and decodes only its first frame.

    Raises:
        MediaError: The path is not a local file or not a video, or no frame can be decoded.
    """
    return FrameReader(path, 1).info


class FrameReader:
    """Yields the frames displayed at the midpoints of num_frames equal parts of a video's duration, or all.

    Iterating decodes the file and yields each sampled frame once as a SampledFrame, with the number of
    sampling times at which it is displayed; these sum to num_frames (by_videotag: to the number of distinct
    sampled frames). Where frames are lost to damage, the nearest earlier frame is used, and at the start the
    next later one. Iterating again decodes again.

    Args:
        path: Path of a local file, never interpreted as a URL.
        num_frames: Number of sampling times, at least 1; frames of a shorter video are repeated evenly. None
            yields every frame once.
        fps: Sampling times per second, above 0, instead of num_frames; limited to the number of frames.
        offsets: (num_frames,) position of the sampling time in each part, in [0, 1); None takes the middle.
        by_videotag: Whether to select num_frames by VideoTag's rule (sampling.py), each once.
        short_side_px: Short side of the scaled frames in pixels, aspect ratio kept; None does not scale.
        force_4_by_3: Whether to scale frames to 4:3 as VideoTag does.
        crop_px: Side of the square center crop in pixels; None does not crop.
        num_threads: Number of threads for decoding and scaling; 0 lets FFmpeg choose. With several threads, a
            damaged packet among the last (threads - 1) also loses the frames after it.
        new_image: Function that allocates the array of each image.

    Attributes:
        info: Facts about the video.
        rows: For each sampled frame, the index of its image in iteration order; available after iterating.
        warning: Faults of the file that did not prevent reading it, or None; available after iterating.

    Raises:
        MediaError: The path is not a local file or not a video, or no frame can be decoded; also raised while
            iterating.
        ValueError: One of num_frames, short_side_px and crop_px is below 1.
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
        self._scan()
        if fps is not None:
            self._num_frames = min(max(round(self.info.duration_sec * fps), 1), self.info.num_frames)
        self._select(offsets, by_videotag=by_videotag)
        short_side_px = short_side_px or min(self.info.width_px, self.info.height_px)
        scaled = forced_size if force_4_by_3 else scaled_size
        self._size = scaled(self.info.width_px, self.info.height_px, short_side_px)
        check_size(path, *self._size)

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
            repeats.append(frame.repeats)
            yield frame
        self.rows = image_rows(repeats, self._all_indices).tolist()

    def _frames(self) -> Iterator[SampledFrame]:
        num_sampled = decoded = damaged = interlaced = 0
        shown: tuple[Any, int] | None = None  # the latest frame and its display time
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
            numbered = self._timeline.number_packets(packets(container, stream), stream)
            timed = TimedFrames(self._timeline, decode(numbered, stream))
            for frame, time in timed:
                due = self._num_due(time, decoded)
                if shown is not None and due > num_sampled:
                    yield self._sampled(scaler, *shown, due - num_sampled)
                    num_sampled = due
                shown = frame, time
                decoded += 1
                damaged += bool(frame.is_corrupt)
                interlaced += bool(frame.interlaced_frame)
            if shown is None:
                raise MediaError(f"{self._path}: no frame can be decoded; {AGAIN}")
            total = decoded if self._num_frames is None else self._num_frames
            if num_sampled < total:
                yield self._sampled(scaler, *shown, total - num_sampled)
        faults = timed.faults() + self._faults(scaler, decoded, damaged, interlaced)
        self.warning = f"{self._path}: {'; '.join(faults)}" if faults else None

    def _select(self, offsets: Sequence[float] | None, *, by_videotag: bool) -> None:
        """Selects the frames to sample if they are not at the midpoints."""
        self._positions: list[float] | None = None  # sampling times relative to the span, in [0, 1)
        self._indices: list[int] | None = None  # distinct frame numbers to sample, ascending
        self._all_indices: np.ndarray | None = None  # (T,) frame numbers to sample, in their order
        if by_videotag and self._num_frames is not None:
            self._all_indices = videotag_indices(self.info.num_frames, self._num_frames, offsets)
            self._indices = np.unique(self._all_indices).tolist()
            self._num_frames = len(self._indices)
        elif offsets is not None:
            self._positions = [(part + offset) / len(offsets) for part, offset in enumerate(offsets)]

    def _num_due(self, time: int, decoded: int) -> int:
        """Number of sampling times before `time`, given the number of frames decoded before it."""
        if self._num_frames is None:
            return decoded
        if self._indices is not None:
            return bisect.bisect_left(self._indices, decoded)
        if self._positions is not None:
            return bisect.bisect_left(self._positions, self._timeline.position(time))
        return self._timeline.num_targets_before(time, self._num_frames)

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

    def _sampled(self, scaler: FrameScaler, frame: Any, time: int, repeats: int) -> SampledFrame:
        """The SampledFrame of a decoded av.VideoFrame."""
        image = scaler.image(frame)
        return SampledFrame(image, repeats, float((time - self._timeline.start) * self._timeline.time_base))

    def _faults(self, scaler: FrameScaler, decoded: int, damaged: int, interlaced: int) -> list[str]:
        """Descriptions of the file's faults, other than the times of its frames; empty if there are none."""
        faults = []
        if self._ignore_edit_list:
            faults.append("its edit list hides every frame; ignored")
        if scaler.unknown_matrix is not None:
            faults.append(
                f"color matrix {scaler.unknown_matrix} is not supported; converted with a similar one"
            )
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
    """Converts decoded frames to images: scaled, upright, RGB and cropped.

    Args:
        name: Name of the video in error messages.
        size: (width, height) of the scaled, upright picture in pixels.
        orientation: Orientation of the stored pictures.
        crop_px: Side of the square center crop in pixels; None does not crop.
        num_threads: Number of swscale threads; 0 lets FFmpeg choose.
        new_image: Function that allocates the array of each image.

    Attributes:
        unknown_matrix: Unsupported color matrix that was replaced by a similar one; None if there was none.
    """

    def __init__(
        self,
        name: str | Path,
        size: tuple[int, int],
        *,
        orientation: Orientation,
        crop_px: int | None,
        num_threads: int = 0,
        new_image: NewImage = new_image,
    ) -> None:
        self._name = name
        self._size = orientation.rotated_size(*size)
        self._orientation = orientation
        self._crop_px = crop_px
        self._num_threads = num_threads
        self._new_image = new_image
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self.unknown_matrix: int | None = None

    def image(self, frame: Any) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image of an av.VideoFrame.

        Raises:
            MediaError: The frame is too large, or swscale supports neither its pixel format nor its color
                matrix.
        """
        check_size(self._name, frame.width, frame.height)
        if frame.colorspace in _NEAR_MATRICES:
            self.unknown_matrix = frame.colorspace
            frame.colorspace = _BT2020 if frame.color_primaries == _BT2020 else _BT709
        elif frame.colorspace not in _MATRICES:
            raise MediaError(
                f"{self._name}: color matrix {frame.colorspace} (ITU-T H.273) is not supported; convert it "
                "to BT.709"
            )
        try:
            # Planar output takes swscale half as long as packed output.
            scaled = self._reformatter.reformat(
                frame, *self._size, "gbrp", interpolation=_SCALING, threads=self._num_threads
            )
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self._name}: cannot read pixels of format {frame.format.name} ({error.strerror}); "
                "convert it to H.264"
            ) from error
        green, blue, red = (self._upright_crop(plane) for plane in scaled.planes)  # each (H, W, 1)
        image = self._new_image((*red.shape[:2], 3))
        return np.concatenate([red, green, blue], axis=2, out=image)

    def _upright_crop(self, plane: Any) -> np.ndarray:
        """One channel of a scaled frame, upright and cropped, as a (H, W, 1) view."""
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size, 1)
        upright = self._orientation.upright(rows[: plane.height, : plane.width])
        return upright if self._crop_px is None else center_crop(upright, self._crop_px)
