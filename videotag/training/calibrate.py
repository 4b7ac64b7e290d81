"""Measurements of the training set that a network needs before its first step.

Shapes: N videos, P inputs of the last layer, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import nn

from videotag.datasets.batches import Batch
from videotag.errors import ConfigError, FileListError
from videotag.inference.evaluate import to_tensors
from videotag.models.standardize import Standardize
from videotag.registry import LOGITS, NamedClassifier

LBFGS = "optimizer: lbfgs"


def fit_standardizers(model: nn.Layer, batches: Iterable[Batch]) -> None:
    """Sets mean and standard deviation of all Standardize layers to those of a training set.

    A layer is assumed to standardize nothing that depends on another one, so that one pass suffices.

    Args:
        model: Network; unchanged if it has no such layer, in which case no batch is read.
        batches: Every training sample once.
    """
    layers = [layer for layer in model.sublayers() if isinstance(layer, Standardize)]
    if not layers:
        return
    for layer in layers:
        layer.start_observing()
    model.eval()
    with paddle.no_grad():
        for batch in batches:
            model(to_tensors(batch.inputs, model.inputs))
    for layer in layers:
        layer.stop_observing()


@dataclass(frozen=True)
class LastLayer:
    """The last layer of a network with its inputs for a whole training set.

    Attributes:
        layer: Linear layer that computes the logits.
        inputs: (N, P) float32.
        labels: (N, C) float32 or (N,) int64, as in Batch.
        ids: N video ids.
    """

    layer: nn.Linear
    inputs: np.ndarray
    labels: np.ndarray
    ids: list[str]

    def set(self, weights: np.ndarray, biases: np.ndarray) -> None:
        """Sets the parameters of the layer.

        Args:
            weights: (P, C) float.
            biases: (C,) float.
        """
        self.layer.weight.set_value(weights.astype(np.float32))
        self.layer.bias.set_value(biases.astype(np.float32))


def check_others_frozen(model: nn.Layer, *, name: str) -> None:
    """Checks that a network trains its last layer only, for TRAIN.optimizer "lbfgs".

    Args:
        model: Network.
        name: Name of the model, for messages.

    Raises:
        ConfigError: Other parameters are trainable.
    """
    last = _last_name(model)
    own = {f"{last}.weight", f"{last}.bias"}
    others = [n for n, p in model.named_parameters() if not p.stop_gradient and n not in own]
    if others:
        raise ConfigError(
            f"TRAIN.{LBFGS} solves one linear layer, but {name} also trains {others[0]} and "
            f"{len(others) - 1} others; freeze them with TRAIN.freeze, choose StatisticsPool without "
            "fc_sizes, or another optimizer"
        )


def read_last_layer(
    model: nn.Layer,
    batches: Iterable[Batch],
    *,
    name: str,
    key: str = LBFGS,
    remedy: str = "choose StatisticsPool, or another optimizer",
) -> LastLayer:
    """Runs a network over a training set and records the inputs of its last layer.

    Args:
        model: Network.
        batches: Every training sample once.
        name: Name of the model, for messages.
        key: Key of TRAIN that needs them, for messages.
        remedy: What to do if the network has no linear last layer, for messages.

    Raises:
        ConfigError: The logits are not those of one linear layer.
        FileListError: There is no sample.
    """
    layer = getattr(model, _last_name(model), None)
    needed = f"TRAIN.{key} solves one linear layer"
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise ConfigError(f"{needed}, which {name} does not have; {remedy}")
    seen: list[np.ndarray] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].numpy()))
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    ids: list[str] = []
    model.eval()
    try:
        with paddle.no_grad():
            for batch in batches:
                seen.clear()
                logits = model(to_tensors(batch.inputs, model.inputs))[LOGITS]
                if seen and seen[0].ndim == 3:  # of every frame; the mean of the logits is that of the inputs
                    seen[0] = seen[0].mean(axis=1)
                if len(seen) != 1 or not _is_last(layer, seen[0], logits):
                    raise ConfigError(
                        f"{needed}, but the logits of {name} are not its output for one row per sample; "
                        f"{remedy}"
                    )
                inputs.append(seen[0])
                labels.append(batch.labels)
                ids += batch.ids
    finally:
        hook.remove()
    if not ids:
        raise FileListError("TRAIN.filelist: none of its samples could be read; check the paths")
    return LastLayer(layer, np.concatenate(inputs), np.concatenate(labels), ids)


def _last_name(model: nn.Layer) -> str:
    return model.classifier if isinstance(model, NamedClassifier) else "output"


def _is_last(layer: nn.Linear, x: np.ndarray, logits: Any) -> bool:
    """Whether the logits (N, C) are the layer's output for x (N, P)."""
    if x.ndim != 2 or len(x) != logits.shape[0]:
        return False
    return np.allclose(layer(paddle.to_tensor(x)).numpy(), logits.numpy(), rtol=1e-4, atol=1e-4)
