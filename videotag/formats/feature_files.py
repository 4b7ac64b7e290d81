"""Features of a video: `.npy` for one modality, `.npz` with one array per modality for several.

VideoTag's file formats. Differs: nothing is unpickled, sizes are checked before any read, every numeric dtype
becomes float32, and the content of a file decides its kind, not its suffix.
Shapes: T steps (T >= 1), D feature width.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from videotag.errors import DamagedFeaturesError, FeatureFileError, FeatureWidthError, ShapeError
from videotag.formats.archives import open_zip
from videotag.formats.yt8m_records import dequantize
from videotag.safe_text import escaped, reason_of, safe_repr
from videotag.system.atomic import open_atomic
from videotag.system.json_text import parse_json
from videotag.system.regular_file import open_regular

#: Ends the name of a list's record index, which is not a feature file.
INDEX_SUFFIX = ".index.npz"
FEATURE_SUFFIXES = (".npy", ".npz")
_NPY_MAGIC = b"\x93NUMPY"
_HEADER_SIZE_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # version -> width of the length field
_MAX_HEADER = 2**16  # bytes; NumPy writes 118 for an array of numbers
_ZIP_MAGIC = b"PK"
QUANTIZED = "quantized"  # stamp key: whether values are quantized as in YouTube-8M
_NOT_OF_EXTRACTOR = ("input", "warning", "runtime")  # stamp keys that say nothing about the extractor
_STAMP_MARK = b"\nvideotag stamp: "
_MAX_STAMP = 2**16  # bytes
# A compressed array may unpack to this many bytes at any ratio: 8,192 steps of 2,048 bytes, up to 256 MB as
# float32. A larger one must stay below _MAX_RATIO, or be stored uncompressed.
_FREE_BYTES = 2**26
_MAX_RATIO = 20  # unpacked bytes per compressed byte
_DAMAGED = "damaged or truncated; extract it again"
# The header is a Python literal, searched for its three values: NumPy's ast.literal_eval can overflow the
# stack on a hostile header.
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")
_FORTRAN_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_MAX_NAMES = 8  # maximum number of array names in a message
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d,L\s]*)\)""")  # Python 2 writes 300L
_NUMBER_TYPE = re.compile(r"[<>|=]?([iu][1248]|f[248])")
# What zipfile and zlib raise for damaged or hostile files.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)

_Result = TypeVar("_Result")
#: (file positioned at the .npy, its size in bytes, name for messages, D or None) -> result
_Reader: TypeAlias = Callable[[IO[bytes], int, str, int | None], _Result]


class _Header(NamedTuple):
    """The header of a .npy array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]  # numeric


def read_features(path: str | Path, *, dim: int | None = None) -> np.ndarray:
    """Features of one modality, read from a .npy file.

    Args:
        path: The .npy file.
        dim: Expected width D; None accepts any.

    Returns:
        (T, D) float32, writable; values that `videotag features` quantized are dequantized.

    Raises:
        FeatureFileError: The file is missing, damaged, pickled, not numeric, not (T, D) with T and D >= 1, or
            holds NaN or infinite values.
    """
    with _open_npy(path) as (file, size):
        return _read_array(file, size, str(path), dim)


def read_modalities(path: str | Path, dims: Mapping[str, int | None]) -> dict[str, np.ndarray]:
    """Features of every modality in `dims`, in that order.

    Args:
        path: An .npz with one array per modality, under the modality's name; other arrays are ignored. For a
            single modality, a .npy works too.
        dims: Modality -> expected width D; None accepts any.

    Returns:
        Modality -> (T, D) float32; T may differ between modalities.

    Raises:
        FeatureFileError: A modality is missing, or `read_features` would refuse the array.
    """
    return _for_modalities(path, dims, _read_array)


def read_shapes_and_stamp(
    path: str | Path, dims: Mapping[str, int | None]
) -> tuple[dict[str, tuple[int, int]], dict[str, Any] | None]:
    """Shapes (T, D) by modality, and the stamp or None. Reads only headers, so checking long lists is fast.

    Args:
        path: An .npz or .npy file, see `read_modalities`.
        dims: Modality -> expected width D; None accepts any.

    Raises:
        FeatureFileError: `read_modalities` would refuse the file (values are not checked), or the stamp is
            damaged.
    """
    headers = _for_modalities(path, dims, _read_shape_and_stamp)
    shapes = {name: shape for name, (shape, _) in headers.items()}
    return shapes, next((stamp for _, stamp in headers.values() if stamp is not None), None)


def read_vectors(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """1-D arrays (D,) of an uncompressed .npz by name, in their stored numeric dtypes; read-only.

    Raises:
        FeatureFileError: The file is missing or damaged, or an array is missing, not numeric or not 1-D.
    """

    def read(file: IO[bytes], size: int, place: str, _: int | None) -> np.ndarray:
        header = _read_header(file, size, place)
        if len(header.shape) != 1:
            raise FeatureFileError(f"{place}: shape {safe_repr(header.shape)}, expected one dimension")
        return np.frombuffer(file.read(math.prod(header.shape) * header.dtype.itemsize), header.dtype)

    return _for_modalities(path, dict.fromkeys(names), read)


def list_modalities(path: str | Path) -> list[str]:
    """Names of the arrays of an .npz, in file order; empty for a .npy, whose one array has no name.

    Raises:
        FeatureFileError: The file is missing or a damaged .npz.
    """
    with _open(path) as (file, _):
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            return []
        with open_zip(file) as archive:
            return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def write_features(path: str | Path, array: np.ndarray, *, stamp: Mapping[str, Any] | None = None) -> None:
    """Writes features as .npy, atomically, in the dtype of `array`.

    Args:
        path: The file to write.
        array: (T, D) numbers, T >= 1.
        stamp: JSON-serializable description of what made the features. It follows the values, where
            numpy.load ignores it, so that one file holds both.

    Raises:
        ShapeError: The array is not 2-D, or has no rows.
        OutputError: The file cannot be written.
    """
    if array.ndim != 2 or not len(array):
        raise ShapeError(f"{path}: features of shape {array.shape}, expected (T, D) with T of at least 1")
    data = io.BytesIO()  # np.save to a file hides the reason of a failed write
    np.save(data, array, allow_pickle=False)
    if stamp is not None:
        data.write(_STAMP_MARK + json.dumps(stamp, sort_keys=True).encode())
    with open_atomic(path) as file:
        file.write(data.getbuffer())


def write_modalities(path: str | Path, features: Mapping[str, np.ndarray]) -> None:
    """Writes features as .npz with one array per modality, atomically; equal features give equal bytes.

    Args:
        path: The file to write.
        features: Modality -> (T, D) numbers, T >= 1; T may differ between modalities.

    Raises:
        ShapeError: An array is not 2-D or has no rows, or a name has characters other than letters, digits,
            `_`, `.` and `-`.
        OutputError: The file cannot be written.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # numpy.savez cannot hold a modality called `file`
        for name, array in features.items():
            if not re.fullmatch(r"[\w.-]+", name):
                raise ShapeError(f"{path}: modality {name!r}, expected letters, digits, _ . and -; rename it")
            if array.ndim != 2 or not len(array):
                raise ShapeError(
                    f"{path}[{escaped(name)}]: features of shape {array.shape}, "
                    "expected (T, D) with T of at least 1"
                )
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    with open_atomic(path) as file:
        file.write(data.getbuffer())


def read_stamp(path: str | Path) -> dict[str, Any] | None:
    """The stamp of a .npy file; None if it has none.

    Raises:
        DamagedFeaturesError: The file is damaged or truncated.
        FeatureFileError: The file is missing or not a .npy of numbers.
    """
    with _open_npy(path) as (file, size):
        return _read_stamp(file, size, _read_header(file, size, str(path)))


def list_features(folder: str | Path) -> list[str]:
    """Paths of the feature files below `folder`, sorted, without record indexes; empty if there are none."""
    paths = (str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in FEATURE_SUFFIXES)
    return sorted(path for path in paths if not path.endswith(INDEX_SUFFIX))


def extractor_of(stamp: Mapping[str, Any]) -> str:
    """The extractor part of a stamp, as JSON; equal texts mean equal extractors."""
    made_by = {key: value for key, value in stamp.items() if key not in _NOT_OF_EXTRACTOR}
    if made_by.get("precision") == "f32":
        del made_by["precision"]  # older stamps do not record it and mean f32
    return json.dumps(made_by, sort_keys=True)


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[IO[bytes], int]]:
    """The open file and its size in bytes; errors of the block on damaged files become FeatureFileError."""
    try:
        with open_regular(path, error=FeatureFileError) as file:
            yield file, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise FeatureFileError(
            f"{path}: no such file; extract the features first, or correct the path"
        ) from None
    except OSError as error:
        raise FeatureFileError(f"{path}: cannot read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise DamagedFeaturesError(f"{path}: {_DAMAGED} ({reason_of(error)})") from error


@contextmanager
def _open_npy(path: str | Path) -> Iterator[tuple[IO[bytes], int]]:
    """The open .npy and its size in bytes; refuses an .npz."""
    with _open(path) as (file, size):
        start = file.read(len(_NPY_MAGIC))
        if start.startswith(_ZIP_MAGIC):
            raise FeatureFileError(
                f"{path}: an .npz with named arrays, expected a .npy; list the model's modalities"
            )
        file.seek(0)
        yield file, size


def _for_modalities(
    path: str | Path, dims: Mapping[str, int | None], read: _Reader[_Result]
) -> dict[str, _Result]:
    """Modality -> result of `read` on its array."""
    with _open(path) as (file, size):
        is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        file.seek(0)
        if is_zip:
            with open_zip(file) as archive:
                return _for_members(archive, size, str(path), dims, read)
        if len(dims) != 1:
            wanted = ", ".join(dims)
            raise FeatureFileError(
                f"{path}: a .npy with one array, expected {wanted}; write an .npz with an array of each name"
            )
        return {name: read(file, size, str(path), dim) for name, dim in dims.items()}


def _for_members(
    archive: zipfile.ZipFile,
    size: int,
    path: str,
    dims: Mapping[str, int | None],
    read: _Reader[_Result],
) -> dict[str, _Result]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [name for name in dims if name not in members]
    if missing:
        names = [*list(members)[:_MAX_NAMES], *(["..."] if len(members) > _MAX_NAMES else [])]
        there = escaped(", ".join(names), limit=200) or "nothing"
        raise FeatureFileError(
            f"{path}: no array {', '.join(missing)}; found {there};"
            " extract it, or correct the model's feature_names"
        )
    results = {}
    for name, dim in dims.items():
        info = members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FeatureFileError(
                f"{path}[{escaped(name)}]: unsupported compression; save it with numpy.savez"
            )
        if info.compress_size > size:
            raise DamagedFeaturesError(
                f"{path}[{escaped(name)}]: {_DAMAGED}: {info.compress_size} bytes in a file of {size}"
            )
        if info.file_size > max(_FREE_BYTES, _MAX_RATIO * info.compress_size):
            raise FeatureFileError(
                f"{path}[{escaped(name)}]: unpacks from {info.compress_size} to {info.file_size} bytes,"
                " more than features ever do; extract it again, or save it uncompressed with numpy.savez"
            )
        with archive.open(info) as member:
            results[name] = read(member, info.file_size, f"{path}[{escaped(name)}]", dim)
    return results


def _read_array(file: IO[bytes], size: int, place: str, dim: int | None) -> np.ndarray:
    """(T, D) float32 from an open .npy of `size` bytes."""
    header = _read_header(file, size, place)
    shape = _checked_shape(header, place, dim)
    start = file.tell()
    data = file.read(math.prod(shape) * header.dtype.itemsize)
    array = np.frombuffer(data, header.dtype).reshape(shape, order="F" if header.fortran_order else "C")
    if array.dtype == np.uint8:  # plain bytes, unless this program has quantized them
        file.seek(start)
        stamp = _read_stamp(file, size, header)
        if stamp is not None and stamp.get(QUANTIZED) is True:
            return dequantize(array)
    with np.errstate(over="ignore"):  # float64 that overflows float32 becomes infinite, counted below
        features = array.astype(np.float32, order="C")
    bad_rows = int((~np.isfinite(features)).any(axis=1).sum())
    if bad_rows:
        raise FeatureFileError(
            f"{place}: {bad_rows} of {len(features)} rows hold NaN or infinite values; extract it again"
        )
    return features


def _read_header(file: IO[bytes], size: int, place: str) -> _Header:
    """Reads the header, and checks the declared size against the file before anything is allocated."""
    start = file.read(len(_NPY_MAGIC) + 2)
    if start[: len(_NPY_MAGIC)] != _NPY_MAGIC:
        what = "empty" if not start else "not a .npy file"
        raise FeatureFileError(f"{place}: {what}; extract the features with tsn_extractor.py or numpy.save")
    size_bytes = _HEADER_SIZE_BYTES.get(start[-2:])
    if size_bytes is None:
        raise FeatureFileError(
            f"{place}: .npy version {list(start[-2:])}, expected [1, 0], [2, 0] or [3, 0]; save it with"
            " numpy.save"
        )
    header_size = int.from_bytes(file.read(size_bytes), "little")
    if header_size >= _MAX_HEADER:
        raise FeatureFileError(
            f"{place}: a header of {header_size} bytes, expected less than {_MAX_HEADER}; save an array of"
            " numbers with numpy.save"
        )
    # Version 3 is UTF-8, which matters only for structured dtypes, and these are refused.
    header = _parse_header(file.read(header_size).decode("latin1"), place)
    expected = math.prod(header.shape) * header.dtype.itemsize
    num_bytes = size - file.tell()
    if num_bytes < expected:  # a stamp may follow
        raise DamagedFeaturesError(
            f"{place}: {_DAMAGED}: {num_bytes} bytes of values, expected {safe_repr(expected)} for shape"
            f" {safe_repr(header.shape)}"
        )
    return header


def _read_stamp(file: IO[bytes], size: int, header: _Header) -> dict[str, Any] | None:
    """The stamp after the values of a file positioned at the first value; ValueError if it is damaged."""
    num_bytes = math.prod(header.shape) * header.dtype.itemsize
    if size - file.tell() < num_bytes + len(_STAMP_MARK):
        return None
    file.seek(num_bytes, io.SEEK_CUR)
    if file.read(len(_STAMP_MARK)) != _STAMP_MARK:
        return None
    stamp = parse_json(file.read(_MAX_STAMP))
    if not isinstance(stamp, dict):
        raise ValueError("its stamp is not a JSON object")
    return stamp


def _read_shape_and_stamp(
    file: IO[bytes], size: int, place: str, dim: int | None
) -> tuple[tuple[int, int], dict[str, Any] | None]:
    header = _read_header(file, size, place)
    return _checked_shape(header, place, dim), _read_stamp(file, size, header)


def _parse_header(text: str, place: str) -> _Header:
    """Shape, order and dtype from the text of a header."""
    descr, fortran_order, shape = _DESCR.search(text), _FORTRAN_ORDER.search(text), _SHAPE.search(text)
    if descr and descr[1].lstrip("|") == "O":
        raise FeatureFileError(
            f"{place}: pickled; not read because pickles can run code; save a number array with numpy.save"
        )
    if descr and not _NUMBER_TYPE.fullmatch(descr[1]):
        raise FeatureFileError(
            f"{place}: dtype {safe_repr(descr[1][:40])}, expected numbers such as '<f4'; extract it again"
        )
    if not descr or not fortran_order or not shape:
        raise DamagedFeaturesError(f"{place}: {_DAMAGED}: the header does not describe an array of numbers")
    sizes = tuple(int(size.strip().rstrip("L")) for size in shape[1].split(",") if size.strip())
    return _Header(sizes, fortran_order[1] == "True", np.dtype(descr[1]))


def _checked_shape(header: _Header, place: str, dim: int | None) -> tuple[int, int]:
    """(T, D) from a header, after checking that it describes valid features."""
    shape, expected = header.shape, f"(T, {'D' if dim is None else dim})"
    if len(shape) != 2:
        raise FeatureFileError(
            f"{place}: shape {safe_repr(shape)}, expected {expected}; one row per frame, one file per video"
        )
    if shape[0] < 1 or shape[1] < 1:
        raise FeatureFileError(
            f"{place}: shape {safe_repr(shape)}, expected {expected} with at least one row; extract it again"
        )
    if dim is not None and shape[1] != dim:
        error = FeatureWidthError(
            f"{place}: shape {safe_repr(shape)}, expected {expected}; was it extracted with another backbone?"
        )
        error.widths = shape[1], dim
        raise error
    return shape[0], shape[1]
