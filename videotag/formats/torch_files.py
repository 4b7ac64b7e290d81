"""Reads PyTorch's .pth files without PyTorch: the legacy format (pickles, then the data) and the zip format.

Both hold a pickle in which a tensor is a call `_rebuild_tensor_v2(storage, offset, size, stride, ...)` and a
storage is a persistent id. The values follow the pickles, or lie in the zip under the storage's key. Tensors
may share a storage. Layouts: torch/serialization.py, `_legacy_load` and `_load`.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from videotag.formats import pickles
from videotag.safe_text import safe_repr

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of a legacy file
_PROTOCOL_VERSION = 1001
_BFLOAT16 = "bfloat16"
_STORAGE_TYPES = {  # storage class -> dtype of its values
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


@dataclass
class Storage:
    """A 1-D array of values that tensors are views of."""

    dtype: str  # a NumPy dtype, or bfloat16
    numel: int
    values: np.ndarray | None = None  # (numel,), set by `fill` once the data is read

    @property
    def nbytes(self) -> int:
        return self.numel * (2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize)

    def fill(self, raw: bytes) -> None:
        """Sets the values from `nbytes` little-endian bytes; bfloat16 becomes float32.

        Raises:
            pickle.UnpicklingError: `raw` has another length.
        """
        if len(raw) != self.nbytes:
            raise pickle.UnpicklingError(
                f"a storage of {len(raw)} bytes, expected {self.nbytes}; download it again"
            )
        if self.dtype == _BFLOAT16:
            self.values = widen_bfloat16(np.frombuffer(raw, "<u2"))
        else:
            self.values = np.frombuffer(raw, self.dtype)  # read-only, as bytes are


@dataclass
class Tensor:
    """A strided view of a storage, which may not be filled yet; offset and stride count elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A read-only view (...) of the storage, with the shape `size`.

        Raises:
            pickle.UnpicklingError: The view exceeds the storage, or the storage has no data.
        """
        values = self.storage.values
        if values is None:
            raise pickle.UnpicklingError("a tensor without data; download the file again")
        numbers = (self.offset, *self.size, *self.stride)
        if (
            len(self.size) != len(self.stride)
            or len(self.size) > 32
            or any(type(n) is not int for n in numbers)
        ):
            raise pickle.UnpicklingError("a tensor of invalid shape; download the file again")
        steps = sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        end = self.offset + steps + 1 if math.prod(self.size) else self.offset
        if min(numbers) < 0 or end > len(values) or math.prod(self.size) > len(values):
            raise pickle.UnpicklingError(
                f"a tensor of size {safe_repr(self.size)} outside its {len(values)} stored values"
            )
        strides = tuple(stride * values.itemsize for stride in self.stride)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.size, strides, writeable=False)


def load_legacy(reader: pickles.BoundedReader) -> object:
    """Reads a legacy .pth whose magic number has been read; tensors become `Tensor`.

    Raises:
        pickle.UnpicklingError: The file is truncated, damaged, unsafe, or of an unsupported variant.
    """
    version, system = pickles.load(reader), pickles.load(reader)
    if (
        version != _PROTOCOL_VERSION
        or not isinstance(system, dict)
        or system.get("little_endian") is not True
    ):
        raise pickle.UnpicklingError(
            "an unsupported variant of .pth; load and save it again with a current PyTorch"
        )
    storages: dict[str, Storage] = {}
    content = pickles.load(reader, names=_TORCH_NAMES, persistent=_storage_maker(storages))
    keys = pickles.load(reader)
    if not isinstance(keys, list):
        raise pickle.UnpicklingError("damaged: the list of storages is missing; download it again")
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(reader.read(8), "little") != storage.numel:
            raise pickle.UnpicklingError("damaged: a storage that no tensor uses; download it again")
        storage.fill(reader.read(storage.nbytes))
    return content


def load_zip(archive: zipfile.ZipFile, size: int) -> object:
    """Reads a zip .pth of `size` bytes; tensors become `Tensor`.

    Raises:
        pickle.UnpicklingError: The file is damaged, unsafe, or of an unsupported variant.
    """
    members = {info.filename: info for info in archive.infolist()}
    roots = [
        name.removesuffix("data.pkl")
        for name in members
        if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(roots) != 1:
        raise pickle.UnpicklingError(
            "a zip without data.pkl, so not PyTorch weights; unpack it if weights are inside"
        )
    root = roots[0]
    # Uncompressed members that do not overlap are never larger than the file.
    if (
        any(info.compress_type for info in members.values())
        or sum(max(i.file_size, i.compress_size) for i in members.values()) > size
    ):
        raise pickle.UnpicklingError(
            "a zip whose members are compressed or overlap; save it again with PyTorch"
        )
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise pickle.UnpicklingError("written big-endian; save it again on a little-endian machine")
    storages: dict[str, Storage] = {}
    with archive.open(f"{root}data.pkl") as file:
        reader = pickles.BoundedReader(file, members[f"{root}data.pkl"].file_size)
        content = pickles.load(reader, names=_TORCH_NAMES, persistent=_storage_maker(storages))
    for key, storage in storages.items():
        if f"{root}data/{key}" not in members:
            raise pickle.UnpicklingError("damaged: a storage is missing; download it again")
        storage.fill(archive.read(f"{root}data/{key}"))
    return content


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Exact float32 values of bfloat16 bits.

    Args:
        bits: (...) uint16, each the upper half of a float32.

    Returns:
        (...) float32 of the same shape, read-only.
    """
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    values.flags.writeable = False
    return values


def _storage_maker(storages: dict[str, Storage]) -> Callable[[object], Storage]:
    """A function that maps a persistent id to its storage, and collects the storages by key."""

    def make(persistent_id: object) -> Storage:
        if not isinstance(persistent_id, tuple) or persistent_id[0] != "storage":
            raise ValueError("a persistent id that is not a storage")
        _, storage_type, key, _device, numel, *view = persistent_id
        if view not in ([], [None]):
            raise pickle.UnpicklingError(
                "a storage view, as in PyTorch before 0.4; save it again with a current PyTorch"
            )
        if not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise ValueError("a storage without key or size")
        dtype = _STORAGE_TYPES[storage_type.name.removeprefix("torch.")]
        storage = storages.setdefault(key, Storage(dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise ValueError("a storage with two dtypes or sizes")
        return storage

    return make


def _rebuild_tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without storage or shape")
    return Tensor(storage, offset, size, stride)


def _rebuild_parameter(tensor: Tensor, *_: object) -> Tensor:
    return tensor


_TORCH_NAMES: pickles.Names = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **{f"torch.{name}": None for name in _STORAGE_TYPES},
}
