"""Pickles of NumPy arrays read as data: nothing in them is imported or called.

`load` interprets the pickle opcodes itself, over a fixed table of the few names that such files need, each
standing for a function of ours. Python's own Unpickler, even with find_class restricted, still lets a file
change attributes of what the table holds, hash for ever, and reserve memory without bound: here is no code
for that.
What is read: plain values, lists, tuples, dicts with plain keys, and arrays of numbers.
`dump_arrays` writes what old and new NumPy, Python and Paddle read.
"""

from __future__ import annotations

import functools
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Literal, TypeAlias, cast

import numpy as np

from videotag.errors import AGAIN
from videotag.safe_text import reason_of, safe_repr

#: Name of a global -> our function for it, or None if it only occurs as an argument.
Names: TypeAlias = Mapping[str, Callable[..., object] | None]
_Encode: TypeAlias = Callable[[str], bytes]

# Steps of a pickle. A step makes at most one object, of up to 300 bytes with its place in the memo: 150 MB.
_FREE_STEPS = 2**19  # whatever the size, such as of 5,000 records or 12,000 arrays ...
_STEP_BYTES = 32  # ... and one more for so many bytes of the file: features of a video have thousands
_MAX_ARGUMENTS = 16  # of a call; the longest real one has 8
_MAX_DIMS = 32  # of an array, in NumPy before 2.0
_NUMBER_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
# What malformed opcodes lead to in `_Machine` and pickletools, which may warn (and warnings may be errors).
_DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, Warning),
    struct.error,
)


class BoundedReader:
    """A file that refuses to read past its end, before memory for the bytes is reserved."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size
        self.remaining = size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.remaining:
            raise pickle.UnpicklingError(f"truncated: the file ends too early; {AGAIN}")
        self.remaining -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(self.remaining)
        self.remaining -= len(line)
        return line


def load(
    reader: BoundedReader, *, names: Names | None = None, persistent: Callable[[object], object] | None = None
) -> object:
    """The next pickle of a file; the reader then stands behind it.

    Args:
        reader: the file at the pickle's start.
        names: what may be named besides NumPy arrays.
        persistent: makes an object of a persistent id; None: there may be none.

    Returns:
        The object. Arrays are read-only views on the bytes read. Text of Python 2 is decoded as Latin-1.

    Raises:
        pickle.UnpicklingError: truncated, damaged, with anything but the plain values described above, or of
            more objects than files of arrays have.
    """
    machine = _Machine(names or {}, persistent, _FREE_STEPS + reader.size // _STEP_BYTES)
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], reader)):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except _DAMAGE as error:
        raise pickle.UnpicklingError(
            f"damaged pickle ({reason_of(error)}); copy or download the file again"
        ) from error


def dump_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The parts of a pickle of {name: array}, the same bytes for the same arrays.

    Protocol 4, which Paddle writes by default and which has no limit of 4 GiB. Arrays refer to numpy.core and
    not to numpy._core as NumPy 2 writes: NumPy before 1.26 knows the old name only, and NumPy 2 still takes
    it from a pickle without a warning. Fragments are protocol 2, which protocol 4 includes.
    """
    yield b"\x80\x04}"
    for name, array in arrays.items():
        yield from (fragment(name), *array_parts(array, protocol=4), b"s")
    yield b"."


def array_parts(array: np.ndarray, *, protocol: Literal[3, 4]) -> Iterator[bytes]:
    """An array of numbers as it stands inside a pickle, written as `dump_arrays` says.

    Raises:
        ValueError: 4 GiB or more, which protocol 3 cannot hold.
    """
    if protocol == 3 and array.nbytes >= 2**32:
        raise ValueError(f"an array of {array.nbytes} bytes, and protocol 3 ends at 4 GiB")
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    yield b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    yield b"(K\x01" + fragment(array.shape) + _dtype_fragment(array.dtype) + b"\x89"
    yield (
        b"B" + struct.pack("<I", array.nbytes) if protocol == 3 else b"\x8e" + struct.pack("<Q", array.nbytes)
    )
    yield array.tobytes()
    yield b"tb"


def scalar_fragment(value: np.generic) -> bytes:
    """A NumPy number as it stands inside a pickle of protocol 3."""
    dtype = value.dtype.newbyteorder("<")
    raw = np.asarray(value, dtype).tobytes()
    return b"cnumpy.core.multiarray\nscalar\n" + _dtype_fragment(dtype) + bytes_fragment(raw) + b"\x86R"


def bytes_fragment(value: bytes) -> bytes:
    """Bytes as they stand inside a pickle of protocol 3."""
    if len(value) < 256:
        return b"C" + bytes([len(value)]) + value
    return b"B" + struct.pack("<I", len(value)) + value


def fragment(value: object) -> bytes:
    """A plain value as it stands inside a pickle: without the header and the final STOP."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _dtype_fragment(dtype: np.dtype[Any]) -> bytes:
    head = b"cnumpy\ndtype\n" + fragment((dtype.str[1:], False, True)) + b"R"
    return head + fragment((3, dtype.str[0], None, None, None, -1, -1, 0)) + b"b"


class _Global:
    """A name out of the table."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[..., object] | None) -> None:
        self.name = name
        self.build = build


class _Unbuilt:
    """An object between REDUCE and BUILD. The memo may hold it, so that it remembers what became of it."""

    __slots__ = ("finish", "value")

    def __init__(self, finish: Callable[[Any], object]) -> None:
        self.finish = finish
        self.value: object = None


class _Machine:
    """Stack, marks and memo of a pickle; `step` runs one opcode."""

    def __init__(self, names: Names, persistent: Callable[[object], object] | None, max_steps: int) -> None:
        self._steps_left = self._max_steps = max_steps
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each open MARK
        self._memo: dict[int, object] = {}
        # Text may be referred to again and again, and is made bytes once.
        encode = functools.lru_cache(maxsize=None)(_latin1)
        self._names = {**_numpy_names(encode), **names}
        self._persistent = persistent

    def step(self, name: str, argument: Any) -> None:
        self._spend(1)
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise pickle.UnpicklingError(
                f"opcode {name} in the pickle, which files of arrays never have; not read"
            )

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise pickle.UnpicklingError(
                f"a pickle of more than {self._max_steps} steps, as arrays never need; split the file into"
                " smaller ones, or download it again"
            )

    def _mark(self, _: object) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _tuple(self, _: object) -> None:
        items = self._pop_mark()
        self.stack.append(tuple(items))

    def _list(self, _: object) -> None:
        items = self._pop_mark()
        self.stack.append(items)

    def _dict(self, _: object) -> None:
        items = self._pop_mark()
        self.stack.append({})
        self._below.append(self.stack)
        self.stack = items
        self._set_items(None)

    def _tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("a tuple of more than there is")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _append(self, _: object) -> None:
        self._extend_list([self.stack.pop()])

    def _appends(self, _: object) -> None:
        self._extend_list(self._pop_mark())

    def _extend_list(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("items for what is no list")
        self.stack[-1] += items

    def _set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [(key, value)])

    def _set_items(self, _: object) -> None:
        items = self._pop_mark()
        if len(items) % 2:
            raise ValueError("a key without a value")
        _set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def _memoize(self, _: object) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        value = self._memo[index]
        self.stack.append(value.value if isinstance(value, _Unbuilt) and value.value is not None else value)

    def _global(self, module_and_name: str) -> None:
        self._push_global(*module_and_name.split(" ", 1))

    def _stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_global(module, name)

    def _push_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        # NumPy 2 renamed its core; Python 3 its builtins.
        module = module.replace("numpy.core.", "numpy._core.", 1).replace("__builtin__", "builtins", 1)
        full = f"{module}.{name}"
        if full not in self._names:
            raise pickle.UnpicklingError(
                f"refers to {safe_repr(full)}; not read because pickles can run code;"
                " have it saved as a plain dict of arrays"
            )
        self.stack.append(_Global(full, self._names[full]))

    def _reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or function.build is None or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        if len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(arguments)} arguments")
        for argument in arguments:  # that a function may go through
            self._spend(len(argument) if type(argument) in (list, tuple, dict) else 0)
        self.stack.append(function.build(*arguments))

    def _build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Unbuilt):
            target.value = self.stack[-1] = target.finish(state)
        elif (
            type(target) is not dict
        ):  # a dict's is the _metadata that PyTorch hangs on a state dict: not needed
            raise ValueError("a state for what has none")

    def _persistent_id(self, _: object) -> None:
        if self._persistent is None:
            raise ValueError("a persistent id in a file that has no storages")
        self.stack.append(self._persistent(self.stack.pop()))


_NUMBERS = ("INT", "LONG", "FLOAT", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = (
    *("STRING", "UNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_LITERALS = frozenset(_NUMBERS + _TEXTS + _BYTES)
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent_id,
}


def _set_items(target: object, items: Any) -> None:
    """Sets items of a dict; other keys than text, bytes and integers could hash for ever."""
    if type(target) is not dict:
        raise ValueError("items for what is no dict")
    for key, value in items:
        if type(key) not in (str, bytes, int):
            raise ValueError(f"a {type(key).__name__} as a key")
        target[key] = value


def _ordered_dict(items: object = ()) -> dict[Any, Any]:
    """collections.OrderedDict; Python 2 gives it its items as a list."""
    result: dict[Any, Any] = {}
    _set_items(result, items)
    return result


def _tensor_tuple(name_and_array: tuple[object, object]) -> object:
    """builtins.tuple as Paddle writes a tensor inside nested dicts: (name, array)."""
    name, array = name_and_array
    if not isinstance(name, str) or not isinstance(array, np.ndarray):
        raise ValueError("a tuple that is no tensor")
    return array


def _latin1(text: str) -> bytes:
    return text.encode("latin1")


def _encode(encode: _Encode, text: str, encoding: str) -> bytes:
    """_codecs.encode, with which protocol 2 stores bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("bytes in another encoding than latin1")
    return encode(text)


def _empty_bytes() -> bytes:
    """builtins.bytes as protocol 2 calls it: for b"" alone."""
    return b""


def _dtype(code: str, *_: object) -> _Unbuilt:
    """numpy.dtype; its state holds the byte order."""
    if not isinstance(code, str) or not _NUMBER_TYPE.fullmatch(code):
        what = "Python objects" if code == "O8" else f"dtype {safe_repr(code, limit=40)}"
        raise pickle.UnpicklingError(
            f"an array of {what}, expected numbers; not read because pickles can run code"
        )

    def finish(state: tuple[object, ...]) -> np.dtype[Any]:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("an unknown byte order")
        return np.dtype(code).newbyteorder(state[1])

    return _Unbuilt(finish)


def _array(
    encode: _Encode, raw: bytes | bytearray | str, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> np.ndarray:
    """A read-only array over `raw`, which must be as long as dtype and shape say."""
    if isinstance(raw, str):  # written by Python 2
        raw = encode(raw)
    if not isinstance(dtype, np.dtype) or not isinstance(raw, (bytes, bytearray)):
        raise ValueError("an array without type or values")
    if len(shape) > _MAX_DIMS or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise ValueError("an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes of values for shape {safe_repr(shape)}")
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _reconstruct(encode: _Encode, *_: object) -> _Unbuilt:
    """numpy._core.multiarray._reconstruct; its arguments are always those of an empty array."""

    def finish(state: tuple[Any, ...]) -> np.ndarray:
        _, shape, dtype, is_fortran, raw = state
        return _array(encode, raw, dtype, shape, "F" if is_fortran else "C")

    return _Unbuilt(finish)


def _scalar(encode: _Encode, dtype: np.dtype[Any], raw: bytes | str) -> object:
    return _array(encode, raw, dtype, (), "C")[()]


def _numpy_names(encode: _Encode) -> Names:
    """The names that any file may have; `encode` makes text of Python 2 bytes."""
    return {
        "numpy._core.multiarray._reconstruct": functools.partial(_reconstruct, encode),
        "numpy._core.multiarray.scalar": functools.partial(_scalar, encode),
        "numpy._core.numeric._frombuffer": functools.partial(_array, encode),
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "_codecs.encode": functools.partial(_encode, encode),
        "collections.OrderedDict": _ordered_dict,
        "builtins.bytes": _empty_bytes,
        "builtins.tuple": _tensor_tuple,
    }
