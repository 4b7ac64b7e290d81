"""Batches of the training set: those of an epoch, in seeded order; or every sample once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from videotag.config import Config
from videotag.datasets.batches import Batch, Dataset, OnError
from videotag.datasets.order import ordered_groups, shuffled_groups
from videotag.errors import MediaError, RecordError, VideotagError
from videotag.inference.parallel import rank, world_size
from videotag.train_section import TrainSection


def training_batches(
    config: Config, dataset: Dataset, *, epoch: int, seed: int, on_error: OnError, first_step: int = 0
) -> Iterator[Batch | None]:
    """The batches of one epoch, in an order determined by seed and epoch.

    Every batch is split among the processes, which together compute the same step as a single one. A batch
    is None if none of its videos can be read or this process gets none of them.

    Args:
        config: Config of the model.
        dataset: Dataset of the TRAIN section.
        epoch: Index of the epoch, from 0.
        seed: Seed of the run.
        on_error: Called for every video that cannot be read, see Dataset.batches.
        first_step: Index of the first step in the epoch; earlier ones are skipped.
    """
    train = config.train
    rng = np.random.default_rng([seed, epoch])
    groups = shuffled_groups(
        dataset.shuffled(rng), train.batch_size, rng, sizes=dataset.sizes, drop_last=train.drop_last
    )
    parts = (group[rank() :: world_size()] for group in itertools.islice(groups, first_step, None))
    return dataset.batches(parts, on_error=on_error, seed=(seed, epoch))


def every_sample(data: Dataset, train: TrainSection, unread: dict[str, VideotagError]) -> Iterator[Batch]:
    """Every training sample once, in list order and without augmentation, in every process.

    Args:
        data: Dataset of the TRAIN section.
        train: TRAIN section, which gives the batch size.
        unread: Receives the error of every sample that cannot be read.
    """
    groups = ordered_groups(len(data), train.batch_size)
    return (
        batch for batch in data.batches(groups, on_error=collect_media_errors(unread)) if batch is not None
    )


def collect_media_errors(unread: dict[str, VideotagError]) -> OnError:
    """A handler that collects the errors of samples that cannot be read, and raises all others.

    Args:
        unread: Receives the errors by sample.
    """

    def on_error(video: str, error: VideotagError) -> None:
        if not isinstance(error, MediaError | RecordError):
            raise error
        unread[video] = error

    return on_error
