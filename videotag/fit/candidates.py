"""The models that `videotag fit` compares, from the simplest to the most complex, in sizes for small sets.

Shapes: N training videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from videotag.config import Config, load_config
from videotag.fit.labeled_set import LabeledSet
from videotag.fit.options import FitOptions
from videotag.system.atomic import write_text

#: Logistic regression on the usual statistics: the baseline of every comparison, and the first candidate.
BASELINE = "logistic regression"
#: Part of every digest of kept results; raise it if the same config and data give other numbers.
METHOD = 2
BATCH_SIZE = 32
_PASSES = 15  # over the training set, within the bounds of the number of steps
_MIN_STEPS, _MAX_STEPS = 400, 4000
_WARMUP = 0.05  # share of the steps


@dataclass(frozen=True)
class Candidate:
    """A model with its training settings.

    Attributes:
        name: Name in tables and in fit.yaml.
        folder: Name of the folder of its checkpoint.
        model: Keys of MODEL besides the classes and the inputs.
        train: Keys of TRAIN besides lists and numbers of steps.
        is_linear: Whether it is solved to the optimum instead of trained in steps.
    """

    name: str
    folder: str
    model: Mapping[str, Any]
    train: Mapping[str, Any] = field(default_factory=dict)
    is_linear: bool = False


_LINEAR = {"optimizer": "lbfgs"}
_STEPS = {
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 1e-5,
    "schedule": "cosine",
    "clip_norm": 5.0,
    "mixup_alpha": 0.4,
}
_ALL = ["mean", "std", "max", "difference"]

#: Ordered by complexity; a tie is decided in favor of the earlier one.
CANDIDATES = (
    Candidate(
        BASELINE,
        "logistic_regression",
        {"name": "StatisticsPool", "statistics": ["mean", "std"]},
        _LINEAR,
        is_linear=True,
    ),
    Candidate(
        "linear probe",
        "linear_probe",
        {"name": "StatisticsPool", "statistics": _ALL},
        _LINEAR,
        is_linear=True,
    ),
    Candidate(
        "MLP",
        "mlp",
        {"name": "StatisticsPool", "statistics": _ALL, "fc_sizes": [128], "drop_rate": 0.5},
        _STEPS,
    ),
    Candidate(
        "LatentTransformer",
        "latent_transformer",
        {
            "name": "LatentTransformer",
            "standardize": True,
            "num_queries": 4,
            "hidden_size": 128,
            "num_heads": 4,
            "num_layers": 1,
            "drop_rate": 0.2,
        },
        {**_STEPS, "learning_rate": 0.002},
    ),
    Candidate(
        "AttentionLSTM",
        "attention_lstm",
        {
            "name": "AttentionLSTM",
            "standardize": True,
            "embedding_size": 128,
            "lstm_size": 64,
            "fc_sizes": [128, 64],
            "drop_rate": 0.3,
        },
        {**_STEPS, "learning_rate": 0.002},
    ),
)


def schedule(num_videos: int) -> dict[str, Any]:
    """Keys of TRAIN that depend on the number of training videos: batch size, epochs and warmup.

    Some passes over the set, but at least some hundred steps.

    Args:
        num_videos: Number of training videos N.
    """
    batch_size = min(BATCH_SIZE, num_videos)
    steps_per_epoch = max(1, num_videos // batch_size)  # the incomplete last batch is dropped
    steps = min(_MAX_STEPS, max(_MIN_STEPS, _PASSES * steps_per_epoch))
    epochs = -(-steps // steps_per_epoch)
    return {"batch_size": batch_size, "epoch": epochs, "warmup_epochs": round(_WARMUP * epochs, 3)}


def candidate_sections(
    candidate: Candidate, train_set: LabeledSet, options: FitOptions, *, weight_decay: float | None = None
) -> dict[str, dict[str, Any]]:
    """The sections of a candidate's config for a training set, as for a YAML file.

    Args:
        candidate: Candidate.
        train_set: Training set, whose sizes decide the shapes and the number of steps.
        options: Options of the fit; its save_dir holds the lists.
        weight_decay: Penalty of a linear candidate; None chooses it by cross-validation.
    """
    train = {"seed": options.seed, "keep": 1, **candidate.train}
    if candidate.is_linear:
        train |= {"weight_decay": "auto" if weight_decay is None else weight_decay}
    else:
        train |= {"drop_last": True, **schedule(len(train_set))}
    num_classes = len(train_set.names)
    model = {
        **candidate.model,
        "num_classes": num_classes,
        "task": train_set.task,
        "feature_dims": [train_set.width],
        "topk": min(num_classes, 20),
    }
    return {
        "MODEL": model,
        "TRAIN": {**train, "filelist": str(options.save_dir / "train.list")},
        "TEST": {"filelist": str(options.save_dir / "test.list")},
    }


def write_config(
    candidate: Candidate, train_set: LabeledSet, options: FitOptions, *, weight_decay: float | None = None
) -> Config:
    """Writes the YAML with which `videotag train` repeats a candidate, and returns its config.

    Args:
        candidate: Candidate.
        train_set: Training set.
        options: Options of the fit; the file is written below its save_dir.
        weight_decay: Penalty of a linear candidate; None chooses it by cross-validation.

    Raises:
        ConfigError: A value is out of its range.
        OutputError: The file cannot be written.
    """
    sections = candidate_sections(candidate, train_set, options, weight_decay=weight_decay)
    path = options.save_dir / "candidates" / f"{candidate.folder}.yaml"
    write_text(path, yaml.safe_dump(sections, sort_keys=False, allow_unicode=True))
    return load_config(path)
