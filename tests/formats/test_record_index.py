"""Which record stands where: plain and packed files, an index that is kept, and what is wrong with files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import RecordError
from videotag.formats import record_index
from videotag.formats.record_files import is_record_file, open_record_file, read_sizes
from videotag.formats.record_index import index_records
from videotag.formats.shards import write_shard
from videotag.formats.tfrecord import read_record, read_records, record_offsets, record_sizes, write_records
from videotag.formats.yt8m_pickles import write_yt8m_pickle
from videotag.formats.yt8m_records import YT8MRecord, write_yt8m


@pytest.fixture
def files(work_dir):
    """Three files of 3, 0 and 2 records; record i of all has i + 1 steps of the value i."""
    write_yt8m("a.tfrecord", make_records(0, 3))
    write_yt8m("b.tfrecord", [])
    write_yt8m("c.tfrecord.gz", make_records(3, 2), compression="gzip")
    return ["a.tfrecord", "b.tfrecord", "c.tfrecord.gz"]


def make_records(first, count):
    return [
        YT8MRecord(f"v{i}", np.array([i]), {"rgb": np.full((i + 1, 4), i, np.uint8)})
        for i in range(first, first + count)
    ]


WRITERS = {
    "a.pkl": write_yt8m_pickle,
    "a.pickle": partial(write_yt8m_pickle, keys="bytes"),
    "a.safetensors": write_shard,
    "a.tfrecords": write_yt8m,
    "a.tfrecord.zz": partial(write_yt8m, compression="zlib"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_records(work_dir, name):
    WRITERS[name](name, make_records(0, 4))
    sizes = read_sizes(name)
    assert sizes.shape == (4,)
    assert (np.diff(sizes) > 0).all()
    opened = open_record_file(name, sizes, {"rgb": 4})
    assert len(opened) == 4
    for i in (3, 0, 2, 1):
        record = opened.read(i)
        assert (record.video_id, record.labels.tolist()) == (f"v{i}", [i])
        assert record.features["rgb"].tolist() == [[i] * 4] * (i + 1)
    with pytest.raises(RecordError, match="rgb"):
        open_record_file(name, sizes, {"rgb": 5}).read(0)


def test_records_are_numbered_through_all_files(files):
    index = index_records(files)
    assert len(index) == 5
    assert index.starts.tolist() == [0, 3, 3, 5]
    assert [index.place(i) for i in range(5)] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
    assert (np.diff(index.sizes) > 0).all()  # each record is longer than the one before
    for i in range(5):
        file, number = index.place(i)
        opened = open_record_file(index.paths[file], index.sizes_of(file), {"rgb": 4})
        assert len(opened) == len(index.sizes_of(file))
        record = opened.read(number)
        assert record.video_id == f"v{i}"
        assert record.features["rgb"].tolist() == [[i] * 4] * (i + 1)


@pytest.mark.parametrize("compression", [None, "gzip", "zlib"])
def test_sizes_and_offsets_are_those_of_the_records(work_dir, compression):
    contents = [b"", b"x" * 5, b"y" * 70_000, b"z"]
    write_records("a.tfrecord", contents, compression=compression)
    assert record_sizes("a.tfrecord").tolist() == [0, 5, 70_000, 1]
    if compression is None:
        offsets = record_offsets(record_sizes("a.tfrecord")).tolist()
        assert offsets == [0, 16, 37, 70_053]
        assert [f"{record.place}" for record in read_records("a.tfrecord")] == [
            f"a.tfrecord: record {number} at byte {offset}" for number, offset in enumerate(offsets)
        ]
        with Path("a.tfrecord").open("rb") as file:
            for number, offset in enumerate(offsets):
                size = len(contents[number])
                record = read_record(file, number=number, offset=offset, size=size)
                assert record == (contents[number], f"a.tfrecord: record {number} at byte {offset}")


def test_what_is_wrong_is_said_with_file_number_and_offset(work_dir):
    write_records("a.tfrecord", [b"x" * 100, b"y" * 100])
    whole = (work_dir / "a.tfrecord").read_bytes()
    (work_dir / "a.tfrecord").write_bytes(whole[:-1])
    with pytest.raises(RecordError, match=r"a\.tfrecord: record 1 at byte 116: truncated: .* download"):
        record_sizes("a.tfrecord")
    flipped = bytearray(whole)
    flipped[116] ^= 1
    (work_dir / "a.tfrecord").write_bytes(flipped)
    with pytest.raises(RecordError, match=r"record 1 at byte 116: wrong checksum of the length"):
        record_sizes("a.tfrecord")
    flipped = bytearray(whole)
    flipped[130] ^= 1
    (work_dir / "a.tfrecord").write_bytes(flipped)
    assert record_sizes("a.tfrecord").tolist() == [100, 100]  # data are only looked at when they are read
    with Path("a.tfrecord").open("rb") as file:
        with pytest.raises(RecordError, match=r"record 1 at byte 116: wrong checksum of the data"):
            read_record(file, number=1, offset=116, size=100)
        with pytest.raises(RecordError, match=r"record 9 at byte 999: truncated"):
            read_record(file, number=9, offset=999, size=100)
        with pytest.raises(RecordError, match=r"expected a record of 50 bytes: the file has changed; start"):
            read_record(file, number=0, offset=0, size=50)


def test_all_bad_files_are_named_at_once(files, work_dir):
    (work_dir / "a.tfrecord").write_bytes(b"no records at all")
    (work_dir / "c.tfrecord.gz").write_bytes((work_dir / "c.tfrecord.gz").read_bytes()[:-9])
    with pytest.raises(RecordError) as caught:
        index_records(files)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.tfrecord", "c.tfrecord.gz"]
    with pytest.raises(RecordError):
        index_records(files, cache="all.index.npz")
    with np.load("all.index.npz") as kept:  # what was counted beside the bad ones is kept
        assert b"b.tfrecord" in kept["marks"].tobytes()
    with pytest.raises(RecordError, match=r"gone\.tfrecord: cannot read .* correct the list"):
        index_records(["gone.tfrecord"])


def test_a_packed_file_that_unpacks_to_far_more_than_its_size_is_not_held_in_memory(work_dir):
    write_records("a.tfrecord.gz", [b"x" * 2**23] * 3, compression="gzip")
    sizes = read_sizes("a.tfrecord.gz")
    assert sizes.sum() == 3 * 2**23
    with pytest.raises(RecordError, match=r"gz: unpacks to 25165824 bytes, more than .* unpack it"):
        open_record_file("a.tfrecord.gz", sizes)


def test_the_index_is_kept_and_only_changed_files_are_looked_into_again(files, work_dir, monkeypatch):
    looked = []

    def look(path):
        looked.append(path)
        return read_sizes(path)

    monkeypatch.setattr(record_index, "read_sizes", look)
    first = index_records(files, cache="my.list.index.npz")
    assert sorted(looked) == files
    looked.clear()
    again = index_records(files, cache="my.list.index.npz")
    assert looked == []
    assert again.sizes.tolist() == first.sizes.tolist()
    assert again.starts.tolist() == first.starts.tolist()
    write_yt8m("b.tfrecord", [YT8MRecord("new", np.array([1]), {"rgb": np.zeros((2, 4), np.uint8)})])
    assert index_records(files, cache="my.list.index.npz").starts.tolist() == [0, 3, 4, 6]
    assert looked == ["b.tfrecord"]
    os.utime("a.tfrecord", (1, 1))
    index_records(files[:1], cache="my.list.index.npz")
    assert looked == ["b.tfrecord", "a.tfrecord"]


@pytest.mark.parametrize("damage", ["text", "pickle", "counts", "deep", "list of lists"])
def test_a_damaged_index_is_made_anew(files, work_dir, caplog, damage):
    cache = work_dir / "my.list.index.npz"
    index_records(files, cache=cache)
    if damage == "text":
        cache.write_text("nonsense")
    elif damage == "pickle":
        np.savez(cache, marks=np.array([{}]), counts=np.array([1]), sizes=np.array([1]))
    elif damage == "deep":
        marks = np.frombuffer(b"[" * 100_000, np.uint8)
        np.savez(cache, marks=marks, counts=np.array([1]), sizes=np.array([1]))
    elif damage == "list of lists":
        marks = np.frombuffer(b"[[1]]", np.uint8)
        np.savez(cache, marks=marks, counts=np.array([1]), sizes=np.array([1]))
    else:
        with np.load(cache) as arrays:
            np.savez(cache, marks=arrays["marks"], counts=arrays["counts"] + 1, sizes=arrays["sizes"])
    assert len(index_records(files, cache=cache)) == 5
    assert "not a record index" in caplog.text
    assert "b.tfrecord: no records (1 of 3 files have none); download them again" in caplog.text
    caplog.clear()
    index_records(files, cache=cache)
    assert "not a record index" not in caplog.text


def test_an_index_that_cannot_be_kept_is_no_error(files, work_dir):
    (work_dir / "file").write_text("")
    assert len(index_records(files, cache="file/my.index.npz")) == 5


def test_files_of_records_are_known_by_their_names():
    assert is_record_file("data/train00.tfrecord")
    assert is_record_file("TRAIN.TFRECORD.GZ")
    assert not is_record_file("a.npy")
    assert not is_record_file("tfrecord")
