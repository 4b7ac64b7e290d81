"""Weight files as {name: array}: Paddle's .pdparams, PyTorch's .pth, .safetensors, or one of them in a tar.

The content of a file decides its format, not its suffix. Nothing in it is executed (see pickles.py). Weights
are written as .pdparams and .safetensors.
"""

from __future__ import annotations

import lzma
import os
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import safetensors.numpy

from videotag.errors import AGAIN, WeightsError
from videotag.formats import pickles, torch_files
from videotag.formats.archives import COMPRESSED, ArchiveError, open_tar, open_zip
from videotag.safe_text import escaped, reason_of, safe_repr
from videotag.system.atomic import open_atomic
from videotag.system.regular_file import non_regular_kind, open_regular

_READ_KINDS = "expected Paddle's .pdparams, PyTorch's .pth, .safetensors, or an archive of one of them"
_PARAMETER_NAMES = "StructuredToParameterName@@"  # Paddle's map to its internal names, not a weight
_BIG_PARAMETERS = "UnpackBigParamInfor@@"  # Paddle's table of split arrays, over 1 GiB in protocol 2 or 3
_HEAD_BYTES = 512
_SUFFIXES = (".pdparams", ".safetensors", ".pth")
# Archived weights unpack to little more than their size. A file that exceeds both of these limits is a
# decompression bomb.
_MAX_RATIO = 50
_FREE_BYTES = 2**22
# Bytes of a .safetensors header: 80,000 names and shapes; parsed, they take 30 times as much memory, 250 MB.
_MAX_SAFE_HEADER = 2**23
_WRITTEN_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64")
# What zipfile and tarfile raise for damaged or hostile files.
_ARCHIVE_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    LookupError,
    OverflowError,
    ValueError,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
)
#: safetensors dtype -> NumPy dtype.
_SAFE_TYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a weight file by name, in file order; those of its 'state_dict' if it has one.

    Args:
        path: A .pdparams (any pickle of a dict of arrays), a .pth (legacy or zip), a .safetensors, or a tar,
            compressed or not, that holds exactly one of them.

    Returns:
        Name -> array (...) with the shape in the file, in native byte order. Arrays are read-only views of
        the file's bytes and may be strided; copy one to change it. bfloat16 becomes float32, and so does
        uint16, which Paddle uses to store bfloat16.

    Raises:
        WeightsError: The file is missing, damaged, unsafe or of another kind, or does not contain arrays
            only.
    """
    state = _read_state_dict(path)
    state.pop(_PARAMETER_NAMES, None)
    if _BIG_PARAMETERS in state:
        raise WeightsError(
            f"{path}: arrays split by pickle protocol 2 or 3; load and save it again with paddle.load and"
            " paddle.save"
        )
    if not state:
        raise WeightsError(f"{path}: holds no arrays; give a file of trained weights")
    made: dict[int, np.ndarray] = {}  # a file may refer to one array many times
    try:
        for name, value in _named(state):
            if id(value) not in made:
                made[id(value)] = _to_array(name, value)
        return {name: made[id(value)] for name, value in _named(state)}
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {error}") from error


def write_pdparams(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays for paddle.load, readable from Python 3.4 on; equal arrays give equal bytes.

    Args:
        path: The file to write.
        arrays: Name -> array (...) of any shape, with a dtype in _WRITTEN_TYPES.

    Raises:
        WeightsError: A value is not an array, or has a dtype that Paddle does not preserve.
        OutputError: The file cannot be written.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise WeightsError(f"{path}: {name} is of type {type(array).__name__}, expected a NumPy array")
        if array.dtype.name not in _WRITTEN_TYPES:
            raise WeightsError(
                f"{path}: {name} has dtype {array.dtype}, which Paddle does not preserve; cast it to float32"
            )
    with open_atomic(path) as file:
        for part in pickles.dump_arrays(arrays):
            file.write(part)


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as .safetensors, which PyTorch and others read.

    Args:
        path: The file to write.
        arrays: Name -> array (...) of any shape, with a dtype in _SAFE_TYPES.

    Raises:
        WeightsError: An array has another dtype.
        OutputError: The file cannot be written.
    """
    written = {np.dtype(dtype) for dtype in _SAFE_TYPES.values()}
    for name, array in arrays.items():
        if array.dtype not in written:
            raise WeightsError(f"{path}: {name} has dtype {array.dtype}; cast it to float32")
    with open_atomic(path) as file:
        # safetensors assumes C order.
        file.write(safetensors.numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}))


def resolve_weights(path: str | Path) -> Path:
    """The weight file that `path` names, the first match of this list:

    1. The file itself.
    2. The prefix of a file: `path`.pdparams, `path`.safetensors or `path`.pth.
    3. The only file in the folder `path` that matches *_best.pdparams; if there is none, *.pdparams without
       _epochN; then any *.pdparams; then any other weight file.

    Raises:
        WeightsError: Nothing matches, or several files in the folder match the same pattern.
    """
    path = Path(path)
    tried = [path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES)]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        return _choose_in_folder(path)
    if path.exists():
        raise WeightsError(f"{path}: {non_regular_kind(path.stat())}, expected a weight file; give another")
    raise WeightsError(
        f"{path}: no weights; tried {', '.join(map(str, tried))}; give a file, a prefix of one, or a folder"
    )


def _choose_in_folder(folder: Path) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    paddle = [file for file in files if file.suffix == ".pdparams"]
    kinds = [
        [file for file in paddle if file.stem.endswith("_best")],
        [file for file in paddle if not re.search(r"_epoch\d+(_step\d+)?$", file.stem)],
        paddle,
        files,
    ]
    chosen = next((kind for kind in kinds if kind), [])
    if not chosen:
        raise WeightsError(
            f"{folder}: no *.pdparams, *.safetensors or *.pth in this folder; train first, or give another"
        )
    if len(chosen) > 1:
        names = ", ".join(file.name for file in chosen[:10])
        raise WeightsError(f"{folder}: several weight files, {names}; give one of them")
    return chosen[0]


def _read_state_dict(path: str | Path) -> dict[object, object]:
    content = _read_content(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: holds a value of type {type(content).__name__}, expected a dict of arrays"
        )
    return content


def _read_content(path: str | Path) -> object:
    """The object in the file; PyTorch's tensors become `torch_files.Tensor`."""
    path = Path(path)
    try:
        with open_regular(path, error=WeightsError) as file:
            return _parse(file, os.fstat(file.fileno()).st_size, path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; download it, or correct the path") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {error}") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: damaged ({escaped(str(error))}); {AGAIN}") from error
    except ArchiveError as error:
        raise WeightsError(f"{path}: {error}, more than weights ever need; download it again") from error
    except _ARCHIVE_DAMAGE as error:
        raise WeightsError(f"{path}: damaged archive ({reason_of(error)}); {AGAIN}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot read ({error.strerror or error})") from error


def _parse(file: IO[bytes], size: int, path: Path) -> object:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head.startswith(COMPRESSED) or head[257:262] == b"ustar":
        return _parse_member(file, size, path)
    _refuse_other_kinds(head, path)
    if head[8:9] == b"{":
        if int.from_bytes(head[:8], "little") > _MAX_SAFE_HEADER:
            raise pickle.UnpicklingError(f"a header of more than {_MAX_SAFE_HEADER} bytes; download it again")
        return _parse_safetensors(file.read())
    if head.startswith(b"PK"):
        with open_zip(file) as archive:
            return torch_files.load_zip(archive, size)
    reader = pickles.BoundedReader(file, size)
    content = pickles.load(reader)
    is_old_pth = type(content) is int and content == torch_files.MAGIC_NUMBER
    return torch_files.load_legacy(reader) if is_old_pth else content


def _parse_member(file: IO[bytes], size: int, path: Path) -> object:
    """The content of the only weight file in a tar; nothing is unpacked to disk."""
    most = max(_FREE_BYTES, _MAX_RATIO * size)
    with open_tar(file, max_unpacked=most) as (archive, listed):
        # A sparse member can declare any size, as holes.
        members = [m for m in listed if m.isreg() and not m.issparse() and m.name.endswith(_SUFFIXES)]
        if len(members) != 1:
            names = escaped(", ".join(m.name for m in members[:10])) or "none"
            raise WeightsError(
                f"{path}: an archive with weight files {names}, expected one; unpack it and give the file"
            )
        name = escaped(members[0].name)
        content = archive.extractfile(members[0])
        assert content is not None  # a regular file
        head = content.read(_HEAD_BYTES)
        content.seek(0)
        if head.startswith(COMPRESSED) or head[257:262] == b"ustar":
            raise WeightsError(f"{path}: an archive within an archive; unpack it and give the file inside")
        return _parse(content, members[0].size, path / name)


def _parse_safetensors(data: bytes) -> dict[str, np.ndarray]:
    state = {}
    for name, tensor in safetensors.deserialize(data):  # type: ignore[no-untyped-call]
        kind, shape = tensor["dtype"], tensor["shape"]
        if kind == "BF16":
            array = torch_files.widen_bfloat16(np.frombuffer(tensor["data"], "<u2"))
        elif kind in _SAFE_TYPES:
            array = np.frombuffer(tensor["data"], _SAFE_TYPES[kind])
        else:
            raise pickle.UnpicklingError(f"{safe_repr(name)} has dtype {kind}; save it as float32")
        state[name] = array.reshape(shape)
    return state


def _refuse_other_kinds(head: bytes, path: Path) -> None:
    """Checks the first bytes of a file.

    Raises:
        WeightsError: They are those of another kind of file, which the message names.
    """
    start = head.lstrip().lower()
    if not head:
        what = f"empty; {AGAIN}"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        what = "a web page, not weights; open its address in a browser to see why, and download it again"
    elif start.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer; run: git lfs pull"
    elif not head.startswith((b"\x80", b"PK")) and head[8:9] != b"{":
        what = f"not a weight file; {_READ_KINDS}"
    else:
        return
    raise WeightsError(f"{path}: {what}")


def _to_array(name: str, value: object) -> np.ndarray:
    """A value of a state dict as an array (...) of the same shape, in native byte order."""
    array = value.array() if isinstance(value, torch_files.Tensor) else value
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(
            f"{safe_repr(name)} is of type {type(value).__name__}, not an array;"
            " save only the model's state dict, or put it under 'state_dict'"
        )
    if array.dtype == np.uint16:
        return torch_files.widen_bfloat16(array)
    return array if array.dtype.isnative else _read_only(array.astype(array.dtype.newbyteorder("=")))


def _named(state: dict[object, object]) -> Iterator[tuple[str, object]]:
    """Yields the items of a state dict; its keys must be text."""
    for name, value in state.items():
        if not isinstance(name, str):
            raise pickle.UnpicklingError(f"an array name of type {type(name).__name__}, expected text")
        yield name, value


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
