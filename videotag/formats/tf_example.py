"""TensorFlow's Example and SequenceExample as NumPy arrays, without TensorFlow or protobuf.

Differs: steps of equal length lie at a fixed stride, so one comparison of the bytes around their values and
one copy read a whole feature list. Lists with another layout are parsed step by step.
Shapes: T steps, D values per step.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from videotag.errors import RecordError
from videotag.formats.protobuf_wire import (
    BYTES,
    FIXED32,
    VARINT,
    Budget,
    WireError,
    field,
    field_head,
    fields,
    read_varint,
    varint,
)

#: Byte strings, or (D,) float32 or int64; () if the feature has no values of a known type.
Feature: TypeAlias = "tuple[bytes, ...] | np.ndarray"
#: (T, D) uint8 if every step is one string of D bytes, (T, D) float32 or int64 if every step has D numbers,
#: (0, 0) uint8 if there are no steps; otherwise a list of the steps.
FeatureList: TypeAlias = "np.ndarray | list[Feature]"

# Fields and numbers of a record that may be parsed one by one: 2 s and 200 MB at most, or a video of 300
# steps of 3,000 numbers each. Steps of equal length do not count.
_MAX_VALUES = 2**20
_FLOAT = np.dtype("<f4")
_FLOAT_TAG = 0x12  # tag of a float list in a Feature
_NO_FLOATS, _NO_INTS = np.empty(0, np.float32), np.empty(0, np.int64)

_Value = TypeVar("_Value")


class Example(NamedTuple):
    """A SequenceExample; an Example is one without feature lists."""

    context: dict[str, Feature]
    feature_lists: dict[str, FeatureList]


def parse_example(data: bytes, *, place: str = "record") -> Example:
    """Parses a serialized SequenceExample or Example; ignores unknown fields.

    Args:
        data: The serialized message; empty bytes give an Example without features.
        place: Name of the record, which begins every error message.

    Returns:
        The features by name, in the shapes that Feature and FeatureList state.

    Raises:
        RecordError: The bytes are not such a message, or hold more values than records of videos have.
    """
    example, budget = Example({}, {}), Budget(_MAX_VALUES)
    try:
        for number, wire_type, start, end in fields(data, 0, len(data), budget):
            if wire_type == BYTES and number == 1:
                example.context.update(_parse_map(data, start, end, _parse_feature, budget))
            elif wire_type == BYTES and number == 2:
                example.feature_lists.update(_parse_map(data, start, end, _parse_feature_list, budget))
    except WireError as error:
        raise RecordError(
            f"{place}: not a tf.Example or SequenceExample ({error}); does the file hold other records?"
        ) from error
    return example


def encode_example(example: Example) -> bytes:
    """The serialized message, as TensorFlow writes it: names in the given order, packed numbers.

    A (T, D) uint8 array becomes T strings of D bytes; any other (T, D) array becomes T lists of D numbers.
    """
    parts = []
    if example.context:
        parts.append(field(1, _encode_map(example.context, _encode_feature)))
    if example.feature_lists:
        parts.append(field(2, _encode_map(example.feature_lists, _encode_feature_list)))
    return b"".join(parts)


def _parse_map(
    data: bytes, start: int, end: int, parse: Callable[[bytes, int, int, Budget], _Value], budget: Budget
) -> dict[str, _Value]:
    """{name: value} from a message of map entries; the last of equal names wins."""
    values = {}
    for number, wire_type, first, last in fields(data, start, end, budget):
        if number == 1 and wire_type == BYTES:
            name, value = _split_entry(data, first, last, budget)
            values[name.decode("utf-8", "surrogateescape")] = parse(*value, budget)
    return values


def _split_entry(data: bytes, start: int, end: int, budget: Budget) -> tuple[bytes, tuple[bytes, int, int]]:
    """The name of a map entry, and the (bytes, start, end) of its value."""
    name, value, num_values = b"", (data, start, start), 0
    for number, wire_type, first, last in fields(data, start, end, budget):
        if number == 1 and wire_type == BYTES:
            name = data[first:last]
        elif number == 2 and wire_type == BYTES:
            value = data, first, last
            num_values += 1
    if num_values > 1:  # protobuf merges a message that occurs in parts
        whole = _joined(_values(data, start, end, budget, number=2))
        value = whole, 0, len(whole)
    return name, value


def _values(data: bytes, start: int, end: int, budget: Budget, *, number: int) -> Iterator[bytes]:
    """Yields the value of every field `number` of wire type BYTES."""
    for field_number, wire_type, first, last in fields(data, start, end, budget):
        if field_number == number and wire_type == BYTES:
            yield data[first:last]


def _joined(parts: Iterable[bytes]) -> bytes:
    """Concatenates the parts; bytes.join needs 90 bytes of memory more per part."""
    whole = bytearray()
    for part in parts:
        whole += part
    return bytes(whole)


def _parse_feature_list(data: bytes, start: int, end: int, budget: Budget) -> FeatureList:
    steps = _strided_steps(data, start, end)
    if steps is not None:
        return steps
    serialized = _values(data, start, end, budget, number=1)
    features = [_parse_feature(step, 0, len(step), budget) for step in serialized]
    return _stacked(features)


def _strided_steps(data: bytes, start: int, end: int) -> np.ndarray | None:
    """(T, D) uint8 or float32 if all steps are laid out like the first; otherwise None."""
    if start == end:
        return np.empty((0, 0), np.uint8)
    # Three nested tags and sizes: of a Feature, of its bytes or float list, and of the values.
    first, last, kind = start, end, 0
    for level, tags in enumerate((b"\x0a", b"\x0a\x12", b"\x0a")):
        if first == last or data[first] not in tags:
            return None
        kind = data[first] if level == 1 else kind
        size, first = read_varint(data, first + 1, last)
        if first + size > last or (level and first + size != last):
            return None
        last = first + size
    stride, head = last - start, first - start
    num_steps, rest = divmod(end - start, stride)
    if rest or (kind == _FLOAT_TAG and (stride - head) % _FLOAT.itemsize):
        return None
    rows = np.frombuffer(data, np.uint8, num_steps * stride, start).reshape(num_steps, stride)
    if (rows[:, :head] != rows[0, :head]).any():
        return None
    values = rows[:, head:].copy()  # (T, bytes of a step)
    return values.view(_FLOAT) if kind == _FLOAT_TAG else values


def _stacked(steps: list[Feature]) -> FeatureList:
    """(T, D) if the steps are single byte strings, or numbers, of equal length; otherwise the steps."""
    kinds = {(step.dtype, len(step)) if isinstance(step, np.ndarray) else _strings(step) for step in steps}
    if len(kinds) != 1 or kinds == {None}:
        return steps if steps else np.empty((0, 0), np.uint8)
    if isinstance(steps[0], np.ndarray):
        return np.stack(steps)
    joined = bytearray(_joined(step[0] for step in steps))  # writable, like all arrays here
    return np.frombuffer(joined, np.uint8).reshape(len(steps), len(steps[0][0]))


def _strings(step: tuple[bytes, ...]) -> int | None:
    """The length of a step's byte string; None unless there is exactly one."""
    return len(step[0]) if len(step) == 1 else None


def _parse_feature(data: bytes, start: int, end: int, budget: Budget) -> Feature:
    kind, content = 0, bytearray()
    for number, wire_type, first, last in fields(data, start, end, budget):
        if number in _PARSERS and wire_type == BYTES:
            if number != kind:  # the last of several kinds wins
                kind, content = number, bytearray()
            content += data[first:last]
    return _PARSERS[kind](bytes(content), budget) if kind else ()


def _parse_strings(data: bytes, budget: Budget) -> tuple[bytes, ...]:
    return tuple(_values(data, 0, len(data), budget, number=1))


def _parse_floats(data: bytes, budget: Budget) -> np.ndarray:
    """(D,) float32 from packed or unpacked values, or a mix of both."""
    values = _joined(
        data[first:last]
        for number, wire_type, first, last in fields(data, 0, len(data), budget)
        if number == 1 and wire_type in (BYTES, FIXED32)
    )
    if len(values) % _FLOAT.itemsize:
        raise WireError(f"{len(values)} bytes of float32 values")
    return np.frombuffer(values, _FLOAT).astype(np.float32) if values else _NO_FLOATS


def _parse_ints(data: bytes, budget: Budget) -> np.ndarray:
    """(D,) int64 from packed or unpacked values, or a mix of both."""
    values = array("Q")
    for number, wire_type, first, last in fields(data, 0, len(data), budget):
        if number == 1 and wire_type in (BYTES, VARINT):
            while first < last:
                budget.spend()
                value, first = read_varint(data, first, last)
                values.append(value)
    return np.array(values, np.uint64).view(np.int64) if values else _NO_INTS


_PARSERS: dict[int, Callable[[bytes, Budget], Feature]] = {
    1: _parse_strings,
    2: _parse_floats,
    3: _parse_ints,
}


def _encode_map(values: Mapping[str, _Value], encode: Callable[[_Value], bytes]) -> bytes:
    entries = (
        field(1, name.encode("utf-8", "surrogateescape")) + field(2, encode(value))
        for name, value in values.items()
    )
    return b"".join(field(1, entry) for entry in entries)


def _encode_feature(feature: Feature) -> bytes:
    if not isinstance(feature, np.ndarray):
        return field(1, b"".join(field(1, value) for value in feature))
    if np.issubdtype(feature.dtype, np.floating):
        values = feature.astype(_FLOAT).tobytes()
        return field(2, field(1, values) if values else b"")
    values = b"".join(map(varint, feature.tolist()))
    return field(3, field(1, values) if values else b"")


def _encode_feature_list(steps: FeatureList) -> bytes:
    if not isinstance(steps, np.ndarray) or steps.dtype != np.uint8:
        return b"".join(field(1, _encode_feature(step)) for step in steps)
    num_steps, dim = steps.shape
    head = field_head(1, dim)
    for _ in range(2):  # a bytes list in a Feature, a Feature in a FeatureList
        head = field_head(1, len(head) + dim) + head
    rows = np.empty((num_steps, len(head) + dim), np.uint8)
    rows[:, : len(head)] = np.frombuffer(head, np.uint8)
    rows[:, len(head) :] = steps
    return rows.tobytes()
