"""Trains a tagger on lists of features.

Blocks stand in the order in which things happen: seed, network, data, optimizer, epochs.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

from videotag.atomic import link_atomic
from videotag.config import Config, TrainSection
from videotag.datasets.features import FeatureBatch, check_features, feature_batches
from videotag.engine.checkpoint import load_weights, save_weights, write_card
from videotag.engine.evaluate import evaluate_tagger, to_tensors
from videotag.engine.losses import multi_label_loss
from videotag.engine.optim import build_optimizer, learning_rate
from videotag.engine.run_log import RunLog
from videotag.errors import FileListError, VideotagError
from videotag.formats.filelist import ListEntry
from videotag.progress import track
from videotag.weights import find_weights

BEST_METRIC = "gap"
LARGE_WEIGHT_DECAY = 1e-4  # VideoTag: 8e-4, PaddleVideo: 4e-4, both with summed losses
logger = logging.getLogger(__name__)


class DivergedError(VideotagError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TrainResult:
    """Where training ended.

    Attributes:
        best_path: weights of the epoch with the best GAP on VALID; of the last epoch without validation.
        last_path: weights of the last epoch.
        best: metrics of best_path; empty without validation.
    """

    best_path: Path
    last_path: Path
    best: dict[str, Any]


def train_tagger(
    config: Config,
    train_entries: Sequence[ListEntry],
    valid_entries: Sequence[ListEntry],
    *,
    save_dir: Path,
    labels: list[str] | None = None,
    pretrain: str | None = None,
    valid_interval: int = 1,
    log_interval: int = 1,
    visualdl_dir: str | None = None,
) -> TrainResult:
    """Trains the tagger of a config and writes a checkpoint after every epoch.

    Args:
        config: of a tagger.
        train_entries: what is learned.
        valid_entries: what chooses the best epoch; may be empty.
        save_dir: for checkpoints, config.yaml, labels.txt and train_log.jsonl.
        labels: class names, copied beside the weights.
        pretrain: weights to start from.
        valid_interval: epochs between validations; the last epoch is always validated; 0 for never.
        log_interval: steps between log lines.
        visualdl_dir: folder for VisualDL scalars.

    Raises:
        FeatureFileError: files that are missing, damaged or of another width; all, before training.
        FileListError: drop_last leaves no batch.
        WeightsError: pretrain does not fit.
        DivergedError: the loss became NaN or infinite.
    """
    train, dims = config.train, config.model.dims

    seed = secrets.randbelow(2**31) if train.seed is None else train.seed
    paddle.seed(seed)

    model: nn.Layer = config.entry.cls(config.model)
    if pretrain:
        load_weights(model, find_weights(pretrain).path, config_name=f"MODEL of {config.entry.name}")

    check_features([*train_entries, *valid_entries], dims)
    num_samples = len(train_entries)
    _warn_of_old_values(train, num_samples)
    batches = partial(feature_batches, dims=dims, num_classes=config.model.num_classes)
    steps_per_epoch = _count_steps(num_samples, train)

    optimizer = build_optimizer(model, train)
    write_card(save_dir, config, labels)
    best_link = save_dir / f"{config.entry.name}_best.pdparams"
    best_link.unlink(missing_ok=True)  # an earlier run's, which belongs to another config now
    best_path: Path | None = None
    best: dict[str, Any] = {}
    with RunLog(save_dir, visualdl_dir) as log:
        log.write("start", step=0, seed=seed, num_samples=num_samples, num_valid=len(valid_entries))
        for epoch in range(train.epoch):
            order = np.random.default_rng([seed, epoch]).permutation(num_samples)
            epoch_batches = batches(
                train_entries, batch_size=train.batch_size, order=order, drop_last=train.drop_last
            )
            model.train()
            steps = track(epoch_batches, f"epoch {epoch}", steps_per_epoch)
            for step, batch in enumerate(steps, start=epoch * steps_per_epoch):
                rate = learning_rate(step, train, steps_per_epoch)
                optimizer.set_lr(rate)
                loss = _learn(model, optimizer, batch, train)
                if step % log_interval == 0:
                    value = _finite(loss.item(), step)
                    log.write("train", step=step, epoch=epoch, loss=value, learning_rate=rate)

            _finite(loss.item(), step)  # before weights that are no numbers are saved
            path = save_dir / f"{config.entry.name}_epoch{epoch}.pdparams"
            save_weights(model, path)
            last = epoch == train.epoch - 1
            if valid_entries and valid_interval and (last or (epoch + 1) % valid_interval == 0):
                metrics = evaluate_tagger(model, batches(valid_entries, batch_size=config.valid.batch_size))
                log.write("valid", step=(epoch + 1) * steps_per_epoch, epoch=epoch, **metrics)
                if not best or metrics[BEST_METRIC] > best[BEST_METRIC]:
                    best_path, best = path, metrics
                    link_atomic(path, best_link)
    last_path = save_dir / f"{config.entry.name}.pdparams"
    link_atomic(path, last_path)
    return TrainResult(best_path=best_path or last_path, last_path=last_path, best=best)


def _learn(model: nn.Layer, optimizer: Optimizer, batch: FeatureBatch, train: TrainSection) -> Tensor:
    """One step on one batch; returns its loss, of shape ()."""
    logits = model(to_tensors(batch.features), to_tensors(batch.masks))
    loss = multi_label_loss(logits, paddle.to_tensor(batch.labels), train.loss_reduction)
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    return loss


def _count_steps(num_samples: int, train: TrainSection) -> int:
    """Steps per epoch; the last batch counts unless drop_last is set."""
    full, rest = divmod(num_samples, train.batch_size)
    steps = full + (1 if rest and not train.drop_last else 0)
    if not steps:
        raise FileListError(
            f"TRAIN.filelist: {num_samples} videos fill no batch of {train.batch_size}; "
            "lower TRAIN.batch_size or set TRAIN.drop_last=False"
        )
    return steps


def _warn_of_old_values(train: TrainSection, num_samples: int) -> None:
    """Says which values of an old config are not what happens."""
    if train.num_samples not in (None, num_samples):
        logger.warning(
            "TRAIN.num_samples is %s, the list has %d, which counts", train.num_samples, num_samples
        )
    if train.num_gpus not in (None, 1):
        logger.warning("TRAIN.num_gpus is %s, training runs on 1 device with the whole batch", train.num_gpus)
    if "loss_reduction" not in train.model_fields_set and train.weight_decay >= LARGE_WEIGHT_DECAY:
        logger.warning(
            "TRAIN.weight_decay is %g, which in old configs belongs to a loss summed over the batch; "
            "set TRAIN.loss_reduction=sum for the old training, or divide weight_decay by the batch size",
            train.weight_decay,
        )


def _finite(loss: float, step: int) -> float:
    if not np.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} at step {step}; lower TRAIN.learning_rate or set TRAIN.clip_norm=1"
        )
    return loss
