"""Shards: records come back in any order, the library reads the file, damage is named before it is used."""

import contextlib
import json
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.errors import OutputError, RecordError, ShapeError
from videotag.formats.shards import Shard, write_shard
from videotag.formats.weight_files import write_safetensors
from videotag.formats.yt8m_records import Segments, YT8MRecord, read_yt8m

GOLDEN = Path(__file__).parents[1] / "golden" / "train0000.tfrecord"


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


def frames(num_steps, dim, start=0):
    return ((np.arange(num_steps * dim) + start) % 251).astype(np.uint8).reshape(num_steps, dim)


def record(video_id, num_steps, *labels, **changes):
    features = {"rgb": frames(num_steps, 6, num_steps), "audio": frames(max(num_steps - 1, 0), 3)}
    return replace(YT8MRecord(video_id, ints(*labels), features), **changes)


RECORDS = [
    record("abcd", 4, 3, 1),
    record("名\udcff", 2, segments=Segments(ints(7, 7), ints(0, 35), floats(1, 0.5))),
    record("", 0, 2**40),
    record("last", 5, 9, segments=Segments(ints(), ints(), floats())),
]
VIDEO_LEVEL = [
    YT8MRecord(str(i), ints(i), means={"mean_rgb": floats(i, i + 1), "mean_audio": floats(-i)})
    for i in range(3)
]


def same(left, right):
    def listed(one):
        segments = one.segments and vars(one.segments)
        for name, array in {**one.features, **one.means, **(segments or {}), "l": one.labels}.items():
            yield name, array.dtype, array.shape, array.tobytes()

    return (
        left.video_id == right.video_id
        and sorted(listed(left)) == sorted(listed(right))
        and (left.segments is None) == (right.segments is None)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


# --- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [RECORDS, VIDEO_LEVEL, RECORDS[:1], []])
def test_records_come_back_in_any_order(path, records):
    assert write_shard(path, iter(records)) == len(records)
    shard = Shard(path)
    assert len(shard) == len(records)
    for index in reversed(range(len(records))):
        assert same(shard.read(index), records[index])


def test_num_steps_are_those_of_the_longest_modality(path):
    write_shard(path, RECORDS)
    shard = Shard(path)
    assert (shard.num_steps.dtype, shard.num_steps.tolist()) == (np.int64, [4, 2, 0, 5])
    assert shard.widths == {"rgb": 6, "audio": 3}
    assert Shard(path, dims={"audio": 3}).num_steps.tolist() == [3, 1, 0, 4]
    write_shard(path, VIDEO_LEVEL)
    assert Shard(path).num_steps.tolist() == [0, 0, 0]
    assert Shard(path).widths == {"mean_audio": 1, "mean_rgb": 2}
    write_shard(path, [])
    assert Shard(path).num_steps.tolist() == []


def test_records_of_tensorflow_come_back(path):
    write_shard(path, read_yt8m(GOLDEN))
    shard = Shard(path, dims={"rgb": 1024, "audio": 128})
    assert shard.num_steps.tolist() == [300, 1, 127, 128, 300, 17, 302, 64]
    assert all(same(shard.read(i), one) for i, one in enumerate(read_yt8m(GOLDEN)))


def test_the_library_reads_a_shard_and_its_arrays_are_as_documented(path):
    write_shard(path, RECORDS)
    arrays = safetensors.numpy.load_file(path)
    ids = [b"abcd", "名".encode() + b"\xff", b"", b"last"]
    expected = {
        "labels": ints(3, 1, 2**40, 9),
        "label_offsets": ints(0, 2, 2, 3, 4),
        "ids": np.frombuffer(b"".join(ids), np.uint8),
        "id_offsets": ints(0, 4, 8, 8, 12),
        "rows.rgb": np.concatenate([one.features["rgb"] for one in RECORDS]),
        "row_offsets.rgb": ints(0, 4, 6, 6, 11),
        "rows.audio": np.concatenate([one.features["audio"] for one in RECORDS]),
        "row_offsets.audio": ints(0, 3, 4, 4, 8),
        "segment_labels": ints(7, 7),
        "segment_start_times": ints(0, 35),
        "segment_scores": floats(1, 0.5),
        "segment_offsets": ints(0, 0, 2, 2, 2),
        "has_segments": np.array([0, 1, 0, 1], np.uint8),
    }
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "videotag.yt8m_shard", "version": "1"}


def test_arrays_are_read_only_views_of_the_file(path):
    write_shard(path, [record("a", 300, 1, features={"rgb": frames(300, 9000)})] * 3)
    tracemalloc.start()
    found = Shard(path).read(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert not found.features["rgb"].flags.writeable
    assert not found.labels.flags.writeable


def test_writing_holds_no_more_than_a_record(path):
    one = 300 * 1152
    records = (YT8MRecord("a", ints(), {"rgb": np.full((300, 1152), i, np.uint8)}) for i in range(40))
    tracemalloc.start()
    write_shard(path, records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * one + 2**21
    assert [path.name] == [other.name for other in path.parent.iterdir()]
    assert Shard(path).read(39).features["rgb"].min() == 39


def test_threads_share_a_shard(path):
    many = [record(str(i), i % 7, i) for i in range(50)]
    write_shard(path, many)
    shard, wrong = Shard(path), []

    def read_all():
        wrong.extend(i for i in range(50) if not same(shard.read(i), many[i]))

    threads = [threading.Thread(target=read_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_record_without_steps_takes_the_width_of_the_others(path):
    none = {"rgb": np.empty((0, 0), np.uint8)}
    write_shard(path, [record("a", 0, features=none), record("b", 1, features={"rgb": frames(1, 6)})])
    assert Shard(path).read(0).features["rgb"].shape == (0, 6)


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_out_of_range_is_an_index_error(path, index):
    write_shard(path, RECORDS)
    with pytest.raises(IndexError, match=rf"a.safetensors: record {index}, expected 0 to 3"):
        Shard(path).read(index)


# --- what is refused --------------------------------------------------------------------------------------


def test_records_that_do_not_fit_together_are_not_written(path):
    one = RECORDS[0]
    mean = {"mean_rgb": floats(1, 2)}
    cases = {
        r"record 1 \(x\): modalities rgb, but earlier records have audio, rgb; write a separate shard": [
            one,
            record("x", 1, features={"rgb": frames(1, 6)}),
        ],
        r"record 1 \(x\): modalities none, but earlier records have audio, rgb": [
            one,
            YT8MRecord("x", ints()),
        ],
        r"record 1 \(x\): rgb of width 7, but earlier records have 6; write a separate shard for each": [
            record("y", 1, features={"rgb": frames(1, 6)}),
            record("x", 1, features={"rgb": frames(1, 7)}),
        ],
        r"record 1 \(x\): mean_rgb of width 1, but": [
            YT8MRecord("y", ints(), means=mean),
            YT8MRecord("x", ints(), means={"mean_rgb": floats(1)}),
        ],
        r"record 0 \(x\): rgb is both a frame-level and a video-level feature; rename one": [
            record("x", 1, means={"rgb": floats(1)})
        ],
    }
    for message, records in cases.items():
        with pytest.raises(RecordError, match=f"a.safetensors: {message}"):
            write_shard(path, records)
    with pytest.raises(ShapeError, match="x: rgb float64"):
        write_shard(path, [record("x", 1, features={"rgb": np.ones((1, 6))})])
    assert not list(path.parent.iterdir())
    (path.parent / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_shard(path.parent / "file" / "a.safetensors", RECORDS)


def test_modalities_asked_for_must_be_there(path):
    write_shard(path, RECORDS)
    assert list(Shard(path, dims={"audio": None}).read(0).features) == ["audio"]
    with pytest.raises(RecordError, match=r"a.safetensors: no features clip; found rgb, audio; correct the"):
        Shard(path, dims={"clip": None})
    with pytest.raises(RecordError, match="rgb of width 6, expected 7; correct the model's feature_dims"):
        Shard(path, dims={"rgb": 7})


def split(path):
    """Header and values of a file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path, header, values):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)


def with_array(name, array):
    """Changes an array to another of its dtype, of any length, at the file's end."""

    def change(header, values):
        values += b"\0" * (-len(values) % 8)
        header[name] |= {
            "shape": list(array.shape),
            "data_offsets": [len(values), len(values) + array.nbytes],
        }
        return header, values + array.tobytes()

    return change


def with_entry(name, **values):
    return lambda header, data: (header | {name: header[name] | values}, data)


def without(name):
    return lambda header, data: ({key: value for key, value in header.items() if key != name}, data)


DAMAGE = {
    "array missing": (without("labels"), "damaged shard: no array labels; convert its source again, or copy"),
    "rows' offsets missing": (without("row_offsets.rgb"), r"no array row_offsets\.rgb"),
    "flags missing": (without("has_segments"), "no array has_segments"),
    "entry": (lambda h, d: (h | {"labels": 3}, d), "no array labels"),
    "dtype": (with_entry("labels", dtype="F32"), "labels is not a 1-dimensional array of I64"),
    "dimensions": (with_entry("rows.rgb", shape=[66]), r"rows\.rgb is not a 2-dimensional array of U8"),
    "negative": (with_entry("rows.rgb", shape=[-11, -6]), r"rows\.rgb is not a 2-dim"),
    "true": (with_entry("labels", shape=[True]), "labels is not a 1-dim"),
    "huge": (with_entry("rows.rgb", shape=[0, 2**62]), r"rows\.rgb is not a 2-dim"),
    "no span": (with_entry("labels", data_offsets=None), "labels is not a 1-dim"),
    "size": (with_entry("labels", shape=[5]), r"labels has 32 bytes for shape \[5\]"),
    "beyond": (
        with_entry("labels", data_offsets=[2**40, 2**40 + 32]),
        r"labels ends at byte 1099511627808 of \d+: truncated",
    ),
    "backwards": (with_entry("labels", data_offsets=[40, 8]), "labels ends at byte 8"),
    "falling": (
        with_array("row_offsets.rgb", ints(0, 6, 4, 6, 11)),
        r"row_offsets\.rgb do not rise from 0 to 11",
    ),
    "below zero": (
        with_array("label_offsets", ints(0, -2, 2, 3, 4)),
        "label_offsets do not rise from 0 to 4",
    ),
    "start": (with_array("id_offsets", ints(1, 4, 8, 8, 12)), "id_offsets do not rise from 0 to 12"),
    "end": (with_array("segment_offsets", ints(0, 0, 2, 2, 3)), "segment_offsets do not rise from 0 to 2"),
    "none": (with_array("id_offsets", ints()), "0 id_offsets, expected 1 or more"),
    "fewer": (with_array("row_offsets.rgb", ints(0, 4, 6, 11)), r"4 row_offsets\.rgb, expected 5"),
    "flags": (with_array("has_segments", np.ones(3, np.uint8)), "3 has_segments of 4 records"),
    "metadata": (without("__metadata__"), "a .safetensors file, but not a shard; give a shard of records"),
    "metadata kind": (lambda h, d: (h | {"__metadata__": []}, d), "a .safetensors file, but not a shard"),
    "version": (
        with_entry("__metadata__", version="2"),
        "shard format version 2, expected 1; update videotag",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_contradicts_itself_is_named(path, change, message):
    write_shard(path, RECORDS)
    rewrite(path, *change(*split(path)))
    with pytest.raises(RecordError, match=f"a.safetensors: .*{message}"):
        Shard(path)


def test_means_of_another_number_of_records_are_named(path):
    write_shard(path, VIDEO_LEVEL)
    rewrite(path, *with_array("means.mean_rgb", np.ones((2, 2), np.float32))(*split(path)))
    with pytest.raises(RecordError, match=r"2 means\.mean_rgb of 3 records"):
        Shard(path)


def test_other_files_are_named(path):
    for content, message in {
        b"": "not a .safetensors file; give a shard that tools/tf2pkl.py wrote",
        b"PK\x03\x04 no shard": "not a .safetensors file",
        b"\xff" * 8 + b"{}": "a header of 18446744073709551615 bytes in a file of 10: truncated",
        b"\x03" + b"\0" * 7 + b"{a}": "its header is not JSON",
        (136).to_bytes(8, "little") + b'{"": ' + b"[" * 65 + b"]" * 65 + b"}": "its header is not JSON",
        (10**5).to_bytes(8, "little") + b'{"":' + b"[" * (10**5 - 4): "its header is not JSON",
    }.items():
        path.write_bytes(content)
        with pytest.raises(RecordError, match=f"a.safetensors: .*{message}"):
            Shard(path)
    write_safetensors(path, {"w": np.ones(3, np.float32)})
    with pytest.raises(RecordError, match=r"a .safetensors file, but not a shard"):
        Shard(path)
    with pytest.raises(RecordError, match="gone: no such file; correct the path"):
        Shard(path.parent / "gone")
    with pytest.raises(RecordError, match="cannot read"):
        Shard(path.parent)


def test_a_truncated_file_is_an_error_wherever_it_is_cut(path):
    write_shard(path, RECORDS)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(RecordError, match=r"truncated|not a .safetensors file"):
            Shard(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "a.safetensors"
    write_shard(path, RECORDS)
    return path, path.read_bytes()


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_damage_makes_nothing_but_record_errors(whole, data):
    path, content = whole
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(RecordError):
        shard = Shard(path)
        for index in range(len(shard)):
            assert isinstance(shard.read(index), YT8MRecord)
