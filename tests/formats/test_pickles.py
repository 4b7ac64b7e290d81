import collections
import contextlib
import io
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from videotag.formats.pickles import BoundedReader, dump_arrays, load


def loads(content, **options):
    return load(BoundedReader(io.BytesIO(content), len(content)), **options)


def same(left, right):
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.just(np.int32(7))
)
DTYPES = (
    st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
    .flatmap(lambda code: st.sampled_from([f"<{code}", f">{code}"]))
    .map(np.dtype)
)
ARRAYS = st_numpy.arrays(DTYPES, st_numpy.array_shapes(min_dims=0, min_side=0)) | st.just(
    np.array([True, False])
)
KEYS = st.text() | st.binary() | st.integers()
VALUES = st.recursive(
    PLAIN | ARRAYS | ARRAYS.map(np.transpose),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_and_arrays_read_as_python_wrote_them(value, protocol):
    assert same(loads(pickle.dumps(value, protocol)), value)


def test_arrays_are_read_only_views():
    assert not loads(pickle.dumps(np.zeros(3), 4)).flags.writeable
    assert not loads(pickle.dumps(np.zeros(3), 5)).flags.writeable


def test_array_that_occurs_twice_is_one_array():
    array = np.arange(3)
    first, second = loads(pickle.dumps([array, array], 4))
    assert first is second
    np.testing.assert_array_equal(first, array)


def test_ordered_dict_becomes_a_dict_in_the_same_order():
    value = collections.OrderedDict([("b", 1), ("a", 2)])
    for protocol in (2, 3, 4):
        assert list(loads(pickle.dumps(value, protocol)).items()) == [("b", 1), ("a", 2)]


def test_pickle_of_python_2_and_old_numpy_is_read():
    content = (  # {'w': array([1, 2], float32)} as Python 2.7 with NumPy 1.16 writes it: text is bytes
        b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04"
        b"U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03"
        b"U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x08\x00\x00\x80?\x00\x00\x00@q\x0ftq\x10bs."
    )
    np.testing.assert_array_equal(loads(content)["w"], np.array([1, 2], np.float32))


@given(
    arrays=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), ARRAYS | ARRAYS.map(np.transpose)
    )
)
def test_dumped_arrays_read_back_by_python_and_by_load_in_little_endian(arrays):
    content = b"".join(dump_arrays(arrays))
    expected = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    assert same(pickle.loads(content), expected)
    assert same(loads(content), expected)
    assert content == b"".join(dump_arrays(dict(arrays)))


def test_dumped_arrays_name_the_core_that_old_numpy_has():
    content = b"".join(dump_arrays({"a": np.zeros(2)}))
    assert b"numpy.core.multiarray" in content
    assert b"_core" not in content


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy", "save"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "empty"),
        ("functools", "partial"),
        ("pickle", "loads"),
        ("videotag.formats.pickles", "load"),
        ("numpy", "ndarray.tofile"),
    ],
)
def test_any_other_name_is_refused(protocol, module, name):
    if protocol == 2:
        content = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x04\x00\x00\x00true\x85R."
    else:
        content = (
            b"\x80\x04" + b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name)) + b"\x93."
        )
    with pytest.raises(
        pickle.UnpicklingError, match=r"refers to '.*'; not read because pickles can run code; save it"
    ):
        loads(content)


def test_attack_does_not_run(tmp_path):
    ran = tmp_path / "ran"
    for protocol in (2, 4):
        content = pickle.dumps({"w": Attack(eval, f"open({str(ran)!r}, 'w')")}, protocol)
        with pytest.raises(pickle.UnpicklingError, match=r"refers to 'builtins\.eval'"):
            loads(content)
        assert not ran.exists()
        pickle.loads(content)["w"].close()  # the attack is real: Python itself runs it
        assert ran.exists()
        ran.unlink()


def test_array_of_objects_is_refused():
    with pytest.raises(
        pickle.UnpicklingError, match="an array of Python objects, expected numbers; not read because"
    ):
        loads(pickle.dumps(np.array([{}], dtype=object)))


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.zeros(2, "f4,i4"), np.zeros(2, "M8[s]"), np.zeros(2, complex)]
)
def test_array_of_other_than_numbers_is_refused(array):
    with pytest.raises(pickle.UnpicklingError, match=r"an array of dtype '\w+', expected numbers"):
        loads(pickle.dumps(array, 4))


NAMED_CLASS = b"\x80\x02cnumpy\nndarray\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: the file ends too early; copy or download it again"),
        (pickle.dumps(np.zeros(9), 4)[:-9], "truncated"),
        (b"\x80\x04\x8e" + (2**50).to_bytes(8, "little"), "truncated"),
        (b"\x80\x05\x96" + (2**50).to_bytes(8, "little"), "truncated"),
        (b"\x80\x04X\xff\xff\xff\xff", "truncated"),
        (b"\x80\x04\xfe.", "damaged pickle"),
        (b"\x80\x04.", "damaged pickle"),
        (b"\x80\x04u.", "damaged pickle"),
        (b"\x80\x04h\x07.", "damaged pickle"),
        (b"\x80\x04NR.", "damaged pickle"),
        (b"\x80\x04N\x86.", "a tuple of 2 items with 1 on the stack"),
        (b"\x80\x04]K\x01K\x02s.", "items set on something other than a dict"),
        (b"\x80\x04}K\x01a.", "items appended to something other than a list"),
        (b"\x80\x04}(K\x01u.", "a key without a value"),
        (b"\x80\x04}]K\x01s.", "a list as a dict key"),
        (b"\x80\x04K\x01Q.", "a persistent id in a file that has no storages"),
        (NAMED_CLASS + b")R.", "a call of something other than a function"),
        (NAMED_CLASS + b"}b.", "state for an object that has none"),
        (NAMED_CLASS + b")\x81.", "opcode NEWOBJ in the pickle, which arrays do not need"),
        (b"N2.", "opcode DUP in the pickle"),
    ],
)
def test_malformed_pickle_is_named(content, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        loads(content)


SIZE = (10**6).to_bytes(4, "little")
TEXT = (  # a list of text of Python 2, the dtype |u1 and the shape of an array of all of it, all in the memo
    (b"\x80\x02]T" + SIZE + b"a" * 10**6 + b"q\x00acnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN")
    + (b"J\xff\xff\xff\xff" * 2 + b"K\x00tbq\x01aJ" + SIZE + b"\x85q\x02a")
)
ENCODED_TEXT = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra"
ARRAY_OF_TEXT = b"cnumpy._core.numeric\n_frombuffer\n(h\x00h\x01h\x02U\x01CtRa"


def test_a_huge_number_is_damage_without_advice_to_programmers():
    with pytest.raises(pickle.UnpicklingError, match=r"damaged pickle .*Exceeds the limit") as caught:
        loads(b"L" + b"9" * 5000 + b"L\n.")
    assert "sys." not in str(caught.value)


def test_text_of_python_2_becomes_bytes_and_arrays():
    *_, encoded, array = loads(TEXT + ENCODED_TEXT + ARRAY_OF_TEXT + b".")
    assert encoded == array.tobytes() == b"a" * 10**6


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # Python's memo would grow to 32 GiB
        b"\x80\x02})q\x01" + b"h\x01h\x01\x86q\x01" * 200 + b"Ns.",  # Python would hash 2**200 tuples
        pickle.dumps(np.zeros(3, "f4"), 2).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"),
        pickle.dumps(np.zeros(3, "f4"), 2).replace(b"K\x03\x85", b"(" + b"J\xff\xff\xff\x7f" * 40 + b"t"),
        pickle.dumps([np.zeros(10**5)] * 50, 4),
        TEXT + ENCODED_TEXT * 1000 + b".",
        TEXT + ARRAY_OF_TEXT * 1000 + b".",
    ],
    ids=[
        *("memo index", "hash of nested tuples", "huge shape", "many dimensions", "shared array"),
        *("shared text", "arrays of shared text"),
    ],
)
def test_memory_and_time_stay_near_the_file_size(content):
    tracemalloc.start()
    with contextlib.suppress(pickle.UnpicklingError):
        loads(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(content) + 2**19


@given(content=st.binary().map(lambda tail: b"\x80\x04" + tail))
def test_random_bytes_raise_nothing_but_unpickling_errors(content):
    with contextlib.suppress(pickle.UnpicklingError):
        loads(content)


OPCODES = [  # whole opcodes, so that random sequences get far
    *(
        b"N",
        b"\x88",
        b"K\x01",
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"a",
        b"e",
        b"s",
        b"u",
    ),
    *(
        b"q\x00",
        b"h\x00",
        b"q\x01",
        b"h\x01",
        b"\x94",
        b"R",
        b"b",
        b"Q",
        b"0",
        b"2",
        b"\x81",
        b"C\x04abcd",
        b"U\x01<",
    ),
    *(
        b"cnumpy\ndtype\n",
        b"X\x02\x00\x00\x00f4",
        b"cnumpy\nndarray\n",
        b"c_codecs\nencode\n",
        b"cbuiltins\ntuple\n",
    ),
    *(
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"ccollections\nOrderedDict\n",
    ),
    *(b"I1\n", b"L1L\n", b"F1\n", b"S'a'\n", b"Va\n", b"p0\n", b"g0\n", b"l", b"d"),  # of protocol 0
    *(b"cnumpy._core.numeric\n_frombuffer\n", b"X\x06\x00\x00\x00latin1", b"cos\nsystem\n"),
]


@given(opcodes=st.lists(st.sampled_from(OPCODES), max_size=40))
def test_random_opcodes_raise_nothing_but_unpickling_errors(opcodes):
    with contextlib.suppress(pickle.UnpicklingError):
        loads(b"\x80\x04" + b"".join(opcodes) + b".")
