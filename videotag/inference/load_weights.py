"""Loads weight files into networks, including published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.config import Config
from videotag.errors import VideotagError, WeightsError, one_error
from videotag.formats.weight_files import read_weights
from videotag.models.contract import build_model
from videotag.models.layouts import find_layout
from videotag.registry import PublishedLayouts, RecognizesOthers
from videotag.runtime.device import select_device
from videotag.sections import Key
from videotag.weights import CONFIG_FILE, EXPORT_FILE

if TYPE_CHECKING:
    from paddle import Tensor, nn


def network_state(model: nn.Layer) -> dict[str, Tensor]:
    """Parameters and buffers, of any shape, by name, without Paddle's duplicate names of LSTM weights."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if id(value) not in seen:
            state[name] = value
            seen.add(id(value))
    return state


def load_model(config: Config, path: Path, *, config_name: str) -> nn.Layer:
    """The network of a config with its weights, on the config's device.

    Args:
        config: Config of the network.
        path: Path of the weight file, as find_weights returns it.
        config_name: Name of the config in error messages.

    Raises:
        WeightsError: The file is damaged or does not match the config.
        DeviceError: A GPU was requested but none is available.
    """
    check_sizes(config, path)
    select_device(config.train.use_gpu)
    model = build_model(config.entry, config.model)
    load_weights(model, path, config_name=config_name)
    return model


def check_sizes(config: Config, path: Path) -> None:
    """Refuses a config whose sizes exceed its weight file, before a huge network is allocated.

    Every size in MODEL is a lower bound on the number of parameters, and a file holds at most one per byte.

    Args:
        config: Config of the network.
        path: Path of the weight file.

    Raises:
        WeightsError: A size in MODEL exceeds the number of bytes in the file.
    """
    num_bytes = path.stat().st_size
    outside = type(config.model).keys(Key.OUTSIDE)
    sizes = {key: value for key, value in config.model if isinstance(value, int) and key not in outside}
    key, size = max(sizes.items(), key=lambda item: item[1])
    if size > num_bytes:
        raise WeightsError(
            f"{path}: {num_bytes} bytes, too few for MODEL.{key} = {size}; correct the config, or give "
            "the weights that belong to it"
        )


def load_weights(
    model: nn.Layer, path: Path, *, config_name: str = "the config", optional: tuple[str, ...] = ()
) -> None:
    """Sets all parameters and buffers of a network from a weight file.

    Args:
        model: Network to load into; unchanged if loading fails.
        path: Path of the weight file, as find_weights returns it.
        config_name: Name of the config in error messages.
        optional: Prefixes of parameter names to skip, such as "fc." for features only; such arrays in the
            file are ignored.

    Raises:
        WeightsError: The file is damaged, or names or shapes differ; one line per difference.
    """
    state = read_adapted(model, path, config_name=config_name)
    state = {name: array for name, array in state.items() if not name.startswith(optional)}
    own = network_state(model)
    problems = compare_state(own, state, optional=optional)
    if problems:
        raise mismatch_error(path, config_name, problems, any_fits=bool(own.keys() & state.keys()))
    set_state(own, state)


def read_adapted(model: nn.Layer, path: Path, *, config_name: str) -> dict[str, np.ndarray]:
    """The arrays of a weight file by the network's names; known published layouts are converted.

    Args:
        model: Network that defines the names and the known layouts.
        path: Path of the weight file, as find_weights returns it.
        config_name: Name of the config in error messages.

    Returns:
        Name -> array, of any shape; names and shapes are not compared with the network's.

    Raises:
        WeightsError: The file is damaged, an export, or weights that the model recognizes as another's.
    """
    if path.name == EXPORT_FILE:
        raise WeightsError(
            f"{path.parent}: an export, which cannot be trained or changed; give the weights it was made from"
        )
    state = read_weights(path)
    layouts = []
    if isinstance(model, PublishedLayouts):
        layouts = model.layouts()
    if isinstance(model, RecognizesOthers) and (remedy := model.remedy(state)):
        raise WeightsError(f"{path}: not weights of {config_name}: {remedy}")
    own = network_state(model)
    layout = find_layout(layouts, own, state)
    state = layout.adapt(state) if layout else state
    duplicate_names = model.state_dict().keys() - own.keys()  # appear in files written by paddle.save
    return {name: array for name, array in state.items() if name not in duplicate_names}


def compare_state(
    own: Mapping[str, Any], state: Mapping[str, np.ndarray], *, optional: tuple[str, ...] = ()
) -> list[str]:
    """The differences between weights and a network, one text each; empty if the weights fit.

    Args:
        own: Parameters and buffers of the network by name, each to be of the same shape in the weights.
        state: Arrays of the weights by name.
        optional: Prefixes of names that the weights may lack.
    """
    problems = []
    for name, tensor in own.items():
        if name not in state:
            if not name.startswith(optional):
                problems.append(f"{name}: missing, expected shape {tuple(tensor.shape)}")
        elif tuple(state[name].shape) != tuple(tensor.shape):
            problems.append(f"{name}: shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")
    extra = [name for name in state if name not in own]
    return problems + [f"{name}: not part of the network" for name in extra]


def mismatch_error(path: Path, config_name: str, problems: list[str], *, any_fits: bool) -> VideotagError:
    """The error for weights that do not fit a network.

    Args:
        path: Path of the weight file.
        config_name: Name of the network's config.
        problems: Differences as compare_state returns them.
        any_fits: Whether any name of the network is in the file; if not, the differences are left out.
    """
    beside = path.parent / CONFIG_FILE
    hint = f"; the weights' own config is {beside}" if beside.is_file() else ""
    head = f"{path}: does not fit the network of {config_name}{hint}"
    if not any_fits:
        return WeightsError(f"{head}; none of the network's arrays is in the file")
    return one_error(WeightsError, [head, *(f"  {problem}" for problem in problems)])


def set_state(own: Mapping[str, Tensor], state: Mapping[str, np.ndarray]) -> None:
    """Copies arrays into the tensors of the same name and same shape, cast to their dtype; ignores others."""
    for name, tensor in own.items():
        if name in state:
            tensor.set_value(np.ascontiguousarray(state[name], dtype=tensor.numpy().dtype))
