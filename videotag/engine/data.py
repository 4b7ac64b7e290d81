"""The batches of a config's lists, for whichever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from videotag.config import Config, SplitSection
from videotag.datasets.batches import Batch
from videotag.datasets.features import check_features, feature_batches
from videotag.errors import VideotagError
from videotag.formats.filelist import ListEntry


def check_data(config: Config, entries: Sequence[ListEntry]) -> None:
    """Finds files that cannot be used before work starts, as far as that is cheap.

    Raises:
        FeatureFileError: all that are missing, damaged or of another width, a line each.
    """
    if config.entry.kind == "tagger":
        check_features(entries, config.model.dims)


def training_batches(
    config: Config, entries: Sequence[ListEntry], *, epoch: int, seed: int
) -> Iterator[Batch]:
    """The batches of one epoch in an order that seed and epoch decide.

    Args:
        config: of a tagger or an extractor.
        entries: of TRAIN.filelist.
        epoch: from 0.
        seed: of the run.
    """
    train = config.train
    order = np.random.default_rng([seed, epoch]).permutation(len(entries))
    stop = len(order) - (len(order) % train.batch_size if train.drop_last else 0)
    entries = [entries[i] for i in order[:stop]]
    return _batches(config, entries, train, None)


def evaluation_batches(
    config: Config,
    entries: Sequence[ListEntry],
    section: SplitSection,
    *,
    on_error: Callable[[str, VideotagError], None] | None = None,
) -> Iterator[Batch]:
    """Every video once, in the list's order.

    Args:
        config: of a tagger or an extractor.
        entries: of the section's list.
        section: VALID, TEST or INFER of the config.
        on_error: called with the video id and the error of a file that cannot be read, which is then left
            out; without it the error is raised.
    """
    return _batches(config, entries, section, on_error)


def _batches(
    config: Config,
    entries: Sequence[ListEntry],
    section: SplitSection,
    on_error: Callable[[str, VideotagError], None] | None,
) -> Iterator[Batch]:
    model = config.model
    return feature_batches(
        entries,
        dims=model.dims,
        num_classes=model.num_classes,
        batch_size=section.batch_size,
        task=config.task,
        on_error=on_error,
    )
