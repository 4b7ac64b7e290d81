"""Protocol buffers' wire format: the fields of a message, by number, without a schema.

Follows https://protobuf.dev/programming-guides/encoding. Differs: groups, long out of use, are an error.
Every position is checked against the end of its message, and nothing is copied, so that work and memory are
bounded by the bytes given.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_MAX_VARINT = 10  # bytes
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """Not a message; the text says why."""


class Budget:
    """How many fields and numbers a message may still have, with those inside of it."""

    def __init__(self, count: int) -> None:
        self._count = self._left = count

    def spend(self, count: int = 1) -> None:
        """Takes `count` of them.

        Raises:
            WireError: So many are not left.
        """
        self._left -= count
        if self._left < 0:
            raise WireError(f"more than {self._count} fields and numbers")


def fields(
    data: bytes, start: int, end: int, budget: Budget | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of every field's value in data[start:end], in its order.

    Of bytes, the value is what stands behind their length; of a varint, its bytes.

    Args:
        data: Holds the message.
        start: Position of its first byte.
        end: Position behind its last byte.
        budget: Each field takes one of it; None: any number of fields.

    Raises:
        WireError: a value reaches beyond `end`, is of no known type, or the budget is spent.
    """
    while start < end:
        if budget is not None:
            budget.spend()
        tag, first = read_varint(data, start, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == BYTES:
            size, first = read_varint(data, first, end)
            last = first + size
        elif wire_type == VARINT:
            _, last = read_varint(data, first, end)
        elif wire_type in _FIXED_SIZES:
            last = first + _FIXED_SIZES[wire_type]
        else:
            raise WireError(f"wire type {wire_type} in field {number}")
        if not number:
            raise WireError("a field 0")
        if last > end:
            raise WireError(f"field {number} reaches {last - end} bytes beyond its message")
        yield number, wire_type, first, last
        start = last


def read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The number from 0 to 2**64 - 1 at `start`, and the position behind it.

    Raises:
        WireError: it does not end before `end`, or is too long.
    """
    value = shift = 0
    for position in range(start, min(end, start + _MAX_VARINT)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise WireError("a number without an end")


def varint(value: int) -> bytes:
    """A number as the wire has it; a negative one as its 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_head(number: int, size: int) -> bytes:
    """What stands before a value of `size` bytes that is field `number`."""
    return varint(number << 3 | BYTES) + varint(size)


def field(number: int, value: bytes) -> bytes:
    """Field `number` of wire type BYTES."""
    return field_head(number, len(value)) + value
