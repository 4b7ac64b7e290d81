"""Lists of samples as JSON lines: {"id": "a", "image": "a.jpg", "text": "words", "labels": [3]}.

`labels` holds class ids and may be missing. So may `id`: the sample is then called by list and line. No two
samples have the same id. Every other text is a field. The reader of an input is given the field of the
input's name, or the one that the input's `field` names. A field that is null is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from videotag.errors import FileListError, one_error
from videotag.formats.filelist import ListEntry
from videotag.safe_text import safe_repr
from videotag.system.json_text import parse_json
from videotag.system.text import MAX_LIST_BYTES, MAX_LIST_LINES, read_text

SUFFIXES = (".jsonl", ".ndjson")
_EXAMPLE = 'write an object a line, such as {"id": "a", "video": "clips/a.mp4", "labels": [12, 305]}'
_MAX_LINE = 2**20  # characters
_MAX_PROBLEMS = 1000  # bad lines after which reading stops
_MAX_LABEL = 10**18


def is_json_list(path: str | Path) -> bool:
    """Whether a list is one of JSON lines, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def read_json_list(
    path: str | Path,
    *,
    labels: Literal["required", "optional"] = "optional",
    num_classes: int | None = None,
) -> list[ListEntry]:
    """The samples of a list of JSON lines, in its order.

    Args:
        path: The list.
        labels: Whether every sample must have at least one class id.
        num_classes: Every class id must be below; None: any.

    Raises:
        FileListError: No list, not UTF-8, no sample, or bad lines (a line of the message for each).
    """
    text = read_text(
        path,
        error=FileListError,
        missing=_EXAMPLE,
        binary=_EXAMPLE,
        max_bytes=MAX_LIST_BYTES,
        max_lines=MAX_LIST_LINES,
    )
    entries: list[ListEntry] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = _parse(line, number, Path(path).name)
            problems += [f"{path}:{number}: {text}" for text in _problems(entry, labels, num_classes)]
            if lines.setdefault(entry.path, number) != number:
                first = f"line {lines[entry.path]} has it too"
                problems.append(
                    f"{path}:{number}: id {safe_repr(entry.path)}: {first}; write another, or none"
                )
            entries.append(entry)
        except ValueError as problem:
            problems.append(f"{path}:{number}: {problem}")
        if len(problems) >= _MAX_PROBLEMS:
            break
    if problems:
        raise one_error(FileListError, problems)
    if not entries:
        raise FileListError(f"{path}: no samples; {_EXAMPLE}")
    return entries


def _parse(line: str, number: int, list_name: str) -> ListEntry:
    """The sample of a line.

    Raises:
        ValueError: It is none; the text says why.
    """
    if len(line) > _MAX_LINE:
        raise ValueError(f"{len(line)} characters, expected at most {_MAX_LINE}; put long texts into files")
    try:
        value = parse_json(line)
    except ValueError as problem:
        raise ValueError(f"not JSON: {problem}; {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{safe_repr(value)} is no object; {_EXAMPLE}")
    labels, name = value.pop("labels", None), value.pop("id", None)
    fields = {key: field for key, field in value.items() if field is not None}
    wrong = [key for key, field in fields.items() if not isinstance(field, str)]
    if wrong:
        raise ValueError(f"field {safe_repr(wrong[0])}: {safe_repr(fields[wrong[0]])} is no text; quote it")
    if name is not None and (not isinstance(name, str) or not name):
        raise ValueError(f"id: {safe_repr(name)} is no text; quote it, or leave it out")
    for key, field in {"id": name or "", **fields}.items():
        if not _is_text(field) or not _is_text(key):
            raise ValueError(f"{safe_repr(key)}: a character that text cannot contain; remove it")
    return ListEntry(name or f"{list_name}:{number}", _label_ids(labels), number, fields=fields)


def _is_text(value: str) -> bool:
    """Whether a text has no NUL and no lone surrogate, which neither paths nor files of text can hold."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _label_ids(labels: Any) -> tuple[int, ...]:
    if labels is None:
        return ()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"labels: {safe_repr(labels)} is no list of class ids; write such as [0, 3]")
    return tuple(labels)


def _problems(
    entry: ListEntry, labels: Literal["required", "optional"], num_classes: int | None
) -> Iterator[str]:
    """What is wrong with the class ids of a sample."""
    if labels == "required" and not entry.label_ids:
        yield "no label; write class ids into labels"
    limit = _MAX_LABEL if num_classes is None else num_classes
    for label in entry.label_ids:
        if not 0 <= label < limit:
            yield f"label {safe_repr(label)}, expected 0 to {limit - 1}; correct it, or MODEL.num_classes"
    if len(set(entry.label_ids)) < len(entry.label_ids):
        yield "a label is there twice; remove one"
