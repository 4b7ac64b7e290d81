"""Lists of files of records, each of many videos -> padded, masked batches, bytes still being bytes.

Shapes: as of videotag.inputs.features.
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

_FEWEST_OPEN = 4  # files: some batches are read at once, and each may lie across the end of a file
_FIRST_TRIED = 10  # records: a mistake in the config or the list shows in all of them
_MOST_OPEN = 256  # a process may often have 1,024 files open


class RecordDataset:
    """The videos of some files of records.

    Args:
        paths: of the files.
        dims: width of each modality; frame-level ones, or video-level ones such as mean_rgb as one step.
        num_classes: C.
        task: decides the form of the labels.
        shuffle_buffer: records among which `shuffled` mixes; files that cannot be read at any place
            (pickles, packed ones) are held in memory as far as it and 16 batches reach.
        batch_size: of the batches that will be asked for.
        num_threads: that read, each a batch.
        needs_labels: whether a record without labels is an error.
        cache: where the index of the records is kept.

    Raises:
        RecordError: files that are missing or damaged as far as that shows now, a line each; no records; or
            the first ones have not the modalities.
        ConfigError: one of these has a label that the model has not.
    """

    made_by: Mapping[str, str] = {}  # records do not say

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
            raise RecordError(f"{paths[0]}: no records, as in all files of its list; download them again")
        self._dims, self._num_classes, self._task = dims, num_classes, task
        self._shuffle_buffer, self._num_threads = shuffle_buffer, num_threads
        self._needs_labels = needs_labels
        per_file = max(1, len(self._index) // len(paths))
        together = shuffle_buffer + BATCHES_SORTED * batch_size  # so far apart may records be that are read
        limit = min(_MOST_OPEN, _FEWEST_OPEN + -(-together // per_file))
        self._files = _OpenFiles(self._index, dims, limit=limit)
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._dtypes = self._first_dtypes()

    @cached_property
    def digest(self) -> str:
        content = hashlib.sha256("\n".join(self._index.paths).encode(errors="surrogateescape"))
        content.update(self._index.sizes.tobytes())
        return content.hexdigest()

    @property
    def sizes(self) -> np.ndarray:
        return self._index.sizes

    def __len__(self) -> int:
        return len(self._index)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        starts = self._index.starts
        files = rng.permutation(len(self._index.paths))
        records = np.concatenate([np.arange(starts[file], starts[file + 1]) for file in files])
        return records[near_shuffle(len(records), rng, reach=self._shuffle_buffer)]

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
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
            [found.video_id for found, _ in loaded],
            padded_inputs([sample for _, sample in loaded]),
            label_array([found.labels.tolist() for found, _ in loaded], self._num_classes, self._task),
        )

    def _first_dtypes(self) -> dict[str, np.dtype[Any]]:
        """Of the first record that can be read: a damaged one is left out later, wrong ones are all wrong."""
        errors = []
        for record in range(min(len(self), _FIRST_TRIED)):
            try:
                return {name: steps.dtype for name, steps in self._sample(record)[1].items()}
            except RecordError as error:
                errors.append(error)
        raise errors[0]

    def _sample(self, record: int) -> tuple[YT8MRecord, dict[str, np.ndarray]]:
        """A record, and its (T, D) per modality."""
        file, number = self._index.place(record)
        found = self._files[file].read(number)
        place = f"{self._index.paths[file]}: record {number} ({found.video_id})"
        sample = {
            name: found.features[name] if name in found.features else found.means[name][None]
            for name in self._dims
        }
        empty = [name for name, steps in sample.items() if not len(steps)]
        if empty:
            raise RecordError(f"{place}: no steps of {', '.join(empty)}; leave the video out")
        wrong = [label for label in found.labels.tolist() if not 0 <= label < self._num_classes]
        if wrong:
            raise ConfigError(
                f"{place}: label {wrong[0]}, expected 0 to {self._num_classes - 1}; correct MODEL.num_classes"
            )
        if self._needs_labels and not len(found.labels):
            raise RecordError(f"{place}: no label; learn and measure on files whose records have some")
        mixed = [name for name, dtype in self._dtypes.items() if sample[name].dtype != dtype]
        if mixed:
            raise RecordError(
                f"{place}: {mixed[0]} of {sample[mixed[0]].dtype}, but of {self._dtypes[mixed[0]]} in the"
                " first record; give frame-level and video-level features different names"
            )
        if self._task == "single_label" and len(found.labels) > 1:
            raise RecordError(
                f"{place}: {len(found.labels)} labels, expected 1; for several set MODEL.task=multi_label"
            )
        return found, sample


class _OpenFiles:
    """Files opened when first asked for; those not used for longest are closed. For any threads."""

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
            except BaseException as error:  # every thread that waits for the file gets it
                opened.set_exception(error)
        failure = opened.exception()
        if isinstance(failure, RecordError):  # each raise of the same one would make its traceback longer
            raise RecordError(str(failure))
        return opened.result()
