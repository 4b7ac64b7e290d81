"""Shards: many YouTube-8M records in one .safetensors file, memory-mapped and read in any order.

Each modality is one array over all records; row offsets map a record to its rows. Reading a record parses and
copies nothing: its arrays are views of the file. The metadata name the format and its version.

    label_offsets, labels          (n+1,) and (sum L,) int64; record i has labels[offsets[i] : offsets[i+1]]
    id_offsets, ids                (n+1,) int64, (bytes,) uint8, UTF-8
    row_offsets.NAME, rows.NAME    (n+1,) int64, (sum T, D) uint8 of a frame-level modality
    means.NAME                     (n, D) float32 of a video-level modality
    segment_offsets, segment_labels, segment_start_times, segment_scores    (n+1,), and (sum S,) each
    has_segments                   (n,) uint8; these five only if a record has segments

Shapes: n records, T steps, D feature width, L labels, S segments.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from videotag.errors import RecordError
from videotag.formats.yt8m_records import (
    SEGMENT_FIELDS,
    Segments,
    YT8MRecord,
    decode_id,
    encode_id,
    segment_fields,
    validated,
)
from videotag.safe_text import escaped, safe_repr
from videotag.system.atomic import open_atomic
from videotag.system.json_text import parse_json
from videotag.system.regular_file import open_regular

FORMAT = {"format": "videotag.yt8m_shard", "version": "1"}
_TYPES: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "F32": np.dtype("<f4"), "U8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_SEGMENT_TYPES = ("I64", "I64", "F32")  # parallel to SEGMENT_FIELDS
# Bytes; write_shard needs 100 for each of a dozen arrays. Parsed JSON takes up to 24 times as much memory.
_MAX_HEADER = 2**20
_MAX_SIZE = 2**48  # NumPy refuses larger sizes even for empty arrays
_AGAIN = "convert its source again, or copy the file again"


class Shard:
    """The records of a shard; thread-safe.

    Attributes:
        num_steps: (n,) int64, steps of each record's longest modality; 0 without frame-level features.
        widths: Modality -> width D, for frame-level and video-level features.
    """

    def __init__(self, path: str | Path, *, dims: Mapping[str, int | None] | None = None) -> None:
        """Maps a file and reads its offsets; the file must not be truncated while it is in use.

        Args:
            path: The shard.
            dims: Modality -> width D (None: any), for the modalities to read; None reads all.

        Raises:
            RecordError: The file is missing, not a shard, truncated or inconsistent, or a modality of `dims`
                is missing or has another width.
        """
        self._path = path
        tensors = _Tensors(path)
        ids = tensors.get("ids", "U8", 1)
        self._id_bounds = tensors.offsets("id_offsets", len(ids))
        count = len(self._id_bounds) - 1
        self._ids = ids
        self._labels = tensors.get("labels", "I64", 1)
        self._label_bounds = tensors.offsets("label_offsets", len(self._labels), count)
        self._rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._means: dict[str, np.ndarray] = {}
        for name in tensors.modalities() if dims is None else dims:
            self._add_modality(tensors, name, count, dims)
        self._segments = _segment_arrays(tensors, count) if "segment_offsets" in tensors else None
        steps = [np.diff(bounds) for bounds, _ in self._rows.values()]
        self.num_steps = np.max(steps, axis=0) if steps else np.zeros(count, np.int64)
        arrays = {name: rows for name, (_, rows) in self._rows.items()} | self._means
        self.widths = {name: array.shape[1] for name, array in arrays.items()}

    def __len__(self) -> int:
        return len(self._id_bounds) - 1

    def read(self, index: int) -> YT8MRecord:
        """Record `index`, from 0; its features, means and labels are read-only views of the file.

        Raises:
            IndexError: The index is not in 0..n-1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._path}: record {index}, expected 0 to {len(self) - 1}")
        start, end = self._id_bounds[index : index + 2]
        first, last = self._label_bounds[index : index + 2]
        features = {}
        for name, (bounds, rows) in self._rows.items():
            top, bottom = bounds[index : index + 2]
            features[name] = rows[top:bottom]
        return YT8MRecord(
            decode_id(self._ids[start:end].tobytes()),
            self._labels[first:last],
            features,
            {name: means[index] for name, means in self._means.items()},
            self._read_segments(index),
        )

    def _read_segments(self, index: int) -> Segments | None:
        if self._segments is None or not self._segments["has_segments"][index]:
            return None
        start, end = self._segments["segment_offsets"][index : index + 2]
        return Segments(*(self._segments[name][start:end] for name in SEGMENT_FIELDS))

    def _add_modality(
        self, tensors: _Tensors, name: str, count: int, dims: Mapping[str, int | None] | None
    ) -> None:
        if f"rows.{name}" in tensors:
            rows = tensors.get(f"rows.{name}", "U8", 2)
            self._rows[name] = tensors.offsets(f"row_offsets.{name}", len(rows), count), rows
            width = rows.shape[1]
        elif f"means.{name}" in tensors:
            means = tensors.get(f"means.{name}", "F32", 2)
            if len(means) != count:
                raise tensors.damaged(f"{len(means)} means.{name} of {count} records")
            self._means[name] = means
            width = means.shape[1]
        else:
            there = escaped(", ".join(tensors.modalities()), limit=200) or "nothing"
            raise RecordError(
                f"{self._path}: no features {name}; found {there}; correct the model's feature_names"
            )
        if dims is not None and dims[name] not in (None, width):
            raise RecordError(
                f"{self._path}: {name} of width {width}, expected {dims[name]}; correct the model's"
                " feature_dims, or extract it with the matching backbone"
            )


def write_shard(path: str | Path, records: Iterable[YT8MRecord]) -> int:
    """Writes records as a shard, atomically; equal records give equal bytes.

    Feature rows are spooled to unnamed files beside the shard, so memory holds the rows of one record only.

    Args:
        path: The file to write, conventionally with suffix .safetensors.
        records: Records with the same modalities and widths; consumed one at a time.

    Returns:
        Number of records written.

    Raises:
        RecordError: A record has other modalities or widths than the first.
        ShapeError: `validated` refuses a record.
        OutputError: The file cannot be written.
    """
    with open_atomic(path) as file, contextlib.ExitStack() as stack:
        builder = _ShardBuilder(Path(path), stack)
        for record in records:
            builder.add(validated(record))
        builder.write(file)
    return builder.count


class _ShardBuilder:
    """The arrays of a shard as they grow."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._stack = stack
        self.count = 0
        self._ids: list[bytes] = []
        self._labels: list[np.ndarray] = []
        self._rows: dict[str, IO[bytes]] = {}
        self._num_rows: dict[str, list[int]] = {}
        self._widths: dict[str, int] = {}  # 0: unknown so far
        self._means: dict[str, list[np.ndarray]] = {}
        self._segments: list[Segments | None] = []

    def add(self, record: YT8MRecord) -> None:
        """Appends a record that `validated` has returned."""
        if not self.count:
            self._begin(record)
        self._check(record)
        for name, rows in record.features.items():
            self._rows[name].write(rows.tobytes())
            self._num_rows[name].append(len(rows))
        for name, mean in record.means.items():
            self._means[name].append(mean.astype(mean.dtype))  # a copy, as it may be a view of a whole file
        self._ids.append(encode_id(record.video_id))
        self._labels.append(record.labels.copy())
        self._segments.append(record.segments)
        self.count += 1

    def write(self, file: IO[bytes]) -> None:
        """Writes the file, widest dtypes first so that every array is aligned."""
        arrays = {**_flat("label", self._labels, np.int64), **_flat_segments(self._segments)}
        ids = b"".join(self._ids)
        arrays["id_offsets"] = _bounds(map(len, self._ids))
        arrays |= {f"row_offsets.{name}": _bounds(counts) for name, counts in self._num_rows.items()}
        arrays |= {f"means.{name}": np.stack(means) for name, means in self._means.items()}
        arrays["ids"] = np.frombuffer(ids, np.uint8)
        arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
        rows = {f"rows.{name}": (sum(counts), self._widths[name]) for name, counts in self._num_rows.items()}
        file.write(_header(arrays, rows))
        for array in arrays.values():
            file.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").tobytes())
        for part in self._rows.values():
            part.seek(0)
            shutil.copyfileobj(part, file, 2**20)

    def _begin(self, record: YT8MRecord) -> None:
        for name in record.features:
            unnamed = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - the stack closes it
            self._rows[name] = self._stack.enter_context(unnamed)
            self._num_rows[name] = []
            self._widths[name] = 0
        self._means = {name: [] for name in record.means}

    def _check(self, record: YT8MRecord) -> None:
        """Checks the record's modalities and widths against those of the first."""
        place = f"{self._path}: record {self.count} ({record.video_id})"
        expected, names = ({*self._rows, *self._means}, {*record.features, *record.means})
        both = record.features.keys() & record.means.keys()
        if both:
            raise RecordError(
                f"{place}: {', '.join(sorted(both))} is both a frame-level and a video-level feature;"
                " rename one"
            )
        if self._rows.keys() != record.features.keys() or self._means.keys() != record.means.keys():
            raise RecordError(
                f"{place}: modalities {_listed(names)}, but earlier records have {_listed(expected)}; write a"
                " separate shard for each set of modalities"
            )
        for name, rows in record.features.items():
            known = self._widths[name]
            if len(rows) and known and rows.shape[1] != known:
                raise _other_width(place, name, rows.shape[1], known)
            self._widths[name] = rows.shape[1] if len(rows) else known or rows.shape[1]
        for name, mean in record.means.items():
            if self._means[name] and len(mean) != len(self._means[name][0]):
                raise _other_width(place, name, len(mean), len(self._means[name][0]))


class _Tensors:
    """The arrays of an untrusted .safetensors file, as views of the file."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        try:
            with open_regular(path, error=RecordError) as file:
                size = os.fstat(file.fileno()).st_size
                self._entries, start = self._read_header(file, size)
                self._start, self._size = start, size - start
                self._check_overlap()
                self._data: bytes | mmap.mmap = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise RecordError(f"{path}: no such file; correct the path") from None
        except OSError as error:
            raise RecordError(f"{path}: cannot read ({error.strerror or error})") from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def _check_overlap(self) -> None:
        """Rejects arrays that share bytes, so that copies never take more memory than the file size."""
        spans = [entry.get("data_offsets") for entry in self._entries.values() if isinstance(entry, dict)]
        total = sum(max(span[1] - span[0], 0) for span in spans if isinstance(span, list) and _whole(span, 2))
        if total > self._size:
            raise self.damaged(f"{total} bytes of arrays in {self._size}: they overlap, or it is truncated")

    def modalities(self) -> list[str]:
        """Names of the modalities, in file order."""
        return [n.partition(".")[2] for n in self._entries if n.startswith(("rows.", "means."))]

    def get(self, name: str, kind: str, num_dims: int) -> np.ndarray:
        """The array `name`, a read-only view with `num_dims` dimensions and the shape in the header.

        Args:
            name: Name of the array.
            kind: Expected dtype in safetensors' spelling, such as "U8".
            num_dims: Expected number of dimensions.

        Raises:
            RecordError: The array is missing, truncated, or has another dtype or number of dimensions.
        """
        entry = self._entries.get(name)
        if not isinstance(entry, dict):
            raise self.damaged(f"no array {name}")
        shape, span = entry.get("shape"), entry.get("data_offsets")
        if entry.get("dtype") != kind or not _whole(shape, num_dims) or not _whole(span, 2):
            raise self.damaged(f"{name} is not a {num_dims}-dimensional array of {kind}")
        assert isinstance(shape, list)
        assert isinstance(span, list)
        start, end = span
        dtype, count = _TYPES[kind], math.prod(shape)
        if not start <= end <= self._size:  # reading past the end of a mapped file kills the process
            raise self.damaged(f"{name} ends at byte {end} of {self._size}: truncated")
        if end - start != count * dtype.itemsize:
            raise self.damaged(f"{name} has {end - start} bytes for shape {safe_repr(shape)}")
        if not count:
            return np.empty(shape, dtype)
        return np.frombuffer(self._data, dtype, count, self._start + start).reshape(shape)

    def offsets(self, name: str, total: int, count: int | None = None) -> np.ndarray:
        """(n+1,) int64 that rise from 0 to `total`; n must equal `count` if given."""
        bounds = np.array(self.get(name, "I64", 1), np.int64)
        if not len(bounds) or (count is not None and len(bounds) != count + 1):
            raise self.damaged(
                f"{len(bounds)} {name}, expected {'1 or more' if count is None else count + 1}"
            )
        if bounds[0] != 0 or bounds[-1] != total or (bounds[1:] < bounds[:-1]).any():
            raise self.damaged(f"{name} do not rise from 0 to {total}")
        return bounds

    def _read_header(self, file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
        """The parsed header, and the position of the first array."""
        head = file.read(9)
        length = int.from_bytes(head[:8], "little")
        if head[8:] != b"{":
            raise RecordError(
                f"{self._path}: not a .safetensors file; give a shard that tools/tf2pkl.py wrote"
            )
        if not 0 < length <= size - 8:
            raise self.damaged(f"a header of {length} bytes in a file of {size}: truncated")
        if length > _MAX_HEADER:
            raise self.damaged(f"a header of {length} bytes, expected at most {_MAX_HEADER}")
        try:
            header = parse_json(b"{" + file.read(length - 1))
        except ValueError:
            raise self.damaged("its header is not JSON") from None
        about = header.pop("__metadata__", None)
        if not isinstance(about, dict) or about.get("format") != FORMAT["format"]:
            raise RecordError(f"{self._path}: a .safetensors file, but not a shard; give a shard of records")
        if about.get("version") != FORMAT["version"]:
            version = about.get("version")
            seen = escaped(version, limit=20) if isinstance(version, str) else "none"
            raise RecordError(
                f"{self._path}: shard format version {seen}, expected {FORMAT['version']}; update videotag,"
                " or convert its source again"
            )
        return header, 8 + length

    def damaged(self, what: str) -> RecordError:
        """The error for an inconsistent file."""
        return RecordError(f"{self._path}: damaged shard: {escaped(what)}; {_AGAIN}")


def _segment_arrays(tensors: _Tensors, count: int) -> dict[str, np.ndarray]:
    kinds = dict(zip(SEGMENT_FIELDS, _SEGMENT_TYPES, strict=True))
    arrays = {name: tensors.get(name, kind, 1) for name, kind in kinds.items()}
    bounds = [tensors.offsets("segment_offsets", len(array), count) for array in arrays.values()]
    arrays["segment_offsets"] = bounds[0]
    arrays["has_segments"] = tensors.get("has_segments", "U8", 1)
    if len(arrays["has_segments"]) != count:
        raise tensors.damaged(f"{len(arrays['has_segments'])} has_segments of {count} records")
    return arrays


def _flat(name: str, values: Sequence[np.ndarray], dtype: type) -> dict[str, np.ndarray]:
    """Concatenates n arrays (L,): NAMEs (sum L,) and NAME_offsets (n+1,)."""
    flat = np.concatenate([np.empty(0, dtype), *values])
    return {f"{name}s": flat, f"{name}_offsets": _bounds(map(len, values))}


def _header(arrays: Mapping[str, np.ndarray], rows: Mapping[str, tuple[int, int]]) -> bytes:
    """The header of a .safetensors file with `arrays` (...), and uint8 arrays of the shapes in `rows`."""
    kinds = {name: (_NAMES[a.dtype.newbyteorder("<")], a.shape, a.nbytes) for name, a in arrays.items()}
    kinds |= {name: ("U8", shape, math.prod(shape)) for name, shape in rows.items()}
    header: dict[str, Any] = {"__metadata__": FORMAT}
    end = 0
    for name, (kind, shape, num_bytes) in kinds.items():
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + num_bytes]}
        end += num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the arrays to 8 bytes
    return len(text).to_bytes(8, "little") + text


def _flat_segments(segments: Sequence[Segments | None]) -> dict[str, np.ndarray]:
    """The segment arrays of the module docstring by name; empty if no record has segments."""
    if not any(segments):
        return {}
    none = Segments(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    present = [segment_fields(one or none) for one in segments]
    arrays = {name: np.concatenate([fields[name] for fields in present]) for name in SEGMENT_FIELDS}
    arrays["segment_offsets"] = _bounds(len(fields[SEGMENT_FIELDS[0]]) for fields in present)
    arrays["has_segments"] = np.array([one is not None for one in segments], np.uint8)
    return arrays


def _bounds(counts: Iterable[int]) -> np.ndarray:
    """(n+1,) int64 offsets of n consecutive parts of these lengths."""
    return np.cumsum([0, *counts], dtype=np.int64)


def _whole(value: object, count: int) -> bool:
    """Whether a header value is a list of `count` valid sizes."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(one) is int and 0 <= one < _MAX_SIZE for one in value)
    )


def _other_width(place: str, name: str, width: int, expected: int) -> RecordError:
    return RecordError(
        f"{place}: {name} of width {width}, but earlier records have {expected}; write a separate shard for"
        " each width"
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))[:200] or "none"
