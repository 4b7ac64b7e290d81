"""Several trained taggers as one network, whose probabilities are the mean of theirs.

Their architectures may differ; what they read and what they say must not. It serves `predict` and `eval` with
several weights, and training with TRAIN.distill_from, where they are the teachers.
Shapes: N videos, C classes, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videotag.system.quiet_paddle import paddle

import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.config import Config, load_config
from videotag.errors import ConfigError, one_error
from videotag.inference.load_weights import load_model
from videotag.inference.members import Member, differences
from videotag.registry import Task
from videotag.weights import find_weights


class Ensemble(nn.Layer):
    """Features and masks -> logits (N, C) whose probabilities are the mean of those of K networks.

    Args:
        models: K networks of the same inputs and classes.
        task: sigmoid or softmax.
        temperature: each network's logits are divided by it.
    """

    def __init__(self, models: Sequence[nn.Layer], task: Task, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.models = nn.LayerList(models)
        self._task = task
        self._temperature = temperature

    def forward(self, *inputs: Any) -> Tensor:
        """Logits (N, C): of the mean probability p, log(p / (1 - p)), or log(p) of a single-label task."""
        logits = [model(*inputs).astype("float32") / self._temperature for model in self.models]
        if self._task == "single_label":
            return _log_mean([F.log_softmax(x, axis=-1) for x in logits])
        return _log_mean([F.log_sigmoid(x) for x in logits]) - _log_mean([F.log_sigmoid(-x) for x in logits])


def load_members(
    members: Sequence[Member], *, config_name: str | None = None, temperature: float = 1.0
) -> nn.Layer:
    """The network of one member, or the ensemble of several, evaluating.

    Args:
        members: one or more that fit, see check_members.
        config_name: for an error's text; the model's name if not given.
        temperature: see Ensemble.

    Raises:
        WeightsError: as load_model.
    """
    models = [
        load_model(m.config, m.weights.path, config_name=config_name or m.config.entry.name) for m in members
    ]
    alone = len(models) == 1 and temperature == 1
    model = models[0] if alone else Ensemble(models, members[0].config.task, temperature=temperature)
    model.eval()
    return model


def load_teachers(config: Config, labels: Sequence[str] | None, *, save_dir: Path) -> nn.Layer | None:
    """The network of TRAIN.distill_from, at TRAIN.distill_temperature; None if the config names no teacher.

    Args:
        config: of the network that learns.
        labels: its class names, if known.
        save_dir: where it will lie, which may not hold a teacher: its weights change.

    Raises:
        ConfigError: a teacher without config, or whose modalities, classes, task or class names differ; all
            differences, a line each.
        WeightsError: missing, or not of its config's network.
    """
    train = config.train
    if not train.distill_from:
        return None
    members, problems = [], []
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
            own = load_config(weights.config, overrides=[("TRAIN.use_gpu", train.use_gpu)])
            member = Member(weights, own)
            members.append(member)
            if own.entry.kind != "tagger":
                problems.append(f"{where}: {own.entry.name} is no tagger; name weights of one")
                continue
            texts = differences(own, member.class_names(), config, labels)
            problems += [f"{where} and the network that learns: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)
    return load_members(members, temperature=train.distill_temperature)


def _log_mean(logs: Sequence[Tensor]) -> Tensor:
    """log of the mean of numbers given by their logs, K arrays (N, C) -> (N, C)."""
    return paddle.logsumexp(paddle.stack(logs), axis=0) - math.log(len(logs))
