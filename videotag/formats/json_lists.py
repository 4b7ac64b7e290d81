"""Lists of samples as JSON lines: {"id": "a", "image": "a.jpg", "text": "words", "labels": [3]}.

A field is a text, or a list of texts without line breaks, which are joined by ITEM_SEPARATOR.
`labels` contains class ids and is optional. `id` is optional and must be unique; a sample without one is
named by its list and line. Every other key is a text field. The reader of an input receives the field with
the input's name, or the one that the input's `field` key names. A null field counts as missing.
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

#: Between the texts of a field that is a list, such as the paths of several pictures.
ITEM_SEPARATOR = "\n"
SUFFIXES = (".jsonl", ".ndjson")
_EXAMPLE = 'write one object per line, such as {"id": "a", "video": "clips/a.mp4", "labels": [12, 305]}'
_MAX_LINE = 2**20  # characters
_MAX_PROBLEMS = 1000  # bad lines after which reading stops
_MAX_LABEL = 10**18


def is_json_list(path: str | Path) -> bool:
    """Whether a list has JSON lines, judged by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def read_json_list(
    path: str | Path,
    *,
    labels: Literal["required", "optional"] = "optional",
    num_classes: int | None = None,
) -> list[ListEntry]:
    """Reads the samples of a JSON list, in file order.

    Args:
        path: Path of the list, a UTF-8 file.
        labels: Whether every sample must have at least one class id.
        num_classes: Number of classes, which all class ids must be below; None accepts any class id.

    Raises:
        FileListError: The list is missing, not UTF-8 or empty, or has invalid lines (one line of the message
            per problem).
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
                problems.append(
                    f"{path}:{number}: id {safe_repr(entry.path)} repeats that of line {lines[entry.path]}; "
                    "change one of them, or leave it out"
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
    """Parses one line.

    Raises:
        ValueError: The line is not a valid sample; the message gives the reason.
    """
    if len(line) > _MAX_LINE:
        raise ValueError(f"{len(line)} characters, expected at most {_MAX_LINE}; put long texts into files")
    try:
        value = parse_json(line, unique_keys=True)
    except ValueError as problem:
        raise ValueError(f"not JSON: {problem}; {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{safe_repr(value)} is not an object; {_EXAMPLE}")
    labels, name = value.pop("labels", None), value.pop("id", None)
    fields = {key: _joined(field) for key, field in value.items() if field is not None and field != []}
    wrong = [key for key, field in fields.items() if not isinstance(field, str)]
    if wrong:
        raise ValueError(
            f"field {safe_repr(wrong[0])}: {safe_repr(fields[wrong[0]])} is not a text or a list of texts; "
            "quote it"
        )
    if name is not None and (not isinstance(name, str) or not name):
        raise ValueError(f"id: {safe_repr(name)} is not a non-empty text; quote it, or leave it out")
    for key, field in {"id": name or "", **fields}.items():
        if not _is_text(field) or not _is_text(key):
            raise ValueError(f"{safe_repr(key)} contains a character that text cannot hold; remove it")
    return ListEntry(name or f"{list_name}:{number}", _label_ids(labels), number, fields=fields)


def _joined(value: Any) -> Any:
    """A list of texts as one text; any other value, and a list that cannot be joined, unchanged."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        return value
    return value if any(ITEM_SEPARATOR in item for item in value) else ITEM_SEPARATOR.join(value)


def _is_text(value: str) -> bool:
    """Whether a text has no NUL and no lone surrogate, which paths and text files cannot contain."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _label_ids(labels: Any) -> tuple[int, ...]:
    if labels is None:
        return ()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"labels: {safe_repr(labels)} is not a list of class ids; write one such as [0, 3]")
    return tuple(labels)


def _problems(
    entry: ListEntry, labels: Literal["required", "optional"], num_classes: int | None
) -> Iterator[str]:
    """Yields the problems with the class ids of a sample, one text each."""
    if labels == "required" and not entry.label_ids:
        yield "no label; write the class ids under 'labels'"
    limit = _MAX_LABEL if num_classes is None else num_classes
    for label in entry.label_ids:
        if not 0 <= label < limit:
            yield (
                f"label {safe_repr(label)}, expected 0 to {limit - 1}; correct the label, or "
                "MODEL.num_classes"
            )
    if len(set(entry.label_ids)) < len(entry.label_ids):
        yield "a label appears twice; remove one"
