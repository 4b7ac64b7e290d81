"""Taggers as networks of named arrays: features and masks in; logits, and attention where there is any, out.

Names: a modality's features are called as it is, its mask "NAME.mask", its attention "NAME.attention".
Shapes: N videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.datasets.feature_dataset import as_numbers
from videotag.runtime.trained import Arrays, Input, TrainedNetwork, network_digest

if TYPE_CHECKING:
    from paddle import nn

LOGITS = "logits"
_MASK, _ATTENTION = ".mask", ".attention"


def tagger_network(
    model: nn.Layer, dims: Mapping[str, int], *, weights: Sequence[str], config: Any, name: str
) -> TrainedNetwork:
    """A tagger, ready for any backend.

    Args:
        model: of features and masks.
        dims: D of each modality, in the order of the inputs.
        weights: digests of its weight files.
        config: of the network, as JSON can hold it.
        name: of the model, for texts.
    """
    from videotag.runtime.flat_layers import FlatTagger

    features = [Input(m, (None, None, dim)) for m, dim in dims.items()]
    masks = [Input(m + _MASK, (None, None), "bool") for m in dims]
    attention = [m + _ATTENTION for m in dims] if hasattr(model, "attend") else []
    layer = FlatTagger(model, list(dims))
    return TrainedNetwork(
        layer=layer,
        inputs=(*features, *masks),
        outputs=(LOGITS, *attention),
        digest=network_digest(layer, weights=weights, config=[config, list(dims.items())]),
        name=name,
    )


def tagger_arrays(inputs: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """The named arrays of a batch's inputs, features and masks; features that are bytes become numbers."""
    features, masks = inputs
    arrays = {name: as_numbers(x, masks[name]) for name, x in features.items()}
    return arrays | {name + _MASK: mask for name, mask in masks.items()}


def attention_of(outputs: Arrays) -> dict[str, np.ndarray]:
    """The weight of every step (N, T) per modality; empty for a tagger without attention."""
    return {name.removesuffix(_ATTENTION): x for name, x in outputs.items() if name.endswith(_ATTENTION)}
