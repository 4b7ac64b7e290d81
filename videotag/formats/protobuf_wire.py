"""The wire format of protocol buffers: fields of a message by number, without a schema.

Follows https://protobuf.dev/programming-guides/encoding. Differs: deprecated groups are an error.
Every position is checked against the end of its message and nothing is copied, so the size of the input
bounds work and memory.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_MAX_VARINT = 10  # bytes
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """The bytes are not a valid message; the text gives the reason."""


class Budget:
    """Limits the fields and numbers of a message, nested messages included."""

    def __init__(self, count: int) -> None:
        self._count = self._left = count

    def spend(self, count: int = 1) -> None:
        """Subtracts `count` from the budget.

        Raises:
            WireError: The budget is exhausted.
        """
        self._left -= count
        if self._left < 0:
            raise WireError(f"more than {self._count} fields and numbers")


def fields(
    data: bytes, start: int, end: int, budget: Budget | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, wire type, start, end) of the value of every field in data[start:end], in order.

    The value of a BYTES field excludes its length prefix; the value of a VARINT field is its encoded bytes.

    Args:
        data: Bytes that contain the message.
        start: Position of the first byte of the message.
        end: Position after the last byte of the message.
        budget: Budget from which every field is subtracted; None for no limit.

    Raises:
        WireError: A value reaches beyond `end` or has an unknown wire type, or the budget is exhausted.
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
            raise WireError("field number 0")
        if last > end:
            raise WireError(f"field {number} ends {last - end} bytes beyond its message")
        yield number, wire_type, first, last
        start = last


def read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The number at `start`, 0 to 2**64 - 1, and the position after it.

    Raises:
        WireError: The number does not end before `end`, or is longer than 10 bytes.
    """
    value = shift = 0
    for position in range(start, min(end, start + _MAX_VARINT)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise WireError("an unterminated number")


def varint(value: int) -> bytes:
    """Encodes a number; a negative one is encoded as its 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_head(number: int, size: int) -> bytes:
    """The tag and length that precede a value of `size` bytes in field `number`."""
    return varint(number << 3 | BYTES) + varint(size)


def field(number: int, value: bytes) -> bytes:
    """Encoded field `number` of wire type BYTES."""
    return field_head(number, len(value)) + value
