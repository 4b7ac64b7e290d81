"""Trained taggers with their configs: which go together, and the network of one or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.config import Config
from videotag.errors import ConfigError, one_error
from videotag.labels import load_imagenet_names, read_labels
from videotag.registry import Task
from videotag.runtime.agreement import tags_tolerances
from videotag.runtime.choice import ChosenNetwork, RuntimeRequest
from videotag.runtime.device import select_device
from videotag.runtime.exported import load_exported
from videotag.runtime.taggers import LOGITS, tagger_network
from videotag.runtime.trained import Arrays, Network, TrainedNetwork
from videotag.safe_text import safe_repr
from videotag.system.download import file_digest
from videotag.weights import FoundWeights


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
        beside = self.weights.labels_beside
        return read_labels(beside, num_classes=self.config.model.num_classes) if beside else None


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
                f"{len(unlike)} class names differ, first that of class {i}: {safe_repr(names[i])} and "
                f"{safe_repr(other_names[i])}; give weights of the same labels"
            )
    return texts


def load_network(
    members: Sequence[Member], *, config_name: str | None = None, wish: RuntimeRequest | None = None
) -> Network:
    """The network of one member, or of several the mean of their probabilities.

    Checkpoints run where the wish says, exports as they were made.

    Args:
        members: one or more that fit, see check_members.
        config_name: for an error's text; the model's name if not given.
        wish: of wish_of, if not given.

    Raises:
        WeightsError: missing, damaged, or not of the config's network.
        ConfigError, DeviceError: backend or precision cannot be had.
    """
    first, wish = members[0], wish or wish_of(members)
    if wish and not any(member.weights.is_export for member in members):
        wish.check()
        trained = trained_network(members, config_name=config_name)
        # Recurrent layers gain nothing by Paddle's bf16.
        tolerances = tags_tolerances(first.config.task)
        return ChosenNetwork(trained, wish, tolerances=tolerances, fast_in_bf16=("openvino",))
    if len(members) == 1:
        return load_exported(first.weights.path, use_gpu=first.config.train.use_gpu)
    networks = [load_network([member], config_name=config_name, wish=wish) for member in members]
    return MeanNetwork(networks, first.config.task)


def wish_of(members: Sequence[Member], *, auto_precision: str = "auto") -> RuntimeRequest | None:
    """Where checkpoints are to run, by the INFER section of the first; None if all members are exports.

    Args:
        members: one or more.
        auto_precision: what stands for the precision "auto".

    Raises:
        DeviceError: a GPU was asked for and there is none.
    """
    config = next((member.config for member in members if not member.weights.is_export), None)
    if config is None:
        return None
    precision = auto_precision if config.infer.precision == "auto" else config.infer.precision
    return RuntimeRequest(config.infer.backend, precision, select_device(config.train.use_gpu))


def trained_network(members: Sequence[Member], *, config_name: str | None = None) -> TrainedNetwork:
    """The network of one checkpoint, or the ensemble of several, with its weights.

    Raises:
        WeightsError: missing, damaged, or not of the config's network.
    """
    from videotag.inference.ensemble import load_members

    first = members[0].config
    return tagger_network(
        load_members(members, config_name=config_name),
        first.model.dims,
        weights=[file_digest(m.weights.path) for m in members],
        config=[_what_it_is(m.config) for m in members],
        name=first.entry.name if len(members) == 1 else f"the mean of {len(members)} taggers",
    )


class MeanNetwork:
    """Several networks whose probabilities are averaged; see videotag.runtime.trained.Network.

    Args:
        networks: of the same inputs and classes, K of them.
        task: sigmoid or softmax.
    """

    def __init__(self, networks: Sequence[Network], task: Task) -> None:
        self._networks = networks
        self._task = task

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Logits (N, C): of the mean probability p, log(p / (1 - p)), or log(p) of a single-label task."""
        logits = np.stack([network(inputs)[LOGITS] for network in self._networks]).astype(np.float64)
        if self._task == "single_label":
            logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
            mean = np.logaddexp.reduce(logs) - np.log(len(logs))
        else:
            present, absent = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
            mean = np.logaddexp.reduce(present) - np.logaddexp.reduce(absent)
        return {LOGITS: mean.astype(np.float32)}


def _what_it_is(config: Config) -> list[Any]:
    """What decides a network besides its weights, as JSON can hold it."""
    return [config.entry.name, config.task, config.model.model_dump(mode="json")]
