"""Pickles of YouTube-8M records: what Python wrote is read, what we write Python reads, the rest is named."""

import contextlib
import pickle
import re
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.errors import OutputError, RecordError, ShapeError
from videotag.formats.yt8m_pickles import read_yt8m_pickle, write_yt8m_pickle
from videotag.formats.yt8m_records import Segments, YT8MRecord


def ints(*values):
    return np.array(values, np.int64)


def frames(num_steps, dim, start=0):
    return ((np.arange(num_steps * dim) + start) % 251).astype(np.uint8).reshape(num_steps, dim)


def plain(**changes):
    """A record as tf2pkl.py builds it, with tiny widths."""
    record = {"video": b"abcd", "feature": frames(4, 6), "audio": frames(4, 3, 9), "label": [3, 1]}
    return record | {"nframes": np.int32(4)} | changes


RECORDS = [
    YT8MRecord("abcd", ints(3, 1), {"rgb": frames(4, 6), "audio": frames(4, 3, 9)}),
    YT8MRecord("名\udcff", ints(), {"clip": frames(2, 600)}),
    YT8MRecord("none", ints(5), {"rgb": frames(0, 6)}),
    YT8MRecord("mean", ints(2**40), means={"mean_rgb": np.linspace(-2, 2, 7, dtype=np.float32)}),
    YT8MRecord("cut", ints(), segments=Segments(ints(7, 7), ints(0, 35), np.array([1, 0.5], np.float32))),
    YT8MRecord("é", ints()),
]


def same(left, right):
    def listed(record):
        segments = record.segments and vars(record.segments)
        for name, array in {
            **record.features,
            **record.means,
            **(segments or {}),
            "l": record.labels,
        }.items():
            yield name, array.dtype, array.shape, array.tobytes()

    return left.video_id == right.video_id and list(listed(left)) == list(listed(right))


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_bytes", [False, True])
def test_pickles_of_every_protocol_are_read(tmp_path, protocol, as_bytes):
    content = [plain(), plain(video="efgh", label=np.array([5], np.int32), nframes=2)]
    if as_bytes:
        content = [{key.encode(): value for key, value in one.items()} for one in content]
    first, second = read_yt8m_pickle(written(tmp_path / "a.pkl", content, protocol))
    assert same(first, RECORDS[0])
    cut = {"rgb": frames(4, 6)[:2], "audio": frames(4, 3, 9)[:2]}
    assert same(second, YT8MRecord("efgh", ints(5), cut))


def test_a_file_of_one_record_is_read(tmp_path):
    (found,) = read_yt8m_pickle(written(tmp_path / "a_split_0.pkl", plain(label=(np.int64(3), 1))))
    assert same(found, RECORDS[0])
    assert read_yt8m_pickle(written(tmp_path / "none.pkl", [])) == []


def text_of_python_2(raw):
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def array_of_python_2(array):
    """A uint8 array as Python 2.7 with NumPy 1.16 pickles it: its bytes are a string."""
    rows, columns = array.shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + b"K" + bytes([rows]) + b"M" + struct.pack("<H", columns) + b"\x86"
        + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text_of_python_2(array.tobytes()) + b"tb"
    )  # fmt: skip


def test_a_pickle_of_python_2_is_read(tmp_path):
    rgb, audio = frames(2, 1024, 100), frames(2, 128, 200)
    items = {
        "video": text_of_python_2("名".encode()),
        "feature": array_of_python_2(rgb),
        "audio": array_of_python_2(audio),
        "label": b"](K\x03M\x00\x01e",
        "nframes": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02i4K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x04\x02\x00\x00\x00tR",
    }
    body = b"".join(text_of_python_2(key.encode()) + value for key, value in items.items())
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02](}(" + body + b"ue.")
    python = pickle.loads(path.read_bytes(), encoding="bytes")  # the pickle is a real one
    assert python[0][b"nframes"] == 2
    assert python[0][b"feature"].tobytes() == rgb.tobytes()
    (found,) = read_yt8m_pickle(path, dims={"rgb": 1024, "audio": 128})
    assert same(found, YT8MRecord("名", ints(3, 256), {"rgb": rgb, "audio": audio}))


def test_text_of_python_3_is_not_taken_for_bytes(tmp_path):
    assert read_yt8m_pickle(written(tmp_path / "a", plain(video="Ã©"), 4))[0].video_id == "Ã©"
    assert read_yt8m_pickle(written(tmp_path / "a", plain(video="é"), 2))[0].video_id == "é"


def test_only_the_modalities_asked_for_are_returned(tmp_path):
    path = written(tmp_path / "a.pkl", [plain()])
    assert list(read_yt8m_pickle(path, dims={"audio": None})[0].features) == ["audio"]


BAD = {
    "no dict": ([1], None, "record 1: of type list, expected a dict with 'video'; convert it again"),
    "no id": ({"label": []}, None, r"record 1: no 'video'; found label; is it a YouTube-8M pickle\?"),
    "nothing": ({}, None, "record 1: no 'video'; found nothing"),
    "id": (plain(video=3), None, "record 1: 'video' of type int, expected the id as text or bytes"),
    "lone surrogate": (plain(video="\ud800"), None, "record 1: 'video' .* is not valid text; convert"),
    "long id": (
        plain(video=b"a" * 5000),
        None,
        "record 1: 'video' of 5000 characters, expected at most 1024",
    ),
    "key": ({"video": "a", 3: 1}, None, "record 1: 3 as a key, expected text; convert"),
    "both": ({"video": "a", b"video": b"b"}, None, "record 1: a key occurs twice, as text and as"),
    "rgb twice": (plain(rgb=frames(4, 6)), None, "record 1: both 'feature' and 'rgb', which mean the same"),
    "labels": (plain(label=[0.5]), None, "record 1: 'label' of type list, expected a list of class ids"),
    "true": (plain(label=[True]), None, "record 1: 'label' of type list"),
    "label": (plain(label=3), None, "record 1: 'label' of type int, expected"),
    "big label": (plain(label=[2**70]), None, "record 1: 'label' of type list"),
    "label array": (plain(label=np.ones((2, 2), int)), None, "record 1: 'label' of type ndarray"),
    "floats": (
        plain(feature=np.ones((4, 6), np.float32)),
        None,
        r"record 1: rgb has float32 values, expected \(T, D\) bytes; write",
    ),
    "cube": (plain(feature=np.ones((4, 6, 1))), None, r"record 1: 'feature' of shape \(4, 6, 1\), expected"),
    "width": (
        plain(),
        {"rgb": 7},
        r"record 1: rgb of shape \(4, 6\), expected \(T, 7\); correct the model's",
    ),
    "missing": (plain(), {"clip": None}, "record 1: no features clip; found rgb, audio; correct"),
    "nframes": (plain(nframes="4"), None, "record 1: nframes of type str, expected a number of steps"),
    "less than none": (plain(nframes=-1), None, "record 1: nframes -1, expected a number of steps"),
    "more": (plain(nframes=5), None, "record 1: nframes 5, but only 4 steps; convert it again"),
}


@pytest.mark.parametrize(("item", "dims", "message"), BAD.values(), ids=BAD)
def test_the_message_names_file_record_and_remedy(tmp_path, item, dims, message):
    good = plain() | {name: np.ones((4, dim or 1), np.uint8) for name, dim in (dims or {}).items() if dim}
    if "rgb" in (dims or {}):
        good["feature"] = good.pop("rgb")
    elif dims:
        good["clip"] = frames(4, 1)
    path = written(tmp_path / "a.pkl", [good, item])
    with pytest.raises(RecordError, match=f"a.pkl: {message}"):
        read_yt8m_pickle(path, dims=dims)


def test_files_that_are_none_are_named(tmp_path):
    content = pickle.dumps([plain(), plain()], 4)
    (tmp_path / "short").write_bytes(content[:-40])
    (tmp_path / "evil").write_bytes(b"\x80\x04cos\nsystem\n.")
    for name, message in {
        "gone": "no such file; correct the path",
        ".": "cannot read",
        "short": r"at byte \d+: truncated: the file ends too early; copy or download it again",
        "evil": "at byte 13: refers to 'os.system'; not read because pickles can run code",
    }.items():
        with pytest.raises(RecordError, match=f"{re.escape(str(tmp_path / name))}: {message}"):
            read_yt8m_pickle(tmp_path / name)


def test_labels_that_would_be_endless_as_text_are_refused_at_once(tmp_path):
    label = []
    for _ in range(200):
        label = [label, label]
    with pytest.raises(RecordError, match="'label' of type list"):
        read_yt8m_pickle(written(tmp_path / "a.pkl", plain(label=label)))


def test_memory_stays_near_the_file_size_whatever_refers_to_what(tmp_path):
    labels, mean, other = list(range(20_000)), np.zeros(20_000, np.float64), np.zeros(100_000, np.uint8)
    content = [plain(label=labels, other=other, **{f"mean_{j}": mean for j in range(5)}) for _ in range(200)]
    path = written(tmp_path / "a.pkl", content + [content[0]] * 10_000)
    tracemalloc.start()
    assert len(read_yt8m_pickle(path)) == 10_200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * path.stat().st_size


@pytest.fixture(scope="module")
def some_pickles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickles")
    write_yt8m_pickle(folder / "ours", RECORDS[:2])
    items = [plain(), plain(label=np.array([3]))]
    return folder / "damaged", [
        (folder / "ours").read_bytes(),
        *(pickle.dumps(items, p) for p in range(6)),
    ]


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_damage_makes_nothing_but_record_errors(some_pickles, data):
    path, pickles = some_pickles
    content = bytearray(data.draw(st.sampled_from(pickles)))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(RecordError):
        for record in read_yt8m_pickle(path):
            assert isinstance(record, YT8MRecord)


# --- writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["str", "bytes"])
def test_records_come_back(tmp_path, keys):
    assert write_yt8m_pickle(tmp_path / "a.pkl", iter(RECORDS), keys=keys) == len(RECORDS)
    found = read_yt8m_pickle(tmp_path / "a.pkl")
    assert len(found) == len(RECORDS)
    assert all(map(same, found, RECORDS))


def check_reference_layout(record, text):
    """What tf2pkl.py's users look at, in keys and ids that `text` makes."""
    assert list(record) == [text(k) for k in ("video", "feature", "audio", "label", "nframes")]
    assert record[text("video")] == text("abcd")
    for key, array in {"feature": frames(4, 6), "audio": frames(4, 3, 9)}.items():
        assert record[text(key)].dtype == np.uint8
        np.testing.assert_array_equal(record[text(key)], array)
    assert record[text("label")] == [3, 1]
    assert type(record[text("label")][0]) is int
    assert type(record[text("nframes")]) is np.int32
    assert record[text("nframes")] == 4


@pytest.mark.parametrize("encoding", ["ASCII", "bytes", "latin1"])
def test_python_reads_the_layout_of_the_reference(tmp_path, encoding):
    for keys, text in (("str", str), ("bytes", str.encode)):
        write_yt8m_pickle(tmp_path / "a.pkl", RECORDS[:2], keys=keys)
        content = (tmp_path / "a.pkl").read_bytes()
        assert content.startswith(b"\x80\x03")
        found = pickle.loads(content, encoding=encoding)
        assert type(found) is list
        assert len(found) == 2
        check_reference_layout(found[0], text)
        write_yt8m_pickle(tmp_path / "b.pkl", RECORDS[:1], keys=keys, single=True)
        check_reference_layout(pickle.loads((tmp_path / "b.pkl").read_bytes(), encoding=encoding), text)


def test_long_ids_and_names_are_written(tmp_path):
    record = YT8MRecord("x" * 300, ints(), {"y" * 256: frames(1, 2)})
    for keys in ("str", "bytes"):
        write_yt8m_pickle(tmp_path / "a.pkl", [record], keys=keys)
        assert same(read_yt8m_pickle(tmp_path / "a.pkl")[0], record)


def test_arrays_name_the_core_that_old_numpy_has(tmp_path):
    write_yt8m_pickle(tmp_path / "a.pkl", RECORDS)
    content = (tmp_path / "a.pkl").read_bytes()
    assert b"numpy.core.multiarray" in content
    assert b"_core" not in content


def test_all_steps_are_written_and_300_count(tmp_path):
    long = YT8MRecord("long", ints(), {"rgb": frames(302, 2), "audio": frames(301, 2)})
    write_yt8m_pickle(tmp_path / "a.pkl", [long])
    (python,) = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert (len(python["feature"]), python["nframes"]) == (302, 300)
    cut = {name: steps[:300] for name, steps in long.features.items()}
    assert same(read_yt8m_pickle(tmp_path / "a.pkl")[0], replace(long, features=cut))


def test_no_more_than_a_record_is_held(tmp_path):
    size = 300 * 1152
    records = (
        YT8MRecord("a", ints(), {"rgb": np.full((300, 1152), i, np.uint8)}) for i in range(40)
    )  # 14 MB
    tracemalloc.start()
    write_yt8m_pickle(tmp_path / "a.pkl", records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * size


def test_what_no_file_can_hold_is_refused(tmp_path):
    one = RECORDS[0]
    cases = {
        r"a.pkl: record 1: modality feature: the name is already used; rename it": (
            [one, YT8MRecord("a", ints(), {"feature": frames(1, 2)})],
            False,
        ),
        r"a.pkl: record 0: modality rgb: the name is already": (
            [replace(one, means={"rgb": np.zeros(2, np.float32)})],
            False,
        ),
        r"a.pkl: more than one record for a single-record file; write a list": ([one, one], True),
        r"a.pkl: no record for a single-record file": ([], True),
    }
    for message, (records, single) in cases.items():
        with pytest.raises(RecordError, match=message):
            write_yt8m_pickle(tmp_path / "a.pkl", records, single=single)
    with pytest.raises(ShapeError, match=r"expected .* uint8; quantize it"):
        write_yt8m_pickle(tmp_path / "a.pkl", [replace(one, features={"rgb": np.zeros((1, 2))})])
    huge = np.broadcast_to(np.uint8(0), (2**16, 2**16))
    with pytest.raises(RecordError, match="record 0: rgb: an array of 4294967296 bytes, but protocol 3 is"):
        write_yt8m_pickle(tmp_path / "a.pkl", [replace(one, features={"rgb": huge})])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_yt8m_pickle(tmp_path / "file" / "a.pkl", [one])
