"""Weight files as {name: array}: Paddle's .pdparams, PyTorch's .pth, .safetensors, or one of them in a tar.

What a file is, its content decides, not its suffix. Nothing in it is run (see pickles.py). Written are
.pdparams and .safetensors.
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
from videotag.formats.archives import PACKED, ArchiveError, open_tar, open_zip
from videotag.safe_text import escaped, reason_of, safe_repr
from videotag.system.atomic import open_atomic
from videotag.system.regular_file import non_regular_kind, open_regular

_READ_KINDS = "read are Paddle's .pdparams, PyTorch's .pth, .safetensors, and archives of one of them"
_PARAMETER_NAMES = "StructuredToParameterName@@"  # Paddle's map to its inner names; not weights
_BIG_PARAMETERS = (
    "UnpackBigParamInfor@@"  # Paddle's table of arrays cut in pieces, if over 1 GiB in protocol 2 or 3
)
_HEAD_BYTES = 512
_SUFFIXES = (".pdparams", ".safetensors", ".pth")
# An archive of weights unpacks to a little more than its size; what unpacks to both of these is a bomb.
_MAX_RATIO = 50
_FREE_BYTES = 2**22
# Of a .safetensors file: names and shapes of 80,000 arrays; read, they take 30 times as much, 250 MB.
_MAX_SAFE_HEADER = 2**23
_WRITTEN_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64")
# What zipfile and tarfile raise on files made by chance or by an attacker.
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
#: NumPy's dtype by safetensors' name.
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
    """The arrays of a weight file by name, in its order: the top-level dict or, if there, its 'state_dict'.

    Args:
        path: a .pdparams (any pickle of a dict of arrays), a .pth, old or zip, a .safetensors, or a tar (also
            packed) that holds just one of them.

    Returns:
        Arrays in native byte order. They are read-only and may be strided, being views on what was read: copy
        one to change it. bfloat16 becomes float32; Paddle writes it as uint16, so uint16 becomes float32 too.

    Raises:
        WeightsError: missing, damaged, another kind of file, unsafe, or with anything but arrays.
    """
    state = _read_state_dict(path)
    state.pop(_PARAMETER_NAMES, None)
    if _BIG_PARAMETERS in state:
        raise WeightsError(
            f"{path}: arrays cut in pieces, as of pickle protocol 2; paddle.load and paddle.save it again"
        )
    if not state:
        raise WeightsError(f"{path}: holds no arrays; give a file of trained weights")
    made: dict[int, np.ndarray] = {}  # a file may refer to one array again and again
    try:
        for name, value in _named(state):
            if id(value) not in made:
                made[id(value)] = _to_array(name, value)
        return {name: made[id(value)] for name, value in _named(state)}
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {error}") from error


def write_pdparams(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as paddle.load and tools as old as Python 3.4 read them; same arrays, same bytes.

    Raises:
        WeightsError: a value is no array, or of a dtype that Paddle would not read back as it is.
        OutputError: the place cannot be written.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise WeightsError(f"{path}: {name} is of type {type(array).__name__}, expected a NumPy array")
        if array.dtype.name not in _WRITTEN_TYPES:
            raise WeightsError(
                f"{path}: {name} has dtype {array.dtype}, which Paddle does not keep; cast it to float32"
            )
    with open_atomic(path) as file:
        for part in pickles.dump_arrays(arrays):
            file.write(part)


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as safetensors, which PyTorch and others read.

    Raises:
        WeightsError: an array is of a dtype that is not written.
        OutputError: the place cannot be written.
    """
    written = {np.dtype(dtype) for dtype in _SAFE_TYPES.values()}
    for name, array in arrays.items():
        if array.dtype not in written:
            raise WeightsError(f"{path}: {name} has dtype {array.dtype}; cast it to float32")
    with open_atomic(path) as file:
        # Native byte order and C order, which safetensors takes for granted.
        file.write(safetensors.numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}))


def resolve_weights(path: str | Path) -> Path:
    """The weight file that a user means by `path`, the first of these that is there.

    1. The file.
    2. A prefix without suffix: `path`.pdparams, `path`.safetensors, `path`.pth.
    3. A folder. Of the first of these kinds that it holds, there must be one file: *_best.pdparams;
       *.pdparams without _epochN; any *.pdparams; any other.

    Raises:
        WeightsError: nothing there, or a folder with several of a kind.
    """
    path = Path(path)
    tried = [path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES)]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        return _choose_in_folder(path)
    if path.exists():
        raise WeightsError(
            f"{path}: {non_regular_kind(path.stat())}, expected a file of weights; give another"
        )
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
        raise WeightsError(f"{folder}: several weights, {names}; give one of them")
    return chosen[0]


def _read_state_dict(path: str | Path) -> dict[object, object]:
    content = _read_content(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds one {type(content).__name__}, expected a dict of arrays by name")
    return content


def _read_content(path: str | Path) -> object:
    """The object in the file, `torch_files.Tensor` standing for PyTorch's tensors."""
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
        raise WeightsError(f"{path}: {error}, as weights never do; download it again") from error
    except _ARCHIVE_DAMAGE as error:
        raise WeightsError(f"{path}: damaged archive ({reason_of(error)}); {AGAIN}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot read ({error.strerror or error})") from error


def _parse(file: IO[bytes], size: int, path: Path) -> object:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head.startswith(PACKED) or head[257:262] == b"ustar":
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
    """The content of the one weight file in a tar; nothing is unpacked to disk."""
    most = max(_FREE_BYTES, _MAX_RATIO * size)
    with open_tar(file, max_unpacked=most) as (archive, found):
        # What a sparse one claims of its size is holes.
        members = [m for m in found if m.isreg() and not m.issparse() and m.name.endswith(_SUFFIXES)]
        if len(members) != 1:
            names = escaped(", ".join(m.name for m in members[:10])) or "none"
            raise WeightsError(
                f"{path}: an archive with these weights: {names}; expected one; unpack it and give the file"
            )
        name = escaped(members[0].name)
        content = archive.extractfile(members[0])
        assert content is not None  # a regular file
        head = content.read(_HEAD_BYTES)
        content.seek(0)
        if head.startswith(PACKED) or head[257:262] == b"ustar":
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
    """Names what the file is instead, as far as its first bytes tell."""
    start = head.lstrip().lower()
    if not head:
        what = f"empty; {AGAIN}"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        what = "a web page, not weights; open its address in a browser to see why, and download it again"
    elif start.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer; run: git lfs pull"
    elif not head.startswith((b"\x80", b"PK")) and head[8:9] != b"{":
        what = f"no weight file; {_READ_KINDS}"
    else:
        return
    raise WeightsError(f"{path}: {what}")


def _to_array(name: str, value: object) -> np.ndarray:
    """The array of a state dict's value, in native byte order."""
    array = value.array() if isinstance(value, torch_files.Tensor) else value
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(
            f"{safe_repr(name)} is of type {type(value).__name__}, not an array;"
            " save the model's state dict alone, or under 'state_dict'"
        )
    if array.dtype == np.uint16:
        return torch_files.widen_bfloat16(array)
    return array if array.dtype.isnative else _read_only(array.astype(array.dtype.newbyteorder("=")))


def _named(state: dict[object, object]) -> Iterator[tuple[str, object]]:
    """The items of a state dict, whose keys must be text."""
    for name, value in state.items():
        if not isinstance(name, str):
            raise pickle.UnpicklingError(f"an array is named by type {type(name).__name__}, expected text")
        yield name, value


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
