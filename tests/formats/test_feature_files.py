import contextlib
import io
import re
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import FeatureFileError, ShapeError
from videotag.formats.feature_files import (
    extractor_of,
    list_modalities,
    read_features,
    read_modalities,
    read_shapes_and_stamp,
    read_stamp,
    write_features,
    write_modalities,
)

RAMP = np.arange(6, dtype=np.float32).reshape(3, 2)


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shape_of(path, *, dim):
    return read_shapes_and_stamp(path, {"rgb": dim})[0]["rgb"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint8", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_number_type_becomes_float32(tmp_path, dtype, order):
    np.save(tmp_path / "a.npy", np.asarray(RAMP, dtype=dtype, order=order))
    features = read_features(tmp_path / "a.npy", dim=2)
    assert features.dtype == np.float32
    assert features.flags.writeable
    assert features.flags.c_contiguous
    np.testing.assert_array_equal(features, RAMP)


def test_file_of_python_2_or_another_writer_is_read(tmp_path):
    header = b"{'shape': (3L, 2L), \"fortran_order\":False,'descr':'<f4'}\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + RAMP.tobytes()
    (tmp_path / "a.npy").write_bytes(content)
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy"), RAMP)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("stamp", [b"", b'\nvideotag stamp: {"seg_num": 3}'])
def test_every_version_of_the_format_is_read(tmp_path, version, stamp):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.asfortranarray(RAMP), version=version)
        file.write(stamp)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "rgb.npy")
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy", dim=2), RAMP)
    np.testing.assert_array_equal(read_modalities(tmp_path / "a.npz", {"rgb": 2})["rgb"], RAMP)
    assert shape_of(tmp_path / "a.npy", dim=2) == (3, 2)
    assert read_stamp(tmp_path / "a.npy") == ({"seg_num": 3} if stamp else None)


def test_a_version_2_file_of_another_writer_is_read():
    path = Path(__file__).parent / "cases" / "npy_version2.npy"
    assert path.read_bytes()[6:8] == b"\x02\x00"
    array = read_features(path, dim=8)
    assert (array.shape, array.dtype) == ((12, 8), np.float32)
    np.testing.assert_array_equal(array, np.load(path))


@pytest.mark.parametrize(
    ("version", "array", "message"),
    [
        ((2, 0), np.array([[{}, 1]]), "pickled; not read because pickles can run code"),
        ((3, 0), np.array([[{}, 1]]), "pickled; not read because pickles can run code"),
        ((2, 0), np.zeros(3, [("x", "<f4")]), "the header does not describe an array"),
        ((3, 0), np.zeros(3, [("宽", "<f4")]), "the header does not describe an array"),
        ((3, 0), np.zeros((3, 2), complex), "dtype '<c16', expected numbers"),
    ],
)
def test_later_versions_are_held_to_the_same_types(tmp_path, version, array, message):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    with pytest.raises(FeatureFileError, match=message):
        read_features(tmp_path / "a.npy")


def test_one_row_is_enough_and_any_width_without_dim(tmp_path):
    write_features(tmp_path / "a.npy", RAMP[:1])
    assert read_features(tmp_path / "a.npy").shape == (1, 2)


@pytest.mark.parametrize("reads", [read_features, shape_of])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), r"shape (3, 5), expected (T, 2); was it extracted with another backbone?"),
        (np.zeros(4), r"shape (4,), expected (T, 2); one row per frame, one file per video"),
        (np.zeros((1, 3, 2)), r"shape (1, 3, 2), expected (T, 2)"),
        (np.zeros((0, 2)), r"shape (0, 2), expected (T, 2) with at least one row"),
        (np.array([["a", "b"]]), "dtype '<U1', expected numbers such as '<f4'"),
        (np.zeros((3, 2), complex), "dtype '<c16', expected numbers"),
        (np.zeros((3, 2), bool), "dtype '|b1', expected numbers"),
        (np.array([[{}, 1]]), "pickled; not read because pickles can run code; save a number array"),
    ],
)
def test_unusable_array_is_named_with_its_remedy(tmp_path, reads, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(FeatureFileError, match=r"a\.npy: " + re.escape(message)):
        reads(tmp_path / "a.npy", dim=2)


def test_pickle_in_npy_does_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    np.save(tmp_path / "a.npy", np.array([[Attack()]], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureFileError, match="pickled"):
        read_features(tmp_path / "a.npy")
    assert not (tmp_path / "ran").exists()


def test_rows_with_nan_or_infinite_values_are_counted(tmp_path):
    array = np.zeros((4, 2))
    array[1, 0], array[3] = np.nan, 1e300  # beyond float32
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(
        FeatureFileError, match=r"a\.npy: 2 of 4 rows hold NaN or infinite values; extract it again"
    ):
        read_features(tmp_path / "a.npy", dim=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; extract the features"),
        (b"<html>", "not a .npy file; extract the features"),
        (
            npy_bytes(RAMP)[:-3],
            "damaged or truncated; extract it again: 21 bytes of values, expected 24 for shape",
        ),
        (npy_bytes(RAMP)[:40], "damaged or truncated"),
        (b"\x93NUMPY\x04\x00\x76\x00", "version [4, 0], expected [1, 0], [2, 0] or [3, 0]; save it"),
        (b"\x93NUMPY\x02\x01\x76\x00\x00\x00", "version [2, 1], expected [1, 0], [2, 0] or [3, 0]"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
            "a header of 4294967295 bytes, expected less than 65536; save an array of numbers",
        ),
        (b"\x93NUMPY\x03\x00\x00\x00\x01\x00", "a header of 65536 bytes, expected less than 65536"),
        (
            b"\x93NUMPY\x02\x00\xff",
            "damaged or truncated; extract it again: the header does not describe an array",
        ),
        (
            npy_bytes(RAMP).replace(b"(3, 2)", b"(-3, -2)"),
            "damaged or truncated; extract it again: the header does not describe an array",
        ),
        (
            npy_bytes(RAMP).replace(b"'<f4'", b"[('a', '<f4')]"),
            "the header does not describe an array of numbers",
        ),
        (npy_bytes(RAMP).replace(b"(3, 2)", b"(" + b"9" * 5000 + b",)"), "damaged or truncated"),
    ],
)
def test_damaged_file_is_one_line_with_the_remedy(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(FeatureFileError, match=re.escape(message)) as caught:
        read_features(tmp_path / "a.npy", dim=2)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_errors(tmp_path):
    with pytest.raises(FeatureFileError, match=r"no\.npy: no such file; extract the features first"):
        read_features(tmp_path / "no.npy")
    with pytest.raises(FeatureFileError, match="cannot read"):
        read_features(tmp_path)


def test_shape_comes_from_the_header_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 2), np.nan))
    assert shape_of(tmp_path / "a.npy", dim=2) == (3, 2)


def test_declared_size_beyond_the_file_reserves_nothing(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_bytes(RAMP).replace(b"(3, 2), }        ", b"(3000000000, 2),}"))
    tracemalloc.start()
    with pytest.raises(FeatureFileError, match="24 bytes of values, expected 24000000000"):
        read_features(tmp_path / "a.npy", dim=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_modalities_come_from_npz_in_the_order_asked_and_others_are_ignored(tmp_path, save):
    save(tmp_path / "a.npz", other=np.array(["x"]), audio=np.ones((5, 3), np.uint8), rgb=RAMP)
    dims = {"rgb": 2, "audio": 3}
    features = read_modalities(tmp_path / "a.npz", dims)
    assert list(features) == ["rgb", "audio"]
    np.testing.assert_array_equal(features["rgb"], RAMP)
    np.testing.assert_array_equal(features["audio"], np.ones((5, 3), np.float32))
    assert features["audio"].dtype == np.float32
    assert read_shapes_and_stamp(tmp_path / "a.npz", dims)[0] == {"rgb": (3, 2), "audio": (5, 3)}


def test_one_modality_comes_from_npy_whatever_the_suffix(tmp_path):
    (tmp_path / "a.npz").write_bytes(npy_bytes(RAMP))
    np.testing.assert_array_equal(read_modalities(tmp_path / "a.npz", {"rgb": 2})["rgb"], RAMP)
    assert shape_of(tmp_path / "a.npz", dim=2) == (3, 2)


def test_npy_for_several_modalities_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", RAMP)
    with pytest.raises(
        FeatureFileError,
        match=r"a \.npy with one array, expected rgb, audio; write an \.npz",
    ):
        read_modalities(tmp_path / "a.npy", {"rgb": 2, "audio": 3})


def test_npz_where_npy_is_expected_is_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=RAMP)
    with pytest.raises(FeatureFileError, match=r"an \.npz with named arrays, expected a \.npy"):
        read_features(tmp_path / "a.npz")


def test_missing_modality_lists_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=RAMP, flow=RAMP)
    with pytest.raises(FeatureFileError, match="no array audio; found rgb, flow; extract it, or correct"):
        read_modalities(tmp_path / "a.npz", {"rgb": 2, "audio": 3})


def test_of_many_arrays_a_few_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"a{number}": RAMP for number in range(100)})
    with pytest.raises(FeatureFileError, match=r"found a0, a1, a2, a3, a4, a5, a6, a7, \.\.\.; extract"):
        read_modalities(tmp_path / "a.npz", {"rgb": 2})


def test_a_header_of_a_huge_number_is_damaged_without_advice_to_programmers(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ", 2), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(FeatureFileError, match="Exceeds the limit") as caught:
        read_features(tmp_path / "a.npy")
    assert "sys." not in str(caught.value)


def test_wrong_modality_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=RAMP, audio=RAMP)
    with pytest.raises(
        FeatureFileError, match=r"a\.npz\[audio\]: shape \(3, 2\), expected \(T, 128\); was it"
    ):
        read_shapes_and_stamp(tmp_path / "a.npz", {"rgb": 2, "audio": 128})


def test_zip_bomb_is_refused_by_its_declared_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rgb.npy", npy_bytes(RAMP))
    content = (tmp_path / "a.npz").read_bytes()
    size = len(npy_bytes(RAMP)).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content.replace(size, (2**32 - 2).to_bytes(4, "little")))
    with pytest.raises(
        FeatureFileError, match=r"a\.npz\[rgb\]: unpacks from \d+ to 4294967294 bytes, more than features"
    ):
        read_modalities(tmp_path / "a.npz", {"rgb": 2})


def test_npz_packed_with_lzma_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("rgb.npy", npy_bytes(RAMP))
    with pytest.raises(
        FeatureFileError, match=r"a\.npz\[rgb\]: unsupported compression; save it with numpy\.savez"
    ):
        read_modalities(tmp_path / "a.npz", {"rgb": 2})


@pytest.mark.parametrize("shape", [(4,), (0, 2), (1, 2, 3)])
def test_only_rows_of_features_are_written(tmp_path, shape):
    with pytest.raises(ShapeError, match=r"expected \(T, D\) with T of at least 1"):
        write_features(tmp_path / "a.npy", np.zeros(shape))
    assert not list(tmp_path.iterdir())


def test_written_features_keep_their_type(tmp_path):
    write_features(tmp_path / "deep" / "a.npy", RAMP.astype(np.float16))
    assert np.load(tmp_path / "deep" / "a.npy").dtype == np.float16


def test_stamp_comes_back_and_neither_numpy_nor_readers_see_it(tmp_path):
    stamp = {"input": "视频.mp4", "size": 3}
    write_features(tmp_path / "a.npy", RAMP, stamp=stamp)
    assert read_stamp(tmp_path / "a.npy") == stamp
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), RAMP)
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy", dim=2), RAMP)
    assert shape_of(tmp_path / "a.npy", dim=2) == (3, 2)


def test_file_without_stamp_has_none_and_a_cut_stamp_is_an_error(tmp_path):
    write_features(tmp_path / "a.npy", RAMP)
    assert read_stamp(tmp_path / "a.npy") is None
    write_features(tmp_path / "a.npy", RAMP, stamp={"input": "a.mp4"})
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-2])
    with pytest.raises(FeatureFileError, match="damaged or truncated"):
        read_stamp(tmp_path / "a.npy")


def test_shapes_and_stamp_come_from_one_reading(tmp_path):
    write_features(tmp_path / "a.npy", RAMP, stamp={"seg_num": 3})
    assert read_shapes_and_stamp(tmp_path / "a.npy", {"rgb": 2}) == ({"rgb": (3, 2)}, {"seg_num": 3})
    np.savez(tmp_path / "b.npz", rgb=RAMP, audio=RAMP[:1])
    shapes = {"audio": (1, 2), "rgb": (3, 2)}
    assert read_shapes_and_stamp(tmp_path / "b.npz", {"audio": 2, "rgb": None}) == (shapes, None)
    with pytest.raises(FeatureFileError, match=r"shape \(3, 2\), expected \(T, 5\)"):
        read_shapes_and_stamp(tmp_path / "a.npy", {"rgb": 5})


@pytest.mark.parametrize(
    "stamp", [b"", b"{", b"[]", b"3", b"[" * 60_000, b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}"]
)
def test_a_stamp_that_is_no_json_object_is_damage(tmp_path, stamp):
    (tmp_path / "a.npy").write_bytes(npy_bytes(RAMP) + b"\nvideotag stamp: " + stamp)
    with pytest.raises(FeatureFileError, match=r"a\.npy: damaged or truncated"):
        read_stamp(tmp_path / "a.npy")


def test_what_follows_the_values_without_the_mark_is_no_stamp(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_bytes(RAMP) + b"\0" * 100)
    assert read_shapes_and_stamp(tmp_path / "a.npy", {"rgb": 2}) == ({"rgb": (3, 2)}, None)


def test_an_extractor_is_its_stamp_without_the_input_in_any_order():
    assert extractor_of({"b": [1], "a": 2, "input": {"size": 3}}) == extractor_of({"a": 2, "b": [1]})
    assert extractor_of({"a": 2}) != extractor_of({"a": 3})


def test_modalities_are_named_by_an_npz_and_not_by_a_npy(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=RAMP, audio=RAMP)
    np.save(tmp_path / "a.npy", RAMP)
    assert list_modalities(tmp_path / "a.npz") == ["rgb", "audio"]
    assert list_modalities(tmp_path / "a.npy") == []
    with pytest.raises(FeatureFileError, match="no such file"):
        list_modalities(tmp_path / "b.npz")


def zip_bytes(save):
    file = io.BytesIO()
    save(file, rgb=RAMP)
    return file.getvalue()


def version_bytes(version):
    file = io.BytesIO()
    np.lib.format.write_array(file, RAMP, version=version)
    return file.getvalue()


REAL_FILES = [npy_bytes(RAMP), version_bytes((2, 0)), version_bytes((3, 0))]
REAL_FILES += [zip_bytes(np.savez), zip_bytes(np.savez_compressed)]


@given(data=st.data())
def test_damage_raises_nothing_but_feature_file_errors(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(REAL_FILES)))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))
    ):
        content[position] = value
    content = bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    heads = st.sampled_from([b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00"])
    path.write_bytes(data.draw(st.just(content) | st.builds(bytes.__add__, heads, st.binary())))
    readers = [read_features, read_stamp, list_modalities]
    readers += [partial(read, dims={"rgb": 2}) for read in (read_modalities, read_shapes_and_stamp)]
    for read in readers:
        with contextlib.suppress(FeatureFileError):
            read(path)


def test_modalities_are_written_as_numpy_and_readers_read_them(tmp_path):
    features = {"rgb": np.arange(6, dtype=np.float32).reshape(3, 2), "file": np.ones((1, 4), np.uint8)}
    for name in ("a.npz", "b.npz"):
        write_modalities(tmp_path / name, features)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert {name: found[name].dtype for name in found} == {"rgb": np.float32, "file": np.uint8}
        for name, array in features.items():
            np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(read_modalities(tmp_path / "a.npz", {"rgb": 2})["rgb"], features["rgb"])


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("a/b", (1, 2), "modality 'a/b', expected letters, digits, _ . and -; rename it"),
        ("", (1, 2), "modality '', expected letters"),
        ("rgb", (0, 2), r"a.npz\[rgb\]: features of shape \(0, 2\), expected \(T, D\) with T of at least 1"),
        ("rgb", (2,), r"features of shape \(2,\), expected"),
    ],
)
def test_only_named_rows_of_modalities_are_written(tmp_path, name, shape, message):
    with pytest.raises(ShapeError, match=message):
        write_modalities(tmp_path / "a.npz", {"good": np.ones((1, 1)), name: np.ones(shape)})
    assert not list(tmp_path.iterdir())
