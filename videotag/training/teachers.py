"""Trained networks that another one learns from: TRAIN.distill_from."""

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
    """The network of TRAIN.distill_from, at TRAIN.distill_temperature; None if the config names no teacher.

    Args:
        config: Config of the network that learns.
        labels: Its class names, if known.
        save_dir: Folder of its checkpoints, which may not hold a teacher: its weights change.

    Raises:
        ConfigError: A teacher without config, or whose modalities, classes, task or class names differ; all
            differences, a line each.
        WeightsError: Missing, or not of its config's network.
    """
    train = config.train
    if not train.distill_from:
        return None
    teachers, problems = [], []
    for text in train.distill_from:
        weights = find_weights(text)
        where = f"TRAIN.distill_from: {weights.path}"
        if weights.is_export:
            problems.append(f"{where}: an export, which cannot teach; name the weights it was made from")
        elif weights.path.parent.resolve() == save_dir.resolve():
            problems.append(f"{where}: lies in --save_dir, whose weights change; choose another --save_dir")
        elif weights.config is None:
            problems.append(f"{where}: no config belongs to it; put its config.yaml beside it")
        else:
            teacher = read_source(weights, overrides=[("TRAIN.use_gpu", train.use_gpu)])
            teachers.append(teacher)
            own = teacher.config
            texts = differences(own, teacher.class_names(), config, labels)
            problems += [f"{where} and the network that learns: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)
    return load_layers(teachers, temperature=train.distill_temperature)
