"""Mutations of files for tools/fuzz.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# Edges of integers, as they stand in headers.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_MAX_SIZE = 2**20  # bytes of an input


def mutated(corpus: Sequence[bytes], rng: random.Random, tokens: Sequence[bytes]) -> bytes:
    """A file of the corpus after one to four random changes.

    Args:
        corpus: Contents of files, at least one.
        rng: Decides everything.
        tokens: Pieces that mean something in this format.
    """
    content = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        change = rng.choice(_CHANGES)
        change(content, rng, corpus, tokens)
    return bytes(content[:_MAX_SIZE])


def _flip(content: bytearray, rng: random.Random, *_: object) -> None:
    for _time in range(rng.choice((1, 1, 4, 16))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _number(content: bytearray, rng: random.Random, *_: object) -> None:
    size = rng.choice((1, 2, 4, 8))
    place = rng.randrange(len(content) + 1)
    value = rng.choice(_NUMBERS) % 2 ** (8 * size)
    content[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(content: bytearray, rng: random.Random, *_: object) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _remove(content: bytearray, rng: random.Random, *_: object) -> None:
    place = rng.randrange(len(content) + 1)
    del content[place : place + rng.choice((1, 2, 8, 64))]


def _repeat(content: bytearray, rng: random.Random, *_: object) -> None:
    place = rng.randrange(len(content) + 1)
    piece = content[place : place + rng.choice((1, 4, 32, 256))]
    content[place:place] = piece * rng.choice((1, 2, 16, 1000, 20_000))
    del content[_MAX_SIZE:]


def _splice(content: bytearray, rng: random.Random, corpus: Sequence[bytes], _: object) -> None:
    other = rng.choice(corpus)
    place = rng.randrange(len(other) + 1)
    content[rng.randrange(len(content) + 1) :] = other[place:]


def _token(content: bytearray, rng: random.Random, _: object, tokens: Sequence[bytes]) -> None:
    if tokens:
        place = rng.randrange(len(content) + 1)
        content[place : place + rng.choice((0, 0, 1, 8))] = rng.choice(tokens)


def _digits(content: bytearray, rng: random.Random, *_: object) -> None:
    """Puts another number where one is written in digits."""
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if places:
        start = end = rng.choice(places)
        while end < len(content) and 48 <= content[end] <= 57:
            end += 1
        texts = (b"-1", b"1e999", b"nan", b"9" * 20, b"9" * 5000, b"1:59:59", b"0x7f", b"true", b"[]", b"{}")
        content[start:end] = rng.choice(texts)


_CHANGES: tuple[Callable[..., None], ...] = (
    _flip,
    _number,
    _cut,
    _remove,
    _repeat,
    _splice,
    _token,
    _token,
    _digits,
)
