"""Several trained taggers as one network, whose probabilities are the mean of theirs.

Their architectures may differ; what they read and what they say must not. It serves `predict` and `eval` with
several weights, and training with TRAIN.distill_from, where they are the teachers.
Shapes: N videos, C classes, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.config import Config, load_config
from videotag.engine.checkpoint import file_digest, load_model
from videotag.errors import ConfigError, one_error
from videotag.labels import load_imagenet_names, read_labels
from videotag.registry import Task
from videotag.runtime.agreement import tags_standard
from videotag.runtime.choice import ChosenNetwork, Wish
from videotag.runtime.device import select_device
from videotag.runtime.taggers import tagger_network
from videotag.weights import LABELS_FILE, FoundWeights, find_weights


@dataclass(frozen=True)
class Member:
    """Weights and the config of their network."""

    weights: FoundWeights
    config: Config

    def class_names(self) -> list[str] | None:
        """The C class names that came with the weights; None if none did.

        Raises:
            LabelFileError: those beside the weights are wrong.
        """
        if self.weights.named:
            return load_imagenet_names() if self.weights.named.labels else None
        beside = self.weights.path.parent / LABELS_FILE
        return read_labels(beside, num_classes=self.config.model.num_classes) if beside.is_file() else None


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


def check_members(members: Sequence[Member]) -> None:
    """Compares every network with the first.

    Raises:
        ConfigError: one that is no tagger, or whose modalities, classes, task or class names differ; all
            differences, a line each, with the two weight files.
    """
    problems = [
        f"{m.weights.path}: {m.config.entry.name} is no tagger; only taggers are taken together"
        for m in members
        if m.config.entry.kind != "tagger"
    ]
    if not problems:
        first, *others = members
        names = first.class_names()
        for other in others:
            pair = f"{first.weights.path} and {other.weights.path}"
            texts = differences(first.config, names, other.config, other.class_names())
            problems += [f"{pair}: {text}" for text in texts]
    if problems:
        raise one_error(ConfigError, problems)


def differences(
    config: Config, names: Sequence[str] | None, other: Config, other_names: Sequence[str] | None
) -> list[str]:
    """What keeps the probabilities of two taggers from being averaged, a text each.

    Args:
        config: of one tagger.
        names: its class names; not compared if either is None.
        other: config of the other one.
        other_names: its class names.
    """
    pairs = [
        ("modalities", config.model.dims, other.model.dims),
        ("num_classes", config.model.num_classes, other.model.num_classes),
        ("task", config.task, other.task),
    ]
    texts = [f"{what} {one} and {two}; give weights of the same" for what, one, two in pairs if one != two]
    if names and other_names and len(names) == len(other_names):
        unlike = [i for i, (one, two) in enumerate(zip(names, other_names, strict=True)) if one != two]
        if unlike:
            i = unlike[0]
            texts.append(
                f"{len(unlike)} class names differ, first that of class {i}: {names[i]!r} and "
                f"{other_names[i]!r}; give weights of the same labels"
            )
    return texts


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


def load_network(
    members: Sequence[Member], *, config_name: str | None = None, wish: Wish | None = None
) -> ChosenNetwork:
    """The network of load_members, to be run where the first member's INFER section says.

    Args:
        members: one or more that fit, see check_members.
        config_name: see load_members.
        wish: in place of the INFER section's.

    Raises:
        WeightsError: as load_members.
        ConfigError, DeviceError: backend or precision cannot be had.
    """
    first = members[0].config
    if wish is None:
        wish = Wish(first.infer.backend, first.infer.precision, select_device(first.train.use_gpu))
    wish.check()
    trained = tagger_network(
        load_members(members, config_name=config_name),
        first.model.dims,
        weights=[file_digest(m.weights.path) for m in members],
        config=[_what_it_is(m.config) for m in members],
        name=first.entry.name if len(members) == 1 else f"{len(members)} taggers",
    )
    # Recurrent layers gain nothing by Paddle's bf16.
    return ChosenNetwork(trained, wish, standard=tags_standard(first.task), fast_in_bf16=("openvino",))


def _what_it_is(config: Config) -> list[Any]:
    """What decides a network besides its weights, as JSON can hold it."""
    return [config.entry.name, config.task, config.model.model_dump(mode="json")]


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
        if weights.path.parent.resolve() == save_dir.resolve():
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
