"""Weights between a network and the disk, with the config and labels that belong to them.

A checkpoint folder holds {name}_epoch{N}.pdparams (N from 0), {name}_best.pdparams, {name}.pdparams (the
last epoch), config.yaml and, where labels are known, labels.txt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn

from videotag.atomic import write_text
from videotag.config import Config
from videotag.errors import WeightsError, one_error
from videotag.formats.weights import read_weights, write_pdparams
from videotag.labels import write_labels
from videotag.models.layouts import find_layout
from videotag.weights import CONFIG_FILE, LABELS_FILE


def write_card(save_dir: Path, config: Config, labels: list[str] | None) -> None:
    """Writes the resolved config and the labels into a checkpoint folder."""
    write_text(save_dir / CONFIG_FILE, config.to_yaml())
    if labels is not None:
        write_labels(save_dir / LABELS_FILE, labels)


def save_weights(model: nn.Layer, path: Path) -> None:
    """Writes the network's parameters and buffers as .pdparams, whole or not at all."""
    write_pdparams(path, {name: value.numpy() for name, value in network_state(model).items()})


def network_state(model: nn.Layer) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: Paddle's LSTM lists its weights under two names."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if id(value) not in seen:
            state[name] = value
            seen.add(id(value))
    return state


def load_weights(
    model: nn.Layer, path: Path, *, config_name: str = "the config", may_miss: tuple[str, ...] = ()
) -> None:
    """Sets all parameters and buffers of a network from a weight file.

    Published layouts that the model's file knows are renamed first.

    Args:
        model: is left as it was if anything does not fit.
        path: of find_weights.
        config_name: for the error's text.
        may_miss: beginnings of names that the file need not have ("fc." when only features are wanted).

    Raises:
        WeightsError: damaged; or names and shapes that differ, all of them, a line each.
    """
    state = read_weights(path)
    own = network_state(model)
    remedy = getattr(model, "remedy", lambda _: None)(state)
    if remedy:
        raise WeightsError(f"{path}: not weights of {config_name}: {remedy}")
    layout = find_layout(getattr(model, "layouts", list)(), own, state)
    state = layout.adapt(state) if layout else state
    second_names = model.state_dict().keys() - own.keys()  # stand in files written by paddle.save
    state = {name: array for name, array in state.items() if name not in second_names}
    problems = compare_state(own, state, may_miss=may_miss)
    if problems:
        beside = path.parent / CONFIG_FILE
        hint = f"; the weights' own config is {beside}" if beside.is_file() else ""
        head = f"{path}: does not fit the network of {config_name}{hint}"
        if not own.keys() & state.keys():
            raise WeightsError(f"{head}; not one of its {len(own)} arrays is in the file")
        raise one_error(WeightsError, [head, *(f"  {problem}" for problem in problems)])
    for name, tensor in own.items():
        if name in state:
            tensor.set_value(np.ascontiguousarray(state[name], dtype=tensor.numpy().dtype))


def compare_state(
    own: Mapping[str, Any], state: Mapping[str, np.ndarray], *, may_miss: tuple[str, ...] = ()
) -> list[str]:
    """What keeps `state` from being set into a network whose state is `own`: a text per difference."""
    problems = []
    for name, tensor in own.items():
        if name not in state:
            if not name.startswith(may_miss):
                problems.append(f"{name}: missing, expected shape {tuple(tensor.shape)}")
        elif tuple(state[name].shape) != tuple(tensor.shape):
            problems.append(f"{name}: shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")
    extra = [name for name in state if name not in own and not name.startswith(may_miss)]
    return problems + [f"{name}: not part of the network" for name in extra]


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
