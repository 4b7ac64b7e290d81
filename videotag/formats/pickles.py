"""Reads pickles of NumPy arrays as data: nothing in them is imported or called.

`load` interprets the pickle opcodes itself. A fixed table maps the few global names that such files need to
functions of this module. Python's Unpickler, even with a restricted find_class, lets a file change attributes
of those functions, hash forever and allocate unbounded memory; this interpreter has no code for any of that.
Supported: plain values, lists, tuples, dicts with plain keys, and numeric arrays.
`dump_arrays` writes pickles that old and new NumPy, Python and Paddle can read.
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

#: Name of a global -> the function that replaces it, or None if it only occurs as an argument.
Names: TypeAlias = Mapping[str, Callable[..., object] | None]
_Encode: TypeAlias = Callable[[str], bytes]

# Opcodes in a pickle. Each makes at most one object, of up to 300 bytes including its memo entry: 150 MB.
_FREE_STEPS = 2**19  # allowed at any file size: 5,000 records or 12,000 arrays ...
_STEP_BYTES = 32  # ... plus one opcode per this many bytes of the file; a video's features have thousands
_MAX_ARGUMENTS = 16  # arguments of a call; real files have at most 8
_MAX_DIMS = 32  # dimensions of an array before NumPy 2.0
_NUMBER_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
# What malformed opcodes raise in `_Machine` and pickletools; a warning of pickletools may be an error too.
_DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, Warning),
    struct.error,
)


class BoundedReader:
    """A file that refuses to read past its end, before it allocates memory for the bytes.

    Args:
        file: Binary file, positioned where reading starts.
        size: Number of bytes that can be read from there.
    """

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
    """Reads the next pickle of a file and leaves the reader at its end.

    Args:
        reader: File positioned at the start of the pickle.
        names: Globals that are allowed besides those of NumPy arrays.
        persistent: Function that turns a persistent id into an object; None refuses persistent ids.

    Returns:
        The object. Arrays are read-only views of the bytes read. Python 2 text is decoded as Latin-1.

    Raises:
        pickle.UnpicklingError: The pickle is truncated or damaged, holds anything but the values listed in
            the module docstring, or has more opcodes than files of arrays need.
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
    """Yields a pickle of {name: array} in parts; equal arrays give equal bytes.

    Uses protocol 4, Paddle's default, which has no 4 GiB limit. Arrays refer to numpy.core, not to NumPy 2's
    numpy._core: NumPy before 1.26 knows only the old name, and NumPy 2 still accepts it in pickles without a
    warning. Fragments use protocol 2, a subset of protocol 4.

    Args:
        arrays: Name -> numeric array (...) of any shape.
    """
    yield b"\x80\x04}"
    for name, array in arrays.items():
        yield from (fragment(name), *array_parts(array, protocol=4), b"s")
    yield b"."


def array_parts(array: np.ndarray, *, protocol: Literal[3, 4]) -> Iterator[bytes]:
    """Yields the pickle opcodes of a numeric array (...) of any shape, see `dump_arrays`.

    Raises:
        ValueError: The array has 4 GiB or more, which protocol 3 cannot hold.
    """
    if protocol == 3 and array.nbytes >= 2**32:
        raise ValueError(f"an array of {array.nbytes} bytes, but protocol 3 is limited to 4 GiB")
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    yield b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    yield b"(K\x01" + fragment(array.shape) + _dtype_fragment(array.dtype) + b"\x89"
    yield (
        b"B" + struct.pack("<I", array.nbytes) if protocol == 3 else b"\x8e" + struct.pack("<Q", array.nbytes)
    )
    yield array.tobytes()
    yield b"tb"


def scalar_fragment(value: np.generic) -> bytes:
    """The protocol 3 opcodes of a NumPy scalar."""
    dtype = value.dtype.newbyteorder("<")
    raw = np.asarray(value, dtype).tobytes()
    return b"cnumpy.core.multiarray\nscalar\n" + _dtype_fragment(dtype) + bytes_fragment(raw) + b"\x86R"


def bytes_fragment(value: bytes) -> bytes:
    """The protocol 3 opcodes of a bytes object."""
    if len(value) < 256:
        return b"C" + bytes([len(value)]) + value
    return b"B" + struct.pack("<I", len(value)) + value


def fragment(value: object) -> bytes:
    """The protocol 2 opcodes of a plain value, without the header and the final STOP."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _dtype_fragment(dtype: np.dtype[Any]) -> bytes:
    head = b"cnumpy\ndtype\n" + fragment((dtype.str[1:], False, True)) + b"R"
    return head + fragment((3, dtype.str[0], None, None, None, -1, -1, 0)) + b"b"


class _Global:
    """A global from the table of allowed names."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[..., object] | None) -> None:
        self.name = name
        self.build = build


class _Unbuilt:
    """An object between REDUCE and BUILD; keeps its final value, since the memo may refer to it."""

    __slots__ = ("finish", "value")

    def __init__(self, finish: Callable[[Any], object]) -> None:
        self.finish = finish
        self.value: object = None


class _Machine:
    """Stack, marks and memo of a pickle; `step` runs one opcode."""

    def __init__(self, names: Names, persistent: Callable[[object], object] | None, max_steps: int) -> None:
        self._steps_left = self._max_steps = max_steps
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stack below each open MARK
        self._memo: dict[int, object] = {}
        # A file may refer to one text many times; it is encoded once.
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
            raise pickle.UnpicklingError(f"opcode {name} in the pickle, which arrays do not need; not read")

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise pickle.UnpicklingError(
                f"a pickle of more than {self._max_steps} opcodes, more than arrays ever need; split the"
                " file, or download it again"
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
            raise ValueError(f"a tuple of {count} items with {len(self.stack)} on the stack")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _append(self, _: object) -> None:
        self._extend_list([self.stack.pop()])

    def _appends(self, _: object) -> None:
        self._extend_list(self._pop_mark())

    def _extend_list(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("items appended to something other than a list")
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
            raise ValueError("a global whose name is not text")
        # NumPy 2 renamed numpy.core, Python 3 renamed __builtin__.
        module = module.replace("numpy.core.", "numpy._core.", 1).replace("__builtin__", "builtins", 1)
        full = f"{module}.{name}"
        if full not in self._names:
            raise pickle.UnpicklingError(
                f"refers to {safe_repr(full)}; not read because pickles can run code;"
                " save it as a plain dict of arrays"
            )
        self.stack.append(_Global(full, self._names[full]))

    def _reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or function.build is None or not isinstance(arguments, tuple):
            raise ValueError("a call of something other than a function")
        if len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(arguments)} arguments")
        for argument in arguments:  # the function may iterate over it
            self._spend(len(argument) if type(argument) in (list, tuple, dict) else 0)
        self.stack.append(function.build(*arguments))

    def _build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Unbuilt):
            target.value = self.stack[-1] = target.finish(state)
        elif type(target) is not dict:  # PyTorch attaches _metadata to a state dict; it is not needed
            raise ValueError("state for an object that has none")

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
    """Sets items of a dict; keys other than text, bytes and integers could hash forever."""
    if type(target) is not dict:
        raise ValueError("items set on something other than a dict")
    for key, value in items:
        if type(key) not in (str, bytes, int):
            raise ValueError(f"a {type(key).__name__} as a dict key")
        target[key] = value


def _ordered_dict(items: object = ()) -> dict[Any, Any]:
    """collections.OrderedDict; Python 2 passes its items as a list."""
    result: dict[Any, Any] = {}
    _set_items(result, items)
    return result


def _tensor_tuple(name_and_array: tuple[object, object]) -> object:
    """builtins.tuple, with which Paddle writes a tensor in a nested dict: (name, array)."""
    name, array = name_and_array
    if not isinstance(name, str) or not isinstance(array, np.ndarray):
        raise ValueError("a tuple that is not a tensor")
    return array


def _latin1(text: str) -> bytes:
    return text.encode("latin1")


def _encode(encode: _Encode, text: str, encoding: str) -> bytes:
    """_codecs.encode, with which protocol 2 stores bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("bytes encoded as something other than latin1")
    return encode(text)


def _empty_bytes() -> bytes:
    """builtins.bytes, which protocol 2 calls for b"" only."""
    return b""


def _dtype(code: str, *_: object) -> _Unbuilt:
    """numpy.dtype; BUILD sets the byte order."""
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
    """A read-only array (...) of the given shape over `raw`, whose length must match dtype and shape."""
    if isinstance(raw, str):  # written by Python 2
        raw = encode(raw)
    if not isinstance(dtype, np.dtype) or not isinstance(raw, (bytes, bytearray)):
        raise ValueError("an array without dtype or values")
    if len(shape) > _MAX_DIMS or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise ValueError("an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes of values for shape {safe_repr(shape)}")
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _reconstruct(encode: _Encode, *_: object) -> _Unbuilt:
    """numpy._core.multiarray._reconstruct; BUILD supplies shape, dtype and values."""

    def finish(state: tuple[Any, ...]) -> np.ndarray:
        _, shape, dtype, is_fortran, raw = state
        return _array(encode, raw, dtype, shape, "F" if is_fortran else "C")

    return _Unbuilt(finish)


def _scalar(encode: _Encode, dtype: np.dtype[Any], raw: bytes | str) -> object:
    return _array(encode, raw, dtype, (), "C")[()]


def _numpy_names(encode: _Encode) -> Names:
    """The globals allowed in every file; `encode` converts Python 2 text to bytes."""
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
