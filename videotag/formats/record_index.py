"""Index of the records in a list of record files, cached on disk beside the list.

Counting the records of a terabyte takes minutes. A file whose path, size and modification time have not
changed is not counted again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videotag.errors import OutputError, RecordError, one_error
from videotag.formats.feature_files import read_vectors
from videotag.formats.record_files import read_sizes
from videotag.safe_text import reason_of
from videotag.system.atomic import open_atomic
from videotag.system.json_text import parse_json
from videotag.system.progress import track

# Maximum size of the file names in bytes of JSON, 100 per file. Parsed, they take up to 24 times as much
# memory. A larger index is rebuilt.
_MAX_MARKS = 2**24
_THREADS = 4  # counting is I/O-bound, but every thread may hold a whole pickle in memory
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class RecordIndex:
    """The n records of F files, numbered consecutively in file order.

    Attributes:
        paths: Paths of the F files.
        starts: (F + 1,) int64, index of the first record of each file; the last entry is n.
        sizes: (n,) int64 from `read_sizes`, comparable within one kind of file only.
    """

    paths: list[str]
    starts: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def place(self, record: int) -> tuple[int, int]:
        """The index of a record's file in `paths`, and the record's index in that file."""
        file = int(np.searchsorted(self.starts, record, side="right")) - 1
        return file, record - int(self.starts[file])

    def sizes_of(self, file: int) -> np.ndarray:
        """(m,) int64 sizes of the m records of the file with index `file`."""
        return self.sizes[self.starts[file] : self.starts[file + 1]]


def index_records(paths: Sequence[str], *, cache: str | Path | None = None) -> RecordIndex:
    """Indexes record files; logs a warning if some have no records.

    Args:
        paths: Paths of the record files.
        cache: Path of the stored index. If it is None or cannot be written, every call rebuilds the index.

    Raises:
        RecordError: Files are missing, or are found to be damaged while counting; one line per file.
    """
    marks = [_mark(path) for path in paths]
    stored = _read_cache(cache)
    sizes_by_file = {index: stored[mark] for index, mark in enumerate(marks) if mark in stored}
    new = [index for index, mark in enumerate(marks) if mark not in stored]
    problems: list[str] = []
    if new:
        counted, problems = _count_records(paths, new)
        sizes_by_file |= counted
        if cache is not None:  # even if some files are bad, so that the good ones are not counted again
            _write_cache(cache, {marks[index]: sizes for index, sizes in sorted(sizes_by_file.items())})
    if problems:
        raise one_error(RecordError, problems)
    sizes = [sizes_by_file[index] for index in range(len(paths))]
    counts = [len(each) for each in sizes]
    empty = [path for path, count in zip(paths, counts, strict=True) if not count]
    if empty:
        logger.warning(
            "%s: no records (%d of %d files have none); download them again", empty[0], len(empty), len(paths)
        )
    return RecordIndex(list(paths), np.cumsum([0, *counts]), np.concatenate([*sizes, np.empty(0, np.int64)]))


def _count_records(paths: Sequence[str], indices: Sequence[int]) -> tuple[dict[int, np.ndarray], list[str]]:
    """Counts the records of some files.

    Args:
        paths: Paths of all files.
        indices: Indices in `paths` of the files to count.

    Returns:
        Index in `paths` -> (m,) int64 sizes of the file's records; and one error message per bad file.
    """

    def read(index: int) -> np.ndarray | RecordError:
        try:
            return read_sizes(paths[index])
        except RecordError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        counted = track(pool.map(read, indices), "counting records", len(indices))
        results = dict(zip(indices, counted, strict=True))
    problems = [str(result) for result in results.values() if isinstance(result, RecordError)]
    return {index: sizes for index, sizes in results.items() if isinstance(sizes, np.ndarray)}, problems


def _mark(path: str) -> str:
    """The path, size and modification time of a file, as JSON."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror or error}); correct the list") from error
    return json.dumps([str(Path(path).absolute()), status.st_size, status.st_mtime_ns])


def _read_cache(cache: str | Path | None) -> dict[str, np.ndarray]:
    """Mark of a file -> (m,) int64 sizes of its records; empty if the index is missing or damaged."""
    if cache is None or not Path(cache).is_file():
        return {}
    try:
        arrays = read_vectors(cache, ("marks", "counts", "sizes"))
        if len(arrays["marks"]) > _MAX_MARKS:
            raise ValueError(f"file names of more than {_MAX_MARKS} bytes")
        marks = parse_json(arrays["marks"].tobytes())
        counts, sizes = arrays["counts"], arrays["sizes"].astype(np.int64)
        if counts.sum() != len(sizes) or len(counts) != len(marks) or (counts < 0).any():
            raise ValueError("inconsistent counts")
        return dict(zip(marks, np.split(sizes, np.cumsum(counts)[:-1]), strict=True))
    except Exception as error:  # a damaged index only costs time
        logger.warning("%s: not a record index (%s); it will be rebuilt", cache, reason_of(error))
        return {}


def _write_cache(cache: str | Path, known: Mapping[str, np.ndarray]) -> None:
    try:
        with open_atomic(cache) as file:
            np.savez(
                file,
                marks=np.frombuffer(json.dumps(list(known)).encode(errors="surrogateescape"), np.uint8),
                counts=np.array([len(sizes) for sizes in known.values()], np.int64),
                sizes=np.concatenate([*known.values(), np.empty(0, np.int64)]),
            )
    except OutputError as error:
        logger.info("the record index is not stored: %s", error)
