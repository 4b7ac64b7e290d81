"""The config of a run, with values from its data: classes from the label file, width from the features.

They replace values of a config, which mostly is a shipped one for other data, but never what the user set. A
resumed run has its own config and class names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videotag.config import Config, load_config
from videotag.config_file import last_values, written_values
from videotag.errors import FeatureFileError, FileListError, LabelFileError
from videotag.formats.feature_files import read_shapes_and_stamp
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.inference.data import read_list, read_section_list
from videotag.inputs.features import FeatureReader
from videotag.labels import read_labels
from videotag.models import load_models
from videotag.runtime.backends import check_name
from videotag.safe_text import safe_repr
from videotag.sections import TaggerModel
from videotag.weights import CONFIG_FILE, LABELS_FILE

NUM_CLASSES, FEATURE_DIMS = "MODEL.num_classes", "MODEL.feature_dims"
LABEL_FILE = "MODEL.label_file"


@dataclass(frozen=True)
class FittedConfig:
    """The config of a run, fitted to its data, with the data that was read for it.

    Attributes:
        config: Config of the model.
        labels: Class names; None if there is no label file.
        entries: Samples to train on.
        notes: Log lines on values that replace those of the config.
    """

    config: Config
    labels: list[str] | None
    entries: list[ListEntry]
    notes: list[str]


def fit_config(
    path: str | None,
    overrides: Sequence[tuple[str, Any]],
    *,
    default: str,
    save_dir: Path,
    model_name: str | None = None,
    resume: bool = False,
) -> FittedConfig:
    """Reads the config of a run and fits it to the label file and the training list.

    Args:
        path: Path of the config; None for that of the run to resume, else `default`.
        overrides: Pairs of dotted key and value that the user set, see load_config.
        default: Path of a shipped config.
        save_dir: Folder of the run.
        model_name: Expected name of the model; None for any.
        resume: Whether to resume the run in save_dir, if there is one.

    Raises:
        ConfigError: The config is invalid, or names no training list.
        LabelFileError: The label file cannot be read, or does not fit the number of classes or the list.
        FileListError: The training list cannot be read, or some of its lines are invalid.
        FeatureFileError: The features differ in width from what the user or the weights require.
    """
    load_models()
    own = save_dir / CONFIG_FILE
    is_own = resume and own.is_file() and path in (None, str(own))
    path = str(own) if is_own else path or default
    user_set = last_values(overrides)
    fitted: list[tuple[str, Any]] = []
    notes = []
    if not is_own:
        num_classes, note = fit_num_classes(path, user_set)
        fitted += [(NUM_CLASSES, num_classes)] if num_classes else []
        notes += [note] if note else []
    elif LABEL_FILE not in user_set and (save_dir / LABELS_FILE).is_file():
        fitted.append((LABEL_FILE, str(save_dir / LABELS_FILE)))  # the original may no longer exist
    config = load_config(path, model_name=model_name, overrides=[*overrides, *fitted])
    check_name(config.infer.backend, where=f"{path}: INFER.backend")
    labels, train = _read_labels(config), config.train
    required: Literal["required", "optional"] = "required" if config.task == "single_label" else "optional"
    if labels and train.filelist and NUM_CLASSES in dict(fitted):
        entries = read_list(train.filelist, config, train, labels=required)
        check_class_ids(entries, config.model.label_file, num_classes=len(labels), filelist=train.filelist)
    else:
        entries = read_section_list(config, "TRAIN", labels=required)
    if note := unlabeled_note(entries, filelist=train.filelist):
        notes.append(note)
    fixed_by = "the weights to start from" if is_own or train.pretrain else None
    if FEATURE_DIMS in user_set:
        fixed_by = "--set"
    dims, note = fit_feature_dims(config, entries, path, fixed_by=fixed_by)
    if dims:
        fitted.append((FEATURE_DIMS, dims))
        config = load_config(path, model_name=model_name, overrides=[*overrides, *fitted])
    return FittedConfig(config, labels, entries, [*notes, note] if note else notes)


def fit_num_classes(path: str, user_set: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The number of classes of a run's label file, where neither the user nor the config sets another.

    A config sets another if it names both num_classes and a label file of its own.

    Args:
        path: Path of the config.
        user_set: Values that the user set by SECTION.key; MODEL.label_file replaces that of the config.

    Returns:
        The number, None if the config's value holds; and a log line if it replaces that value.

    Raises:
        ConfigError, LabelFileError: The config or the label file cannot be read.
    """
    model = written_values(path).get("MODEL", {})
    own_file, own_number = model.get("label_file"), model.get("num_classes")
    labels = user_set.get(LABEL_FILE, own_file)
    if not isinstance(labels, str) or NUM_CLASSES in user_set or (own_file and own_number):
        return None, None
    number = len(read_labels(labels))
    if number == own_number or own_number is None:
        return number, None
    return number, f"{NUM_CLASSES}: {number} of {labels} instead of {safe_repr(own_number)} of {path}"


def check_class_ids(entries: Sequence[ListEntry], labels: str, *, num_classes: int, filelist: str) -> None:
    """Checks that a label file that decides the number of classes names all classes of the training list.

    Args:
        entries: Samples to train on.
        labels: Path of the label file.
        num_classes: Number of its names.
        filelist: Path of the list.

    Raises:
        LabelFileError: A class id has no name.
    """
    last = max(entries, key=lambda entry: max(entry.label_ids, default=0))
    highest = max(last.label_ids, default=0)
    if highest >= num_classes:
        raise LabelFileError(
            f"{labels}: {num_classes} names, but {filelist}:{last.line} has class id {highest}; give the "
            "label file of the list's classes, or correct the list"
        )


def unlabeled_note(entries: Sequence[ListEntry], *, filelist: str | None) -> str | None:
    """A log line on videos without a label, which have none of the classes; None without such videos.

    Args:
        entries: Samples to train on; record files hold their own labels.
        filelist: Path of the list.

    Raises:
        FileListError: No sample has a label.
    """
    unlabeled = [entry for entry in entries if not (entry.label_ids or is_record_file(entry.path))]
    if not unlabeled:
        return None
    if len(unlabeled) == len(entries):
        raise FileListError(f"{filelist}: no label in any line; add the class ids of the videos")
    return (
        f"{filelist}: {len(unlabeled):,} of {len(entries):,} lines have no label, such as line "
        f"{unlabeled[0].line}; these videos are trained on as having none of the classes"
    )


def fit_feature_dims(
    config: Config, entries: Sequence[ListEntry], path: str, *, fixed_by: str | None
) -> tuple[list[int] | None, str | None]:
    """The feature width of a run's files, if all of them have one that the config does not expect.

    Args:
        config: Config of the model.
        entries: Samples to train on.
        path: Path of the config.
        fixed_by: Reason why the width must be that of the config, in words; None if it may be replaced.

    Returns:
        The value of feature_dims, None if the config's value holds; and a log line if it replaces that value.

    Raises:
        FeatureFileError: The width differs, and fixed_by is given.
    """
    if not isinstance(config.model, TaggerModel) or config.names_inputs or len(config.model.dims) > 1:
        return None, None
    ((field, reader),) = config.readers(config.train)
    if not isinstance(reader, FeatureReader) or any(is_record_file(entry.path) for entry in entries):
        return None, None
    ((name, expected),) = reader.dims.items()
    files = [file for entry in entries if (file := entry.field(field or name)) is not None]
    width = _width(files[0], name) if files else None
    # Files of other or of several widths are reported with the rest of their problems, when they are opened.
    if width in (None, expected) or any(_width(file, name) != width for file in files[1:]):
        return None, None
    assert width is not None
    count = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    if fixed_by:
        raise FeatureFileError(
            f"{files[0]}{count}: features are {width} wide, but {FEATURE_DIMS} is [{expected}] ({fixed_by}); "
            f"change it to [{width}], or extract features that are {expected} wide"
        )
    text = f"{FEATURE_DIMS}: [{width}] of {files[0]}{count} instead of [{expected}] of {path}"
    return [width], text


def _read_labels(config: Config) -> list[str] | None:
    """The class names; None if there is no label file."""
    path, num_classes = config.model.label_file, config.model.num_classes
    labels = read_labels(path) if path else None
    if labels is not None and len(labels) != num_classes:
        raise LabelFileError(
            f"{path}: {len(labels)} names, expected num_classes {num_classes}; give the model's label file, "
            f"or set MODEL.num_classes={len(labels)}"
        )
    return labels


def _width(file: str, name: str) -> int | None:
    """The feature width of a file; None if it cannot be read."""
    try:
        shapes, _ = read_shapes_and_stamp(file, {name: None})
    except FeatureFileError:
        return None
    return shapes[name][1]
