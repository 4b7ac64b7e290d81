"""A list of videos -> a folder of feature files.

Every feature file carries a stamp that identifies its input and its extractor. A file with a matching stamp
is kept; any other is extracted again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videotag.datasets.prefetch import prefetch
from videotag.errors import DamagedFeaturesError, FeatureFileError, MediaError
from videotag.formats.feature_files import read_stamp, write_features
from videotag.formats.filelist import ListEntry
from videotag.inference.extractor import Extractor
from videotag.inference.frozen_runtime import start_extractor, write_frozen
from videotag.inference.input_files import input_identity, is_same_input, without_path
from videotag.inference.jobs import Item, Job, Outcome
from videotag.inference.list_sample import sample_frames
from videotag.inputs.frames import Frames, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.registry import FRAMES
from videotag.system.progress import track


@dataclass(frozen=True)
class _Decoded:
    """The frames of a video, and the video's identity before they were read."""

    identity: dict[str, Any]
    frames: Frames


@dataclass(frozen=True)
class ExtractJob(Job[_Decoded]):
    """Writes one .npy of features per video; child processes decode, one thread runs the network.

    A video that hangs or crashes FFmpeg is recorded as a failure; the rest go on.

    Args:
        extractor: Extractor with loaded weights.
    """

    extractor: Extractor
    what, suffix = "features", ".npy"

    def concurrency(self) -> tuple[int, int]:
        """See Job."""
        return self.extractor.config.infer.videos_at_once, self.extractor.config.infer.videos_ahead

    def input_of(self, output: Path) -> Mapping[str, Any] | None:
        """See OutputKind."""
        stamp = found_stamp(output)
        if stamp is None:
            return None
        made_from = stamp.get("input")
        return made_from if isinstance(made_from, dict) else {}

    def is_listed(self, path: Path) -> bool:
        """See OutputKind."""
        return path.suffix == ".npy" and (not path.exists() or self.input_of(path) is not None)

    def prepare(self, items: Sequence[Item], save_dir: Path) -> Mapping[str, Outcome]:
        """Finds features to keep; for the other videos, selects the runtime on a sample of the list.

        Args:
            items: Entries with the paths of their feature files.
            save_dir: Folder of the features.

        Returns:
            Path of the entry -> outcome, for features to keep and videos that cannot be read.

        Raises:
            ConfigError: The folder's features are not in the requested precision, or their precision deviates
                too much from float32 on this list.
            DeviceError: The device cannot compute in the folder's precision.
        """
        start_extractor(self.extractor, save_dir, (output for _, output in items))
        threads, _ = self.concurrency()
        found = prefetch(self._known, items, num_threads=threads, ahead=2 * threads)
        known = {o.item_id: o for o in track(found, "check existing features", len(items)) if o}
        if len(known) == len(items):
            return known
        images = None
        if self.extractor.network.needs_sample:
            images, failed = sample_frames([entry for entry, _ in items], self.extractor.config.infer)
            known = {path: Outcome.of_error(path, error) for path, error in failed.items()} | known
            if images is None:
                return known
        self.extractor.network.select_runtime(None if images is None else {FRAMES: images})
        write_frozen(save_dir, self.extractor)
        return known

    def _known(self, item: Item) -> Outcome | None:
        """The outcome of a video whose features are up to date or that cannot be read; else None."""
        entry, output = item
        try:
            expected = {**self.extractor.stamp(), "input": _identity(entry, output)}
        except MediaError as error:
            return Outcome.of_error(entry.path, error)
        found = found_stamp(output)
        if (
            found
            and made_as(found) == made_as(expected)
            and is_same_input(found["input"], entry.path, output)
        ):
            return Outcome(entry.path, "kept", warning=found.get("warning"))
        return None

    def load(self, item: Item, pool: DecodePool, stop: threading.Event) -> _Decoded:
        """See Job; returns the frames of a video."""
        entry, output = item
        identity = _identity(entry, output)
        return _Decoded(identity, read_frames(entry, self.extractor.config.infer, pool=pool, stop=stop))

    def finish(self, loaded: Iterable[tuple[Item, _Decoded | Outcome]]) -> Iterator[Outcome]:
        """See Job; runs the network and writes the features."""
        videos = (((item, x), None if isinstance(x, Outcome) else x.frames) for item, x in loaded)
        for (item, x), features in self.extractor.features_of(videos):
            yield x if isinstance(x, Outcome) else self._write(item, x, features)

    def _write(self, item: Item, video: _Decoded, features: np.ndarray | None) -> Outcome:
        assert features is not None, "the video has frames"
        entry, output = item
        if not np.isfinite(features).all():
            text = "the network returns NaN or infinite features; check the weights, or give"
            return Outcome.of_error(entry.path, MediaError(f"{entry.path}: {text} --precision=f32"))
        facts = {"input": video.identity, "warning": video.frames.warning}
        stamp = {**self.extractor.stamp(), **facts, "runtime": self.extractor.network.runtime}
        write_features(output, features, stamp=stamp)
        return Outcome(entry.path, "written", warning=video.frames.warning)


def made_as(stamp: dict[str, Any]) -> dict[str, Any]:
    """A stamp reduced to what decides the features; stamps of older versions lack the precision."""
    made_from = stamp.get("input")
    content = without_path(made_from) if isinstance(made_from, dict) else None
    return {"precision": "f32", **stamp, "input": content, "warning": None, "runtime": None}


def _identity(entry: ListEntry, output: Path) -> dict[str, Any]:
    identity = input_identity(entry.path, output)
    return {**identity, "num_frames": entry.counts[0]} if entry.counts else identity


def found_stamp(output: Path) -> dict[str, Any] | None:
    """The stamp of a feature file; empty if the file is damaged, None if this program did not write it."""
    try:
        return read_stamp(output)
    except DamagedFeaturesError:
        return {}
    except FeatureFileError:
        return {} if output.is_file() and not output.stat().st_size else None
