"""The network that `eval` measures, where it runs fastest with the answers of its layers.

Metrics of record are those of float32: bfloat16 is taken only where it was asked for.
Shapes: N videos, T frames of a clip, S pixels, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from videotag.config import Config
from videotag.errors import ConfigError
from videotag.inference.ensemble import load_members
from videotag.inference.evaluate import LogitsOf
from videotag.inference.extractor import FRAMES_PER_STEP
from videotag.inference.members import Member, load_network, wish_of
from videotag.runtime import agreement
from videotag.runtime.backbones import FEATURES, FRAMES, normalized_network
from videotag.runtime.choice import SAMPLE_ROWS, ChosenNetwork, RuntimeRequest, spread_rows
from videotag.runtime.taggers import LOGITS, tagger_arrays
from videotag.system.download import file_digest

if TYPE_CHECKING:
    from paddle import nn


def load_eval_network(members: Sequence[Member], *, config_name: str | None = None) -> nn.Layer | LogitsOf:
    """The network of load_members as `evaluate` takes it, run where wish_of says.

    On a GPU it stays in its layers, unless a backend or 16 bits were asked for. Exports run as made.

    Raises:
        WeightsError: as load_members.
        ConfigError, DeviceError: backend or precision cannot be had.
    """
    config = members[0].config
    has_exports = any(member.weights.is_export for member in members)
    wish = wish_of(members, auto_precision="f32")
    if wish:
        wish.check()
    if wish == RuntimeRequest("auto", "f32", "gpu") and not has_exports:
        return load_members(members, config_name=config_name)
    if wish is None or config.entry.kind == "tagger":
        network = load_network(members, config_name=config_name, wish=wish)
        return lambda inputs: network(tagger_arrays(inputs))[LOGITS]
    model = load_members(members, config_name=config_name)
    return _ClipNetwork(model, config, wish, weights=file_digest(members[0].weights.path))


def check_exports(members: Sequence[Member]) -> None:
    """Only taggers can be measured by an export.

    Raises:
        ConfigError: an export of an extractor.
    """
    for member in members:
        if member.weights.is_export and member.config.entry.kind != "tagger":
            raise ConfigError(
                f"{member.weights.path.parent}: an export of {member.config.entry.name}, which `eval` cannot "
                "run; give the weights it was made from"
            )


class _ClipNetwork:
    """Logits of clips by an extractor whose backbone is a chosen network: see LogitsOf.

    Args:
        model: of an extractor, with its weights.
        config: of the model.
        wish: where it runs.
        weights: digest of the weight file.
    """

    def __init__(self, model: Any, config: Config, wish: RuntimeRequest, *, weights: str) -> None:
        trained = normalized_network(
            model.backbone, size_px=config.test.target_size, weights=[weights], name=config.model.backbone
        )
        self._step = FRAMES_PER_STEP[wish.device]
        self._network = ChosenNetwork(trained, wish, tolerances=agreement.FEATURES)
        head = getattr(model, model.classifier)
        self._weight, self._bias = head.weight.numpy(), head.bias.numpy()

    def __call__(self, inputs: tuple[Any, ...]) -> np.ndarray:
        """Mean over the frames' logits: (N, C)."""
        (clips,) = inputs
        frames = clips.reshape(-1, *clips.shape[2:])  # (N * T, 3, S, S)
        self._network.settle(spread_rows({FRAMES: frames}, SAMPLE_ROWS))
        features = [
            self._network({FRAMES: frames[start : start + self._step]})[FEATURES]
            for start in range(0, len(frames), self._step)
        ]
        logits = np.concatenate(features) @ self._weight + self._bias  # (N * T, C)
        mean: np.ndarray = logits.reshape(*clips.shape[:2], -1).mean(axis=1)
        return mean
