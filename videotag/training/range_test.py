"""TRAIN.learning_rate "auto": a learning rate from some steps of increasing rates.

Follows the range test of Smith, arXiv:1506.01186.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np

from videotag.datasets.batches import Batch
from videotag.inference.load_weights import network_state, set_state
from videotag.training.learner import Learner

NUM_STEPS = 60
_LOWEST, _HIGHEST = 1e-5, 1.0
_SMOOTHING = 0.8  # weight of the earlier losses in the smoothed loss
_DIVERGED = 2.0  # factor of the smallest smoothed loss at which the test ends
_BACK_OFF = 10.0  # the rate is this factor below that of the smallest loss
_SMALLEST, _LARGEST = 1e-5, 0.1


def find_learning_rate(learner: Learner, batches: Iterable[Batch | None], *, seed: int) -> float:
    """A tenth of the learning rate at which the smoothed loss is smallest; the network is left unchanged.

    Args:
        learner: Learner that is used for nothing else, as its optimizer's state is changed.
        batches: Training batches, without end or at least NUM_STEPS; fewer give a coarser result.
        seed: Seed of the run.

    Returns:
        A rate in [1e-5, 0.1], rounded to two digits.
    """
    model = learner.model
    before = {name: value.numpy().copy() for name, value in network_state(model).items()}
    learner.start_epoch()
    factor = (_HIGHEST / _LOWEST) ** (1 / (NUM_STEPS - 1))
    smoothed, smallest, best = math.nan, math.inf, _LOWEST
    for step, batch in enumerate(itertools.islice(batches, NUM_STEPS)):
        rate = _LOWEST * factor**step
        learned = learner.learn(batch, step=step, seed=(seed + step) % 2**31, rate=rate)
        if learned is None:
            continue
        loss = learned[0].item()
        if not math.isfinite(loss):
            break
        smoothed = loss if math.isnan(smoothed) else _SMOOTHING * smoothed + (1 - _SMOOTHING) * loss
        if smoothed < smallest:
            smallest, best = smoothed, rate
        if smoothed > _DIVERGED * smallest:
            break
    learner.unfreeze()  # the run's own learner freezes anew
    set_state(network_state(model), before)
    return float(f"{np.clip(best / _BACK_OFF, _SMALLEST, _LARGEST):.2g}")
