"""Parsing against the official protobuf package, the strided way against step by step, and hostile bytes."""

import contextlib
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.errors import RecordError
from videotag.formats import tf_example
from videotag.formats.protobuf_wire import WireError, field, fields, read_varint, varint
from videotag.formats.tf_example import Example, encode_example, parse_example
from videotag.formats.tfrecord import read_records

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
from records import protobuf_message

GOLDEN = Path(__file__).parents[1] / "golden" / "train0000.tfrecord"
SequenceExample = protobuf_message("SequenceExample")
KINDS = {"bytes_list": None, "float_list": np.float32, "int64_list": np.int64}

NAMES = st.sampled_from(["rgb", "audio", "id", "labels", "名"])
INT64 = st.integers(-(2**63), 2**63 - 1)
FEATURES = (
    st.lists(st.binary(max_size=5), max_size=3).map(tuple)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(lambda v: np.array(v, np.float32))
    | st.lists(INT64, max_size=4).map(lambda v: np.array(v, np.int64))
)
STEPS = (
    st.lists(FEATURES, max_size=4)
    | st.tuples(FEATURES, st.integers(0, 4)).map(lambda pair: [pair[0]] * pair[1])
    | st.lists(st.binary(min_size=3, max_size=3).map(lambda v: (v,)), max_size=5)
)
EXAMPLES = st.builds(Example, st.dictionaries(NAMES, FEATURES), st.dictionaries(NAMES, STEPS))


def plain(feature):
    """A feature as comparable values; those without values are alike, whatever their kind."""
    if isinstance(feature, np.ndarray):
        return (feature.dtype.str[1], feature.tolist()) if feature.size else ()
    return ("b", list(feature)) if feature else ()


def plain_list(steps):
    if not isinstance(steps, np.ndarray):
        return [plain(step) for step in steps]
    return [plain((step.tobytes(),) if steps.dtype == np.uint8 else step) for step in steps]


def plain_example(example):
    context = {name: plain(value) for name, value in example.context.items()}
    return context, {name: plain_list(steps) for name, steps in example.feature_lists.items()}


def official_feature(message):
    kind = message.WhichOneof("kind")
    if kind is None:
        return ()
    values = list(getattr(message, kind).value)
    return tuple(values) if KINDS[kind] is None else np.array(values, KINDS[kind])


def official(message):
    """What the official package found, as our Example."""
    lists = message.feature_lists.feature_list
    return Example(
        {name: official_feature(value) for name, value in message.context.feature.items()},
        {name: [official_feature(step) for step in steps.feature] for name, steps in lists.items()},
    )


@given(example=EXAMPLES)
@settings(deadline=None)
def test_what_we_write_the_official_package_reads(example):
    message = SequenceExample.FromString(encode_example(example))
    assert plain_example(official(message)) == plain_example(example)


@given(example=EXAMPLES)
@settings(deadline=None)
def test_what_the_official_package_writes_we_read(example):
    data = SequenceExample.FromString(encode_example(example)).SerializeToString()
    assert plain_example(parse_example(data)) == plain_example(example)


@given(example=EXAMPLES, change=st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=3)))
@settings(deadline=None, max_examples=500)
def test_no_change_makes_anything_but_a_record_error_or_what_the_official_package_reads(example, change):
    data = bytearray(encode_example(example))
    position = change[0] % (len(data) + 1)
    data[position : position + len(change[1])] = change[1]
    try:
        found = parse_example(bytes(data))
    except RecordError:
        return
    try:
        expected = official(SequenceExample.FromString(bytes(data)))
    except (DecodeError, UnicodeDecodeError):  # it also checks that names are UTF-8
        return
    for ours, theirs in zip(plain_example(found), plain_example(expected), strict=True):
        # It leaves out names beside which there is an unknown field, other than the format's own text has it.
        for name, value in theirs.items():
            assert repr(ours[name]) == repr(value)  # NaN is not equal to itself


@given(data=st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_record_error(data):
    with contextlib.suppress(RecordError):
        parse_example(data)


@pytest.mark.parametrize("size", [1, 2, 3, 20, 100])
def test_a_message_cut_anywhere_is_read_in_part_or_is_an_error(size):
    for data, _ in list(read_records(GOLDEN))[1:2]:
        for end in range(0, len(data), size):
            try:
                parse_example(data[:end])
            except RecordError:
                continue
            assert end in (0, 44)  # behind the context, which is a message too


def test_golden_records_take_the_strided_way(monkeypatch):
    expected = [parse_example(record.data) for record in read_records(GOLDEN)]

    def refuse(steps):
        raise AssertionError("step by step")

    monkeypatch.setattr(tf_example, "_stacked", refuse)
    assert len([parse_example(record.data) for record in read_records(GOLDEN)]) == 8
    monkeypatch.undo()
    monkeypatch.setattr(tf_example, "_strided_steps", lambda *_: None)
    slow = [parse_example(record.data) for record in read_records(GOLDEN)]
    for fast_example, slow_example in zip(expected, slow, strict=True):
        for name, steps in fast_example.feature_lists.items():
            np.testing.assert_array_equal(steps, slow_example.feature_lists[name], strict=True)


def one_list(*steps):
    """The only feature list of a message of given steps."""
    entry = field(1, b"rgb") + field(2, b"".join(field(1, step) for step in steps))
    return parse_example(field(2, field(1, entry))).feature_lists["rgb"]


def step(value):
    return field(1, field(1, value))


def test_steps_of_unequal_length_stay_apart():
    assert one_list(step(b"abc"), step(b"d"), step(b"")) == [(b"abc",), (b"d",), (b"",)]


@pytest.mark.parametrize(
    "odd",
    [
        field(1, field(7, b"unknown") + field(1, b"abc")),
        field(7, b"unknown") + step(b"abc"),
        step(b"abc") + varint(9 << 3) + varint(300),
        field(1, b"") + step(b"abc"),
        step(b"lost") + field(2, field(1, bytes(4))) + step(b"abc"),  # another kind: the last counts
        b"\x0a\x85\x00\x0a\x03abc",  # a size written longer than it need be
    ],
)
def test_oddly_written_steps_are_read_all_the_same(odd):
    expected = np.frombuffer(b"abcabcxyz", np.uint8).reshape(3, 3)
    for steps in ([odd, step(b"abc"), step(b"xyz")], [step(b"abc"), odd, step(b"xyz")]):
        np.testing.assert_array_equal(one_list(*steps), expected, strict=True)


def test_a_step_of_the_same_length_but_another_layout_is_not_taken_for_a_value():
    other = field(1, field(9, b"abc"))  # an unknown field of the size of a value
    assert one_list(step(b"abc"), other) == [(b"abc",), ()]


@pytest.mark.parametrize("num_steps", [0, 1, 3])
@pytest.mark.parametrize("dim", [0, 1, 127, 128, 20_000])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_lists_come_back_with_their_type_and_shape(num_steps, dim, dtype):
    steps = (np.arange(num_steps * dim) % 251).astype(dtype).reshape(num_steps, dim)
    found = parse_example(encode_example(Example({}, {"rgb": steps}))).feature_lists["rgb"]
    if num_steps:
        np.testing.assert_array_equal(found, steps, strict=True)
        assert found.flags.writeable
    else:
        assert (found.shape, found.dtype) == ((0, 0), np.uint8)


def numbers(kind, content):
    data = field(1, field(1, field(1, b"x") + field(2, field(kind, content))))
    return parse_example(data).context["x"]


def test_numbers_are_read_packed_and_unpacked_and_both():
    packed = field(1, varint(1) + varint(-1) + varint(300))
    unpacked = b"".join(varint(1 << 3) + varint(value) for value in (1, -1, 300))
    for content in (packed, unpacked):
        assert numbers(3, content).tolist() == [1, -1, 300]
    assert numbers(3, packed + unpacked).tolist() == [1, -1, 300] * 2
    floats = struct.pack("<2f", 1.5, -2)
    single = b"\x0d" + floats[:4] + b"\x0d" + floats[4:]
    for content in (field(1, floats), single):
        assert numbers(2, content).tolist() == [1.5, -2]
    with pytest.raises(RecordError, match="7 bytes of float32 values"):
        numbers(2, field(1, floats[:7]))


def test_of_equal_names_the_last_counts_and_parts_are_put_together():
    def entry(*values):
        return field(1, field(1, b"x") + b"".join(field(2, value) for value in values))

    assert parse_example(field(1, entry(step(b"a")) + entry(step(b"b")))).context == {"x": (b"b",)}
    assert parse_example(field(1, entry(step(b"a"), step(b"b")))).context == {"x": (b"a", b"b")}
    assert parse_example(field(1, entry(step(b"a"))) + field(1, entry(step(b"b")))).context == {"x": (b"b",)}


def test_float_steps_without_values_have_no_width():
    empty = field(2, field(1, b""))  # packed, of size 0
    np.testing.assert_array_equal(one_list(empty, empty), np.empty((2, 0), np.float32), strict=True)


def test_an_empty_message_has_nothing_in_it():
    assert parse_example(b"") == Example({}, {})
    assert encode_example(Example({}, {})) == b""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05abc", "field 1 ends 2 bytes beyond its message"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "field 1 ends .* bytes beyond its message"),
        (b"\x80" * 11, "an unterminated number"),
        (b"\x0b", "wire type 3 in field 1"),
        (b"\x02\x00", "field number 0"),
    ],
)
def test_the_wire_says_what_is_wrong(data, message):
    with pytest.raises(WireError, match=message):
        list(fields(data, 0, len(data)))
    with pytest.raises(
        RecordError, match=rf"^here: not a tf.Example .*{message}.*does the file hold other records"
    ):
        parse_example(data, place="here")


@given(value=INT64)
def test_a_varint_comes_back_as_its_twos_complement(value):
    data = b"x" + varint(value) + b"x"
    assert read_varint(data, 1, len(data)) == (value % 2**64, len(data) - 1)


HOSTILE = {
    "empty steps": field(2, field(1, field(1, b"rgb") + field(2, b"\x0a\x00" * 50_000))),
    "steps of one byte": field(2, field(1, field(2, field(1, step(b"a")) * 20_000 + field(1, b"")))),
    "empty strings": field(1, field(1, field(2, field(1, b"\x0a\x00" * 50_000)))),
    "small numbers": field(1, field(1, field(2, field(3, field(1, b"\x01" * 100_000))))),
    "numbers one by one": field(1, field(1, field(2, field(3, b"\x08\x01" * 50_000)))),
    "floats one by one": field(1, field(1, field(2, field(2, b"\x0d1234" * 20_000)))),
    "lists of no numbers": field(2, field(1, field(2, b"\x0a\x02\x12\x00" * 25_000 + b"\x0a\x00"))),
    "parts": field(2, field(1, b"\x12\x00" * 50_000)),
    "parts of a feature": field(1, field(1, field(2, b"\x0a\x00" * 50_000))),
    "entries": field(1, b"\x0a\x00" * 50_000),
    "names": field(1, b"".join(field(1, field(1, b"%05d" % number)) for number in range(10_000))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_memory_stays_a_small_multiple_of_the_bytes(data):
    tracemalloc.start()
    parse_example(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * len(data)
