"""Linear probe of a network: what fine-tuning has to beat on a small set.

The probe is the logistic regression on the inputs of the last layer, solved to the optimum before the first
step. TRAIN.start_from_probe starts training from it.
Shapes: C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videotag.system.quiet_paddle import paddle  # noqa: F401 - before Paddle's own import

import numpy as np
from paddle import nn

from videotag.config import Config
from videotag.datasets.batches import Batch
from videotag.errors import ConfigError, OutputError
from videotag.formats.weight_files import write_pdparams
from videotag.inference.evaluate import BEST_METRIC, evaluate, in_layers
from videotag.inference.load_weights import network_state, set_state
from videotag.inference.parallel import world_size
from videotag.registry import Task
from videotag.safe_text import escaped
from videotag.system.atomic import replace_folder
from videotag.train_section import TrainSection, VideoTrainSection
from videotag.training.checkpoint import PROBE_FOLDER, write_config_and_labels
from videotag.training.last_layer_solver import START_FROM_PROBE, LastLayerSolver

SMALL_SET = 5000  # from so many videos on, fine-tuning mostly wins, and the probe costs minutes
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """A network before training, with the probe as its last layer.

    Attributes:
        state: Parameters and buffers by name.
        score: The metric on VALID that selects the best epoch; None if it cannot be measured.
    """

    state: Mapping[str, np.ndarray]
    score: float | None


def needs_probe(train: TrainSection, *, num_samples: int, validated: bool) -> bool:
    """Whether a run solves the probe: to start from it, or to compare fine-tuning on few videos with it.

    Args:
        train: TRAIN section.
        num_samples: Number of training samples.
        validated: Whether the run validates.
    """
    is_fine_tuning = isinstance(train, VideoTrainSection) and bool(train.pretrain)
    is_compared = is_fine_tuning and validated and num_samples < SMALL_SET and world_size() == 1
    return train.start_from_probe or is_compared


def solve_probe(
    config: Config,
    model: nn.Layer,
    batches: Iterable[Batch],
    valid_batches: Iterable[Batch] | None,
    *,
    class_counts: np.ndarray | None,
) -> Probe | None:
    """Solves the probe and measures it; with TRAIN.start_from_probe, the last layer keeps it.

    Args:
        config: Config of the model.
        model: Network before the first step.
        batches: Every training sample once, without augmentation.
        valid_batches: Every sample of VALID; None without validation.
        class_counts: (C,) number of training samples with each class; needed for class_weights.

    Returns:
        The probe; None if the network has no linear last layer.

    Raises:
        ConfigError: With TRAIN.start_from_probe, the network has no linear last layer, or there is a single
            sample or several processes.
        FileListError: No sample can be read.
    """
    train, task = config.train, config.task
    before = {name: value.numpy().copy() for name, value in network_state(model).items()}
    try:
        solver = LastLayerSolver(
            model,
            train,
            task,
            num_classes=config.model.num_classes,
            name=config.entry.name,
            class_counts=class_counts,
            key=START_FROM_PROBE,
        )
        solver.read(batches)
        loss = solver.solve(solver.choose_penalty())
    except ConfigError:
        if train.start_from_probe:
            raise
        return None  # nothing to compare with
    score = None
    if valid_batches is not None:
        metrics = evaluate(in_layers(model), valid_batches, task=task)
        if metrics["num_videos"] > metrics.get("num_without_labels", 0):
            score = float(metrics[BEST_METRIC[task]])
            logger.info(
                "linear probe of the network to start from: %s %.4f on VALID", BEST_METRIC[task], score
            )
    state = {name: value.numpy().copy() for name, value in network_state(model).items()}
    if train.start_from_probe:
        logger.info("TRAIN.start_from_probe: the last layer starts at loss %.4g", loss)
    else:
        set_state(network_state(model), before)
    return Probe(state, score)


def write_probe(probe: Probe, config: Config, labels: list[str] | None, *, save_dir: Path) -> None:
    """Writes the network with the probe as a checkpoint folder inside the folder of a run.

    Args:
        probe: Probe.
        config: Config of the run.
        labels: Class names; None for none.
        save_dir: Folder of the run.

    Raises:
        OutputError: The folder cannot be written, or is the user's own.
    """
    target, file = save_dir / PROBE_FOLDER, f"{config.entry.name}.pdparams"
    if target.exists() and not (target / file).is_file():
        raise OutputError(f"{target}: not of an earlier run; move it, or choose another --save_dir")
    with replace_folder(target) as folder:
        write_pdparams(folder / file, probe.state)
        write_config_and_labels(folder, config, labels)


def comparison_with_probe(
    best: Mapping[str, Any], probe: float, *, task: Task, pretrain: str | None, save_dir: Path
) -> str:
    """Compares a trained network with the probe, in words, and says what to use if training did not help.

    Args:
        best: Validation metrics of the best epoch.
        probe: Metric of the probe on VALID.
        task: Task of the model.
        pretrain: Weights that training started from; None if unknown, as in a resumed run.
        save_dir: Folder of the run.
    """
    metric = BEST_METRIC[task]
    text = f"{metric} on VALID: {best[metric]:.4f} trained, {probe:.4f} by a linear probe before training"
    if probe < best[metric]:
        return text
    command = f"videotag fit --extractor_weights={escaped(pretrain)}" if pretrain else "videotag fit"
    kept = save_dir / PROBE_FOLDER
    network = f"--weights={escaped(str(kept))}, or " if kept.is_dir() else ""
    return f"{text}; training did not help: use {network}`{command}`"
