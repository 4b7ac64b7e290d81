"""A trained network with what a backend has to know of it, and the form in which it then runs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

import videotag
from videotag.registry import ATTENTION, ArraySpec
from videotag.runtime.network_cache import digest_of

if TYPE_CHECKING:
    from paddle import nn

#: Inputs or outputs of a network by name; the first axis of each is the batch.
Arrays: TypeAlias = Mapping[str, np.ndarray]


class Network(Protocol):
    """A network compiled by a backend; not to be called from two threads at once."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Its outputs by name, float32; batch and time of the inputs may differ from call to call."""


class Described(Protocol):
    """What a backend has to know of a network besides its file."""

    @property
    def name(self) -> str:
        """Of the model, for texts."""

    @property
    def inputs(self) -> tuple[ArraySpec, ...]:
        """In the order of its arguments."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in the order in which they come."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        layer: Model over named tensors, see videotag.registry.Model.
        inputs: Arrays that it takes, in the order that backends keep.
        outputs: Names of the arrays that it gives, in the order that backends keep.
        digest: Digest of weights and network, see network_digest.
        name: Name for messages.
    """

    layer: nn.Layer
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[str, ...]
    digest: str
    name: str

    def flat_layer(self) -> nn.Layer:
        """The network as a layer from a list of tensors to a list of tensors, evaluating."""
        from videotag.runtime.flat_layers import Flat

        flat = Flat(self.layer, [spec.name for spec in self.inputs], self.outputs)
        flat.eval()
        return flat

    def run_layers(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of the layers called one by one: the reference of every backend."""
        from videotag.system.quiet_paddle import paddle

        self.layer.eval()
        with paddle.no_grad():
            results = self.layer({spec.name: paddle.to_tensor(inputs[spec.name]) for spec in self.inputs})
        return {name: results[name].numpy() for name in self.outputs}


def trained_network(model: Any, *, weights: Sequence[str], config: Any, name: str) -> TrainedNetwork:
    """A model with its weights, ready for any backend.

    Args:
        model: Model over named tensors, see videotag.registry.Model.
        weights: Digests of its weight files.
        config: Config of the network, as JSON can hold it.
        name: Name for messages.
    """
    specs = [[spec.name, list(spec.shape), spec.dtype] for spec in model.inputs]
    digest = network_digest(model, weights=weights, config=[config, specs])
    return TrainedNetwork(model, model.inputs, model.outputs, digest, name)


def attention_of(outputs: Arrays) -> dict[str, np.ndarray]:
    """The weight of every step (N, T) per modality; empty for a model without attention."""
    return {name.removesuffix(ATTENTION): x for name, x in outputs.items() if name.endswith(ATTENTION)}


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
    """The files of the layers' classes, of all models, which share functions, and of what is traced."""
    modules = {type(part).__module__ for part in layer.sublayers(include_self=True)}
    own = [sys.modules[name] for name in modules if not name.startswith("paddle.") and name in sys.modules]
    files = {Path(module.__file__) for module in own if module.__file__}
    files |= set((Path(videotag.__file__).parent / "models").glob("*.py"))
    files.add(Path(__file__).with_name("flat_layers.py"))
    return sorted(file for file in files if file.is_file())
