"""The weights that a user names for the stages of tagging, and their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from videotag.errors import ConfigError
from videotag.inference.trained_model import ModelSource, read_source
from videotag.weights import find_weights

Stage: TypeAlias = Literal["extractor", "predictor"]
_ROLES = {"extractor": "an extractor", "predictor": "a tagger"}


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


def weights_by_stage(
    weights: str | Path, extractor_weights: str | Path | None, predictor_weights: str | Path | None
) -> tuple[str | Path | None, str | Path | None]:
    """The weights of the first and of the second stage, one of which is `weights`.

    Args:
        weights: Weights of either stage, see stage_of.
        extractor_weights: Weights of the first stage; None if not given.
        predictor_weights: Weights of the second stage; None if not given.

    Raises:
        ConfigError: The stage of `weights` has other weights too, or is unknown.
        WeightsError: Nothing matches, or an export is damaged.
    """
    stage = stage_of(weights)
    other = extractor_weights if stage == "extractor" else predictor_weights
    if other is not None:
        raise ConfigError(
            f"--weights {weights} and --{stage}_weights {other}: both are {_ROLES[stage]}; give one of them"
        )
    return (weights, predictor_weights) if stage == "extractor" else (extractor_weights, weights)


def read_stage(
    stage: Stage, config_file: str | Path | None, weights: str | Path | None, overrides: list[tuple[str, Any]]
) -> ModelSource:
    """The weights and config of a stage, as the user's arguments name them.

    Args:
        stage: The stage.
        config_file: Path of its config; None for the one that comes with the weights.
        weights: A file, a prefix, a folder, an export, or a name; None if not given.
        overrides: Pairs of key and value that override the config, see load_config.

    Raises:
        ConfigError: The weights or the config is missing, or the model is not one of this stage.
        WeightsError: Nothing matches, or an export is damaged.
    """
    if weights is None:
        raise ConfigError(f"--{stage}_weights: missing for --{stage}_config {config_file}; give both")
    found = find_weights(weights)
    if config_file is None and found.config is None:
        raise ConfigError(f"{found.path}: no config.yaml beside the weights; give --{stage}_config")
    source = read_source(found, config_file, overrides=overrides)
    entry = source.config.entry
    if entry.two_stage != (stage == "extractor"):
        named = f"--{stage}_config {config_file}" if config_file else f"--{stage}_weights {weights}"
        raise ConfigError(f"{named}: {entry.name} is not {_ROLES[stage]}; name one of `videotag models`")
    return source
