"""Record files, which hold many videos: TFRecords, pickles and shards, with random access to their records.

Plain TFRecord files and shards are read at the record's offset. Compressed TFRecord files and pickles are
held in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from videotag.errors import RecordError
from videotag.formats.shards import Shard
from videotag.formats.tfrecord import (
    is_compressed,
    max_record_bytes,
    read_record,
    read_records,
    record_offsets,
    record_sizes,
)
from videotag.formats.yt8m_pickles import read_yt8m_pickle
from videotag.formats.yt8m_records import YT8MRecord, parse_yt8m
from videotag.system.regular_file import open_regular

_RECORD_BYTES = 300  # memory per record in addition to its data, such as its name in messages

#: Modality -> width D (None: any), for the modalities to read; None reads all. See `parse_yt8m`.
Dims: TypeAlias = Mapping[str, int | None] | None


class RecordFile(Protocol):
    """An open record file; `read` is thread-safe."""

    def __len__(self) -> int:
        """Number of records."""

    def read(self, number: int) -> YT8MRecord:
        """Reads one record.

        Args:
            number: Index of the record, from 0.

        Raises:
            RecordError: The record is damaged, or lacks a requested modality.
        """


class TFRecordFile:
    """An uncompressed TFRecord file.

    Args:
        path: Path of the file.
        sizes: (n,) int64 sizes of the records in bytes, from `read_sizes`.
        dims: Widths of the modalities to read; None reads all.

    Raises:
        RecordError: The file cannot be opened.
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


class CompressedTFRecordFile:
    """A gzip or zlib TFRecord file, decompressed in memory; takes TFRecordFile's arguments, sizes (n,).

    Raises:
        RecordError: The file is damaged, or decompresses to far more than its size.
    """

    def __init__(self, path: str, sizes: np.ndarray, dims: Dims = None) -> None:
        most = max_record_bytes(Path(path).stat().st_size)
        held = int(sizes.sum()) + _RECORD_BYTES * len(sizes)
        if held > most:
            raise RecordError(
                f"{path}: unpacks to {sizes.sum()} bytes, more than the {most} bytes allowed in memory;"
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
    """A pickle of YouTube-8M records; takes the arguments of TFRecordFile, sizes (n,) int64."""

    def __init__(self, path: str, sizes: np.ndarray, dims: Dims = None) -> None:
        self._records = read_yt8m_pickle(path, dims=dims)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, number: int) -> YT8MRecord:
        return self._records[number]


def _open_tfrecord(path: str, sizes: np.ndarray, dims: Dims) -> RecordFile:
    return (CompressedTFRecordFile if is_compressed(path) else TFRecordFile)(path, sizes, dims)


def _open_shard(path: str, sizes: np.ndarray, dims: Dims) -> RecordFile:
    return Shard(path, dims=dims)


def _pickle_sizes(path: str) -> np.ndarray:
    return np.array([max(map(len, r.features.values()), default=0) for r in read_yt8m_pickle(path)], np.int64)


def _shard_sizes(path: str) -> np.ndarray:
    return Shard(path).num_steps


_Open: TypeAlias = Callable[[str, np.ndarray, Dims], RecordFile]
_Sizes: TypeAlias = Callable[[str], np.ndarray]
TFRECORD_SUFFIXES = (".tfrecord", ".tfrecords", ".tfrecord.gz", ".tfrecord.zlib", ".tfrecord.zz")
#: File suffix -> functions that size and open such a file.
_KINDS: dict[str, tuple[_Sizes, _Open]] = {
    **dict.fromkeys(TFRECORD_SUFFIXES, (record_sizes, _open_tfrecord)),
    ".pkl": (_pickle_sizes, PickleFile),
    ".pickle": (_pickle_sizes, PickleFile),
    ".safetensors": (_shard_sizes, _open_shard),
}
RECORD_SUFFIXES = tuple(_KINDS)


def is_record_file(path: str | Path) -> bool:
    """Whether the file name has the suffix of a record file."""
    return str(path).lower().endswith(RECORD_SUFFIXES)


def list_record_files(folder: str | Path) -> list[Path]:
    """The record files below a folder, sorted by path; empty if there are none."""
    return sorted(path for path in Path(folder).rglob("*") if is_record_file(path) and path.is_file())


def read_sizes(path: str) -> np.ndarray:
    """Relative sizes of the records of a file; they grow with the number of steps.

    Args:
        path: A file that ends in one of RECORD_SUFFIXES.

    Returns:
        (n,) int64: bytes for TFRecords, steps for pickles and shards; comparable within one kind of file
        only.

    Raises:
        RecordError: The file is missing, or visibly damaged without reading all of it.
    """
    return _kind(path)[0](path)


def open_record_file(path: str, sizes: np.ndarray, dims: Dims = None) -> RecordFile:
    """Opens a record file for random access.

    Args:
        path: A file that ends in one of RECORD_SUFFIXES.
        sizes: (n,) int64 from `read_sizes`.
        dims: Modalities to read; all by default.

    Raises:
        RecordError: The file is missing or damaged.
    """
    return _kind(path)[1](path, sizes, dims)


def _kind(path: str) -> tuple[_Sizes, _Open]:
    return next(kind for suffix, kind in _KINDS.items() if path.lower().endswith(suffix))
