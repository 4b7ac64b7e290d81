"""Weights of a file into a network, published layouts included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.config import Config
from videotag.errors import VideotagError, WeightsError, one_error
from videotag.formats.weight_files import read_weights
from videotag.models.layouts import find_layout
from videotag.registry import PublishedLayouts
from videotag.runtime.device import select_device
from videotag.system.download import file_digest as file_digest
from videotag.weights import CONFIG_FILE, EXPORT_FILE

if TYPE_CHECKING:
    from paddle import Tensor, nn


def network_state(model: nn.Layer) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: Paddle's LSTM lists its weights under two names."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if id(value) not in seen:
            state[name] = value
            seen.add(id(value))
    return state


def load_model(config: Config, path: Path, *, config_name: str) -> nn.Layer:
    """The network of a config with its weights, on the device that the config asks for.

    Raises:
        WeightsError: as load_weights.
        DeviceError: a GPU was asked for and there is none.
    """
    check_sizes(config, path)
    select_device(config.train.use_gpu)
    model: nn.Layer = config.entry.cls(config.model)
    load_weights(model, path, config_name=config_name)
    return model


def check_sizes(config: Config, path: Path) -> None:
    """Refuses a config whose sizes its weights cannot have, before a network of them takes the memory.

    Every size counts parameters, of which a file holds at most one per byte.

    Raises:
        WeightsError: A size in MODEL is larger than the file.
    """
    num_bytes = path.stat().st_size
    sizes = {key: value for key, value in config.model if isinstance(value, int) and key != "topk"}
    key, size = max(sizes.items(), key=lambda item: item[1])
    if size > num_bytes:
        raise WeightsError(
            f"{path}: {num_bytes} bytes, too few for MODEL.{key} = {size}; correct the config, or give its "
            "own weights"
        )


def load_weights(
    model: nn.Layer, path: Path, *, config_name: str = "the config", may_miss: tuple[str, ...] = ()
) -> None:
    """Sets all parameters and buffers of a network from a weight file.

    Args:
        model: is left as it was if anything does not fit.
        path: of find_weights.
        config_name: for the error's text.
        may_miss: beginnings of names that are not wanted ("fc." when only features are): whatever the file
            has of them is left.

    Raises:
        WeightsError: damaged; or names and shapes that differ, all of them, a line each.
    """
    state = read_adapted(model, path, config_name=config_name)
    state = {name: array for name, array in state.items() if not name.startswith(may_miss)}
    own = network_state(model)
    problems = compare_state(own, state, may_miss=may_miss)
    if problems:
        raise misfit(path, config_name, problems, any_fits=bool(own.keys() & state.keys()))
    set_state(own, state)


def read_adapted(model: nn.Layer, path: Path, *, config_name: str) -> dict[str, np.ndarray]:
    """The arrays of a weight file under the network's names: published layouts that it knows are renamed.

    Raises:
        WeightsError: damaged, or weights of another network of which the model knows the config.
    """
    if path.name == EXPORT_FILE:
        raise WeightsError(
            f"{path.parent}: an export, which cannot be trained or changed; give the weights it was made from"
        )
    state = read_weights(path)
    layouts = []
    if isinstance(model, PublishedLayouts):
        layouts = model.layouts()
    if isinstance(model, PublishedLayouts) and (remedy := model.remedy(state)):
        raise WeightsError(f"{path}: not weights of {config_name}: {remedy}")
    own = network_state(model)
    layout = find_layout(layouts, own, state)
    state = layout.adapt(state) if layout else state
    second_names = model.state_dict().keys() - own.keys()  # stand in files written by paddle.save
    return {name: array for name, array in state.items() if name not in second_names}


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
    extra = [name for name in state if name not in own]
    return problems + [f"{name}: not part of the network" for name in extra]


def misfit(path: Path, config_name: str, problems: list[str], *, any_fits: bool) -> VideotagError:
    beside = path.parent / CONFIG_FILE
    hint = f"; the weights' own config is {beside}" if beside.is_file() else ""
    head = f"{path}: does not fit the network of {config_name}{hint}"
    if not any_fits:
        return WeightsError(f"{head}; not one of the network's arrays is in the file")
    return one_error(WeightsError, [head, *(f"  {problem}" for problem in problems)])


def set_state(own: Mapping[str, Tensor], state: Mapping[str, np.ndarray]) -> None:
    for name, tensor in own.items():
        if name in state:
            tensor.set_value(np.ascontiguousarray(state[name], dtype=tensor.numpy().dtype))
