"""The batches of a config's lists, for whichever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from videotag.config import Config, SplitSection
from videotag.datasets.batches import Batch
from videotag.datasets.features import FeatureBatch, check_features, feature_batches
from videotag.datasets.videos import ClipBatch, check_format, clip_batches
from videotag.errors import VideotagError
from videotag.formats.filelist import ListEntry


def check_data(config: Config, entries: Sequence[ListEntry]) -> None:
    """Finds files that cannot be used before work starts, as far as that is cheap.

    Raises:
        FeatureFileError: all that are missing, damaged or of another width, a line each.
        FileListError: folders where MODEL.format wants videos, or the other way round, a line each.
    """
    if config.entry.kind == "tagger":
        check_features(entries, config.model.dims)
        return
    check_format(entries, config.model.format)


OnError: TypeAlias = Callable[[str, VideotagError], None]


def training_batches(
    config: Config, entries: Sequence[ListEntry], *, epoch: int, seed: int, on_error: OnError
) -> Iterator[Batch]:
    """The batches of one epoch in an order that seed and epoch decide.

    Args:
        config: of a tagger or an extractor.
        entries: of TRAIN.filelist.
        epoch: from 0.
        seed: of the run.
        on_error: called with the video id and the error of a file that cannot be read, which is then left
            out.
    """
    train = config.train
    order = np.random.default_rng([seed, epoch]).permutation(len(entries))
    options = {"order": order, "drop_last": train.drop_last, "on_error": on_error}
    if config.entry.kind == "tagger":
        return _feature_batches(config, entries, train, **options)
    return _clip_batches(config, entries, train, seed=(seed, epoch), **options)


def evaluation_batches(
    config: Config,
    entries: Sequence[ListEntry],
    section: SplitSection,
    *,
    on_error: OnError,
) -> Iterator[Batch]:
    """Every video once, in the list's order.

    Args:
        config: of a tagger or an extractor.
        entries: of the section's list.
        section: VALID, TEST or INFER of the config.
        on_error: as for training_batches.
    """
    batches = _feature_batches if config.entry.kind == "tagger" else _clip_batches
    return batches(config, entries, section, on_error=on_error)


def _feature_batches(
    config: Config, entries: Sequence[ListEntry], section: SplitSection, **options: Any
) -> Iterator[FeatureBatch]:
    model = config.model
    return feature_batches(
        entries,
        dims=model.dims,
        num_classes=model.num_classes,
        batch_size=section.batch_size,
        task=config.task,
        **options,
    )


def _clip_batches(
    config: Config, entries: Sequence[ListEntry], section: Any, **options: Any
) -> Iterator[ClipBatch]:
    return clip_batches(entries, model=config.model, split=section, task=config.task, **options)
