"""A list of videos -> a folder of pictures for each, img_00001.jpg and on (VideoTag's `format: frames`).

Resumable, in parallel, one frame of a video in memory at a time. A folder is made aside and renamed when all
is in it, with INFO_FILE, which says from what and how it was made; it is kept as long as that is still right.
Pictures are not flushed to disk one by one: after a power cut (not after a kill) make the folders again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import threading
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videotag.datasets.prefetch import prefetch
from videotag.errors import MediaError, OutputError, one_error
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.inference.input_files import input_identity, is_same_input, without_path
from videotag.inference.outputs import INFO_FILE, Plan, Summary, add_unlistable, plan_outputs
from videotag.media.decode_pool import DecodePool, PooledReader
from videotag.media.frame_folder import FRAME_NAME
from videotag.system.atomic import remove_partial, replace_folder, write_text
from videotag.system.cores import num_cores
from videotag.system.failures import FailureList
from videotag.system.folder_lock import folder_lock
from videotag.system.json_text import read_json
from videotag.system.progress import track

_OURS = re.compile(r"img_\d{5,}\.jpg|info\.json")
_MAX_SIDE_PX = 65_500  # of a JPEG, by libjpeg
_RESULTS_PER_THREAD = 16  # may wait behind a long video; they are small
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameOptions:
    """Which frames are written, and how.

    Attributes:
        num_frames: spread evenly over the video; those of a shorter one are repeated. None: every frame.
        fps: frames per second in place of num_frames; a slower video keeps its own.
        short_size: pixels; the frame's short side after scaling; 0 keeps the size.
        quality: of the JPEGs, 1 to 100.
    """

    num_frames: int | None = None
    fps: float | None = None
    short_size: int = 256
    quality: int = 90


@dataclass(frozen=True)
class _Folder:
    """A finished folder."""

    num_frames: int
    is_new: bool
    warning: str | None


def write_frame_folders(
    entries: Sequence[ListEntry],
    options: FrameOptions,
    *,
    save_dir: Path,
    list_name: str,
    root: Path | None = None,
    videos_at_once: int = 1,
    stall_limit_sec: float = 300.0,
    log_interval: int = 1,
    filelist: str | Path | None = None,
    overwrite: bool = False,
) -> Summary:
    """Writes a folder of JPEGs per video and a list of them, `folder num_frames label label ...`.

    Args:
        entries: videos, with labels or without.
        options: which frames, and how.
        save_dir: for the folders, the list and failures.jsonl.
        list_name: file name of the list inside save_dir.
        root: what absolute paths are mirrored relative to; their common parent if not given.
        videos_at_once: videos in work at the same time.
        stall_limit_sec: seconds to wait for a frame before a video is given up; 0 waits on.
        log_interval: videos between log lines.
        filelist: List that the entries come from, which must not be replaced.
        overwrite: Whether frames of other inputs may be replaced, and a list that is not ours; a folder that
            holds anything else never is.

    Raises:
        OutputError: two videos would write the same folder, an input or a file or folder of something else
            would be replaced, another run is at work in save_dir, or it cannot be written.
    """
    outputs = plan_outputs([entry.path for entry in entries], save_dir, root, suffix="")
    list_path = save_dir / list_name
    plan = Plan(outputs, save_dir, list_path, filelist, "frames", _input_of, _is_listed, in_folders=True)
    plan.check(overwrite=overwrite)
    _check_folders(outputs, options, save_dir)
    made: dict[str, _Folder] = {}
    with folder_lock(save_dir), DecodePool() as pool:
        for parent in {output.parent for output in outputs.values()}:
            remove_partial(parent)
        failures, summary = FailureList(save_dir), Summary()
        add_unlistable([entry.path for entry in entries], outputs, summary, failures)
        maker = _Maker(options, outputs, pool, videos_at_once, stall_limit_sec)
        with contextlib.closing(maker.folders()) as results:
            for index, (path, folder) in enumerate(track(results, "frames", len(outputs)), start=1):
                if isinstance(folder, MediaError):
                    summary.failed[path] = str(folder)
                    failures.add(path, folder)
                    logger.warning("failed: %s", folder)
                    continue
                made[path] = folder
                summary.written += folder.is_new
                summary.kept += not folder.is_new
                if folder.warning:
                    summary.partial[path] = folder.warning
                    logger.warning("%s", folder.warning)
                if index % log_interval == 0:
                    logger.info("%d of %d: %s", index, len(outputs), outputs[path])
        # The number of frames stands where other lists have the first label, so it is written as one.
        done = [
            ListEntry(str(outputs[e.path]), (made[e.path].num_frames, *e.label_ids))
            for e in entries
            if e.path in made
        ]
        if done:
            summary.list_path = list_path
            write_filelist(summary.list_path, done)
    return summary


@dataclass(frozen=True)
class _Maker:
    """What all folders of a run share."""

    options: FrameOptions
    outputs: dict[str, Path]
    pool: DecodePool
    videos_at_once: int
    stall_limit_sec: float

    def folders(self) -> Generator[tuple[str, _Folder | MediaError], None, None]:
        """Every video once, in order, with its folder or why there is none."""
        stop = threading.Event()

        def make(path: str) -> tuple[str, _Folder | MediaError]:
            try:
                return path, self._folder(path, stop)
            except MediaError as error:
                return path, error

        threads = self.videos_at_once
        ahead = _RESULTS_PER_THREAD * threads
        yield from prefetch(make, self.outputs, num_threads=threads, ahead=ahead, stop=stop)

    def _folder(self, path: str, stop: threading.Event) -> _Folder:
        """The folder of a video: the one that is there, or a new one."""
        options, folder = self.options, self.outputs[path]
        if found := _kept_info(path, folder, options):
            return _Folder(found["num_frames"], False, found["warning"])
        stamp = {"input": input_identity(path, folder), "options": asdict(options)}
        reader = self.pool.reader(
            path,
            stall_limit_sec=self.stall_limit_sec,
            stop=stop,
            num_frames=options.num_frames,
            fps=options.fps,
            short_side_px=options.short_size or None,
            num_threads=max(1, num_cores() // self.videos_at_once),
        )
        try:
            return _write_folder(folder, path, reader, stamp, options.quality)
        except OutputError as error:
            raise OutputError(f"{error}, then run again: what was done is kept") from error


def read_info(folder: Path) -> dict[str, Any]:
    """What INFO_FILE says; empty if it is not there or not ours."""
    try:
        info = read_json(folder / INFO_FILE, error=OutputError, remedy="made anew")
    except OutputError:
        return {}
    is_ours = (
        isinstance(info, dict)
        and type(info.get("num_frames")) is int
        and isinstance(info.get("warning", 0), str | None)
    )
    return info if is_ours else {}


def _input_of(folder: Path) -> dict[str, Any]:
    """The identity of the input of a folder; empty if it is not known."""
    made_from = read_info(folder).get("input")
    return made_from if isinstance(made_from, dict) else {}


def _is_listed(folder: Path) -> bool:
    return not folder.exists() or bool(read_info(folder))


def _kept_info(path: str, folder: Path, options: FrameOptions) -> dict[str, Any]:
    """What INFO_FILE says of a folder that was made of this video as it is now; empty if it was not.

    Raises:
        MediaError: the video cannot be read.
    """
    found = read_info(folder)
    made_from = found.get("input")
    if not isinstance(made_from, dict) or found.get("options") != asdict(options):
        return {}
    if without_path(made_from) != input_identity(path) or not is_same_input(made_from, path, folder):
        return {}
    return found


def _check_folders(outputs: dict[str, Path], options: FrameOptions, save_dir: Path) -> None:
    """Refuses to replace folders that hold anything else, and to write into folders of frames.

    Raises:
        OutputError: all of them, a line each.
    """
    problems = []
    is_of_frames: dict[Path, bool] = {save_dir: False}
    for path, folder in outputs.items():
        for parent in folder.parents[: len(folder.parts) - len(save_dir.parts) - 1]:
            if parent not in is_of_frames:
                is_of_frames[parent] = bool(read_info(parent))
            if is_of_frames[parent]:
                problems.append(
                    f"{path}: would write {folder} inside {parent}, a folder of frames; choose another "
                    "--save_dir"
                )
        if not folder.is_dir():
            continue
        try:
            if not _kept_info(path, folder, options):
                _check_replaceable(folder)
        except MediaError:
            pass  # it is met again, and listed, when its turn comes
        except OutputError as error:
            problems.append(str(error))
    if problems:
        raise one_error(OutputError, problems)


def _write_folder(
    folder: Path, path: str, reader: PooledReader, stamp: dict[str, Any], quality: int
) -> _Folder:
    """Makes the folder, in place of an older one."""
    _check_replaceable(folder)
    count = 0
    # Many small files: flushing each would take longer than decoding.
    with replace_folder(folder, flush=False) as aside:
        for frame in reader:
            data = _jpeg(frame.image, quality, path)
            for _ in range(frame.repeats):
                count += 1
                (aside / FRAME_NAME.format(count)).write_bytes(data)
        info = {**stamp, "num_frames": count, "warning": reader.warning}
        write_text(aside / INFO_FILE, json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    return _Folder(count, True, reader.warning)


def _check_replaceable(folder: Path) -> None:
    """Refuses a folder that holds anything this command has not made."""
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return
    foreign = sorted(name for name in names if not _OURS.fullmatch(name))
    if names and (foreign or INFO_FILE not in names):
        raise OutputError(
            f"{folder}: holds {foreign[0] if foreign else 'pictures'} that `videotag frames` has not made; "
            "move it away or choose another --save_dir"
        )


def _jpeg(image: np.ndarray, quality: int, path: str) -> bytes:
    """The JPEG of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    if max(height, width) > _MAX_SIDE_PX:
        raise MediaError(
            f"{path}: frames of {width}x{height} pixels, a JPEG has at most {_MAX_SIDE_PX} a side; "
            "set a smaller --short_size"
        )
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return data.getvalue()
