"""Teacher networks for knowledge distillation: TRAIN.distill_from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.config import Config
from videotag.errors import ConfigError, one_error
from videotag.inference.trained_model import differences, load_layers, read_source
from videotag.weights import find_weights

if TYPE_CHECKING:
    from paddle import nn


def load_teachers(config: Config, labels: Sequence[str] | None, *, save_dir: Path) -> nn.Layer | None:
    """The ensemble of TRAIN.distill_from, with TRAIN.distill_temperature; None if there are no teachers.

    Args:
        config: Config of the student.
        labels: Class names of the student; None if unknown.
        save_dir: Folder of the student's checkpoints, which must not contain a teacher.

    Raises:
        ConfigError: A teacher has no config, or other modalities, classes, task or class names than the
            student; all differences, a line each.
        WeightsError: Weights are missing, or do not match their config.
    """
    train = config.train
    if not train.distill_from:
        return None
    teachers, problems = [], []
    for text in train.distill_from:
        weights = find_weights(text)
        where = f"TRAIN.distill_from: {weights.path}"
        if weights.is_export:
            problems.append(f"{where}: an export cannot be a teacher; give the weights it was made from")
        elif weights.path.parent.resolve() == save_dir.resolve():
            problems.append(f"{where}: is in --save_dir, whose weights change; choose another --save_dir")
        elif weights.config is None:
            problems.append(f"{where}: no config belongs to it; put its config.yaml beside it")
        else:
            teacher = read_source(weights, overrides=[("TRAIN.use_gpu", train.use_gpu)])
            teachers.append(teacher)
            own = teacher.config
            texts = differences(own, teacher.class_names(), config, labels)
            problems += [f"{where} and the student: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)
    return load_layers(teachers, temperature=train.distill_temperature)
