"""A list of videos -> a folder of feature files: resumable, in parallel, nothing half-written.

Every feature file carries a stamp of its input and of what made it. A file whose stamp is still right is
kept; any other is made again. What fails is listed in failures.jsonl, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from videotag.datasets.prefetch import prefetch
from videotag.datasets.videos import Frames, read_frames
from videotag.engine.extractor import FeatureExtractor
from videotag.engine.frozen_runtime import settle_folder
from videotag.engine.outputs import Summary, input_identity, plan_outputs
from videotag.errors import FeatureFileError, MediaError
from videotag.failures import FailureList
from videotag.folder_lock import folder_lock
from videotag.formats.features import read_stamp, write_features
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.media.decode_pool import DecodePool
from videotag.progress import track
from videotag.runtime.choice import SAMPLE_ROWS

_FIRST_TRIES = 8  # videos that may fail before precision is chosen without any

logger = logging.getLogger(__name__)


def extract_list(
    entries: Sequence[ListEntry],
    extractor: FeatureExtractor,
    *,
    save_dir: Path,
    list_name: str,
    root: Path | None = None,
    log_interval: int = 1,
) -> Summary:
    """Writes one .npy per video and the list of them.

    Videos are decoded in child processes: one that hangs or crashes FFmpeg is a failure like any other.

    Args:
        entries: videos, or folders of frames where they are counted; with labels or without. One that is
            there twice is decoded once, and in the list twice.
        extractor: with its weights.
        save_dir: for features, the list and failures.jsonl.
        list_name: file name of the feature list inside save_dir.
        root: what absolute paths are mirrored relative to; their common parent if not given.
        log_interval: videos between log lines.

    Raises:
        OutputError: two videos would write the same file, another run is at work in save_dir, or it cannot
            be written.
    """
    once = list({entry.path: entry for entry in reversed(entries)}.values())[::-1]
    folders = {entry.path for entry in once if entry.num_frames is not None}
    outputs = plan_outputs([entry.path for entry in once], save_dir, root, folders=folders)
    with folder_lock(save_dir), DecodePool() as pool:
        first_images = partial(_first_images, once, extractor, pool)
        settle_folder(extractor, save_dir, outputs.values(), first_images=first_images)
        failures = FailureList(save_dir)
        summary = Summary()
        with contextlib.closing(_frames_of(once, outputs, extractor, pool)) as read:
            results = extractor.features_of(read)
            for index, ((entry, stamp), features) in enumerate(track(results, "extract", len(once)), start=1):
                if isinstance(stamp, MediaError):
                    summary.failed[entry.path] = str(stamp)
                    failures.add(entry.path, stamp)
                    logger.warning("failed: %s", stamp)
                    continue
                if features is None:
                    summary.kept += 1
                else:
                    stamp["runtime"] = extractor.network.runtime
                    write_features(outputs[entry.path], features, stamp=stamp)
                    summary.written += 1
                if stamp.get("warning"):
                    summary.partial[entry.path] = stamp["warning"]
                    logger.warning("in part: %s", stamp["warning"])
                if index % log_interval == 0:
                    logger.info("%d of %d: %s", index, len(once), outputs[entry.path])
        done = [ListEntry(str(outputs[e.path]), e.label_ids) for e in entries if e.path not in summary.failed]
        if done:
            summary.list_path = save_dir / list_name
            write_filelist(summary.list_path, done)
    return summary


#: A video with the stamp of its features, or why there are none; and its frames where they are needed.
_Read: TypeAlias = tuple[tuple[ListEntry, dict[str, Any] | MediaError], Frames | None]


def _frames_of(
    entries: Sequence[ListEntry], outputs: dict[str, Path], extractor: FeatureExtractor, pool: DecodePool
) -> Generator[_Read, None, None]:
    """The frames of every video in order, or why there are none; the next ones are decoded meanwhile."""
    made_by, split = extractor.stamp(), extractor.config.infer
    stop = threading.Event()

    def read(entry: ListEntry) -> _Read:
        try:
            stamp = {**made_by, "input": _identity(entry)}
            found = _found_stamp(outputs[entry.path])
            if found and _made_as(found) == _made_as(stamp):
                return (entry, found), None
            frames = read_frames(entry, split, pool=pool, stop=stop)
            return (entry, {**stamp, "warning": frames.warning}), frames
        except MediaError as error:
            return (entry, error), None

    threads, ahead = split.videos_at_once, split.videos_ahead
    yield from prefetch(read, entries, num_threads=threads, ahead=ahead, stop=stop)


def _first_images(
    entries: Sequence[ListEntry], extractor: FeatureExtractor, pool: DecodePool
) -> np.ndarray | None:
    """A few frames, spread over the first video that can be decoded."""
    split = extractor.config.infer.model_copy(update={"seg_num": SAMPLE_ROWS})
    for entry in entries[:_FIRST_TRIES]:
        with contextlib.suppress(MediaError):
            return read_frames(entry, split, pool=pool).images
    return None


def _made_as(stamp: dict[str, Any]) -> dict[str, Any]:
    """A stamp without what may differ between features that are alike; older ones say no precision."""
    return {"precision": "f32", **stamp, "warning": None, "runtime": None}


def _identity(entry: ListEntry) -> dict[str, Any]:
    identity = input_identity(entry.path)
    return identity if entry.num_frames is None else {**identity, "num_frames": entry.num_frames}


def _found_stamp(output: Path) -> dict[str, Any]:
    """The stamp of features that are there already; empty if there are none that are whole."""
    try:
        return read_stamp(output) or {}
    except FeatureFileError:
        return {}
