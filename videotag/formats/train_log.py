"""Reads train_log.jsonl, the log of a training run beside its weights, which training/run_log.py writes.

The file may come from anyone, like the weights: its size is bounded, only numbers are taken from it, and
lines that are damaged or of another kind are skipped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from videotag.errors import ConfigError, VideotagError
from videotag.system.json_text import parse_json
from videotag.system.regular_file import read_regular

LOG_FILE = "train_log.jsonl"
MAX_LOG_BYTES = 64 << 20  # a training step takes about 130 bytes
MAX_LOG_LINES = 500_000
_MAX_LINE_BYTES = 64 << 10
_MAX_COUNT = 2**31  # of steps, epochs and samples
logger = logging.getLogger(__name__)


@dataclass
class TrainLog:
    """Numbers of a training run.

    Attributes:
        losses: Training loss by step, in the order of the file.
        validations: Validation metrics by epoch (counted from 0), each name -> finite number.
        num_samples: Number of training samples of the latest start; None if unknown.
    """

    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    num_samples: int | None = None

    def _add(self, record: Mapping[str, Any]) -> None:
        """Adds a line; a line of a kind that is not known, or without its numbers, adds nothing."""
        event, step, epoch = record.get("event"), record.get("step"), record.get("epoch")
        loss, num_samples = record.get("loss"), record.get("num_samples")
        if event == "start" and _is_count(step):
            # A resumed run repeats the steps after its checkpoint.
            self.losses = {old: loss for old, loss in self.losses.items() if old < step}
            self.num_samples = num_samples if _is_count(num_samples) else None
        elif event == "train" and _is_count(step) and _is_finite(loss):
            self.losses[step] = float(loss)
        elif event == "valid" and _is_count(epoch):
            self.validations[epoch] = {k: float(v) for k, v in record.items() if _is_finite(v)}


def read_train_log(folder: Path) -> TrainLog | None:
    """The log in a folder of checkpoints; None without one, or with a warning if it cannot be read."""
    path = folder / LOG_FILE
    try:
        data = read_regular(path, error=ConfigError, max_bytes=MAX_LOG_BYTES, remedy="it is not shown")
    except FileNotFoundError:
        return None
    except (OSError, VideotagError) as error:
        logger.warning("the log of the training is left out: %s", error)
        return None
    if data.count(b"\n") > MAX_LOG_LINES:
        logger.warning("%s: left out, as it has more than %d lines", path, MAX_LOG_LINES)
        return None
    log = TrainLog()
    for line in data.splitlines():
        if len(line) > _MAX_LINE_BYTES:
            continue
        try:
            record = parse_json(line)
        except ValueError:  # also bytes that are not UTF-8
            continue
        if isinstance(record, dict):
            log._add(record)
    return log


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
