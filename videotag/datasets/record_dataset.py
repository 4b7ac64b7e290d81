"""A dataset of record files: padded, masked batches of many videos, with quantized features kept as uint8.

Shapes: n records, T steps, D feature width, as in videotag.inputs.features.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from videotag.datasets.batches import Batch, OnError, label_array
from videotag.datasets.order import BATCHES_SORTED, near_shuffle
from videotag.datasets.prefetch import prefetch
from videotag.errors import ConfigError, RecordError
from videotag.formats.record_files import RecordFile, open_record_file
from videotag.formats.record_index import RecordIndex, index_records
from videotag.formats.yt8m_records import YT8MRecord
from videotag.inputs.features import padded_inputs
from videotag.registry import Task

_MIN_OPEN_FILES = 4  # batches are read concurrently, and each may span two files
_MAX_FIRST_RECORDS = 10  # a mistake in the config or the list affects all of them
_MAX_OPEN_FILES = 256  # a common limit of the system is 1,024 per process


class RecordDataset:
    """Dataset of the records in a list of files; see videotag.datasets.batches.Dataset.

    Args:
        paths: Paths of the files.
        dims: Feature width by modality; video-level features, such as mean_rgb, become one step.
        num_classes: Number of classes C.
        task: Task, which selects the form of the labels.
        shuffle_buffer: Number of records that `shuffled` mixes; files without random access (pickles,
            compressed files) are kept in memory for as many records plus 16 batches.
        batch_size: Number of samples in the batches that will be read.
        num_threads: Number of reading threads.
        needs_labels: Whether a record without labels is an error.
        cache: Path of the cached index of the records; None for no cache.

    Raises:
        RecordError: Files are missing or damaged (one line of the message per file), there are no records, or
            the first ones lack a modality.
        ConfigError: One of the first records has a label outside the model's classes.
    """

    made_by: Mapping[str, Mapping[str, str]] = {}  # unknown for records

    def __init__(
        self,
        paths: Sequence[str],
        *,
        dims: dict[str, int],
        num_classes: int,
        task: Task,
        shuffle_buffer: int,
        batch_size: int,
        num_threads: int,
        needs_labels: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        self._index = index_records(paths, cache=cache)
        if not len(self._index):
            raise RecordError(f"{paths[0]}: no records, nor in any other listed file; download them again")
        self._dims, self._num_classes, self._task = dims, num_classes, task
        self._shuffle_buffer, self._num_threads = shuffle_buffer, num_threads
        self._needs_labels = needs_labels
        per_file = max(1, len(self._index) // len(paths))
        together = shuffle_buffer + BATCHES_SORTED * batch_size  # maximum distance of records in a batch
        limit = min(_MAX_OPEN_FILES, _MIN_OPEN_FILES + -(-together // per_file))
        self._files = _OpenFiles(self._index, dims, limit=limit)
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._dtypes = self._first_dtypes()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files' paths and the records' sizes."""
        content = hashlib.sha256("\n".join(self._index.paths).encode(errors="surrogateescape"))
        content.update(self._index.sizes.tobytes())
        return content.hexdigest()

    @property
    def sizes(self) -> np.ndarray:
        """(n,) int64, size of every record in bytes."""
        return self._index.sizes

    def __len__(self) -> int:
        return len(self._index)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """(n,) int64, files in random order, and records mixed within the shuffle buffer."""
        starts = self._index.starts
        files = rng.permutation(len(self._index.paths))
        records = np.concatenate([np.arange(starts[file], starts[file + 1]) for file in files])
        return records[near_shuffle(len(records), rng, reach=self._shuffle_buffer)]

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
        """Reads a batch per group (N,) of record numbers, see Dataset; records are not augmented."""
        load = partial(self._load, on_error=on_error)
        return prefetch(load, groups, num_threads=self._num_threads, ahead=self._num_threads)

    def _load(self, group: np.ndarray, *, on_error: OnError) -> Batch | None:
        loaded = []
        for record in group.tolist():
            try:
                loaded.append(self._sample(record))
            except RecordError as error:
                file, number = self._index.place(record)
                on_error(f"{self._index.paths[file]}: record {number}", error)
        if not loaded:
            return None
        return Batch(
            [video.video_id for video, _ in loaded],
            padded_inputs([sample for _, sample in loaded]),
            label_array([video.labels.tolist() for video, _ in loaded], self._num_classes, self._task),
        )

    def _first_dtypes(self) -> dict[str, np.dtype[Any]]:
        """The dtypes of the first readable record; a damaged one is skipped here and later.

        Raises:
            RecordError: None of the first records can be read.
        """
        errors = []
        for record in range(min(len(self), _MAX_FIRST_RECORDS)):
            try:
                return {name: steps.dtype for name, steps in self._sample(record)[1].items()}
            except RecordError as error:
                errors.append(error)
        raise errors[0]

    def _sample(self, record: int) -> tuple[YT8MRecord, dict[str, np.ndarray]]:
        """A record, and its features (T, D) by modality."""
        file, number = self._index.place(record)
        video = self._files[file].read(number)
        place = f"{self._index.paths[file]}: record {number} ({video.video_id})"
        sample = {
            name: video.features[name] if name in video.features else video.means[name][None]
            for name in self._dims
        }
        empty = [name for name, steps in sample.items() if not len(steps)]
        if empty:
            raise RecordError(f"{place}: no steps of {', '.join(empty)}; leave the video out")
        wrong = [label for label in video.labels.tolist() if not 0 <= label < self._num_classes]
        if wrong:
            raise ConfigError(
                f"{place}: label {wrong[0]}, expected 0 to {self._num_classes - 1}; correct MODEL.num_classes"
            )
        if self._needs_labels and not len(video.labels):
            raise RecordError(f"{place}: no label; train and evaluate on files whose records have labels")
        mixed = [name for name, dtype in self._dtypes.items() if sample[name].dtype != dtype]
        if mixed:
            raise RecordError(
                f"{place}: {mixed[0]} is {sample[mixed[0]].dtype}, but {self._dtypes[mixed[0]]} in the "
                "first record; give frame-level and video-level features different names"
            )
        if self._task == "single_label" and len(video.labels) > 1:
            raise RecordError(
                f"{place}: {len(video.labels)} labels, expected 1; for several set MODEL.task=multi_label"
            )
        return video, sample


class _OpenFiles:
    """Thread-safe LRU cache of open files, opened on first use."""

    def __init__(self, index: RecordIndex, dims: dict[str, int], *, limit: int) -> None:
        self._index, self._dims, self._limit = index, dims, limit
        self._files: OrderedDict[int, Future[RecordFile]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, file: int) -> RecordFile:
        with self._lock:
            opened = self._files.get(file)
            is_new = opened is None
            if opened is None:
                opened = self._files[file] = Future()
            self._files.move_to_end(file)
            while len(self._files) > self._limit:
                self._files.popitem(last=False)
        if is_new:
            try:
                opened.set_result(
                    open_record_file(self._index.paths[file], self._index.sizes_of(file), self._dims)
                )
            except BaseException as error:  # re-raised in every thread that waits for the file
                opened.set_exception(error)
        failure = opened.exception()
        if isinstance(failure, RecordError):  # a copy, because each raise extends the traceback
            raise RecordError(str(failure))
        return opened.result()
