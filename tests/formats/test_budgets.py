"""Small files that want much memory: refused in one line, at little cost; each in a process of its own."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from videotag.errors import FeatureFileError, FileListError, LabelFileError, WeightsError
from videotag.formats import archives, filelist, record_index
from videotag.formats.feature_files import read_modalities, read_vectors
from videotag.formats.filelist import read_filelist
from videotag.formats.protobuf_wire import field
from videotag.formats.tfrecord import write_records
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.labels import read_labels
from videotag.system import text

MOST_MB = 500  # above what reading anything takes
CHILD = """
import resource, sys
from videotag.errors import VideotagError
from videotag.formats.feature_files import read_modalities
from videotag.formats.record_files import open_record_file, read_sizes
from videotag.formats.weight_files import read_weights
from videotag.formats.yt8m_pickles import read_yt8m_pickle
from videotag.formats.yt8m_records import read_yt8m

def records(path):
    return open_record_file(path, read_sizes(path))

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list({call}(sys.argv[1]))
    print("read")
except VideotagError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def npz_bomb():
    data = io.BytesIO()
    np.savez_compressed(data, rgb=np.zeros((20_000, 1024), np.float32))
    return data.getvalue()


def npz_that_claims_its_size():
    data = bytearray(npz_bomb())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 24] = struct.pack("<I", 2**31)  # of the packed bytes
    return bytes(data)


def tar(members, *, mode="w:gz", **options):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, **options) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def tar_of_headers():
    """Global headers that tarfile keeps for every member."""
    names = {f"k{number}": "v" for number in range(60_000)}
    return tar([(f"{n}.txt", b"") for n in range(300)], format=tarfile.PAX_FORMAT, pax_headers=names)


def xz_with_a_window_of_a_gigabyte():
    data = bytearray(lzma.compress(tar([("a.pdparams", b"\x80\x02}.")], mode="w"), preset=0))
    size = (data[12] + 1) * 4  # of the block's header, behind the stream's of 12 bytes
    place = data.index(b"\x21\x01", 12) + 2
    data[place] = 36  # 2**30 bytes
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    return bytes(data)


def laughs(depth=12):
    parts = [b"\x80\x04]X\x03\x00\x00\x00lolaq\x00"]
    parts += [b"](" + bytes([ord("h"), n]) * 10 + b"e" + bytes([ord("q"), n + 1]) for n in range(depth)]
    return b"".join(parts) + b"X\x05\x00\x00\x00numpyh" + bytes([depth]) + b"\x93."


def deep():
    return b"\x80\x04X\x05\x00\x00\x00numpy)" + b"\x85" * 200_000 + b"\x93."


def many_dicts_of_one_list():
    pairs = b"".join(b"J" + struct.pack("<i", number) + b"K\x00\x86" for number in range(5000))
    head = b"\x80\x02(" + pairs + b"lq\x00ccollections\nOrderedDict\nq\x01h\x00\x85q\x02]"
    return head + b"h\x01h\x02Ra" * 10_000 + b"."


def one_array_under_many_names():
    data = io.BytesIO()
    array = np.zeros(2**19, np.uint16)  # read as bfloat16, into float32
    data.write(b"\x80\x02}q\x00(")
    for number in range(2000):
        data.write(b"X\x04\x00\x00\x00%04d" % number)
        if number:
            data.write(b"h\x01")
            continue
        from videotag.formats.pickles import array_parts

        data.write(b"".join(array_parts(array, protocol=3)) + b"q\x01")
    return data.getvalue() + b"u."


def ids(count=90_000, length=4000):
    text_of = lambda value: b"X" + struct.pack("<I", len(value)) + value  # noqa: E731
    head = b"\x80\x02" + text_of(b"video") + b"q\x00" + text_of(b"x" * length) + b"q\x01]"
    return head + b"}h\x00h\x01sa" * count + b"."


def records_of_nothing():
    empty = io.BytesIO()
    length = bytes(8)
    from videotag.formats.tfrecord import _masked_crc

    empty.write(length + _masked_crc(length) + _masked_crc(b""))
    return gzip.compress(empty.getvalue() * 2**20)


def example_of_many_fields(tmp_path):
    step = field(1, field(3, field(1, b"\x05")))
    steps = field(1, field(3, field(1, b"\x05\x06"))) + step * 10**6  # unlike, so parsed one by one
    write_records(
        tmp_path / "a", [field(2, field(1, field(1, b"rgb") + field(2, steps)))], compression="gzip"
    )
    return (tmp_path / "a").read_bytes()


def shard_of_one_array_many_times():
    rows = 2**17
    entries = {"__metadata__": {"format": "videotag.yt8m_shard", "version": "1"}}
    entry = lambda kind, *shape, end: {"dtype": kind, "shape": list(shape), "data_offsets": [0, end]}  # noqa: E731
    entries |= {"ids": entry("U8", 0, end=0), "labels": entry("I64", 0, end=0)}
    entries |= {name: entry("I64", rows, end=8 * rows) for name in ("id_offsets", "label_offsets")}
    for number in range(2000):
        entries[f"rows.{number}"] = entry("U8", 0, 4, end=0)
        entries[f"row_offsets.{number}"] = entry("I64", rows, end=8 * rows)
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8 * rows)


CASES = [
    (
        "a.npz",
        npz_bomb,
        "modalities",
        r"\[rgb\]: unpacks from \d+ to 81920128 bytes, more than features",
    ),
    (
        "a.npz",
        npz_that_claims_its_size,
        "modalities",
        "damaged or truncated; .*2147483648 bytes in a file of",
    ),
    (
        "a.tar",
        tar_of_headers,
        "read_weights",
        "headers of more than 524288 bytes, more than weights ever need",
    ),
    ("a.tar", xz_with_a_window_of_a_gigabyte, "read_weights", "damaged archive .*[Mm]emory usage limit"),
    (
        "a.tar",
        lambda: tar([("a.txt", bytes(10**8))]),
        "read_weights",
        "a.txt unpacks to 100000000 bytes, more than weights ever need",
    ),
    (
        "a.tar",
        lambda: tar([(f"{n}.txt", bytes(3 * 10**6)) for n in range(30)], mode="w:bz2"),
        "read_weights",
        "unpacks to more than 4194304 bytes, more than weights ever need",
    ),
    (
        "a.tar",
        lambda: tar([("a.pdparams", b"\x80\x02" + b"}" * 4 * 10**6)]),
        "read_weights",
        "a pickle of more than 649288 opcodes, more than arrays ever need",
    ),
    ("a.pdparams", laughs, "read_weights", r"damaged pickle \(a global whose name is not text\)"),
    ("a.pkl", laughs, "read_yt8m_pickle", r"damaged pickle \(a global whose name is not text\)"),
    ("a.pdparams", deep, "read_weights", r"damaged pickle \(a global whose name is not text\)"),
    ("a.pkl", deep, "read_yt8m_pickle", r"damaged pickle \(a global whose name is not text\)"),
    ("a.pkl", many_dicts_of_one_list, "read_yt8m_pickle", r"a pickle of more than \d+ opcodes"),
    ("a.pdparams", one_array_under_many_names, "read_weights", "^read$"),
    ("a.pkl", ids, "read_yt8m_pickle", "'video' of 4000 characters, expected at most 1024"),
    ("a.pkl", lambda: ids(length=1000), "read_yt8m_pickle", "^read$"),
    ("a.tfrecord.gz", records_of_nothing, "records", "too many records for a file of its size"),
    ("a.tfrecord.gz", None, "read_yt8m", "more than 1048576 fields and numbers"),
    (
        "a.safetensors",
        shard_of_one_array_many_times,
        "records",
        r"damaged shard: \d+ bytes of arrays .* they overlap",
    ),
]


@pytest.mark.parametrize(("name", "build", "call", "message"), CASES)
def test_a_small_file_costs_little_memory(tmp_path, name, build, call, message):
    path = tmp_path / name
    path.write_bytes(build() if build else example_of_many_fields(tmp_path))
    call = "(lambda path: read_modalities(path, {'rgb': None}))" if call == "modalities" else call
    code = CHILD.replace("{call}", call)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    *lines, grown_mb = done.stdout.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert int(grown_mb) < MOST_MB


def test_what_a_zip_says_of_its_members_is_bounded(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number:040}.npy", b"")
    with pytest.raises(FeatureFileError, match="no array rgb"):
        read_modalities(tmp_path / "a.npz", {"rgb": None})
    monkeypatch.setattr(archives, "MAX_ZIP_DIRECTORY", 1000)
    monkeypatch.setattr(archives, "_ZIP_END", 2000)
    with pytest.raises(FeatureFileError, match="a directory of members of more than 3000 bytes"):
        read_modalities(tmp_path / "a.npz", {"rgb": None})


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_read_as_it_was(tmp_path, mode):
    values = np.random.default_rng(0).random(50_000)
    write_pdparams(tmp_path / "a.pdparams", {"a": values})
    content = (tmp_path / "a.pdparams").read_bytes()
    long_name = "folder/" * 40 + "a.pdparams"
    (tmp_path / "a.tar").write_bytes(tar([("x.txt", b"x"), (long_name, content), ("y", b"")], mode=mode))
    np.testing.assert_array_equal(read_weights(tmp_path / "a.tar")["a"], values)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_unpacked_files_are_read_and_sought_in_as_if_they_were_plain(pack):
    content = np.random.default_rng(0).integers(0, 4, 300_000, np.uint8).tobytes()
    packed = pack(content[:100_000]) + pack(content[100_000:])  # one behind the other
    file = archives.Decompressed(io.BytesIO(packed), len(content))
    assert file.read() == content
    for start, size in ((0, 10), (299_990, 100), (150_000, 70_000), (99_999, 2), (5, 0)):
        assert file.seek(start) == start
        assert file.read(size) == content[start : start + size]
    assert file.seek(-4, 2) == len(content) - 4
    with pytest.raises(archives.ArchiveError, match="unpacks to more than 299999 bytes"):
        archives.Decompressed(io.BytesIO(packed), len(content) - 1).read()
    cut = archives.Decompressed(io.BytesIO(packed[:-20]), len(content))
    with pytest.raises(EOFError):
        cut.read()


def test_a_line_of_a_list_is_bounded(tmp_path):
    path = tmp_path / "a.list"
    path.write_bytes(b"a.npy 1\n" + b"b" * (filelist._MAX_LINE + 1))
    with pytest.raises(FileListError, match="list:2: a line of 4194305 bytes, expected at most 4194304"):
        read_filelist(path, must_exist=False)
    path.write_text("a.npy" + " 1" * 10_000)
    with pytest.raises(FileListError) as caught:
        read_filelist(path, must_exist=False)
    assert len(str(caught.value).splitlines()) == 50


def test_a_list_of_bad_lines_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.list"
    path.write_text("nothing.npy x\n" * 5000)
    with pytest.raises(FileListError, match=r"a\.list:1 and 999 more: "):
        read_filelist(path, must_exist=False)


def test_lines_of_a_list_that_hold_nothing_are_bounded(tmp_path):
    path = tmp_path / "a.list"
    path.write_bytes(b"\n" * (text.MAX_LIST_LINES + 1))
    with pytest.raises(
        FileListError, match="10000001 lines, expected at most 10000000; split it into several"
    ):
        read_filelist(path)


def test_lines_of_a_list_that_hold_nothing_take_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(
        filelist, "MAX_LIST_BYTES", 2**21
    )  # a buffer of this size is made, hardly any of it used
    path = tmp_path / "a.list"
    path.write_bytes(b"  \n# a\n" * 200_000 + b'"a b.npy" 1\n\n')
    tracemalloc.start()
    try:
        (entry,) = read_filelist(path, must_exist=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (entry.path, entry.label_ids, entry.line) == ("a b.npy", (1,), 400_001)
    assert peak < 6 * path.stat().st_size


def test_lists_and_label_files_have_a_largest_size(tmp_path, monkeypatch):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"a\n" * (text.MAX_TEXT_BYTES // 2) + b"a")
    with pytest.raises(LabelFileError, match="4194305 bytes or more, expected at most 4194304; give a text"):
        read_labels(path)
    monkeypatch.setattr(filelist, "MAX_LIST_BYTES", 10)
    with pytest.raises(FileListError, match="expected at most 10; a list is text"):
        read_filelist(path)


def test_a_long_header_of_safetensors_is_refused_unread(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**24) + b"{" + bytes(100))
    with pytest.raises(WeightsError, match="a header of more than 8388608 bytes; download it again"):
        read_weights(tmp_path / "a.safetensors")


def test_an_index_of_too_many_names_is_made_anew(tmp_path, monkeypatch, caplog):
    write_records(tmp_path / "a.tfrecord", [b"x"])
    cache = tmp_path / "a.index.npz"
    record_index.index_records([str(tmp_path / "a.tfrecord")], cache=cache)
    assert list(read_vectors(cache, ["counts"])["counts"]) == [1]
    monkeypatch.setattr(record_index, "_MAX_MARKS", 10)
    assert len(record_index.index_records([str(tmp_path / "a.tfrecord")], cache=cache)) == 1
    assert "file names of more than 10 bytes" in caplog.text
