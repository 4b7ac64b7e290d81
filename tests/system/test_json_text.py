"""JSON files within limits: a value, or a one-line error of the caller's class."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import ConfigError, WeightsError
from videotag.system.json_text import MAX_DEPTH, parse_json, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38), 10**38) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(value=VALUES)
def test_what_python_writes_is_read_back(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


def test_repeated_keys_and_nan_are_read_as_python_does():
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}
    assert math.isnan(parse_json("NaN"))


@pytest.mark.parametrize(
    "text", ["[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH]
)
def test_nesting_is_read_up_to_the_limit(text):
    parse_json(text)
    with pytest.raises(ValueError, match=f"lists and objects nested deeper than {MAX_DEPTH} levels"):
        parse_json(f"[{text}]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1"),
        ("{", "Expecting property name"),
        ("[" * 10**5, "nested deeper than 64 levels"),
        ('{"a":' * 10**5, "nested deeper than 64 levels"),
        ("[" * 900 + "]" * 900, "nested deeper than 64 levels"),
        ("9" * 5000, "an integer of 5000 digits, expected at most 40"),
        ("-" + "9" * 4000, "an integer of 4001 digits"),
        ("[" + "[]," * 2_000_000 + "1]", "more than 2000000 values"),
        (b"\xff", "codec can't decode"),
    ],
    ids=lambda value: str(value[:20]),
)  # fmt: skip
def test_rejected_texts_give_one_short_line(text, message):
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$") as caught:
        parse_json(text)
    assert message in str(caught.value)


def test_a_float_out_of_range_is_infinite():
    assert parse_json("1e999") == math.inf


def test_a_bad_file_is_an_error_of_the_callers_class(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"a\.json: not JSON: Expecting .*; make it anew$"):
        read_json(path, error=ConfigError, remedy="make it anew")
    with pytest.raises(WeightsError, match=r"b\.json: no such file; make it anew$"):
        read_json(tmp_path / "b.json", error=WeightsError, remedy="make it anew")
    path.write_bytes(b"\x00\xff")
    with pytest.raises(ConfigError, match=r"binary file.*; make it anew$"):
        read_json(path, error=ConfigError, remedy="make it anew")
    with pytest.raises(ConfigError, match="2 bytes or more, expected at most 1; make it anew"):
        read_json(path, error=ConfigError, remedy="make it anew", max_bytes=1)
