"""The data sets of a config's lists, and their batches, for whichever kind of model it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from videotag.config import Config
from videotag.datasets.batches import Batch, Dataset, OnError
from videotag.datasets.feature_dataset import FeatureDataset
from videotag.datasets.order import ordered_groups
from videotag.datasets.record_dataset import RecordDataset
from videotag.datasets.video_dataset import VideoDataset
from videotag.errors import ConfigError, FileListError, one_error
from videotag.formats.feature_files import INDEX_SUFFIX
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.inference.parallel import main_first, rank, world_size
from videotag.sections import SplitSection
from videotag.system.cores import num_cores

DEFAULT_BUFFER = 8192  # records
_ENOUGH_THREADS = 4  # read and unpack faster than any network of the zoo learns


def open_dataset(config: Config, entries: Sequence[ListEntry], section: SplitSection) -> Dataset:
    """The videos of a list; what cannot be used is found now, as far as that is cheap.

    Args:
        config: of a tagger or an extractor.
        entries: of the section's list: videos, feature files, or files of records.
        section: TRAIN, VALID, TEST or INFER of the config.

    Raises:
        FeatureFileError, RecordError: all files that are missing, damaged or of another width, a line each.
        FileListError: folders where MODEL.format wants videos, or the other way round, a line each; feature
            files among files of records.
        ConfigError: records have labels that the model has not.
    """
    model: Any = config.model
    if config.entry.kind == "extractor":
        return VideoDataset(entries, model=model, split=section, task=config.task)  # type: ignore[arg-type]
    options: dict[str, Any] = {"dims": model.dims, "num_classes": model.num_classes, "task": config.task}
    shuffle_buffer = getattr(section, "shuffle_buffer", None)
    others = [entry.path for entry in entries if not is_record_file(entry.path)]
    if len(others) == len(entries):
        if shuffle_buffer:
            raise ConfigError("TRAIN.shuffle_buffer: lists of feature files are mixed whole; leave it out")
        return FeatureDataset(entries, **options)
    if others:
        problems = [f"{path}: no file of records, as others of its list; make two lists" for path in others]
        raise one_error(FileListError, problems)
    with main_first():  # the others find its index of the records
        return RecordDataset(
            [entry.path for entry in entries],
            **options,
            shuffle_buffer=shuffle_buffer or DEFAULT_BUFFER,
            batch_size=section.batch_size,
            num_threads=min(_ENOUGH_THREADS, num_cores()),
            needs_labels=section is config.train
            or (config.task == "single_label" and section is not config.infer),
            cache=section.filelist and section.filelist + INDEX_SUFFIX,
        )


def evaluation_batches(dataset: Dataset, section: SplitSection, *, on_error: OnError) -> Iterator[Batch]:
    """Every video once, in the list's order; of several processes, each gets its part.

    Args:
        dataset: of the section.
        section: VALID, TEST or INFER of the config.
        on_error: as of Dataset.batches.
    """
    groups = ordered_groups(len(dataset), section.batch_size)
    parts = (group[rank() :: world_size()] for group in groups)
    return (batch for batch in dataset.batches(parts, on_error=on_error) if batch is not None)
