"""YAML of every kind: read as PyYAML reads it, or refused in one line at once."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import ConfigError
from videotag.formats.yaml_text import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [*(ROOT / "configs").glob("*.yaml"), ROOT / "weights" / "models.yaml"]

INFINITY = float("inf")
#: Ten lists of ten aliases to the one before: 10^10 values in 500 bytes.
LAUGHS = "x0: &x0 [lol]\n" + "".join(f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 10))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_read_as_pyyaml_reads_them(path):
    text = path.read_text(encoding="utf-8")
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("# a remark\n", None),
        ("a: [1, -2, 0x1F, 0b101, 0777, 1_000, +3]", {"a": [1, -2, 31, 5, 511, 1000, 3]}),
        ("a: [1.5, .5, 1.0e+3, .inf, -.INF, 1_0.5]", {"a": [1.5, 0.5, 1000.0, INFINITY, -INFINITY, 10.5]}),
        ("a: [yes, No, TRUE, off]", {"a": [True, False, True, False]}),
        ("a: [~, null, ]\nb:", {"a": [None, None], "b": None}),
        ("a: [1e-4, 08, 0o7, '5', !!str 5]", {"a": ["1e-4", "08", "0o7", "5", "5"]}),
        ("a: [!!int 0x10, !!float 2, !!bool on, !!null ~]", {"a": [16, 2.0, True, None]}),
        ("a: !!seq [1]\nb: !!map {c: 1}", {"a": [1], "b": {"c": 1}}),
        ("a: [1:59:59, 1:30.5, 2020-02-30, 2020-99-99, 2001-12-14t21:59:43.10-05:00]",
         {"a": ["1:59:59", "1:30.5", "2020-02-30", "2020-99-99", "2001-12-14t21:59:43.10-05:00"]}),
        ("1: a\nyes: b\n~: c\n2020-01-01: d", {"1": "a", "yes": "b", "~": "c", "2020-01-01": "d"}),
        ("a: &x [1]\nb: {c: *x, d: [*x, *x]}", {"a": [1], "b": {"c": [1], "d": [[1], [1]]}}),
        ("0x_: a\n" + "9" * 70 + ": b\n_: c", {"0x_": "a", "9" * 70: "b", "_": "c"}),
        ("&k 1: a\nb: {*k : *k }", {"1": "a", "b": {"1": "1"}}),
        ("&k a: 1\nb: {*k : 2}", {"a": 1, "b": {"a": 2}}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc:\n  q: 4\n  <<: *x",
         {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 4}}),
        ("a: &x {p: 1}\nb: &y {p: 2, q: 3}\nc: {<<: [*x, *y]}",
         {"a": {"p": 1}, "b": {"p": 2, "q": 3}, "c": {"p": 1, "q": 3}}),
        ("a: {b: 1}\nc: {b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        ('a: "\\e[2J\\u202E"', {"a": "\x1b[2J\u202e"}),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_but_keys_dates_and_times_are_text(text, expected):
    assert parse_yaml(text) == expected


def test_not_a_number_is_read():
    (value,) = parse_yaml("[.nan]")
    assert value != value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**50), 10**50)
    | st.floats(allow_nan=False)
    # PyYAML writes the other line breaks so that it does not read them back itself.
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x85\u2028\u2029")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(st.characters(categories=["L"]), min_size=1), children, max_size=4)
    ),
    max_leaves=20,
)


@given(value=VALUES)
def test_what_pyyaml_writes_is_read_back(value):
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a YAML file: line 1: expected the node content"),
        ("a: b: c", "not a YAML file: line 1: mapping values are not allowed here"),
        ("a: \0", "not a YAML file: unacceptable character #x0000"),
        ("a: \x1b[2J", "not a YAML file: unacceptable character #x001b"),
        ('a: "\\0"', "line 1: '\\x00' holds a character that text cannot contain"),
        ('a: "\\ud800"', "line 1: '\\ud800' holds a character that text cannot contain"),
        ('a: "\\U00110000"', "not a YAML file: "),
        ('a: "\\UFFFFFFFF"', "not a YAML file: "),
        ("%YAML " + "9" * 5000 + ".1\n--- a", "not a YAML file: "),
        ("a: !<%ff> b", "not a YAML file: "),
        ("a: !!bool maybe", "line 1: 'maybe' is not a valid bool; correct it, or quote it if it is text"),
        ("a:\n  !!int 5: 1", "line 2: not a YAML file of plain values: the tag '!!int'; remove it"),
        ("a:\n  !!int xize: 1", "line 2: not a YAML file of plain values: the tag '!!int'; remove it"),
        ("a: !!int xize", "'xize' is not a valid int"),
        ("a: !!int 1:30", "'1:30' is not a valid int"),
        ("a: !!float ''", "'' is not a valid float"),
        ("a: !!null x", "'x' is not a valid null"),
        ("a: 0x_", "'0x_' is not a valid int"),
        ("a: !!timestamp now", "the tag '!!timestamp'; remove it"),
        ("a: !!timestamp 2020-01-01", "the tag '!!timestamp'; remove it"),
        ("a: !!binary =", "the tag '!!binary'; remove it"),
        ("a: !!set {b, c}", "the tag '!!set'; remove it"),
        ("a: !!omap [b: 1]", "the tag '!!omap'; remove it"),
        ("a: !!pairs [b: 1]", "the tag '!!pairs'; remove it"),
        ("a: !!map [1]", "the tag '!!map'; remove it"),
        ("a: !!str [1]", "the tag '!!str'; remove it"),
        ("a: !!python/object/apply:os.getcwd []", "the tag '!!python/object/apply:os.getcwd'; remove it"),
        ("a: !" + "t" * 10**5 + " b", "...; remove it"),
        ("a: " + "9" * 5000, "a number of 5000 characters, expected at most 64"),
        ("a: 1." + "9" * 5000, "a number of 5002 characters"),
        ("a: 0x" + "f" * 10**5, "a number of 100002 characters"),
        ("a: 1\n---\nb: 2", "line 2: a second document; keep one"),
        ("[a]: 1", "line 1: keys must be text; found a list"),
        ("{a: 1}: 1", "line 1: keys must be text; found a list"),
        ("a: &x [1]\n*x : 1", "line 2: keys must be text; found a list"),
        ("a: *x", "line 1: *x: no such anchor before it"),
        ("a: &x [*x]", "line 1: *x: no such anchor before it"),
        ("a: &x {b: *x}", "line 1: *x: no such anchor before it"),
        ("a: *" + "x" * 10**5, "no such anchor before it"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a': also given in line 1; keep one of them"),
        ("a:\n  b: 1\n  c: 2\n  'b': 1", "line 4: 'b': also given in line 2"),
        ("&k a: 1\n*k : 2", "line 2: 'a': also given in line 1"),
        ("1: a\n'1': b", "line 2: '1': also given in line 1"),
        ("a" * 1000 + ": 1\n" + "a" * 1000 + ": 2", "...: also given in line 1"),
        ("a: {<<: 3}", "<<: 3, expected an alias of a section"),
        ("a: {<<: [{b: 1}, 3]}", "expected an alias of a section"),
        (LAUGHS, f"line 5: more than {MAX_NODES} keys and values, aliases expanded"),
        (LAUGHS + "MODEL: {<<: *x9}", f"more than {MAX_NODES} keys and values"),
        ("- &a {b: 1, c: 2}\n" + "- {<<: *a}\n" * MAX_NODES, f"more than {MAX_NODES} keys and values"),
        ("[" + "1:59:59," * 30_000 + "]", f"more than {MAX_NODES} keys and values"),
        ("".join(f"a{i}: b\n" for i in range(20_000)), f"more than {MAX_NODES} keys and values"),
        ("[" * 10**5, f"line 1: more than {MAX_DEPTH} nested sections or lists"),
        ("[\n" * 10**5, f"more than {MAX_DEPTH} nested sections or lists"),
        ("{a: " * 50_000, f"more than {MAX_DEPTH} nested sections or lists"),
        ("- " * 10**5, f"more than {MAX_DEPTH} nested sections or lists"),
        ("? " * 10**5, "keys must be text; found a list"),
        ("a" * (MAX_BYTES + 1), f"{MAX_BYTES + 1} characters, expected at most {MAX_BYTES}"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_what_is_not_read_is_one_short_line(text, message):
    with pytest.raises(ValueError, match=r"^[^\n]{1,400}$") as caught:
        parse_yaml(text)
    assert message in str(caught.value)


@given(text=st.text("ab01:-[]{},&*!<>|?'\"%@`#~=.+_ \n\t\\uUx"))
def test_any_text_is_a_value_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        parse_yaml(text)


@given(cut=st.integers(0, 4000), junk=st.text(max_size=8))
def test_a_damaged_file_is_a_value_or_a_value_error(cut, junk):
    text = SHIPPED[-1].read_text(encoding="utf-8")
    with contextlib.suppress(ValueError):
        parse_yaml(text[:cut] + junk + text[cut + len(junk) :])


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 猫", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "a.yaml", error=ConfigError, remedy="x") == {"a": "猫"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1".encode("utf-16"), "not UTF-8, probably UTF-16; convert it"),
        (b"a: \xff\x00", "a binary file"),
        (b"a: [", "a.yaml: not a YAML file: line 1"),
        (b"1:59:59 " * 75_000, f"600000 bytes or more, expected at most {MAX_BYTES}; write one"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "a.yaml", error=ConfigError, remedy="write one")
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match=r"b\.yaml: no such file; write one"):
        read_yaml(tmp_path / "b.yaml", error=ConfigError, remedy="write one")
