"""The batches of a training epoch, in an order that follows from the seed alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from videotag.config import Config
from videotag.datasets.batches import Batch, Dataset, OnError
from videotag.datasets.order import shuffled_groups
from videotag.inference.parallel import rank, world_size


def training_batches(
    config: Config, dataset: Dataset, *, epoch: int, seed: int, on_error: OnError, first_step: int = 0
) -> Iterator[Batch | None]:
    """The batches of one epoch in an order that seed and epoch decide, for as many processes as there are.

    Every process gets its part of every batch, so that together they learn what one would; None if nothing of
    it can be read, or nothing is left for this process.

    Args:
        config: of a tagger or an extractor.
        dataset: of TRAIN.
        epoch: from 0.
        seed: of the run.
        on_error: as of Dataset.batches.
        first_step: of the epoch, those before being left out.
    """
    train = config.train
    rng = np.random.default_rng([seed, epoch])
    groups = shuffled_groups(
        dataset.shuffled(rng), train.batch_size, rng, sizes=dataset.sizes, drop_last=train.drop_last
    )
    parts = (group[rank() :: world_size()] for group in itertools.islice(groups, first_step, None))
    return dataset.batches(parts, on_error=on_error, seed=(seed, epoch))
