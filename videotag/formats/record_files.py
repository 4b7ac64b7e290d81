"""Files of many videos, their records read by number: TFRecords, pickles and shards.

A plain TFRecord file or a shard is read where the record stands. A packed TFRecord file or a pickle has no
such places: it is held whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from videotag.errors import RecordError
from videotag.formats.shards import Shard
from videotag.formats.tfrecord import (
    is_packed,
    most_unpacked,
    read_record,
    read_records,
    record_offsets,
    record_sizes,
)
from videotag.formats.yt8m_pickles import read_yt8m_pickle
from videotag.formats.yt8m_records import YT8MRecord, parse_yt8m
from videotag.system.regular_file import open_regular

_RECORD_BYTES = 300  # that a record takes beside its data, such as the text of its place

#: Width of every modality that is wanted, None for any; as of `parse_yt8m`.
Dims: TypeAlias = Mapping[str, int | None] | None


class RecordFile(Protocol):
    """An open file of records; `read` may be called from several threads."""

    def __len__(self) -> int:
        """How many records there are."""

    def read(self, number: int) -> YT8MRecord:
        """The record of that number, from 0.

        Raises:
            RecordError: it is damaged, or has not the modalities wanted.
        """


class TFRecordFile:
    """A plain TFRecord file.

    Args:
        path: the file.
        sizes: (n,) int64, as of `read_sizes`.
        dims: modalities wanted; all if not given.

    Raises:
        RecordError: it cannot be opened.
    """

    def __init__(self, path: str, sizes: np.ndarray, dims: Dims = None) -> None:
        try:
            self._file = open_regular(path, error=RecordError, buffering=0)
        except OSError as error:
            raise RecordError(f"{path}: cannot read ({error.strerror or error}); correct the path") from error
        self._sizes = sizes
        self._offsets = record_offsets(sizes)
        self._dims = dims

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, number: int) -> YT8MRecord:
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        data, place = read_record(self._file, number=number, offset=offset, size=size)
        return parse_yt8m(data, dims=self._dims, place=place)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class PackedTFRecordFile:
    """A TFRecord file of gzip or zlib, unpacked in memory; arguments as of TFRecordFile.

    Raises:
        RecordError: damaged, or it unpacks to far more than its size.
    """

    def __init__(self, path: str, sizes: np.ndarray, dims: Dims = None) -> None:
        most = most_unpacked(Path(path).stat().st_size)
        held = int(sizes.sum()) + _RECORD_BYTES * len(sizes)
        if held > most:
            raise RecordError(
                f"{path}: unpacks to {sizes.sum()} bytes, more than the {most} that are held in memory;"
                " unpack it on disk first"
            )
        self._records = list(read_records(path))
        self._dims = dims

    def __len__(self) -> int:
        return len(self._records)

    def read(self, number: int) -> YT8MRecord:
        data, place = self._records[number]
        return parse_yt8m(data, dims=self._dims, place=place)


class PickleFile:
    """A pickle of YouTube-8M's records; arguments as of TFRecordFile."""

    def __init__(self, path: str, sizes: np.ndarray, dims: Dims = None) -> None:
        self._records = read_yt8m_pickle(path, dims=dims)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, number: int) -> YT8MRecord:
        return self._records[number]


def _open_tfrecord(path: str, sizes: np.ndarray, dims: Dims) -> RecordFile:
    return (PackedTFRecordFile if is_packed(path) else TFRecordFile)(path, sizes, dims)


def _open_shard(path: str, sizes: np.ndarray, dims: Dims) -> RecordFile:
    return Shard(path, dims=dims)


def _pickle_sizes(path: str) -> np.ndarray:
    return np.array([max(map(len, r.features.values()), default=0) for r in read_yt8m_pickle(path)], np.int64)


def _shard_sizes(path: str) -> np.ndarray:
    return Shard(path).num_steps


_Open: TypeAlias = Callable[[str, np.ndarray, Dims], RecordFile]
_Sizes: TypeAlias = Callable[[str], np.ndarray]
TFRECORD_SUFFIXES = (".tfrecord", ".tfrecords", ".tfrecord.gz", ".tfrecord.zlib", ".tfrecord.zz")
#: End of a file's name -> how large its records are, and how it is opened.
_KINDS: dict[str, tuple[_Sizes, _Open]] = {
    **dict.fromkeys(TFRECORD_SUFFIXES, (record_sizes, _open_tfrecord)),
    ".pkl": (_pickle_sizes, PickleFile),
    ".pickle": (_pickle_sizes, PickleFile),
    ".safetensors": (_shard_sizes, _open_shard),
}
RECORD_SUFFIXES = tuple(_KINDS)


def is_record_file(path: str | Path) -> bool:
    """Whether the file's name is that of a file of records."""
    return str(path).lower().endswith(RECORD_SUFFIXES)


def list_record_files(folder: str | Path) -> list[Path]:
    """The files of records below a folder, by name."""
    return sorted(path for path in Path(folder).rglob("*") if is_record_file(path) and path.is_file())


def read_sizes(path: str) -> np.ndarray:
    """How large every record of a file is, (n,) int64, in a unit of its kind that grows with the steps.

    Raises:
        RecordError: missing, damaged as far as that shows without reading all, or of no known kind.
    """
    return _kind(path)[0](path)


def open_record_file(path: str, sizes: np.ndarray, dims: Dims = None) -> RecordFile:
    """The file, to read records of by number.

    Args:
        path: ends in one of RECORD_SUFFIXES.
        sizes: as of `read_sizes`.
        dims: modalities wanted; all if not given.

    Raises:
        RecordError: missing or damaged.
    """
    return _kind(path)[1](path, sizes, dims)


def _kind(path: str) -> tuple[_Sizes, _Open]:
    return next(kind for suffix, kind in _KINDS.items() if path.lower().endswith(suffix))
