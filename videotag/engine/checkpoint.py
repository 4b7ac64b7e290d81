"""Weights between a network and the disk, with the config and labels that belong to them.

A checkpoint folder holds {name}_epoch{N}.pdparams (N from 0), {name}_best.pdparams, {name}.pdparams (the
last epoch), config.yaml and, where labels are known, labels.txt; for --resume also the files of run_state.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.config import Config
from videotag.errors import VideotagError, WeightsError, one_error
from videotag.formats.weights import read_weights, write_pdparams
from videotag.labels import write_labels
from videotag.models.layouts import find_layout
from videotag.runtime.device import select_device
from videotag.system.atomic import write_text
from videotag.system.download import file_digest as file_digest
from videotag.weights import CONFIG_FILE, EXPORT_FILE, LABELS_FILE

if TYPE_CHECKING:
    from paddle import Tensor, nn


def write_card(save_dir: Path, config: Config, labels: list[str] | None) -> None:
    """Writes the resolved config and the labels into a checkpoint folder."""
    write_text(save_dir / CONFIG_FILE, config.to_yaml())
    if labels is not None:
        write_labels(save_dir / LABELS_FILE, labels)
    else:
        (save_dir / LABELS_FILE).unlink(missing_ok=True)  # an earlier run's names are not this one's


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
        raise _misfit(path, config_name, problems, any_fits=bool(own.keys() & state.keys()))
    _set_state(own, state)


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
    remedy = getattr(model, "remedy", lambda _: None)(state)
    if remedy:
        raise WeightsError(f"{path}: not weights of {config_name}: {remedy}")
    own = network_state(model)
    layout = find_layout(getattr(model, "layouts", list)(), own, state)
    state = layout.adapt(state) if layout else state
    second_names = model.state_dict().keys() - own.keys()  # stand in files written by paddle.save
    return {name: array for name, array in state.items() if name not in second_names}


def start_from(
    model: nn.Layer,
    path: Path,
    *,
    config_name: str,
    labels: Sequence[str] | None = None,
    old_labels: Sequence[str] | None = None,
) -> list[str]:
    """Sets a network to pretrained weights, whose classes may be others.

    The last layer (the model's `classifier`, "output" if it does not say) starts anew if its shape differs
    or the file lacks it; with both label lists, classes keep their weights by name.

    Args:
        model: is left as it was if anything but the last layer does not fit.
        path: of find_weights.
        config_name: for the error's text.
        labels: the network's C class names.
        old_labels: those of the file.

    Returns:
        Texts that say which layers start anew and what of them was kept.

    Raises:
        WeightsError: damaged; or other differences, all of them, a line each with both shapes.
    """
    state = read_adapted(model, path, config_name=config_name)
    own = network_state(model)
    last = getattr(model, "classifier", "output") + "."
    different = [
        name
        for name, tensor in own.items()
        if name.startswith(last) and (name not in state or state[name].shape != tuple(tensor.shape))
    ]
    rest = {name: tensor for name, tensor in own.items() if name not in different}
    kept = {name: array for name, array in state.items() if name not in different}
    problems = compare_state(rest, kept)
    if problems or not kept:
        raise _misfit(path, config_name, problems, any_fits=bool(rest.keys() & kept.keys()))
    notes = []
    has_last = any(name.startswith(last) for name in state)
    if labels is not None and old_labels is not None and has_last:
        pairs = shared_classes(labels, old_labels)
        for name in [name for name in own if name.startswith(last) and name in state]:
            array = own[name].numpy().copy()
            expected = (*array.shape[:-1], len(old_labels))
            if state[name].shape != expected:
                raise WeightsError(
                    f"{path}: {name} has shape {state[name].shape}, expected {expected} for its "
                    f"{len(old_labels)} labels; give the label file of these weights"
                )
            array[..., [new for new, _ in pairs]] = state[name][..., [old for _, old in pairs]]
            kept[name] = array
        notes = [f"{len(pairs)} of {len(labels)} classes keep their weights, the others start anew"]
    elif different:
        seen = ", ".join(_shape_change(own[n], state.get(n), n) for n in different)
        notes = [f"starts anew: {seen}"]
    _set_state(own, kept)
    return notes


def shared_classes(labels: Sequence[str], old_labels: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of class ids (new, old) of equal names; of a name that occurs twice the first with the first."""
    places: dict[str, list[int]] = {}
    for index, name in enumerate(old_labels):
        places.setdefault(name, []).append(index)
    return [(new, places[name].pop(0)) for new, name in enumerate(labels) if places.get(name)]


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


def _shape_change(own: Tensor, found: np.ndarray | None, name: str) -> str:
    old = "missing" if found is None else tuple(found.shape)
    return f"{name} {tuple(own.shape)} (in the file: {old})"


def _misfit(path: Path, config_name: str, problems: list[str], *, any_fits: bool) -> VideotagError:
    beside = path.parent / CONFIG_FILE
    hint = f"; the weights' own config is {beside}" if beside.is_file() else ""
    head = f"{path}: does not fit the network of {config_name}{hint}"
    if not any_fits:
        return WeightsError(f"{head}; not one of the network's arrays is in the file")
    return one_error(WeightsError, [head, *(f"  {problem}" for problem in problems)])


def _set_state(own: Mapping[str, Tensor], state: Mapping[str, np.ndarray]) -> None:
    for name, tensor in own.items():
        if name in state:
            tensor.set_value(np.ascontiguousarray(state[name], dtype=tensor.numpy().dtype))
