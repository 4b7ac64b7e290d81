import pickle
import zipfile

import numpy as np
import pytest

from videotag.errors import WeightsError
from videotag.formats.weight_files import read_weights

LAYOUTS = ["old", "zip"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_honour_offset_stride_and_shared_storage(tmp_path, pth, pth_example, layout):
    tensors, storages, arrays = pth_example
    weights = read_weights(getattr(pth, layout)(tmp_path / "a.bin", tensors, storages))
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        assert weights[name].dtype == array.dtype
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("storage_type", "dtype"),
    [
        ("DoubleStorage", "f8"),
        ("FloatStorage", "f4"),
        ("HalfStorage", "f2"),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_every_storage_type_has_its_dtype(tmp_path, pth, layout, storage_type, dtype):
    values = np.array([0, 1, 1], dtype)
    tensors = {"a": pth.Tensor("0", 0, (3,), (1,), storage_type)}
    array = read_weights(getattr(pth, layout)(tmp_path / "a.pth", tensors, {"0": values}))["a"]
    assert array.dtype == values.dtype
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_becomes_float32(tmp_path, pth, layout):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u2")  # 1, -2, infinity, the smallest: 2**-133
    tensors = {"a": pth.Tensor("0", 0, (4,), (1,), "BFloat16Storage")}
    array = read_weights(getattr(pth, layout)(tmp_path / "a.pth", tensors, {"0": bits}))["a"]
    np.testing.assert_array_equal(array, np.array([1, -2, np.inf, 2.0**-133], np.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("offset", "size", "stride", "message"),
    [
        (0, (3, 5), (4, 1), r"a tensor of size \(3, 5\) outside its 12 stored values"),
        (1, (3, 4), (4, 1), "outside its 12 stored values"),
        (-1, (2,), (1,), "outside its 12 stored values"),
        (11, (2,), (-1,), "outside its 12 stored values"),
        (0, (10**6, 10**6), (0, 0), "outside its 12 stored values"),
        (0, (10**30,), (1,), "outside its 12 stored values"),
        (0, (3, 4), (4,), "a tensor of invalid shape"),
        (0, (1,) * 40, (1,) * 40, "a tensor of invalid shape"),
        (0, (3.0,), (1,), "a tensor of invalid shape"),
        ("0", (3,), (1,), "a tensor of invalid shape"),
        (0, 3, (1,), "a tensor without storage or shape"),
    ],
)
def test_tensor_beyond_its_storage_is_an_error(tmp_path, pth, layout, offset, size, stride, message):
    path = getattr(pth, layout)(
        tmp_path / "a.pth", {"a": pth.Tensor("0", offset, size, stride)}, {"0": np.zeros(12, "<f4")}
    )
    with pytest.raises(WeightsError, match=rf"a\.pth: .*{message}"):
        read_weights(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_module_and_attack_are_refused(tmp_path, pth, layout):
    for name in (
        "torch.nn.modules.container\nSequential",
        "os\nsystem",
        "torch\nload",
        "torch._utils\n_rebuild_qtensor",
    ):
        path = getattr(pth, layout)(
            tmp_path / "a.pth", {}, {}, object_pickle=b"\x80\x02c" + name.encode() + b"\n)R."
        )
        with pytest.raises(
            WeightsError, match="not read because pickles can run code; save it as a plain dict"
        ):
            read_weights(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_state_dict_may_be_nested_under_its_name_alone(tmp_path, pth, pth_example, layout, key):
    tensors, storages, arrays = pth_example
    inner = pth.object_pickle(tensors, storages, b"N" if layout == "old" else b"")[2:-1]
    nested = b"\x80\x02}" + pickle.dumps(key, protocol=2)[2:-1] + inner + b"s."
    path = getattr(pth, layout)(tmp_path / "a.pth", tensors, storages, object_pickle=nested)
    if key == "state_dict":
        assert list(read_weights(path)) == list(arrays)
    else:
        with pytest.raises(
            WeightsError, match="'model' is of type dict, not an array; save only the model's state dict"
        ):
            read_weights(path)


def test_old_file_with_too_little_data_is_an_error(tmp_path, pth, pth_example):
    tensors, storages, _ = pth_example
    path = pth.old(tmp_path / "a.pth", tensors, storages)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        WeightsError, match=r"a\.pth: truncated: the file ends too early; copy or download it again"
    ):
        read_weights(path)


def test_old_file_of_another_variant_is_an_error(tmp_path, pth, pth_example):
    path = pth.old(tmp_path / "a.pth", *pth_example[:2], little_endian=False)
    with pytest.raises(
        WeightsError, match=r"an unsupported variant of \.pth; load and save it again with a current"
    ):
        read_weights(path)


def test_old_file_whose_storages_differ_from_their_list_is_an_error(tmp_path, pth, pth_example):
    tensors, storages, _ = pth_example
    object_pickle = pth.object_pickle(tensors, storages, b"N")
    path = pth.old(tmp_path / "a.pth", tensors, {"0": storages["0"]}, object_pickle=object_pickle)
    with pytest.raises(WeightsError, match="a tensor without data; download the file again"):
        read_weights(path)
    path = pth.old(tmp_path / "a.pth", tensors, {**storages, "2": storages["0"]}, object_pickle=object_pickle)
    with pytest.raises(WeightsError, match="damaged: a storage that no tensor uses"):
        read_weights(path)


def test_storage_view_of_old_pytorch_is_an_error(tmp_path, pth, pth_example):
    tensors, storages, _ = pth_example
    view = b"(X\x01\x00\x00\x000K\x00K\x0ct"
    path = pth.old(
        tmp_path / "a.pth", tensors, storages, object_pickle=pth.object_pickle(tensors, storages, view)
    )
    with pytest.raises(WeightsError, match=r"a storage view, as in PyTorch before 0\.4; save it again"):
        read_weights(path)


def test_storage_of_two_kinds_is_an_error(tmp_path, pth):
    tensors = {"a": pth.Tensor("0", 0, (2,), (1,)), "b": pth.Tensor("0", 0, (2,), (1,), "IntStorage")}
    with pytest.raises(WeightsError, match="a storage with two dtypes or sizes"):
        read_weights(pth.zip(tmp_path / "a.pth", tensors, {"0": np.zeros(2, "<f4")}))


def test_compressed_zip_is_an_error(tmp_path, pth, pth_example):
    path = pth.zip(tmp_path / "a.pth", *pth_example[:2], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="a zip whose members are compressed or overlap; save it again"):
        read_weights(path)


def test_big_endian_zip_is_an_error(tmp_path, pth, pth_example):
    path = pth.zip(tmp_path / "a.pth", *pth_example[:2], byteorder=b"big")
    with pytest.raises(WeightsError, match="written big-endian; save it again on a little-endian machine"):
        read_weights(path)


def test_zip_of_something_else_is_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with pytest.raises(WeightsError, match=r"a zip without data\.pkl, so not PyTorch weights; unpack it if"):
        read_weights(tmp_path / "a.npz")


def test_zip_storage_of_another_size_or_missing_is_an_error(tmp_path, pth, pth_example):
    tensors, storages, _ = pth_example
    object_pickle = pth.object_pickle(tensors, storages, b"")
    path = pth.zip(
        tmp_path / "a.pth", tensors, {**storages, "0": storages["0"][:5]}, object_pickle=object_pickle
    )
    with pytest.raises(WeightsError, match="a storage of 20 bytes, expected 48; download it again"):
        read_weights(path)
    path = pth.zip(tmp_path / "a.pth", tensors, {"0": storages["0"]}, object_pickle=object_pickle)
    with pytest.raises(WeightsError, match="damaged: a storage is missing"):
        read_weights(path)


def test_bit_flip_in_a_zip_is_found_by_its_checksum(tmp_path, pth, pth_example):
    path = pth.zip(tmp_path / "a.pth", *pth_example[:2])
    content = path.read_bytes()
    path.write_bytes(
        content.replace(np.arange(12, dtype="<f4").tobytes(), np.arange(1, 13, dtype="<f4").tobytes())
    )
    with pytest.raises(WeightsError, match=r"damaged archive .*CRC-32"):
        read_weights(path)
