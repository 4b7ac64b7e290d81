"""A list of videos -> a folder of feature files: resumable, in parallel, nothing half-written.

Every feature file carries a stamp of its input and of what made it. A file whose stamp is still right is
kept; any other is made again. What fails is listed in failures.jsonl, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from videotag.datasets.prefetch import prefetch
from videotag.errors import DamagedFeaturesError, FeatureFileError, MediaError
from videotag.formats.feature_files import read_stamp, write_features
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.inference.extractor import Extractor
from videotag.inference.frozen_runtime import FolderRuntime
from videotag.inference.input_files import input_identity, is_same_input, without_path
from videotag.inference.outputs import Plan, Summary, add_unlistable, plan_outputs
from videotag.inputs.frames import Frames, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.system.atomic import remove_partial
from videotag.system.failures import FailureList
from videotag.system.folder_lock import folder_lock
from videotag.system.progress import track

logger = logging.getLogger(__name__)


def extract_list(
    entries: Sequence[ListEntry],
    extractor: Extractor,
    *,
    save_dir: Path,
    list_name: str,
    root: Path | None = None,
    log_interval: int = 1,
    filelist: str | Path | None = None,
    overwrite: bool = False,
) -> Summary:
    """Writes one .npy per video and the list of them.

    Videos are decoded in child processes: one that hangs or crashes FFmpeg is a failure like any other.

    Args:
        entries: videos, or folders of frames with their number; with labels or without. One that is
            there twice is decoded once, and in the list twice.
        extractor: with its weights.
        save_dir: for features, the list and failures.jsonl.
        list_name: file name of the feature list inside save_dir.
        root: what absolute paths are mirrored relative to; their common parent if not given.
        log_interval: videos between log lines.
        filelist: List that the entries come from, which must not be replaced.
        overwrite: Whether features of other inputs, and files that no extraction has made, may be replaced.

    Raises:
        OutputError: two videos would write the same file, an input or a file of something else would be
            replaced, another run is at work in save_dir, or it cannot be written.
    """
    folders = {entry.path for entry in entries if entry.numbers}
    outputs = plan_outputs([entry.path for entry in entries], save_dir, root, folders=folders)
    first = {entry.path: entry for entry in reversed(entries)}
    once = [first[path] for path in outputs]
    list_path = save_dir / list_name
    plan = Plan(outputs, save_dir, list_path, filelist, "features", _input_of, _is_listed)
    plan.check(overwrite=overwrite)
    with folder_lock(save_dir), DecodePool() as pool:
        for parent in {output.parent for output in outputs.values()}:
            remove_partial(parent)
        runtime = FolderRuntime(save_dir, outputs.values(), extractor)
        extractor.prepare()
        failures = FailureList(save_dir)
        summary = Summary()
        add_unlistable([entry.path for entry in entries], outputs, summary, failures)
        with contextlib.closing(_frames_of(once, outputs, extractor, pool)) as read:
            results = extractor.features_of(read)
            for index, ((entry, facts), features) in enumerate(track(results, "extract", len(once)), start=1):
                if features is not None and not np.isfinite(features).all():
                    facts = MediaError(
                        f"{entry.path}: the network gives features that are NaN or infinite; check the "
                        "weights, or give --precision=f32"
                    )
                if isinstance(facts, MediaError):
                    summary.failed[entry.path] = str(facts)
                    failures.add(entry.path, facts)
                    logger.warning("failed: %s", facts)
                    continue
                if features is None:
                    summary.kept += 1
                else:
                    runtime.keep(extractor)
                    # The precision may have been chosen only now.
                    stamp = {**extractor.stamp(), **facts, "runtime": extractor.network.runtime}
                    write_features(outputs[entry.path], features, stamp=stamp)
                    summary.written += 1
                if facts.get("warning"):
                    summary.partial[entry.path] = facts["warning"]
                    logger.warning("%s", facts["warning"])
                if index % log_interval == 0:
                    logger.info("%d of %d: %s", index, len(once), outputs[entry.path])
        done = [ListEntry(str(outputs[e.path]), e.label_ids) for e in entries if e.path not in summary.failed]
        if done:
            summary.list_path = list_path
            write_filelist(summary.list_path, done)
    return summary


#: A video, and its frames where they are needed, with what the stamp of its features says about it; or with
#: the whole stamp of features that are there already; or with why there are none.
_Read: TypeAlias = tuple[tuple[ListEntry, dict[str, Any] | MediaError], Frames | None]


def _frames_of(
    entries: Sequence[ListEntry], outputs: dict[str, Path], extractor: Extractor, pool: DecodePool
) -> Generator[_Read, None, None]:
    """The frames of every video in order, or why there are none; the next ones are decoded meanwhile."""
    made_by, split = extractor.stamp(), extractor.config.infer
    stop = threading.Event()

    def read(entry: ListEntry) -> _Read:
        try:
            output = outputs[entry.path]
            facts = {"input": _identity(entry, output)}
            found = _found_stamp(output)
            as_now = found and _made_as(found) == _made_as(made_by | facts)
            if as_now and is_same_input(found["input"], entry.path, output):
                return (entry, found), None
            frames = read_frames(entry, split, pool=pool, stop=stop)
            return (entry, facts | {"warning": frames.warning}), frames
        except MediaError as error:
            return (entry, error), None

    threads, ahead = split.videos_at_once, split.videos_ahead
    yield from prefetch(read, entries, num_threads=threads, ahead=ahead, stop=stop)


def _made_as(stamp: dict[str, Any]) -> dict[str, Any]:
    """A stamp without what may differ between features that are alike; older ones say no precision."""
    made_from = stamp.get("input")
    content = without_path(made_from) if isinstance(made_from, dict) else None
    return {"precision": "f32", **stamp, "input": content, "warning": None, "runtime": None}


def _identity(entry: ListEntry, output: Path) -> dict[str, Any]:
    identity = input_identity(entry.path, output)
    return {**identity, "num_frames": entry.numbers[0]} if entry.numbers else identity


def _found_stamp(output: Path) -> dict[str, Any]:
    """The stamp of features that are there already; empty if there are none that are whole."""
    try:
        return read_stamp(output) or {}
    except FeatureFileError:
        return {}


def _input_of(output: Path) -> dict[str, Any] | None:
    """The identity of the input of features; empty if they are damaged, None if no extraction made them."""
    try:
        stamp = read_stamp(output)
    except DamagedFeaturesError:
        return {}
    except FeatureFileError:
        return {} if output.is_file() and not output.stat().st_size else None
    if stamp is None:
        return None
    made_from = stamp.get("input")
    return made_from if isinstance(made_from, dict) else {}


def _is_listed(path: Path) -> bool:
    return path.suffix == ".npy" and (not path.exists() or _input_of(path) is not None)
