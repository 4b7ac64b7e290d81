"""How messages show values from files."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from videotag.safe_text import MAX_TEXT, escaped, reason_of, safe_repr


def nested_aliases(depth, width):
    value: list = ["laugh"]
    for _ in range(depth):
        value = [value] * width
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "'a'"),
        (1.5, "1.5"),
        (None, "None"),
        ([1, 2], "[1, 2]"),
        ({"a": [1]}, "{'a': [1]}"),
        (list(range(9)), "[0, 1, 2, 3, ...]"),
        ([[[[1]]]], "[[[[...]]]]"),
        (10**5000, "an integer of 16610 bits"),
        (-(10**60), "an integer of 200 bits"),
        ("\x1b[31m\n\u202e", r"'\x1b[31m\n\u202e'"),
        (b"\x00" * 3, r"b'\x00\x00\x00'"),
        (np.zeros((2, 1)), r"array([[0.],\n       [0.]])"),
    ],
    ids=lambda value: type(value).__name__,  # pytest cannot format the large integer either
)
def test_short_values_are_shown_whole_and_others_in_part(value, expected):
    assert safe_repr(value) == expected


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, nested_aliases(40, 10), {"a" * 10**6: 1}, np.zeros((100, 100, 100))]
)
def test_no_value_is_longer_than_the_limit(value):
    assert len(safe_repr(value)) <= 80
    assert len(safe_repr(value, limit=20)) <= 20


def test_a_reason_is_one_line_without_advice_to_programmers():
    with pytest.raises(ValueError, match="set_int_max_str_digits") as caught:
        int("9" * 5000)
    reason = reason_of(caught.value)
    assert reason.startswith("Exceeds the limit (4300 digits)")
    assert "sys." not in reason
    assert reason_of(KeyError()) == "KeyError"
    assert reason_of(ValueError("a\n\tb\x1b " + "c" * 200)) == "a b\\x1b " + "c" * 109 + "..."


def test_a_value_whose_repr_fails_is_named_by_its_type():
    class Broken:
        def __repr__(self):
            raise ValueError

    assert "Broken" in safe_repr(Broken())
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert safe_repr(deep) == "[[[[...]]]]"


def test_text_keeps_its_letters_and_loses_control_characters():
    assert escaped("猫 und Käse") == "猫 und Käse"
    assert escaped("a\x1b[2Jb\nc\td") == r"a\x1b[2Jb\nc\td"
    assert escaped("\ud800") == r"\ud800"
    assert len(escaped("y" * 10**6)) == len(escaped("\0" * 10**6)) == MAX_TEXT


def test_subclasses_of_containers_are_abbreviated():
    value: object = "laugh"
    for _ in range(60):
        value = OrderedDict(a=value, b=value)
    assert safe_repr(value).startswith("{'a': {'a': {'a': ")


def test_blanks_and_joiners_are_letters_and_changes_of_direction_are_not():
    assert escaped("a\u3000b\xa0c می\u200cخواهم 👩\u200d🚀") == "a\u3000b\xa0c می\u200cخواهم 👩\u200d🚀"
    assert escaped("a\u2028b\u202ec\x9bd") == r"a\u2028b\u202ec\x9bd"
