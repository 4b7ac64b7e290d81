"""A trained network with what a backend has to know of it, and the form in which it then runs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

import videotag
from videotag.runtime.network_cache import digest_of

if TYPE_CHECKING:
    from paddle import nn

#: Inputs or outputs of a network by name; the first axis of each is the batch.
Arrays: TypeAlias = Mapping[str, np.ndarray]


class Network(Protocol):
    """A network compiled by a backend; not to be called from two threads at once."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Its outputs by name, float32; batch and time of the inputs may differ from call to call."""


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Attributes:
        name: of the array.
        shape: None where a size may vary.
        dtype: of the array.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Literal["float32", "bool", "uint8"] = "float32"


class Described(Protocol):
    """What a backend has to know of a network besides its file."""

    @property
    def name(self) -> str:
        """Of the model, for texts."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """In the order of its arguments."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in the order in which they come."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        layer: called with one tensor per input, gives a tensor per output, alone or in a sequence.
        inputs: in the order of the layer's arguments.
        outputs: names, in the order of what the layer gives.
        digest: of weights and network, see network_digest.
        name: of the model, for texts.
    """

    layer: nn.Layer
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    digest: str
    name: str

    def flat_layer(self) -> nn.Layer:
        """The network as a layer from a list of tensors to a list of tensors, evaluating."""
        from videotag.runtime.flat_layers import Flat

        flat = Flat(self.layer)
        flat.eval()
        return flat

    def run_layers(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of the layers called one by one: the reference of every backend."""
        from videotag.system.quiet_paddle import paddle

        from videotag.runtime.flat_layers import as_list

        self.layer.eval()
        with paddle.no_grad():
            results = as_list(self.layer(*(paddle.to_tensor(inputs[i.name]) for i in self.inputs)))
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, results, strict=True)}


def network_digest(layer: nn.Layer, *, weights: Sequence[str], config: Any) -> str:
    """Differs where a compiled network would: in weights, config, or the code of the layers.

    Args:
        layer: the network.
        weights: digests of its weight files.
        config: of the network, as JSON can hold it.
    """
    code = hashlib.sha256()
    for path in _source_files(layer):
        code.update(path.read_bytes())
    parts = {"weights": list(weights), "config": config, "code": code.hexdigest()}
    return digest_of({**parts, "videotag": videotag.__version__})


def _source_files(layer: nn.Layer) -> list[Path]:
    """The files of the layers' classes, and of all models, which share functions."""
    modules = {type(part).__module__ for part in layer.sublayers(include_self=True)}
    own = [sys.modules[name] for name in modules if not name.startswith("paddle.") and name in sys.modules]
    files = {Path(module.__file__) for module in own if module.__file__}
    files |= set((Path(videotag.__file__).parent / "models").glob("*.py"))
    return sorted(file for file in files if file.is_file())
