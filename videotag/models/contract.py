"""Builds networks and checks the inputs and outputs that they declare.

Errors in a user's own model are thus reported as its own.
Shapes: N samples of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle
from paddle import nn

from videotag.errors import PluginError
from videotag.registry import LOGITS, ArraySpec, ModelEntry
from videotag.safe_text import safe_repr
from videotag.sections import ModelSection

_DECLARATIONS = {
    "inputs": (
        ArraySpec,
        '(ArraySpec("rgb", (None, None, 2048)), ArraySpec("rgb.mask", (None, None), "bool"))',
    ),
    "outputs": (str, "(LOGITS,)"),
}


def build_model(entry: ModelEntry, section: ModelSection) -> nn.Layer:
    """A network with random weights.

    Args:
        entry: Registry entry of the model.
        section: MODEL section of the config.

    Raises:
        PluginError: The network does not declare `inputs` and `outputs` as videotag.registry.Model does.
    """
    model: nn.Layer = entry.cls(section)
    for name, (kind, example) in _DECLARATIONS.items():
        value = getattr(model, name, None)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(x, kind) for x in value):
            raise PluginError(
                f"model {entry.name}: self.{name} is {safe_repr(value)}; set it in __init__, for example "
                f"self.{name} = {example}"
            )
    if model.outputs[0] != LOGITS:
        raise PluginError(f"model {entry.name}: self.outputs is {model.outputs}; name {LOGITS!r} first")
    return model


def check_outputs(
    outputs: Any,
    declared: Sequence[str],
    *,
    returned_by: str,
    num_samples: int,
    num_classes: int | None = None,
) -> None:
    """Compares what a network's `forward` returned with what the network declares.

    Args:
        outputs: Outputs by name, tensors (N, ...).
        declared: Names of the outputs that the network declares.
        returned_by: Name of the network's class.
        num_samples: Number of samples N.
        num_classes: Number of classes C; None skips the width of LOGITS.

    Raises:
        PluginError: An output is missing, or LOGITS is not (N, C).
    """
    returned = f"{returned_by}.forward returned"
    if not isinstance(outputs, Mapping):
        raise PluginError(f"{returned} a {type(outputs).__name__}; return a dict of tensors by name")
    for name in declared:
        if name not in outputs:
            raise PluginError(
                f"{returned} {safe_repr(list(outputs))} without {name!r} of self.outputs; add it"
            )
    for name in declared:
        if not paddle.is_tensor(outputs[name]) or not paddle.is_floating_point(outputs[name]):
            raise PluginError(f"{returned} {name} as {safe_repr(outputs[name])}; return a float tensor")
        shape = tuple(outputs[name].shape)
        if not shape or shape[0] != num_samples:
            raise PluginError(
                f"{returned} {name} of shape {shape} for {num_samples} samples; return a tensor with "
                "a row per sample"
            )
        if name == LOGITS and num_classes is not None and shape[1:] != (num_classes,):
            raise PluginError(
                f"{returned} {name} of shape {shape}, expected ({num_samples}, {num_classes}) as "
                "MODEL.num_classes says"
            )
