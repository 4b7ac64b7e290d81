"""A dataset of listed samples, which the readers of a config turn into batches of named arrays.

Shapes: N samples of a batch, n samples of the dataset.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np

from videotag.datasets.batches import Batch, OnError, label_array
from videotag.datasets.prefetch import prefetch
from videotag.errors import (
    FeatureFileError,
    FileListError,
    MediaError,
    PluginError,
    VideotagError,
    lacks_memory,
    one_error,
)
from videotag.formats.filelist import ListEntry
from videotag.inputs.reader import Read, Reader, check_fields
from videotag.plugins import plugin_line
from videotag.registry import Task
from videotag.safe_text import escaped, reason_of

logger = logging.getLogger(__name__)

READER_THREADS = 2  # reading small files is I/O-bound; more threads are not measurably faster
_Loaded: TypeAlias = "tuple[ListEntry, list[Any] | FeatureFileError | MediaError]"


class SampleDataset:
    """Dataset of the samples in a list; see videotag.datasets.batches.Dataset.

    Args:
        entries: Entries of the list, see read_filelist.
        readers: Pairs of field name and reader; None for the field named like the reader's first input.
        num_classes: Number of classes C.
        task: Task, which selects the form of the labels.

    Attributes:
        sizes: (n,) int64, length of the longest sequence of every sample; None if irrelevant.
        made_by: Per field, map from a file to the description of what made it, for files that record it.

    Raises:
        FileListError: Samples lack a field that their reader needs (one line of the message per sample), or
            the readers need several fields but the list has only paths.
        VideotagError: A reader finds problems in the list (one line of the message per problem).
    """

    def __init__(
        self,
        entries: Sequence[ListEntry],
        readers: Sequence[tuple[str | None, Reader[Any, Any]]],
        *,
        num_classes: int,
        task: Task,
    ) -> None:
        self._entries = entries
        self._readers = [(name or next(iter(reader.inputs)), reader) for name, reader in readers]
        self._labels = partial(label_array, num_classes=num_classes, task=task)
        _check_fields(entries, self._readers)
        self.sizes: np.ndarray | None = None
        self.made_by: dict[str, Mapping[str, str]] = {}
        for name, reader in self._readers:
            fields = [entry.field(name) for entry in entries]
            checked = check_fields(reader, [field for field in fields if field is not None])
            self.made_by[name] = {**self.made_by.get(name, {}), **checked.made_by}
            if checked.sizes is not None:
                sizes = np.zeros(len(entries), np.int64)  # 0 for samples without the field
                sizes[[field is not None for field in fields]] = checked.sizes
                self.sizes = sizes if self.sizes is None else np.maximum(self.sizes, sizes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the list's ids, fields and labels."""
        text = json.dumps(
            [
                (entry.path, entry.label_ids, *([dict(entry.fields)] if entry.fields else []))
                for entry in self._entries
            ]
        )
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        """The number of samples n."""
        return len(self._entries)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """(n,) int64, a uniformly random order of the sample numbers."""
        return rng.permutation(len(self))

    def batches(
        self, groups: Iterable[np.ndarray], *, on_error: OnError, seed: tuple[int, int] | None = None
    ) -> Iterator[Batch | None]:
        """Reads a batch per group (N,) of sample numbers, see Dataset.

        The seed and a sample's number determine its augmentation, independent of the thread that reads it.
        """
        stop = threading.Event()
        with contextlib.ExitStack() as stack:
            reads = [stack.enter_context(reader.session(stop)) for _, reader in self._readers]
            load = partial(self._load, reads, seed)
            join = partial(self._join, on_error=on_error)
            decoders = [reader for _, reader in self._readers if reader.decodes]
            if not decoders:
                together = partial(_load_and_join, load, join)
                yield from prefetch(together, groups, num_threads=READER_THREADS, ahead=READER_THREADS)
                return
            indices = (index for group in groups for index in [*group.tolist(), None])  # None ends a batch
            num_threads = max(1, *(reader.num_threads for reader in decoders))
            ahead = min(reader.ahead for reader in decoders)
            one = partial(_load_one, load)
            results = prefetch(one, indices, num_threads=num_threads, ahead=ahead, stop=stop)
            loaded: list[_Loaded] = []
            for result in stack.enter_context(contextlib.closing(results)):
                if result is not None:
                    loaded.append(result)
                    continue
                yield join(loaded)
                loaded = []

    def _load(self, reads: Sequence[Read], seed: tuple[int, int] | None, index: int) -> _Loaded:
        """The values that the readers return for a sample, or the error if it cannot be read."""
        entry, values = self._entries[index], []
        try:
            for (name, reader), read in zip(self._readers, reads, strict=True):
                field = entry.field(name)
                varies = seed is not None and reader.augments
                rng = np.random.default_rng([*seed, index]) if seed is not None and varies else None
                values.append(None if field is None else read(field, rng))
        except (FeatureFileError, MediaError) as error:
            named = error if entry.fields is None else type(error)(f"{entry.path}: {error}")
            return entry, named
        except Exception as error:
            place = plugin_line(error)
            if place is None or isinstance(error, VideotagError) or lacks_memory(error):
                raise
            raise PluginError(
                f"{place}: {type(error).__name__}: {reason_of(error, limit=300)}, on sample {entry.path}; "
                "correct the plugin, or let it raise MediaError for a sample to skip"
            ) from error
        return entry, values

    def _join(self, loaded: Sequence[_Loaded], *, on_error: OnError) -> Batch | None:
        """The batch of all samples that could be read; None if there are none."""
        entries, samples = [], []
        for entry, values in loaded:
            if isinstance(values, list):
                entries.append(entry)
                samples.append(values)
            else:
                on_error(entry.path, values)
        if not entries:
            return None
        inputs: dict[str, np.ndarray] = {}
        for (_, reader), column in zip(self._readers, zip(*samples, strict=True), strict=True):
            inputs |= reader.collate_checked(column)
        return Batch(
            [entry.path for entry in entries], inputs, self._labels([entry.label_ids for entry in entries])
        )


def _load_and_join(load: Any, join: Any, group: np.ndarray) -> Batch | None:
    batch: Batch | None = join([load(index) for index in group.tolist()])
    return batch


def _load_one(load: Any, index: int | None) -> _Loaded | None:
    return None if index is None else load(index)


def _check_fields(entries: Sequence[ListEntry], readers: Sequence[tuple[str, Reader[Any, Any]]]) -> None:
    names = list(dict.fromkeys(name for name, _ in readers))
    optional = {name: all(r.is_optional for other, r in readers if other == name) for name in names}
    if len(names) > 1 and (paths := [entry.path for entry in entries if entry.fields is None]):
        raise FileListError(
            f"{paths[0]}: only a path, but the model reads the fields {', '.join(names)}; write the list as "
            "JSON lines (.jsonl)"
        )
    given = {name for entry in entries for name in (names if entry.fields is None else entry.fields)}
    present = ", ".join(map(escaped, sorted(given))) or "none"
    problems = []
    for name, is_optional in optional.items():
        if name not in given and is_optional:
            logger.warning("no sample has the field %s, so its input is masked; there are: %s", name, present)
        elif name not in given:
            problems.append(
                f"{entries[0].path} and all others: no field {name!r}; there are: {present}; rename one, or "
                f"set INPUTS.{name}.field"
            )
        elif not is_optional:
            problems += [
                f"{entry.path}: no field {name!r}, which the model needs; add it, or leave the sample out"
                for entry in entries
                if entry.field(name) is None
            ]
    if problems:
        raise one_error(FileListError, problems)
