"""Which stage of tagging the weights that a user names are for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from videotag.errors import ConfigError
from videotag.inference.trained_model import read_source
from videotag.weights import find_weights

Stage: TypeAlias = Literal["extractor", "predictor"]


def stage_of(weights: str | Path) -> Stage:
    """The stage of weights by their config: "extractor" for a TSN, else "predictor".

    A predictor is a second stage over features, or a model that reads frames itself.

    Args:
        weights: A file, a prefix, a folder, an export, or a name.

    Raises:
        WeightsError: Nothing matches, or an export is damaged.
        ConfigError: No config belongs to the weights, or it is invalid.
    """
    found = find_weights(weights)
    if found.config is None and not found.is_export:
        raise ConfigError(
            f"{found.path}: no config.yaml beside the weights, so their model is unknown; put it there, or "
            "give --extractor_weights with --extractor_config, or --predictor_weights with --predictor_config"
        )
    return "extractor" if read_source(found).config.entry.two_stage else "predictor"
