"""Writes checkpoint folders (weights, config, labels) and initializes networks from pretrained weights.

A folder contains {name}_epoch{N}.pdparams (N from 0), {name}_best.pdparams, {name}.pdparams (the last epoch),
config.yaml, labels.txt if labels are known, the files of run_state.py for --resume, and PROBE_FOLDER if the
run is compared with a probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videotag.config import Config
from videotag.errors import WeightsError
from videotag.formats.weight_files import write_pdparams
from videotag.inference.load_weights import (
    compare_state,
    mismatch_error,
    network_state,
    read_adapted,
    set_state,
)
from videotag.labels import write_labels
from videotag.registry import NamedClassifier
from videotag.system.atomic import write_text
from videotag.weights import CONFIG_FILE, LABELS_FILE

if TYPE_CHECKING:
    from paddle import Tensor, nn

#: Folder inside that of a run, a checkpoint folder itself: the network before training, with a linear probe.
PROBE_FOLDER = "probe"


def write_config_and_labels(save_dir: Path, config: Config, labels: list[str] | None) -> None:
    """Writes the resolved config and the labels to a checkpoint folder.

    Args:
        save_dir: Folder of the checkpoints.
        config: Config of the run.
        labels: Class names; None deletes those of an earlier run.

    Raises:
        OutputError: A file cannot be written.
    """
    write_text(save_dir / CONFIG_FILE, config.to_yaml())
    if labels is not None:
        write_labels(save_dir / LABELS_FILE, labels)
    else:
        (save_dir / LABELS_FILE).unlink(missing_ok=True)


def save_weights(model: nn.Layer, path: Path) -> None:
    """Atomically writes the network's parameters and buffers as .pdparams.

    Args:
        model: Network.
        path: Path of the file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_pdparams(path, {name: value.numpy() for name, value in network_state(model).items()})


def load_pretrained(
    model: nn.Layer,
    path: Path,
    *,
    config_name: str,
    labels: Sequence[str] | None = None,
    old_labels: Sequence[str] | None = None,
) -> list[str]:
    """Initializes a network with pretrained weights, which may have other classes.

    The last layer (the model's `classifier` attribute, else "output") keeps its random initialization if its
    shape differs or the file does not contain it. If both label lists are given, classes are matched by name
    and keep their weights.

    Args:
        model: Network; unchanged if an error is raised.
        path: Path of the weight file, see find_weights.
        config_name: Name of the model, for errors.
        labels: Names of the network's C classes.
        old_labels: Names of the file's classes.

    Returns:
        Messages that name the layers that are not, or only in part, initialized from the file.

    Raises:
        WeightsError: The file is damaged, or other layers differ; all differences, a line each.
    """
    state = read_adapted(model, path, config_name=config_name)
    own = network_state(model)
    last = f"{model.classifier if isinstance(model, NamedClassifier) else 'output'}."
    different = [
        name
        for name, tensor in own.items()
        if name.startswith(last) and (name not in state or state[name].shape != tuple(tensor.shape))
    ]
    rest = {name: tensor for name, tensor in own.items() if name not in different}
    kept = {name: array for name, array in state.items() if name not in different}
    problems = compare_state(rest, kept)
    if problems or not kept:
        raise mismatch_error(path, config_name, problems, any_fits=bool(rest.keys() & kept.keys()))
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
        notes = [f"{len(pairs)} of {len(labels)} classes keep their weights, the others are reinitialized"]
    elif different:
        seen = ", ".join(_shape_change(own[n], state.get(n), n) for n in different)
        notes = [f"reinitialized: {seen}"]
    set_state(own, kept)
    return notes


def shared_classes(labels: Sequence[str], old_labels: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of class ids (new, old) with equal names; repeated names are paired in order.

    Args:
        labels: Names of the new classes.
        old_labels: Names of the old classes.
    """
    places: dict[str, list[int]] = {}
    for index, name in enumerate(old_labels):
        places.setdefault(name, []).append(index)
    return [(new, places[name].pop(0)) for new, name in enumerate(labels) if places.get(name)]


def _shape_change(own: Tensor, found: np.ndarray | None, name: str) -> str:
    old = "missing" if found is None else tuple(found.shape)
    return f"{name} {tuple(own.shape)} (in the file: {old})"
