"""Which record stands in which file: an index over files of records, kept on disk beside their list.

Counting the records of a terabyte takes minutes, and is done once: files that have not changed since (path,
size, time) are not looked at again.
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

# JSON of the files' names, 100 bytes each; read, it takes up to 24 times as much. A larger one is made anew.
_MAX_MARKS = 2**24
_THREADS = 4  # looking into files is waiting for the disk; a pickle is held meanwhile
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # arrays have no one truth value
class RecordIndex:
    """The records of F files, numbered through in the files' order; n of them.

    Attributes:
        paths: F of them.
        starts: (F + 1,) int64, number of each file's first record; the last is n.
        sizes: (n,) int64, as of `read_sizes`: comparable within one kind of file.
    """

    paths: list[str]
    starts: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def place(self, record: int) -> tuple[int, int]:
        """The file of a record, and its number in it."""
        file = int(np.searchsorted(self.starts, record, side="right")) - 1
        return file, record - int(self.starts[file])

    def sizes_of(self, file: int) -> np.ndarray:
        """(n,) int64 of one file."""
        return self.sizes[self.starts[file] : self.starts[file + 1]]


def index_records(paths: Sequence[str], *, cache: str | Path | None = None) -> RecordIndex:
    """The index of some files.

    Args:
        paths: of files of records.
        cache: where the index is kept; where it cannot be written, it is made anew each time.

    Raises:
        RecordError: all files that are missing or damaged, as far as that shows without reading all of them,
            a line each.
    """
    marks = [_mark(path) for path in paths]
    known = _read_cache(cache)
    found: dict[int, np.ndarray] = {}
    new = []
    for place, mark in enumerate(marks):
        if mark in known:
            found[place] = known[mark]
        else:
            new.append(place)
    problems: list[str] = []
    if new:
        looked, problems = _look_into(paths, new)
        found |= looked
        if cache is not None:  # of a list with bad files too: counting the good ones took its time
            _write_cache(cache, {marks[place]: sizes for place, sizes in sorted(found.items())})
    if problems:
        raise one_error(RecordError, problems)
    sizes = [found[place] for place in range(len(paths))]
    counts = [len(each) for each in sizes]
    empty = [path for path, count in zip(paths, counts, strict=True) if not count]
    if empty:
        logger.warning(
            "%s: no records, as in %d of %d files; download them again", empty[0], len(empty), len(paths)
        )
    return RecordIndex(list(paths), np.cumsum([0, *counts]), np.concatenate([*sizes, np.empty(0, np.int64)]))


def _look_into(paths: Sequence[str], places: Sequence[int]) -> tuple[dict[int, np.ndarray], list[str]]:
    """Sizes by place in `paths`, and what is wrong with files."""

    def look(place: int) -> np.ndarray | RecordError:
        try:
            return read_sizes(paths[place])
        except RecordError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        looked = track(pool.map(look, places), "counting records", len(places))
        results = dict(zip(places, looked, strict=True))
    problems = [str(result) for result in results.values() if isinstance(result, RecordError)]
    return {place: sizes for place, sizes in results.items() if isinstance(sizes, np.ndarray)}, problems


def _mark(path: str) -> str:
    """What tells that a file is the one that was looked into."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror or error}); correct the list") from error
    return json.dumps([str(Path(path).absolute()), status.st_size, status.st_mtime_ns])


def _read_cache(cache: str | Path | None) -> dict[str, np.ndarray]:
    """Mark of a file -> its sizes; nothing if there is no index, or it is not one."""
    if cache is None or not Path(cache).is_file():
        return {}
    try:
        arrays = read_vectors(cache, ("marks", "counts", "sizes"))
        if len(arrays["marks"]) > _MAX_MARKS:
            raise ValueError(f"its names have more than {_MAX_MARKS} bytes")
        marks = parse_json(arrays["marks"].tobytes())
        counts, sizes = arrays["counts"], arrays["sizes"].astype(np.int64)
        if counts.sum() != len(sizes) or len(counts) != len(marks) or (counts < 0).any():
            raise ValueError("counts do not fit together")
        return dict(zip(marks, np.split(sizes, np.cumsum(counts)[:-1]), strict=True))
    except Exception as error:  # a damaged index costs time, no more
        why = reason_of(error)
        logger.warning("%s: not an index of records (%s); made anew", cache, why)
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
        logger.info("the index of records is not kept: %s", error)
