"""What TensorFlow wrote is read, what is damaged is named, and nothing is believed beyond the file."""

import gzip
import logging
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.errors import OutputError, RecordError
from videotag.formats.tfrecord import read_records, write_records

GOLDEN = Path(__file__).parents[1] / "golden" / "train0000.tfrecord"
DATA = [b"first", b"", b"third record"]
PACKERS = {"plain": bytes, "gzip": gzip.compress, "zlib": zlib.compress}


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(data, *, length=None):
    header = struct.pack("<Q", len(data) if length is None else length)
    return header + masked(header) + data + masked(data)


@pytest.fixture
def file_of(tmp_path):
    def write(content):
        path = tmp_path / "some.tfrecord"
        path.write_bytes(content)
        return path

    return write


def read(path, **options):
    return [record.data for record in read_records(path, **options)]


def read_until_error(path):
    """The records before the first error, and its message; None if there is none."""
    found = []
    try:
        for record in read_records(path):
            found.append(record.data)
    except RecordError as error:
        return found, str(error)
    return found, None


def test_every_record_of_tensorflow_is_found_where_it_stands():
    content = GOLDEN.read_bytes()
    offset = 0
    for number, record in enumerate(read_records(GOLDEN)):
        assert content[offset:].startswith(framed(record.data))
        assert record.place == f"{GOLDEN}: record {number} at byte {offset}"
        offset += len(record.data) + 16
    assert (number, offset) == (7, len(content))


def test_records_are_written_as_tensorflow_writes_them(tmp_path):
    assert write_records(tmp_path / "new", read(GOLDEN)) == 8
    assert (tmp_path / "new").read_bytes() == GOLDEN.read_bytes()


def test_checksums_are_the_published_ones():
    # RFC 3720, B.4: the CRC-32C of 32 zero bytes.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert framed(bytes(32))[-4:] == struct.pack(
        "<I", ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) % 2**32
    )


@pytest.mark.parametrize("compression", [None, "gzip", "zlib"])
def test_what_is_written_is_read_back_and_is_the_same_every_time(tmp_path, compression):
    for name in "ab":
        assert write_records(tmp_path / name, iter(DATA), compression=compression) == 3
    assert read(tmp_path / "a") == DATA
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_the_content_decides_how_a_file_is_packed(file_of, pack):
    assert read(file_of(pack(GOLDEN.read_bytes()))) == read(GOLDEN)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_no_records_are_no_error(file_of, pack):
    assert read(file_of(pack(b""))) == []


@pytest.mark.parametrize("length", [0x088B1F, 0x9C78])
def test_a_record_whose_length_looks_like_a_packed_file_is_read_as_it_is(file_of, length):
    assert read(file_of(framed(bytes(length)))) == [bytes(length)]


def test_gzip_files_behind_each_other_and_zeros_at_the_end_are_read(file_of):
    half = framed(DATA[0]) + framed(DATA[2])[:9]
    rest = framed(DATA[2])[9:]
    packed = gzip.compress(half) + bytes(3) + gzip.compress(b"") + gzip.compress(rest) + bytes(70_000)
    assert read(file_of(packed)) == [DATA[0], DATA[2]]


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_file_cut_anywhere_yields_its_whole_records_and_then_an_error(file_of, pack):
    content = pack(b"".join(map(framed, DATA)))
    ends = {0: 0, 21: 1, 37: 2, 65: 3}  # where a plain file may end
    for size in range(len(content)):
        found, message = read_until_error(file_of(content[:size]))
        if size == 0 or (pack is bytes and size in ends):
            assert (len(found), message) == (ends[size], None)
            continue
        assert re.search(r"some.tfrecord: record \d at .*byte \d+: .*download or copy", message)
        assert found == DATA[: len(found)]
        if pack is bytes:
            assert len(found) == sum(0 < end <= size for end in ends)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_flipped_bit_anywhere_is_found(file_of, pack):
    content = pack(b"".join(map(framed, DATA)))
    # Some bits of a gzip header (time, system, a name's flag) and of zlib's mean nothing to the content.
    missed = 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        found, message = read_until_error(file_of(bytes(flipped)))
        assert found == DATA[: len(found)]
        if message is None:
            assert found == DATA
            missed += 1
        else:
            assert f"some.tfrecord: record {len(found)} at " in message
    assert missed <= {bytes: 0, gzip.compress: 80, zlib.compress: 16}[pack]


def test_the_message_says_which_record_is_damaged_how_and_what_to_do(file_of):
    good = framed(b"abc")
    bad_length = bytearray(good)
    bad_length[0] ^= 1
    bad_data = bytearray(good)
    bad_data[12] ^= 1
    again = "download or copy the file again"
    cases = {
        good + bytes(bad_length): f"record 1 at byte 19: wrong checksum of the length: .*; {again}",
        good * 2 + bytes(bad_data): f"record 2 at byte 38: wrong checksum of the data: damaged; {again}",
        good + good[:5]: f"record 1 at byte 19: truncated: the file ends inside the record's header; {again}",
        good + good[:17]: "record 1 at byte 19: truncated: a record of 3 bytes, but at most 5 are left",
        b"no records at all": "record 0 at byte 0: wrong checksum of the length: not a TFRecord file",
        gzip.compress(good + good[:17]): "record 1 at unpacked byte 19: truncated: .* inside the record of 3",
        gzip.compress(good)[:-3]: r"record 1 at unpacked byte 19: cannot decompress \(it ends too early\)",
    }
    for content, message in cases.items():
        with pytest.raises(RecordError, match=f"some.tfrecord: {message}"):
            read(file_of(content))


def test_stop_ends_at_the_bad_record_with_a_warning(file_of, caplog):
    path = file_of(framed(b"abc") + framed(b"abc")[:-1] + framed(b"abc"))
    with caplog.at_level(logging.WARNING):
        assert read(path, on_error="stop") == [b"abc"]
    assert "record 1 at byte 19: wrong checksum" in caplog.text
    assert "skipping the rest of the file" in caplog.text


def test_an_error_of_the_reader_of_records_is_not_taken_for_a_bad_file(file_of):
    with pytest.raises(RecordError, match="mine"):  # noqa: PT012 - the loop is what is tested
        for _ in read_records(file_of(framed(b"abc")), on_error="stop"):
            raise RecordError("mine")


def test_what_cannot_be_opened_is_an_error_even_with_stop(tmp_path):
    with pytest.raises(RecordError, match="none: no such file; correct the path"):
        read(tmp_path / "none", on_error="stop")
    with pytest.raises(RecordError, match="cannot read"):
        read(tmp_path, on_error="stop")


def test_an_unfinished_file_is_not_there(tmp_path):
    def records():
        yield b"abc"
        raise KeyError

    with pytest.raises(KeyError):
        write_records(tmp_path / "new", records())
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError):
        write_records(tmp_path / "folder", DATA)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("length", [10**6, 2**31, 2**62, 2**64 - 1])
def test_a_claimed_length_reserves_nothing(file_of, pack, length):
    path = file_of(pack(framed(b"abc", length=length)))
    tracemalloc.start()
    with pytest.raises(RecordError, match="truncated"):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_packed_file_does_not_unpack_beyond_its_bound(file_of):
    size = 2**26
    content = gzip.compress(framed(bytes(size)))
    tracemalloc.start()
    with pytest.raises(RecordError, match=rf"a record of {size} bytes, but at most {2**24} are left"):
        read(file_of(content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


@settings(deadline=None)  # a busy disk
@given(content=st.binary(max_size=200), pack=st.sampled_from(list(PACKERS.values())), whole=st.booleans())
def test_no_file_makes_anything_but_a_record_error(tmp_path_factory, content, pack, whole):
    path = tmp_path_factory.getbasetemp() / "fuzz.tfrecord"
    path.write_bytes(pack((framed(b"abc") if whole else b"") + content))
    try:
        found = read(path)
    except RecordError:
        return
    assert b"".join(map(framed, found)) == (framed(b"abc") if whole else b"") + content


@settings(deadline=None)  # a busy disk
@given(
    start=st.sampled_from([gzip.compress(framed(b"abc"))[:12], zlib.compress(framed(b"abc"))[:3]]),
    rest=st.binary(),
)
def test_no_packed_rubbish_makes_anything_but_a_record_error(tmp_path_factory, start, rest):
    path = tmp_path_factory.getbasetemp() / "packed_fuzz.tfrecord"
    path.write_bytes(start + rest)
    with pytest.raises(RecordError):
        read(path)
