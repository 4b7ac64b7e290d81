"""Paddle without its import warning, and PyTorch files made byte by byte, as no PyTorch is installed."""

import importlib
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


@pytest.fixture(scope="session")
def paddle() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No ccache found"
        return importlib.import_module("paddle")


def fragment(value):
    """A plain value as it stands inside a pickle."""
    return pickle.dumps(value, protocol=2)[2:-1]


@dataclass
class PthTensor:
    """A tensor as a .pth describes it: part of the storage `key`."""

    key: str
    offset: int
    size: tuple
    stride: tuple
    storage_type: str = "FloatStorage"

    def pickled(self, numel, *, view):
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n(("
            + fragment("storage")
            + f"ctorch\n{self.storage_type}\n".encode()
            + fragment(self.key)
            + fragment("cpu")
            + fragment(numel)
            + view
            + b"tQ"
            + fragment(self.offset)
            + fragment(self.size)
            + fragment(self.stride)
            + b"\x89ccollections\nOrderedDict\n)RtR"
        )


class PthWriter:
    """Writes {name: PthTensor} over {key: stored values} in the old layout or as a zip."""

    Tensor = PthTensor

    def object_pickle(self, tensors, storages, view):
        items = b"".join(
            fragment(name) + tensor.pickled(len(storages[tensor.key]), view=view)
            for name, tensor in tensors.items()
        )
        metadata = b"}" + fragment("_metadata") + b"}s"  # as PyTorch hangs on every state dict
        return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u" + metadata + b"b."

    def old(self, path, tensors, storages, *, object_pickle=None, magic=MAGIC_NUMBER, little_endian=True):
        head = [magic, 1001, {"protocol_version": 1001, "little_endian": little_endian}]
        data = b"".join(len(values).to_bytes(8, "little") + values.tobytes() for values in storages.values())
        path.write_bytes(
            b"".join(pickle.dumps(part, protocol=2) for part in head)
            + (object_pickle or self.object_pickle(tensors, storages, b"N"))
            + pickle.dumps(list(storages), protocol=2)
            + data
        )
        return path

    def zip(
        self,
        path,
        tensors,
        storages,
        *,
        object_pickle=None,
        compression=zipfile.ZIP_STORED,
        byteorder=b"little",
    ):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", object_pickle or self.object_pickle(tensors, storages, b""))
            archive.writestr("archive/byteorder", byteorder)
            for key, values in storages.items():
                archive.writestr(f"archive/data/{key}", values.tobytes())
        return path


@pytest.fixture(scope="session")
def pth():
    return PthWriter()


@pytest.fixture(scope="session")
def pth_example():
    """Tensors that share one storage, with offset and strides, and their arrays."""
    base = np.arange(12, dtype="<f4")
    tensors = {
        "whole": PthTensor("0", 0, (3, 4), (4, 1)),
        "transposed": PthTensor("0", 0, (4, 3), (1, 4)),
        "part": PthTensor("0", 5, (2, 2), (4, 1)),
        "count": PthTensor("1", 0, (), (), "LongStorage"),
        "none": PthTensor("0", 0, (0, 4), (4, 1)),
    }
    grid = base.reshape(3, 4)
    arrays = {
        "whole": grid,
        "transposed": grid.T,
        "part": grid[1:, 1:3],
        "count": np.array(7, dtype="<i8"),
        "none": np.zeros((0, 4), "<f4"),
    }
    return tensors, {"0": base, "1": np.array([7], dtype="<i8")}, arrays
