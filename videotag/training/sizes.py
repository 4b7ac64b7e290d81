"""Sizes of a training run, known before its network is built: weights, steps and memory.

Building a network that does not fit may already end the process without a message.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle.nn.layer import rnn
from paddle.utils import unique_name

from videotag.config import Config
from videotag.datasets.batches import Dataset
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import ConfigError
from videotag.inference.parallel import world_size
from videotag.inputs.reader import specs_of
from videotag.models.contract import build_model
from videotag.registry import ModelEntry
from videotag.runtime.device import gpu_index
from videotag.sections import ModelSection
from videotag.system.memory_limit import memory_limit
from videotag.train_section import TrainSection

#: Values that an optimizer keeps per weight.
_STATE_PER_WEIGHT = {
    "rmsprop": 3,
    "adam": 2,
    "momentum": 1,
    "lbfgs": 0,
}  # centered rmsprop also keeps the mean gradient
_FLOAT_BYTES = 4  # weights, gradients and state are float32 in every TRAIN.precision
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"), (1, "bytes"))


@dataclass(frozen=True)
class WeightCount:
    """Numbers of weights of a network, including running means of norms.

    Attributes:
        all: Number of all weights.
        trained: Number of those that are trained.
    """

    all: int
    trained: int


def check_sizes(config: Config, data: Dataset, *, steps_per_epoch: int) -> str:
    """The numbers of weights and steps of a run, and the least memory that it takes, in words.

    The memory is a lower bound: it leaves out activations, which depend on the network.

    Args:
        config: Config of the model.
        data: Dataset of the TRAIN section.
        steps_per_epoch: Number of steps per epoch.

    Raises:
        ConfigError: Weights, gradients, optimizer state and a batch need more memory than there is.
    """
    train = config.train
    steps = f"{_count(steps_per_epoch, 'step')} an epoch, {_count(steps_per_epoch * train.epoch, 'step')}"
    weights = count_weights(config.entry, config.model, train)
    if weights is None:
        return steps
    own, batch = weights_bytes(weights, train), batch_bytes(config, data)
    limit, where = _limit()
    if limit is not None and own + batch > limit:
        remedy = "lower the sizes in MODEL, or choose a smaller model"
        raise ConfigError(
            f"not enough memory: {_millions(weights.all)} weights of {config.entry.name}, their gradients "
            f"and the state of {train.optimizer} take {_size(own)}, and a batch of {train.batch_size} takes "
            f"{_size(batch)}, but {where} has {_size(limit)}; "
            f"{'lower TRAIN.batch_size' if batch > own else remedy}"
        )
    return f"{_millions(weights.all)} weights, {steps}, at least {_size(own + batch)} of memory"


def count_weights(entry: ModelEntry, section: ModelSection, train: TrainSection) -> WeightCount | None:
    """Counts the weights of a network without allocating them.

    Args:
        entry: Registry entry of the model.
        section: MODEL section of the config.
        train: TRAIN section, whose `freeze` excludes weights from training, unless it ends.

    Returns:
        The numbers; None for a network that reads or writes its weights when it is built.
    """
    try:
        with _unallocated():
            named = dict(build_model(entry, section).named_parameters())
    except Exception:  # whatever a network does with weights that do not exist; building it reports mistakes
        return None
    sizes = {name: math.prod(parameter.shape) for name, parameter in named.items()}
    patterns = train.freeze if train.freeze_epochs is None else []
    frozen = {
        name
        for name, parameter in named.items()
        if parameter.stop_gradient or any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    return WeightCount(sum(sizes.values()), sum(n for name, n in sizes.items() if name not in frozen))


def weights_bytes(weights: WeightCount, train: TrainSection) -> int:
    """Bytes of weights, gradients, optimizer state and averaged weights.

    Args:
        weights: Numbers of weights.
        train: TRAIN section.
    """
    copies = 1 + _STATE_PER_WEIGHT[train.optimizer] + (train.ema_decay is not None)
    return _FLOAT_BYTES * (weights.all + copies * weights.trained)


def batch_bytes(config: Config, data: Dataset) -> int:
    """Bytes of this process's inputs of a batch of average length.

    Args:
        config: Config of the model.
        data: Dataset of the TRAIN section.
    """
    is_known = isinstance(data, SampleDataset) and data.sizes is not None  # sizes of records are bytes
    length = max(1, int(np.mean(data.sizes))) if is_known and data.sizes is not None else 1
    num_bytes = 0
    for _, reader in config.readers(config.train):
        for spec in specs_of(reader):
            inner = math.prod(length if size is None else size for size in spec.shape[1:])
            num_bytes += inner * np.dtype(spec.dtype).itemsize
    return num_bytes * -(-min(config.train.batch_size, len(data)) // world_size())


def _limit() -> tuple[int | None, str]:
    """The memory of the device in bytes, None if unknown, and the device in words."""
    if paddle.get_device().startswith("gpu"):
        return int(paddle.device.cuda.get_device_properties(gpu_index()).total_memory), "the GPU"
    return memory_limit(), "this machine or container"


@contextlib.contextmanager
def _unallocated() -> Iterator[None]:
    """Context in which networks are built without memory for their weights."""
    flatten = rnn.RNNBase.flatten_parameters
    # Copies the weights of an LSTM into one block, which fails if they do not exist.
    rnn.RNNBase.flatten_parameters = lambda self: None
    try:
        with unique_name.guard(), paddle.LazyGuard():
            yield
    finally:
        rnn.RNNBase.flatten_parameters = flatten


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e5 else f"{number:,}"


def _size(num_bytes: int) -> str:
    unit, name = next((unit, name) for unit, name in _UNITS if num_bytes >= unit or unit == 1)
    return f"{num_bytes / unit:,.{int(unit > 1)}f} {name}"
