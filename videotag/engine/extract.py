"""A list of videos -> a folder of feature files: resumable, in parallel, nothing half-written.

Every feature file carries a stamp of its input and of what made it. A file whose stamp is still right is
kept; any other is made again. What fails is listed in failures.jsonl, and the rest goes on.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from videotag.datasets.prefetch import prefetch
from videotag.engine.extractor import FeatureExtractor, Frames, read_frames
from videotag.errors import FeatureFileError, MediaError, OutputError, one_error
from videotag.formats.features import read_stamp, write_features
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.progress import track

FAILURES_FILE = "failures.jsonl"
logger = logging.getLogger(__name__)


@dataclass
class ExtractSummary:
    """What became of a list.

    Attributes:
        written: videos extracted now.
        kept: videos whose features were there already.
        failed: video -> why it could not be decoded.
        partial: video -> warning of a file that could be decoded only in part.
        list_path: the list of all features, with the labels of the video list; None if there are none.
    """

    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    list_path: Path | None = None


def extract_list(
    entries: Sequence[ListEntry],
    extractor: FeatureExtractor,
    *,
    save_dir: Path,
    list_name: str,
    root: Path | None = None,
    log_interval: int = 1,
) -> ExtractSummary:
    """Writes one .npy per video and the list of them.

    Args:
        entries: videos, with labels or without.
        extractor: with its weights.
        save_dir: for features, the list and failures.jsonl.
        list_name: file name of the feature list inside save_dir.
        root: what absolute paths are mirrored relative to; their common parent if not given.
        log_interval: videos between log lines.

    Raises:
        OutputError: two videos would write the same file, or save_dir cannot be written.
    """
    outputs = plan_outputs([entry.path for entry in entries], save_dir, root)
    stamp = extractor.stamp()
    summary = ExtractSummary()
    done: list[ListEntry] = []
    split = extractor.config.infer
    stop = threading.Event()

    def read(entry: ListEntry) -> tuple[ListEntry, dict[str, Any], Frames | MediaError | None]:
        """Frames to extract, None where the features are there already, or why it cannot be done."""
        try:
            full_stamp = {**stamp, "input": _identity(entry.path)}
            if _is_current(outputs[entry.path], full_stamp):
                return entry, full_stamp, None
            return entry, full_stamp, read_frames(entry.path, split, stop=stop)
        except MediaError as error:
            return entry, {}, error

    _start_failures(save_dir)
    try:
        threads, ahead = split.videos_at_once, split.videos_ahead
        results = prefetch(read, entries, num_threads=threads, ahead=ahead, stop=stop)
        for index, (entry, full_stamp, frames) in enumerate(track(results, "extract", len(entries)), start=1):
            if isinstance(frames, MediaError):
                summary.failed[entry.path] = str(frames)
                _add_failure(save_dir, entry.path, frames)
                logger.warning("failed: %s", frames)
                continue
            if frames is None:
                summary.kept += 1
            else:
                write_features(outputs[entry.path], extractor.features(frames), stamp=full_stamp)
                summary.written += 1
                if frames.warning:
                    summary.partial[entry.path] = frames.warning
                    logger.warning("in part: %s", frames.warning)
            done.append(ListEntry(str(outputs[entry.path]), entry.label_ids))
            if index % log_interval == 0:
                logger.info("%d of %d: %s", index, len(entries), outputs[entry.path])
    finally:
        stop.set()  # on an error below prefetch, too, the decoding threads end at their next frame
    if done:
        summary.list_path = save_dir / list_name
        write_filelist(summary.list_path, done)
    return summary


def plan_outputs(paths: Sequence[str], save_dir: Path, root: Path | None = None) -> dict[str, Path]:
    """The feature file of every video: its path mirrored below save_dir, with the suffix .npy.

    Relative paths are mirrored as written. Absolute ones, and those that climb out of the working folder
    with "..", are mirrored relative to `root`.

    Args:
        paths: as the list wrote them; the same one may stand twice.
        save_dir: of the features.
        root: the common parent of the absolute paths if not given.

    Raises:
        OutputError: two videos share a feature file, or a path lies outside root; all, a line each.
    """
    absolute = {p: Path(os.path.abspath(p)) for p in paths if _leaves(p)}  # noqa: PTH100 - keeps symlinks
    if absolute and root is None:
        root = Path(os.path.commonpath([p.parent for p in absolute.values()]))
    outputs: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    problems = []
    for path in dict.fromkeys(paths):
        if not path.isprintable():
            problems.append(f"{path!r}: a list cannot hold control characters; rename the file")
            continue
        inside = PurePath(os.path.normpath(path))
        if path in absolute:
            base = Path(os.path.abspath(str(root)))  # noqa: PTH100
            if not absolute[path].is_relative_to(base):
                problems.append(f"{path}: lies outside --root {base}; name a folder that holds all videos")
                continue
            inside = absolute[path].relative_to(base)
        output = save_dir / inside.with_suffix(".npy")
        if output in owners:
            problems.append(f"{path}: would write {output}, as {owners[output]} does; rename one of the two")
        owners[output] = path
        outputs[path] = output
    if problems:
        raise one_error(OutputError, problems)
    return outputs


def _leaves(path: str) -> bool:
    normal = PurePath(os.path.normpath(path))
    return normal.is_absolute() or normal.parts[:1] == ("..",)


def _identity(path: str) -> dict[str, int]:
    """What changes when a file changes: reading the whole of every video again would cost a decode."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check the list") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_current(output: Path, stamp: dict[str, Any]) -> bool:
    try:
        return read_stamp(output) == stamp
    except FeatureFileError:
        return False


def _start_failures(save_dir: Path) -> None:
    """Forgets the failures of an earlier run: they are tried again now."""
    try:
        save_dir.mkdir(parents=True, exist_ok=True)
        (save_dir / FAILURES_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{save_dir}: cannot write ({error.strerror}); choose another --save_dir"
        ) from error


def _add_failure(save_dir: Path, video: str, error: MediaError) -> None:
    with (save_dir / FAILURES_FILE).open("a", encoding="utf-8") as file:
        record = {"video_id": video, "retriable": error.retriable, "error": str(error)}
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
