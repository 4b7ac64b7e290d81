"""Lists of videos, or of folders of frames -> frames of one, and batches of clips for a TSN.

Shapes: N videos of a batch, T sampled frames of each, K distinct ones, S pixels of a square, C classes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videotag.datasets.augment import augmented
from videotag.datasets.batches import ListedVideos, OnError, label_array, slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import FileListError, MediaError, one_error
from videotag.formats.filelist import ListEntry
from videotag.media.decode_pool import DecodePool, PooledReader, Stopped
from videotag.media.frame_array import ArrayReader
from videotag.media.frame_folder import FolderReader
from videotag.media.transforms import normalize
from videotag.media.video import FrameReader, VideoInfo
from videotag.registry import Task
from videotag.sections import ExtractorModel, VideoSplitSection, VideoTrainSection
from videotag.system.cores import num_cores

_AHEAD = 4  # videos that may wait per decoding thread


@dataclass(frozen=True)
class Frames:
    """The sampled frames of one video; a frame that is shown at several sampling times is held once.

    Attributes:
        images: (K, H, W, 3) uint8 RGB.
        rows: (T,) int, the image that each sampled frame shows.
        covered_sec: seconds from the start that the T rows divide evenly: the duration, or less by
            VideoTag's sampling; None where rows do not follow time, as of a folder of frames.
        duration_sec: of the video; 0.0 for a folder of frames.
        warning: what is wrong with the file although it could be read; None if nothing.
    """

    images: np.ndarray
    rows: np.ndarray
    covered_sec: float | None
    duration_sec: float
    warning: str | None


def read_frames(
    entry: ListEntry,
    split: VideoSplitSection,
    *,
    offsets: Sequence[float] | None = None,
    crop: bool = True,
    pool: DecodePool | None = None,
    stop: threading.Event | None = None,
) -> Frames:
    """seg_num frames, spread over the whole video, scaled and cut as the section says.

    Args:
        entry: a media file; or, if it counts them, a folder of frames.
        split: sampling and size.
        offsets: seg_num numbers: where in its segment each frame is taken, from 0 to below 1; in the middle
            if not given.
        crop: whether the square of target_size is cut from the middle; the whole frame if not.
        pool: decodes in a child process, which may hang or crash; None decodes in this one.
        stop: when set, decoding ends with Stopped.

    Raises:
        MediaError: the file cannot be decoded.
        DecoderLostError: from a pool, no frame came within stall_limit_sec, or the child died.
    """
    images = _ImageRows(entry.path, split.seg_num)
    options = _reader_options(split, images, offsets=offsets, crop=crop)
    return _read(_reader(entry, split, options, pool, stop), images, split, stop)


def read_first_images(
    entry: ListEntry,
    split: VideoSplitSection,
    count: int,
    *,
    pool: DecodePool | None = None,
    stop: threading.Event | None = None,
) -> np.ndarray:
    """The first images that read_frames gives, (K, H, W, 3) uint8; what comes later is not decoded.

    Args:
        entry: As of read_frames.
        split: As of read_frames.
        count: K, at least 1; fewer come of an entry that has fewer.
        pool: As of read_frames.
        stop: As of read_frames.

    Raises:
        MediaError, DecoderLostError: As of read_frames.
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
) -> FrameReader | PooledReader | FolderReader:
    """What decodes an entry."""
    if entry.num_frames is not None:
        return FolderReader(entry.path, entry.num_frames, **options)
    options["num_threads"] = _threads_of_one(split)
    if pool is None:
        return FrameReader(entry.path, **options)
    return pool.reader(entry.path, stall_limit_sec=split.stall_limit_sec, stop=stop, **options)


def frames_of_array(
    array: np.ndarray, fps: float | Fraction, split: VideoSplitSection, *, name: str
) -> Frames:
    """seg_num frames of an array, spread over all of it, scaled and cut as the section says.

    Args:
        array: (N, height, width, 3) uint8 RGB.
        fps: Frames per second.
        split: Sampling and size.
        name: What messages call the array.

    Raises:
        ShapeError: The array's shape or dtype, or fps, is invalid.
        MediaError: The frames are too large.
    """
    images = _ImageRows(name, split.seg_num)
    options = _reader_options(split, images) | {"num_threads": _threads_of_one(split), "name": name}
    return _read(ArrayReader(array, fps, **options), images, split, None)


def _reader_options(
    split: VideoSplitSection,
    images: _ImageRows,
    *,
    offsets: Sequence[float] | None = None,
    crop: bool = True,
) -> dict[str, Any]:
    """What every reader takes."""
    return {
        "num_frames": split.seg_num,
        "offsets": None if offsets is None else list(offsets),
        "by_videotag": split.sampling == "videotag",
        "short_side_px": split.short_size,
        "force_4_by_3": split.resize == "videotag",
        "crop_px": split.target_size if crop else None,
        "new_image": images.new_image,
    }


def _threads_of_one(split: VideoSplitSection) -> int:
    """Threads for one of the videos that are decoded at the same time."""
    return max(1, (split.num_reader_threads or num_cores()) // split.videos_at_once)


def _read(
    reader: FrameReader | PooledReader | FolderReader | ArrayReader,
    images: _ImageRows,
    split: VideoSplitSection,
    stop: threading.Event | None,
) -> Frames:
    """All frames of a reader that writes into `images`."""
    for _ in reader:
        if stop is not None and stop.is_set():
            raise Stopped
    rows = np.array(reader.rows)
    if isinstance(reader, FolderReader):
        return Frames(images.written, rows, None, 0.0, None)
    info = reader.info
    return Frames(images.written, rows, _covered_sec(info, split), info.duration_sec, reader.warning)


class _ImageRows:
    """One array for all images of a video, filled row by row as they are decoded.

    Args:
        path: of the video.
        limit: images at most.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._array: np.ndarray | None = None  # (limit, H, W, 3)
        self._count = 0

    def new_image(self, shape: tuple[int, int, int]) -> np.ndarray:
        """The next row.

        Raises:
            MediaError: it is of another size than the first, as pictures of a folder may be.
        """
        if self._array is None:
            self._array = np.empty((self._limit, *shape), np.uint8)  # memory is taken as it is written
        elif self._array.shape[1:] != shape:
            raise MediaError(
                f"{self._path}: picture {self._count + 1} is {shape[1]}x{shape[0]} when scaled, the first "
                f"{self._array.shape[2]}x{self._array.shape[1]}; make the folder again with `videotag frames`"
            )
        self._count += 1
        return self._array[self._count - 1]

    @property
    def written(self) -> np.ndarray:
        """(K, H, W, 3) of the K images there are."""
        assert self._array is not None, "a reader without an error yields at least one image"
        return self._array[: self._count]


def _covered_sec(info: VideoInfo, split: VideoSplitSection) -> float | None:
    if split.sampling == "uniform":
        return info.duration_sec
    length = info.num_frames // split.seg_num  # frames per part; of shorter videos the rows start again
    return info.duration_sec * length * split.seg_num / info.num_frames if length else None


def check_format(entries: Sequence[ListEntry], wanted: Literal["video", "frames"]) -> None:
    """A list of videos names files, a list of frames folders; what is missing is not looked at.

    Raises:
        FileListError: all entries of the other kind, a line each.
    """
    if wanted == "frames":
        wrong = [
            f"{e.path}: a file; MODEL.format is frames, whose lists name folders"
            for e in entries
            if Path(e.path).is_file()
        ]
    else:
        wrong = [
            f"{e.path}: a folder; if it holds frames, set MODEL.format=frames"
            for e in entries
            if Path(e.path).is_dir()
        ]
    if wrong:
        raise one_error(FileListError, wrong)


@dataclass(frozen=True)
class ClipBatch:
    """Some videos as clips.

    Attributes:
        video_ids: the list's paths as written, N of them.
        clips: (N, T, 3, S, S) float32, normalised.
        labels: (N, C) float32 multi-hot, or (N,) int64 for a single-label task.
    """

    video_ids: list[str]
    clips: np.ndarray
    labels: np.ndarray

    @property
    def inputs(self) -> tuple[np.ndarray]:
        """The argument of a TSN."""
        return (self.clips,)

    def parts(self, count: int) -> Iterator[ClipBatch]:
        """The batch in `count` parts of nearly the same size; fewer if it has fewer videos."""
        for rows in slices(len(self.video_ids), count):
            yield ClipBatch(self.video_ids[rows], self.clips[rows], self.labels[rows])


class VideoFiles(ListedVideos):
    """A list of videos, or of folders of frames.

    Args:
        entries: of read_filelist.
        model: of the TSN.
        split: sampling, size and batch_size; a TRAIN section also says how frames are augmented.
        task: decides the form of the labels.

    Raises:
        FileListError: folders where MODEL.format wants videos, or the other way round, a line each.
    """

    sizes = None  # every video has seg_num frames

    def __init__(
        self, entries: Sequence[ListEntry], *, model: ExtractorModel, split: VideoSplitSection, task: Task
    ) -> None:
        check_format(entries, model.format)
        super().__init__(entries)
        self._model, self._split, self._task = model, split, task

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[ClipBatch | None]:
        """As of Dataset, decoded in child processes.

        What augmentation does to a video follows from the seed and the video's number alone, whichever
        thread decodes it.
        """
        places = (place for group in groups for place in [*group.tolist(), None])  # None ends a batch
        stop = threading.Event()
        num_threads = min(self._split.num_reader_threads or num_cores(), self._split.batch_size)
        ahead = min(_AHEAD * num_threads, self._split.videos_ahead)
        with DecodePool() as pool:
            read = partial(_read_clip, self._entries, self._split, seed, pool, stop)
            with contextlib.closing(
                prefetch(read, places, num_threads=num_threads, ahead=ahead, stop=stop)
            ) as results:
                loaded: list[tuple[ListEntry, Frames]] = []
                for result in results:
                    if result is None:
                        yield _clip_batch(loaded, self._model, self._task) if loaded else None
                        loaded = []
                        continue
                    entry, frames = result
                    if isinstance(frames, MediaError):
                        on_error(entry.path, frames)
                    else:
                        loaded.append((entry, frames))


def _read_clip(
    entries: Sequence[ListEntry],
    split: VideoSplitSection,
    seed: tuple[int, int] | None,
    pool: DecodePool,
    stop: threading.Event,
    place: int | None,
) -> tuple[ListEntry, Frames | MediaError] | None:
    """The frames of the video at `place`, or why there are none; None ends a batch."""
    if place is None:
        return None
    entry = entries[place]
    try:
        if seed is None or not isinstance(split, VideoTrainSection):
            return entry, read_frames(entry, split, pool=pool, stop=stop)
        rng = np.random.default_rng([*seed, place])
        offsets = rng.random(split.seg_num).tolist() if split.segment_offset == "random" else None
        frames = read_frames(entry, split, offsets=offsets, crop=False, pool=pool, stop=stop)
        return entry, replace(frames, images=augmented(frames.images, split, rng))
    except MediaError as error:
        return entry, error


def _clip_batch(loaded: Sequence[tuple[ListEntry, Frames]], model: ExtractorModel, task: Task) -> ClipBatch:
    # Normalised only now: waiting frames are bytes, a quarter of the size.
    clips = [normalize(f.images, model.image_mean, model.image_std)[f.rows] for _, f in loaded]
    entries = [entry for entry, _ in loaded]
    return ClipBatch(
        video_ids=[entry.path for entry in entries],
        clips=np.stack(clips),
        labels=label_array([entry.label_ids for entry in entries], model.num_classes, task),
    )
