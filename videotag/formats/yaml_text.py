"""Reads untrusted YAML (sections, lists, numbers and text) within bounds on size, depth and nodes.

PyYAML splits the text into events; this module builds the values, because PyYAML's constructor expands
aliases without bound and raises many kinds of errors on dates, numbers and tags. Differs from PyYAML: keys
are always text, dates and base-60 numbers (1:59:59) stay text, tags other than JSON's types are refused, and
so are duplicate keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from videotag.errors import VideotagError
from videotag.safe_text import escaped, reason_of, safe_repr
from videotag.system.text import read_text

MAX_BYTES = 256 << 10  # the largest file shipped with videotag has 4 KB
MAX_NODES = 10_000  # keys and values; an alias counts as all the nodes it refers to
MAX_DEPTH = 32  # nested sections and lists; aliases add less than 150, given MAX_NODES
MAX_NUMBER = 64  # characters; a float64 needs 24
_MAX_REASON = 160  # characters of PyYAML's message
_CORE = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "value", "merge")  # types of untagged scalars that stay text
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_RESOLVER: Any = yaml.resolver.Resolver()


def read_yaml(path: str | Path, *, error: type[VideotagError], remedy: str) -> Any:
    """The only document of a YAML file; None if the file is empty.

    Args:
        path: The YAML file.
        error: Class of every error raised.
        remedy: What to do if the file is missing or not text; ends the message.

    Raises:
        error: The file is missing, too large, not UTF-8, not YAML, or exceeds a bound of this module.
    """
    text = read_text(path, error=error, missing=remedy, binary=remedy, max_bytes=MAX_BYTES)
    try:
        return parse_yaml(text)
    except ValueError as problem:
        raise error(f"{escaped(str(path))}: {problem}") from None


def parse_yaml(text: str) -> Any:
    """The only document of a YAML text; None if the text is empty.

    Args:
        text: YAML with at most one document.

    Returns:
        A dict with text keys, list, str, int, float, bool or None.

    Raises:
        ValueError: The text is not YAML or exceeds a bound of this module; the message names the line.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} characters, expected at most {MAX_BYTES} of YAML")
    try:
        return _Builder(text).document()
    except _BadValueError:
        raise
    except yaml.MarkedYAMLError as error:
        mark, reason = error.problem_mark or error.context_mark, error.problem or error.context
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"not a YAML file: {line}{escaped(str(reason), limit=_MAX_REASON)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # "\UFFFFFFFF", %YAML 9...9: the last two
        raise ValueError(f"not a YAML file: {reason_of(error, limit=_MAX_REASON)}") from None


class _BadValueError(ValueError):
    """Valid YAML that this module refuses."""


class _Builder:
    """Builds values from the events of one document."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._anchors: dict[str, tuple[Any, int]] = {}  # name -> (value, number of nodes)
        self._num_nodes = 0

    def document(self) -> Any:
        """The value of the only document; None if there is none."""
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        if not isinstance(following := next(self._events), yaml.StreamEndEvent):
            _refuse(following, "a second document; keep one")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        """The value that begins with `event`, at nesting depth `depth`."""
        before = self._num_nodes
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        else:
            if depth == MAX_DEPTH:
                _refuse(event, f"more than {MAX_DEPTH} nested sections or lists; nest fewer")
            is_list = isinstance(event, yaml.SequenceStartEvent)
            kind = "seq" if is_list else "map"
            if event.tag not in (None, "!", _CORE + kind):
                _refuse_tag(event)
            value = self._list(depth + 1) if is_list else self._section(depth + 1)
        if event.anchor is not None:  # registered only now, so that no value can contain itself
            self._anchors[event.anchor] = value, self._num_nodes - before
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            _refuse(event, f"*{escaped(event.anchor, limit=40)}: no such anchor before it; correct the name")
        value, num_nodes = self._anchors[event.anchor]
        self._count(event, num_nodes)
        return value

    def _list(self, depth: int) -> list[Any]:
        values = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, depth))
        return values

    def _section(self, depth: int) -> dict[str, Any]:
        """The keys and values of a section; refuses duplicate keys, of which PyYAML keeps the last."""
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            value = self._value(next(self._events), depth)
            if not _is_merge(event):
                if key in own:
                    _refuse(event, f"{safe_repr(key)}: also given in line {lines[key]}; keep one of them")
                own[key], lines[key] = value, event.start_mark.line + 1
                continue
            sections = value if isinstance(value, list) else [value]
            if not all(isinstance(section, dict) for section in sections):
                _refuse(event, f"<<: {safe_repr(value)}, expected an alias of a section")
            for section in sections:  # the first one wins
                merged |= {name: v for name, v in section.items() if name not in merged}
        return merged | own

    def _key(self, event: Any) -> str:
        """The text of a key, even if it looks like a number."""
        key = None
        if isinstance(event, yaml.AliasEvent):
            key = self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            if event.tag not in (None, "!", f"{_CORE}str"):
                _refuse_tag(event)
            key = _text(event)
            self._count(event, 1)
            if event.anchor is not None:
                self._anchors[event.anchor] = key, 1
        if not isinstance(key, str):
            _refuse(event, "keys must be text; found a list, section or non-text alias; write a word")
        return key

    def _count(self, event: Any, num_nodes: int) -> None:
        self._num_nodes += num_nodes
        if self._num_nodes > MAX_NODES:
            _refuse(event, f"more than {MAX_NODES} keys and values, aliases expanded; write fewer")


def _is_merge(key: Any) -> bool:
    return isinstance(key, yaml.ScalarEvent) and key.value == "<<" and key.implicit[0]


def _text(event: Any) -> str:
    text: str = event.value
    if "\0" in text or not _is_unicode(text):
        _refuse(event, f"{safe_repr(text)} holds a character that text cannot contain; remove it")
    return text


def _scalar(event: Any) -> Any:
    """The value of a scalar, by its tag, or else by its form."""
    text = _text(event)
    is_tagged = event.tag not in (None, "!")
    tag = event.tag if is_tagged else _RESOLVER.resolve(yaml.ScalarNode, text, event.implicit)
    kind = tag.removeprefix(_CORE)
    if kind == "str" or (kind in _TEXT and not is_tagged):
        return text
    if kind in ("int", "float") and ":" in text and not is_tagged:
        return text
    if kind == "null" and text in _NULLS:
        return None
    if kind == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind not in ("null", "bool", "int", "float"):
        _refuse_tag(event)
    if len(text) > MAX_NUMBER:
        _refuse(
            event,
            f"a number of {len(text)} characters, expected at most {MAX_NUMBER}; if it is text, quote it",
        )
    try:
        if kind in ("int", "float"):
            return _integer(text) if kind == "int" else _fraction(text)
    except ValueError:
        pass
    _refuse(event, f"{safe_repr(text)} is not a valid {kind}; correct it, or quote it if it is text")


def _integer(text: str) -> int:
    """A YAML 1.1 integer: prefix 0b, 0x, or 0 for octal; underscores anywhere."""
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.removeprefix("-").removeprefix("+")
    for prefix, base in (("0b", 2), ("0x", 16), ("0", 8)):
        if digits.startswith(prefix) and digits != "0":
            return sign * int(digits.removeprefix(prefix), base)
    return sign * int(digits)


def _fraction(text: str) -> float:
    """A YAML 1.1 float, also .inf or .nan; underscores anywhere."""
    digits = text.replace("_", "").lower()
    return float(digits.replace(".", "") if digits.endswith((".inf", ".nan")) else digits)


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which cannot be written to a file."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_tag(event: Any) -> NoReturn:
    tag = safe_repr(event.tag.replace(_CORE, "!!"))
    _refuse(event, f"not a YAML file of plain values: the tag {tag}; remove it")


def _refuse(event: Any, problem: str) -> NoReturn:
    raise _BadValueError(f"line {event.start_mark.line + 1}: {problem}")
