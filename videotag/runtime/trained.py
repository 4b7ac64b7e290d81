"""Trained networks as input to backends, and the interface of compiled networks.

Shapes: N samples, T steps.
"""

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
    """Interface of a network compiled by a backend; not thread-safe."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the network.

        Args:
            inputs: Arrays by name, of shapes and dtypes as declared by the model; N and T may differ between
                calls.

        Returns:
            Outputs by name, (N, ...) float32.
        """


class NetworkSpec(Protocol):
    """Interface of a network's description, which a backend needs besides its file."""

    @property
    def name(self) -> str:
        """The name of the model, for messages."""

    @property
    def inputs(self) -> tuple[ArraySpec, ...]:
        """The inputs, in the order of the network's arguments."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the order in which the network returns them."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        layer: Model with named tensors, see videotag.registry.Model.
        inputs: Specifications of its inputs; backends keep their order.
        outputs: Names of its outputs; backends keep their order.
        digest: Digest of weights and network, see network_digest.
        name: Name for messages.
    """

    layer: nn.Layer
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[str, ...]
    digest: str
    name: str

    def flat_layer(self) -> nn.Layer:
        """The network as a layer from a list of tensors to a list of tensors, in evaluation mode."""
        from videotag.runtime.flat_layers import Flat

        flat = Flat(self.layer, [spec.name for spec in self.inputs], self.outputs)
        flat.eval()
        return flat

    @classmethod
    def from_model(cls, model: Any, *, weights: Sequence[str], config: Any, name: str) -> TrainedNetwork:
        """Prepares a model with its weights for any backend.

        Args:
            model: Model with named tensors, see videotag.registry.Model.
            weights: Digests of its weight files.
            config: Config of the network, JSON-serializable.
            name: Name for messages.
        """
        specs = [[spec.name, list(spec.shape), spec.dtype] for spec in model.inputs]
        digest = network_digest(model, weights=weights, config=[config, specs])
        return cls(model, model.inputs, model.outputs, digest, name)

    def run_layers(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the layers one by one, the reference for every backend.

        Args:
            inputs: Arrays by name, of shapes and dtypes as declared by the model.

        Returns:
            Outputs by name, (N, ...) float32.

        Raises:
            PluginError: The layers return other outputs than they declare.
        """
        from videotag.system.quiet_paddle import paddle

        from videotag.models.contract import check_outputs

        self.layer.eval()
        with paddle.no_grad():
            results = self.layer({spec.name: paddle.to_tensor(inputs[spec.name]) for spec in self.inputs})
        num_samples = len(inputs[self.inputs[0].name])
        check_outputs(results, self.outputs, returned_by=type(self.layer).__name__, num_samples=num_samples)
        return {name: results[name].numpy() for name in self.outputs}


def attention_of(outputs: Arrays) -> dict[str, np.ndarray]:
    """The attention weights (N, T) by modality; empty for a model without attention."""
    return {name.removesuffix(ATTENTION): x for name, x in outputs.items() if name.endswith(ATTENTION)}


def network_digest(layer: nn.Layer, *, weights: Sequence[str], config: Any) -> str:
    """Digest of everything that determines a compiled network: weights, config and code of the layers.

    Args:
        layer: Network.
        weights: Digests of its weight files.
        config: Config of the network, JSON-serializable.
    """
    code = hashlib.sha256()
    for path in _source_files(layer):
        code.update(path.read_bytes())
    parts = {"weights": list(weights), "config": config, "code": code.hexdigest()}
    return digest_of({**parts, "videotag": videotag.__version__})


def _source_files(layer: nn.Layer) -> list[Path]:
    """The source files of the layers' classes and of the functions that they may call.

    These are all models of the package, flat_layers.py, mean_logits.py, and the loaded modules beside a
    plugin.
    """
    package = Path(videotag.__file__).parent
    names = {type(part).__module__ for part in layer.sublayers(include_self=True)}
    files_of = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    paths = {name: Path(file) for name, file in files_of.items() if file}
    files = {paths[name] for name in names if name in paths and not name.startswith("paddle.")}
    plugin_dirs = {file.parent for file in files if not file.is_relative_to(package)}
    files |= {path for path in paths.values() if path.parent in plugin_dirs and path.suffix == ".py"}
    files |= set((package / "models").glob("*.py"))
    files |= {Path(__file__).with_name("flat_layers.py"), package / "inference" / "mean_logits.py"}
    return sorted(file for file in files if file.is_file())
