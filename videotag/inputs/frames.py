"""Videos, folders of frames and arrays -> sampled frames of one video, clips of a batch.

Shapes: N videos of a batch, T sampled frames of each, K distinct ones, S target_size.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videotag.errors import ConfigError, FileListError, MediaError, grouped, one_error
from videotag.formats.feature_files import FEATURE_SUFFIXES
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.inputs.frame_augment import augmented
from videotag.inputs.reader import CheckResult, FileScan, Read, Reader
from videotag.media.decode_pool import DecodePool, PooledReader, Stopped
from videotag.media.frame_array import ArrayReader
from videotag.media.frame_folder import FolderReader
from videotag.media.suffixes import folder_text, left_out_text, scan_folder
from videotag.media.video import FrameReader, SampledFrame, VideoInfo
from videotag.media.views import View
from videotag.registry import ArraySpec, register_reader
from videotag.sections import InputOptions, VideoInferSection, VideoSplitSection
from videotag.system.cores import num_cores
from videotag.train_section import VideoTrainSection

logger = logging.getLogger(__name__)
_AHEAD = 4  # prefetched videos per decoding thread


@dataclass(frozen=True)
class Frames:
    """The sampled frames of one video; a frame sampled several times is stored once.

    Attributes:
        images: Distinct images (K, H, W, 3) uint8 RGB.
        rows: Index into images of each sampled frame, (T,) int.
        covered_sec: Seconds from the start that the T rows divide evenly: the duration, or less with
            VideoTag's sampling; None if rows have no times, as for a folder of frames.
        duration_sec: Duration of the video in seconds; 0.0 for a folder of frames.
        warning: Problem that did not prevent reading the file; None if there is none.
        borders_sec: Times at which segments of the video begin, ascending from 0, if they are known.
    """

    images: np.ndarray
    rows: np.ndarray
    covered_sec: float | None
    duration_sec: float
    warning: str | None
    borders_sec: Sequence[float] = ()


@dataclass(frozen=True)
class OtherView:
    """Frames of a video that are wanted besides the sampled ones.

    Attributes:
        view: Which frames, and in which size.
        take: Function that takes each frame, in order, while the video is decoded.
    """

    view: View
    take: Callable[[SampledFrame], None]


def read_frames(
    entry: ListEntry,
    split: VideoSplitSection,
    *,
    offsets: Sequence[float] | None = None,
    crop: bool = True,
    pool: DecodePool | None = None,
    stop: threading.Event | None = None,
    others: Sequence[OtherView] = (),
) -> Frames:
    """seg_num frames spread over the whole video, or fewer at INFER.fps, as the section configures.

    Args:
        entry: A media file, or a folder of frames with their number.
        split: Section with sampling and frame size.
        offsets: seg_num positions in [0, 1) of the frames within their segments; None samples the middles.
        crop: Whether to crop the central square of target_size; False keeps the whole frame.
        pool: Child processes to decode in, which may hang or crash; None decodes in this process.
        stop: Event that ends decoding with Stopped.
        others: Further views of the same decoding, of a media file.

    Raises:
        MediaError: The file cannot be decoded.
        DecoderLostError: A child process returned no frame within stall_limit_sec, or died.
        ConfigError: There are other views of a folder of frames, or INFER.fps; a folder has no times.
    """
    images = _ImageRows(entry.path, split.seg_num)
    options = _reader_options(split, images, offsets=offsets, crop=crop)
    return _read(_reader(entry, split, options, pool, stop, others), images, split, stop, others)


def read_first_images(
    entry: ListEntry,
    split: VideoSplitSection,
    count: int,
    *,
    pool: DecodePool | None = None,
    stop: threading.Event | None = None,
) -> np.ndarray:
    """The first images (K, H, W, 3) uint8 of read_frames; later ones are not decoded.

    Args:
        entry: A media file, or a folder of frames with their number.
        split: Section with sampling and frame size.
        count: Maximum of K, at least 1; short videos have fewer images.
        pool: Child processes to decode in; None decodes in this process.
        stop: Event that ends decoding with Stopped.

    Raises:
        MediaError: The file cannot be decoded.
        DecoderLostError: A child process returned no frame within stall_limit_sec, or died.
    """
    images = _ImageRows(entry.path, split.seg_num)
    reader = _reader(entry, split, _reader_options(split, images), pool, stop)
    for number, _ in enumerate(reader, start=1):
        if stop is not None and stop.is_set():
            raise Stopped
        if number == count:
            break
    return images.written


def _reader(
    entry: ListEntry,
    split: VideoSplitSection,
    options: dict[str, Any],
    pool: DecodePool | None,
    stop: threading.Event | None,
    others: Sequence[OtherView] = (),
) -> FrameReader | PooledReader | FolderReader:
    """The reader that decodes an entry."""
    if entry.counts:
        if others or options.get("fps"):
            raise ConfigError(f"{entry.path}: a folder of frames, which has no times; give the video itself")
        return FolderReader(entry.path, entry.counts[0], **options)
    options |= {"num_threads": _threads_of_one(split), "others": [asdict(other.view) for other in others]}
    if pool is None:
        return FrameReader(entry.path, **options)
    return pool.reader(entry.path, stall_limit_sec=split.stall_limit_sec, stop=stop, **options)


def frames_of_array(
    array: np.ndarray, fps: float | Fraction, split: VideoSplitSection, *, name: str
) -> Frames:
    """seg_num frames spread over a whole array, or fewer at INFER.fps, as the section configures.

    Args:
        array: Frames (num_frames, height, width, 3) uint8 RGB.
        fps: Frame rate of the array in frames per second.
        split: Section with sampling and frame size.
        name: Name of the array in messages.

    Raises:
        ShapeError: The array's shape or dtype, or fps, is invalid.
        MediaError: The frames exceed the size limit.
    """
    images = _ImageRows(name, split.seg_num)
    options = _reader_options(split, images) | {"num_threads": _threads_of_one(split), "name": name}
    options["sampled_fps"] = options.pop("fps", None)
    return _read(ArrayReader(array, fps, **options), images, split, None)


def _reader_options(
    split: VideoSplitSection,
    images: _ImageRows,
    *,
    offsets: Sequence[float] | None = None,
    crop: bool = True,
) -> dict[str, Any]:
    """The arguments that all readers share, and fps if frames are sampled at a rate."""
    fps = split.fps if isinstance(split, VideoInferSection) else None
    return {
        **({} if fps is None else {"fps": fps}),
        "num_frames": split.seg_num,
        "offsets": None if offsets is None else list(offsets),
        "by_videotag": split.sampling == "videotag",
        "short_side_px": split.short_size,
        "force_4_by_3": split.resize == "videotag",
        "crop_px": split.target_size if crop else None,
        "new_image": images.new_image,
    }


def _threads_of_one(split: VideoSplitSection) -> int:
    """Threads that decode one video while videos_at_once are decoded in parallel."""
    return max(1, (split.num_reader_threads or num_cores()) // split.videos_at_once)


def _read(
    reader: FrameReader | PooledReader | FolderReader | ArrayReader,
    images: _ImageRows,
    split: VideoSplitSection,
    stop: threading.Event | None,
    others: Sequence[OtherView] = (),
) -> Frames:
    """The frames of a reader that writes into `images`; passes on those of other views."""
    for frame in reader:
        if stop is not None and stop.is_set():
            raise Stopped
        if frame.view:
            others[frame.view - 1].take(frame)
    rows = np.array(reader.rows)
    if isinstance(reader, FolderReader):
        return Frames(images.written, rows, None, 0.0, None)
    info = reader.info
    return Frames(images.written, rows, _covered_sec(info, split), info.duration_sec, reader.warning)


class _ImageRows:
    """One array for all images of a video, filled row by row during decoding.

    Args:
        path: Path of the video, for messages.
        limit: Maximum number of images.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._array: np.ndarray | None = None  # (limit, H, W, 3)
        self._count = 0

    def new_image(self, shape: tuple[int, int, int]) -> np.ndarray:
        """The next row, (H, W, 3) uint8, for a reader to fill.

        Raises:
            MediaError: The shape differs from the first image's, as it may in a folder of pictures.
        """
        if self._array is None:
            self._array = np.empty((self._limit, *shape), np.uint8)  # memory is committed on first write
        elif self._array.shape[1:] != shape:
            raise MediaError(
                f"{self._path}: picture {self._count + 1} is {shape[1]}x{shape[0]} when scaled, the first "
                f"{self._array.shape[2]}x{self._array.shape[1]}; make the folder again with `videotag frames`"
            )
        self._count += 1
        return self._array[self._count - 1]

    @property
    def written(self) -> np.ndarray:
        """The K images written so far, (K, H, W, 3) uint8."""
        assert self._array is not None, "a reader without an error yields at least one image"
        return self._array[: self._count]


def _covered_sec(info: VideoInfo, split: VideoSplitSection) -> float | None:
    if split.sampling == "uniform":
        return info.duration_sec
    length = info.num_frames // split.seg_num  # frames per segment; 0 if a short video repeats
    return info.duration_sec * length * split.seg_num / info.num_frames if length else None


def check_format(paths: Iterable[str], wanted: Literal["video", "frames"]) -> None:
    """Checks that a list of videos names files, or a list of frames names folders; missing paths pass.

    Args:
        paths: Paths of the list.
        wanted: Format that the config expects.

    Raises:
        FileListError: Some paths are of the other kind; the message has one line per path.
    """
    if wanted == "frames":
        problem = "a file; MODEL.format is frames, whose lists name folders"
        wrong = [path for path in paths if Path(path).is_file()]
    else:
        problem = "a folder; if it holds frames, set MODEL.format=frames"
        wrong = [path for path in paths if Path(path).is_dir()]
    if wrong:
        raise one_error(FileListError, grouped([(path, problem) for path in wrong]))


class FrameOptions(InputOptions):
    """An entry of INPUTS with `reader: frames`.

    Attributes:
        format: "video" if fields name media files; "frames" if they name folders of img_%05d.jpg and their
            number of frames.
    """

    format: Literal["video", "frames"] = "video"


@register_reader("frames", options=FrameOptions)
class ClipReader(Reader[FrameOptions, VideoSplitSection]):
    """Reads seg_num frames of each video or folder of frames; child processes decode.

    Attributes:
        format: The format that all inputs share.

    Raises:
        ConfigError: The inputs have different formats.
    """

    split_section = VideoSplitSection
    infer_section = VideoInferSection
    train_section = VideoTrainSection
    decodes = True
    augments = True

    def __init__(self, inputs: Mapping[str, FrameOptions], section: VideoSplitSection) -> None:
        super().__init__(inputs, section)
        first, *others = self.inputs
        self.format = self.inputs[first].format
        for name in others:
            if self.inputs[name].format != self.format:
                raise ConfigError(
                    f"INPUTS.{name}.format: {self.inputs[name].format}, but INPUTS.{first} reads the same "
                    f"field as {self.format}; set both to the same format"
                )

    @property
    def count_names(self) -> tuple[str, ...]:
        """The number of frames that follows a folder."""
        return ("num_frames",) if self.format == "frames" else ()

    @property
    def num_threads(self) -> int:
        """num_reader_threads, or the number of cores if unset; at most videos_at_once."""
        return min(self.section.num_reader_threads or num_cores(), self.section.videos_at_once)

    @property
    def ahead(self) -> int:
        """Prefetched videos at most: a few per thread, within buf_size."""
        return min(_AHEAD * self.num_threads, self.section.videos_ahead)

    def specs(self) -> list[ArraySpec]:
        """Per input NAME clips (N, T, S, S, 3) uint8, where T is seg_num and S is target_size.

        Raises:
            ConfigError: INFER.fps is set, with which the number of frames depends on the video.
        """
        split = self.section
        if isinstance(split, VideoInferSection) and split.fps is not None:
            raise ConfigError(
                "INFER.fps: this command takes the same number of frames of every video; remove it, and set "
                "INFER.seg_num"
            )
        shape = (None, split.seg_num, split.target_size, split.target_size, 3)
        return [ArraySpec(name, shape, "uint8") for name in self.inputs]

    def check_kind(self, paths: Sequence[str]) -> None:
        """Checks that paths are files or folders, as `format` requires; see check_format."""
        check_format(paths, self.format)

    def check(self, fields: Sequence[str]) -> CheckResult:
        """Checks the kind of every path; see check_kind."""
        self.check_kind([path_and_count(field)[0] if self.count_names else field for field in fields])
        return CheckResult()

    def find(self, path: Path) -> FileScan:
        """The videos in a folder and its subfolders, sorted by name; or the given video itself.

        Raises:
            ConfigError: The folder holds no video, or the file holds features.
        """
        if path.suffix.lower() in FEATURE_SUFFIXES or is_record_file(path):
            raise ConfigError(
                f"{path}: the model reads videos; for features name a tagger, for both stages use "
                "`videotag tag`"
            )
        return find_videos(path)

    @contextlib.contextmanager
    def session(self, stop: threading.Event) -> Iterator[Read]:
        """Yields a `read` that decodes in child processes."""
        with DecodePool() as pool:
            yield partial(self._read, pool=pool, stop=stop)

    def read(self, field: str, rng: np.random.Generator | None) -> Frames:
        """The frames of one video, decoded in this process; see read_frames."""
        return self._read(field, rng)

    def entry_of(self, field: str) -> ListEntry:
        """The video, or the folder with its number of frames, that a field names."""
        path, count = path_and_count(field) if self.count_names else (field, None)
        return ListEntry(path, counts=() if count is None else (count,))

    def _read(
        self,
        field: str,
        rng: np.random.Generator | None,
        *,
        pool: DecodePool | None = None,
        stop: threading.Event | None = None,
    ) -> Frames:
        entry, split = self.entry_of(field), self.section
        if rng is None or not isinstance(split, VideoTrainSection):
            return read_frames(entry, split, pool=pool, stop=stop)
        offsets = rng.random(split.seg_num).tolist() if split.segment_offset == "random" else None
        frames = read_frames(entry, split, offsets=offsets, crop=False, pool=pool, stop=stop)
        return replace(frames, images=augmented(frames.images, split, rng))

    def collate(self, samples: Sequence[Frames]) -> dict[str, np.ndarray]:
        """Clips (N, T, S, S, 3) uint8 under the name of every input; all frames share one size."""
        clips = np.stack([frames.images[frames.rows] for frames in samples])
        return dict.fromkeys(self.inputs, clips)


def path_and_count(field: str) -> tuple[str, int]:
    """Splits a field `FOLDER COUNT` into the folder and its number of frames."""
    path, _, count = field.rpartition(" ")
    return path, int(count)


def find_videos(path: Path) -> FileScan:
    """The video at `path`, or all videos below a folder, sorted by name; logs a line on skipped files.

    Args:
        path: File or folder; a file is returned unchecked.

    Raises:
        ConfigError: The folder holds no video.
    """
    if not path.is_dir():
        return FileScan([str(path)])
    content = scan_folder(path)
    if not content.taken and not content.left_out:
        raise ConfigError(f"{path}: no videos in this folder or below it, nor other files; check the path")
    if not content.taken:
        raise ConfigError(
            f"{path}: no videos in this folder or below it, {left_out_text(content.left_out)}; "
            "if one of them is a video, give its own path"
        )
    videos = [str(video) for video in content.taken]
    if not content.left_out:
        return FileScan(videos)
    line = folder_text(path, len(videos), content.left_out)
    logger.info("%s", line)
    return FileScan(videos, line)
