"""Lists of videos or features, one per line: `path label label ...`.

VideoTag's format. Differs: tabs and repeated blanks also separate fields, paths may be quoted, lines may be
comments, and all bad lines are reported together.

Rules for a line:
- Fields are separated by ASCII blanks. An ideographic space (U+3000) is part of a name.
- A path such as `a.mp4,1` is an error, unless a file of that name exists or the path is quoted.
- A line whose first non-blank character is # is a comment. Elsewhere, # is part of a name.
- A path that starts with " or ' ends at the next such character; a doubled one stands for itself.
  Backslashes are literal, as in Windows paths.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from videotag.errors import FileListError, grouped, one_error
from videotag.formats.feature_files import FEATURE_SUFFIXES
from videotag.formats.record_files import is_record_file
from videotag.media.suffixes import VIDEO_SUFFIXES
from videotag.safe_text import MAX_TEXT, escaped, safe_repr
from videotag.system.atomic import write_text
from videotag.system.text import MAX_LIST_BYTES, MAX_LIST_LINES, read_text

_EXAMPLE = "write one video or feature file per line, then its class ids, such as: clips/a.mp4 12 305"
_BINARY = "a list is text; one video is given by --video_path"
# Maximum length of a line in bytes. A path has up to 4,096, and 4,000 class ids take 20,000. Parsed, a line
# takes 50 times as much memory.
_MAX_LINE = 2**22
_MAX_LABEL_PROBLEMS = 50  # per line; an error shows no more
_MAX_PROBLEMS = 1000  # bad lines after which reading stops; the first 50 are shown
_BLANKS = " \t\r\x0b\x0c"  # the blanks of bytes.split, except line breaks
_MAX_DIGITS = 18  # maximum length of a class id; int() of thousands of digits is slow
#: Separators that users write instead of blanks -> their names in messages.
_SEPARATORS = {
    ",": "commas",
    ";": "semicolons",
    "|": "vertical bars",
    ":": "colons",
    "，": "full-width commas",
    "；": "full-width semicolons",
    "\u3000": "ideographic spaces (U+3000)",
    "\u00a0": "no-break spaces (U+00A0)",
}
_SEPARATOR = re.compile(f"[{''.join(_SEPARATORS)}]")
_IDS = "0123456789." + "".join(_SEPARATORS)  # characters of class ids with such separators


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One line of a list.

    Attributes:
        path: Path as written; relative paths start at the working folder. The id of a sample of a JSON list.
        label_ids: Class ids of the sample.
        line: Line number, from 1; 0 for an entry that was not read from a file.
        counts: Numbers that belong to the path, such as the number of frames in a folder.
        fields: Fields by name of a sample of a JSON list; None for a line of a classic list.
    """

    path: str
    label_ids: tuple[int, ...] = ()
    line: int = 0
    counts: tuple[int, ...] = ()
    fields: Mapping[str, str] | None = None

    def field(self, name: str) -> str | None:
        """The field `name`, or None if the sample lacks it; in a classic list, the path and its numbers."""
        if self.fields is not None:
            return self.fields.get(name)
        return " ".join([self.path, *map(str, self.counts)]) if self.counts else self.path


def read_filelist(
    path: str | Path,
    *,
    labels: Literal["required", "optional"] = "optional",
    num_classes: int | None = None,
    must_exist: bool = True,
    count_names: Sequence[str] = (),
) -> list[ListEntry]:
    """Reads the entries of a list, in file order.

    Args:
        path: Path of the list, a UTF-8 file with or without a byte order mark.
        labels: Whether every line must have at least one class id. Lines that name record files never have
            class ids.
        num_classes: Number of classes, which all class ids must be below; None accepts any class id.
        must_exist: Whether every path must be an existing file or folder.
        count_names: Names of the numbers between the path and the class ids, such as "num_frames".

    Raises:
        FileListError: The list is missing, not UTF-8 or empty, or has invalid lines (one line of the message
            per problem, or for one problem of many lines).
    """
    text = read_text(
        path,
        error=FileListError,
        missing=_EXAMPLE,
        binary=_BINARY,
        max_bytes=MAX_LIST_BYTES,
        max_lines=MAX_LIST_LINES,
    )
    if re.match(r'\s*\{\s*"', text):
        raise FileListError(f"{path}: looks like JSON lines; rename it to {Path(path).stem}.jsonl")
    content = io.BytesIO(text.encode())  # bytes.split splits at ASCII blanks only
    del text
    entries: list[ListEntry] = []
    problems: list[tuple[str, str]] = []
    missing = f"no such file or folder; relative paths start at the working folder {Path.cwd()}"
    for number, ended in enumerate(content, start=1):
        line, place = ended.removesuffix(b"\n"), f"{path}:{number}"
        if len(problems) >= _MAX_PROBLEMS:
            text = f"stopped after {_MAX_PROBLEMS} bad lines; is this a list file?"
            problems.insert(0, (place, text))
            break
        try:
            fields = _split_line(line, any_path=bool(count_names))
        except ValueError as problem:
            problems.append((place, str(problem)))
            continue
        if fields is None:
            continue
        entry, line_problems = _parse_fields(*fields, number, labels, num_classes, count_names)
        # Invalid fields are mostly the rest of an unquoted path, whose beginning does not exist as a file.
        line_problems += _check_path(entry.path)
        if must_exist and not line_problems and not os.path.exists(entry.path):  # noqa: PTH110 - 3 x as fast
            problems.append((f"{place}: {escaped(entry.path)}", missing))
        problems += [(place, text) for text in line_problems]
        entries.append(entry)
    if problems:
        raise one_error(FileListError, grouped(problems))
    if not entries:
        raise FileListError(f"{path}: no entries; {_EXAMPLE}")
    return entries


def write_filelist(path: str | Path, entries: Iterable[ListEntry]) -> None:
    """Writes a list that `read_filelist` reads back; paths are quoted where needed.

    Raises:
        FileListError: A line cannot hold one of the paths (empty, a line break, NUL, not UTF-8).
        OutputError: The file cannot be written.
    """
    write_text(path, filelist_text(entries))


def filelist_text(entries: Iterable[ListEntry]) -> str:
    """The text that `write_filelist` writes.

    Raises:
        FileListError: A line cannot hold one of the paths (empty, a line break, NUL, not UTF-8).
    """
    lines = [" ".join([quote_path(entry.path), *map(str, entry.label_ids)]) for entry in entries]
    return "".join(f"{line}\n" for line in lines)


def quote_path(name: str) -> str:
    """The path as written in a list, quoted if necessary.

    Raises:
        FileListError: A line cannot hold the path (empty, a line break, NUL, not UTF-8).
    """
    if problem := list_problem(name):
        raise FileListError(f"{safe_repr(name, limit=MAX_TEXT)}: {problem}; rename the file")
    if any(blank in name for blank in _BLANKS) or name[0] in "\"'#\ufeff" or _split_ids(name):
        quote = "'" if '"' in name else '"'
        return quote + name.replace(quote, quote * 2) + quote
    return name


def list_problem(name: str) -> str | None:
    """The reason why a list cannot hold a path; None if it can."""
    if not name or "\n" in name or "\0" in name:
        return "a list cannot hold an empty path, a line break or NUL"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8, as a list must be"
    return None


def _split_line(line: bytes, *, any_path: bool) -> tuple[str, list[bytes]] | None:
    """The path and the other fields of a line; None for a blank line or a comment.

    Raises:
        ValueError: The line is too long, or its path is not quoted or separated correctly.
    """
    if len(line) > _MAX_LINE:
        raise ValueError(f"a line of {len(line)} bytes, expected at most {_MAX_LINE}; {_EXAMPLE}")
    fields = line.split()
    if not fields or fields[0].startswith(b"#"):
        return None
    if fields[0][0] in b"\"'":
        return _split_quoted(line)
    name = fields[0].decode()
    _check_separator(name, any_path=any_path and len(fields) == 1)
    return name, fields[1:]


def _parse_fields(
    name: str,
    fields: list[bytes],
    line: int,
    labels: Literal["required", "optional"],
    num_classes: int | None,
    count_names: Sequence[str],
) -> tuple[ListEntry, list[str]]:
    """Parses the fields of a line.

    Args:
        name: Path, the first field.
        fields: Fields after the path.
        line: Line number, from 1.
        labels: Argument of read_filelist.
        num_classes: Argument of read_filelist.
        count_names: Argument of read_filelist.

    Returns:
        The entry, and the problems with the fields after the path, one text each.
    """
    counts, problems = _parse_numbers(fields, count_names)
    fields = fields[len(count_names) :]
    label_ids, label_problems = _parse_labels(fields, num_classes)
    problems = problems or label_problems
    if is_record_file(name):
        if fields:
            problems.append("class ids after a record file, which contains its own labels; remove them")
    elif labels == "required" and not fields:
        problems.append("no label; write the class ids after the path")
    return ListEntry(name, label_ids, line, counts), problems


def _split_quoted(line: bytes) -> tuple[str, list[bytes]]:
    """The path and the other fields of a line whose path is quoted.

    Raises:
        ValueError: The quote is not closed, or is not followed by a blank.
    """
    text = line.decode().strip(_BLANKS)
    quote = text[0]
    end = 1
    while True:
        end = text.find(quote, end)
        if end < 0:
            raise ValueError(f"the quote {quote} is not closed; put {quote} after the path")
        if text[end + 1 : end + 2] != quote:
            break
        end += 2
    rest = text[end + 1 :]
    if rest and rest[0] in _SEPARATORS:
        raise ValueError(
            f"{safe_repr(rest[:20])} follows the closing quote; separate by blanks, not "
            f"{_SEPARATORS[rest[0]]}"
        )
    if rest and rest[0] not in _BLANKS:
        raise ValueError(
            f"{safe_repr(rest[:20])} follows the closing quote; put a blank between them, or quote the whole "
            "path"
        )
    return text[1:end].replace(quote * 2, quote), rest.encode().split()


def _parse_numbers(fields: list[bytes], names: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
    """The numbers that belong to the path, and the problems with them, one text each."""
    values: list[int] = []
    for position, name in enumerate(names):
        field = fields[position] if position < len(fields) else b""
        if not field.isdigit() or len(field) > _MAX_DIGITS or not int(field):
            seen = field.decode()
            shown = safe_repr(seen[:40]) if seen else "nothing"
            remedy = _number_remedy(seen) or f"write: path {' '.join(names)} label label ..."
            return tuple(values), [f"{shown} is not a valid {name}, expected a number from 1; {remedy}"]
        values.append(int(field))
    return tuple(values), []


def _parse_labels(fields: list[bytes], num_classes: int | None) -> tuple[tuple[int, ...], list[str]]:
    """The class ids of a line, and the problems with them, one text each."""
    for field in fields:
        if not field.removeprefix(b"-").isdigit():
            return (), [_not_an_integer(field.decode())]
        if len(field) > _MAX_DIGITS:
            text = safe_repr(field[:40].decode())
            return (), [
                f"label {text} is too large; class ids count from 0 and have at most {_MAX_DIGITS} digits"
            ]
    problems = []
    label_ids: dict[int, None] = {}  # ordered, unique
    for field in fields:
        label_id = int(field)
        if field.startswith(b"-"):
            problems.append(f"label {label_id} is negative; class ids count from 0")
        elif num_classes is not None and label_id >= num_classes:
            problems.append(
                f"label {label_id}, expected below num_classes {num_classes}; class ids count from 0; "
                "correct the list, or train with a larger MODEL.num_classes"
            )
        elif label_id in label_ids:
            problems.append(f"label {label_id} appears twice; remove one")
        label_ids[label_id] = None
        if len(problems) >= _MAX_LABEL_PROBLEMS:
            break
    return tuple(label_ids), problems


def _not_an_integer(field: str) -> str:
    remedy = _number_remedy(field)
    if field.startswith("#"):
        remedy = "write comments on their own line"
    elif remedy is None:
        remedy = 'a path with blanks must be quoted, such as "my clip.mp4"'
    return f"label {safe_repr(field[:40])} is not an integer; {remedy}"


def _number_remedy(field: str) -> str | None:
    """The remedy for a field such as `1.0`, `1,2` or `"1"`; None if the field does not contain numbers."""
    written, field = field, field.strip("\"'[]")
    if field != written and field.isdecimal() and field.isascii():
        return "write it without quotes or brackets"
    separator = _SEPARATOR.search(field)
    if separator and not field.strip(_IDS):
        return f"separate by blanks, not {_SEPARATORS[separator[0]]}"
    number = re.fullmatch(r"([0-9]{1,18})\.([0-9]*)", field)
    if number is None:
        return None
    return "write a whole number" if number[2].strip("0") else f"write {int(number[1])}"


def _check_separator(name: str, *, any_path: bool) -> None:
    """Checks that class ids are separated from the path by a blank.

    Args:
        name: First field of a line.
        any_path: Whether to also reject a field whose part before the separator neither exists nor has a
            known suffix.

    Raises:
        ValueError: The field is a path with class ids attached.
    """
    parts = _split_ids(name)
    if parts is None or os.path.lexists(name):
        return
    path, separator = parts
    suffix = PurePath(path).suffix.lower()
    is_known = suffix in VIDEO_SUFFIXES or suffix in FEATURE_SUFFIXES or is_record_file(path)
    if any_path or is_known or os.path.lexists(path):
        raise ValueError(
            f"{safe_repr(name)}: no such file or folder; separate path and numbers by blanks, not "
            f"{_SEPARATORS[separator]}"
        )


def _split_ids(name: str) -> tuple[str, str] | None:
    """The path and the separator of a name such as `a.mp4,1,2` or `a.mp4,`; None for other names."""
    if not _SEPARATOR.search(name):
        return None
    end = len(name.rstrip(_IDS))  # in a.mp4,1 the digit 4 belongs to the path
    separator = _SEPARATOR.search(name, end)
    return (name[: separator.start()], separator[0]) if separator and separator.start() else None


def _check_path(name: str) -> list[str]:
    if not name:
        return ["the path is empty; write it between the quotes"]
    if "\0" in name:
        return ["the path contains a NUL character; is this a text file?"]
    return []
