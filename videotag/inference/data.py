"""Datasets of the lists that a config names, and batches of them, for every kind of model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from videotag.config import Config
from videotag.datasets.batches import Batch, Dataset, OnError
from videotag.datasets.order import ordered_groups
from videotag.datasets.record_dataset import RecordDataset
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import ConfigError, FileListError, grouped, one_error
from videotag.formats.feature_files import INDEX_SUFFIX
from videotag.formats.filelist import ListEntry, read_filelist
from videotag.formats.json_lists import is_json_list, read_json_list
from videotag.formats.record_files import is_record_file
from videotag.inference.parallel import main_first, rank, world_size
from videotag.inputs.features import FeatureReader
from videotag.inputs.reader import Reader, specs_of
from videotag.registry import MASK, ArraySpec
from videotag.safe_text import escaped
from videotag.sections import SplitSection
from videotag.system.cores import num_cores

DEFAULT_BUFFER = 8192  # records
_MAX_RECORD_THREADS = 4  # already read and unpack faster than any of our networks trains


def open_dataset(config: Config, entries: Sequence[ListEntry], section: SplitSection) -> Dataset:
    """The dataset of a list; checks its files up front as far as that is cheap.

    Args:
        config: Config of the model.
        entries: Entries of the section's list, at least one: samples, or record files that hold samples.
        section: The TRAIN, VALID, TEST or INFER section of the config.

    Raises:
        FeatureFileError, RecordError: Files are missing, damaged or of another width; one line per file.
        FileListError: The list names folders instead of videos or vice versa, one line per path; or mixes
            record files with other files.
        ConfigError: Records have labels outside the model's classes, or TRAIN.shuffle_buffer is set for a
            list without record files.
    """
    readers = config.readers(section)
    shuffle_buffer = getattr(section, "shuffle_buffer", None)
    others = [entry.path for entry in entries if not is_record_file(entry.path)]
    if len(others) == len(entries):
        if shuffle_buffer:
            raise ConfigError("TRAIN.shuffle_buffer: applies to record files only; remove the key")
        return SampleDataset(entries, readers, num_classes=config.model.num_classes, task=config.task)
    if others:
        problem = "not a record file, unlike the rest of this list; split the list in two"
        raise one_error(FileListError, grouped([(path, problem) for path in others]))
    return _open_records(config, entries, section, readers, shuffle_buffer or DEFAULT_BUFFER)


def check_inputs(config: Config, section: SplitSection, inputs: Sequence[ArraySpec]) -> None:
    """Compares what the readers of INPUTS make with what the model takes.

    Args:
        config: Config of the model.
        section: TRAIN, VALID, TEST or INFER of the config.
        inputs: Inputs of the model.

    Raises:
        ConfigError: All differences, a line each.
    """
    made = {spec.name: spec for _, reader in config.readers(section) for spec in specs_of(reader)}
    model = config.entry.name
    problems = []
    for spec in inputs:
        found = made.get(spec.name)
        name = spec.name.removesuffix(MASK)
        if found is None:
            problems.append(f"INPUTS.{name}: no reader makes {spec.name}, which {model} takes; add it")
        elif found.dtype != spec.dtype or not spec.accepts_shape(found.shape):
            reader = config.inputs[name].reader if name in config.inputs else "another"
            problems.append(
                f"INPUTS.{name}: reader {reader} makes {found}, but {model} takes "
                f"{spec}; correct its options, or MODEL"
            )
        elif found.dtype == "int64" and found.below > spec.below:
            problems.append(
                f"INPUTS.{name}: values below {found.below}, but {model} takes values below {spec.below}; "
                "correct its options, or MODEL"
            )
    taken = {spec.name for spec in inputs}
    for name in config.inputs:
        if not any(each == name or each.startswith(f"{name}.") for each in taken):
            problems.append(f"INPUTS.{escaped(name)}: {model} has no such input; leave it out")
    if problems:
        raise one_error(ConfigError, problems)


def _open_records(
    config: Config,
    entries: Sequence[ListEntry],
    section: SplitSection,
    readers: Sequence[tuple[str | None, Reader[Any, Any]]],
    shuffle_buffer: int,
) -> RecordDataset:
    (_, reader), *others = readers
    if others or not isinstance(reader, FeatureReader):
        raise FileListError(
            f"{entries[0].path}: a record file holds features, but {config.entry.name} reads other "
            "inputs; choose a model of features"
        )
    with main_first():  # the other processes read the index it writes
        return RecordDataset(
            [entry.path for entry in entries],
            dims=reader.dims,
            num_classes=config.model.num_classes,
            task=config.task,
            shuffle_buffer=shuffle_buffer,
            batch_size=section.batch_size,
            num_threads=min(_MAX_RECORD_THREADS, num_cores()),
            needs_labels=section is config.train
            or (config.task == "single_label" and section is not config.infer),
            cache=section.filelist and section.filelist + INDEX_SUFFIX,
        )


def read_section_list(
    config: Config, split: str, *, labels: Literal["required", "optional"]
) -> list[ListEntry]:
    """The entries of the list that a section of the config names.

    Labels in the INFER list are not validated, as they may belong to another label file.

    Args:
        config: Config of the model.
        split: Name of the section: TRAIN, VALID, TEST or INFER.
        labels: Whether every entry needs labels.

    Raises:
        ConfigError: The section names no list.
        FileListError: The list cannot be read, or some of its lines are invalid.
    """
    section = getattr(config, split.lower())
    if not section.filelist:
        raise ConfigError(
            f"{split}.filelist: no list of files; set it in the config or with --set {split}.filelist=PATH "
            "(a config beside weights may only name lists inside the working folder)"
        )
    num_classes = None if split == "INFER" else config.model.num_classes
    return read_list(section.filelist, config, section, labels=labels, num_classes=num_classes)


def read_list(
    path: str | Path,
    config: Config,
    section: SplitSection,
    *,
    labels: Literal["required", "optional"] = "optional",
    num_classes: int | None = None,
) -> list[ListEntry]:
    """The entries of a list of paths or of JSON lines.

    Args:
        path: The list.
        config: Config of the model.
        section: Section whose readers read the list.
        labels: Whether every entry needs labels.
        num_classes: Exclusive upper bound of class ids; None for no bound.

    Raises:
        FileListError: The list cannot be read, or some of its lines are invalid.
    """
    if is_json_list(path):
        return read_json_list(path, labels=labels, num_classes=num_classes)
    readers = [reader for _, reader in config.readers(section) if reader.decodes]
    for reader in readers:  # before parsing: a frame count takes the place of a label
        reader.check_kind([entry.path for entry in read_filelist(path, must_exist=False)])
    count_names = count_names_of(config, section)
    return read_filelist(path, labels=labels, num_classes=num_classes, count_names=count_names)


def frame_entries(config: Config, section: SplitSection, entries: Sequence[ListEntry]) -> list[ListEntry]:
    """The videos or folders of frames of a list's samples, for a model that only reads frames.

    Samples without the field are left out.

    Args:
        config: Config of the model.
        section: Section whose reader reads the samples.
        entries: Samples.
    """
    ((name, reader),) = config.readers(section)
    fields = [entry.field(name or next(iter(reader.inputs))) for entry in entries]
    return [reader.entry_of(field) for field in fields if field is not None]


def count_names_of(config: Config, section: SplitSection) -> tuple[str, ...]:
    """Names of the numbers that follow the path in a line of the section's list."""
    return tuple(name for _, reader in config.readers(section) for name in reader.count_names)


def evaluation_batches(dataset: Dataset, section: SplitSection, *, on_error: OnError) -> Iterator[Batch]:
    """Batches of every video once, in list order; each of several processes gets its share.

    Args:
        dataset: Dataset of the section.
        section: The VALID, TEST or INFER section of the config.
        on_error: Called for a sample that cannot be read; see Dataset.batches.
    """
    groups = ordered_groups(len(dataset), section.batch_size)
    parts = (group[rank() :: world_size()] for group in groups)
    return (batch for batch in dataset.batches(parts, on_error=on_error) if batch is not None)
