"""Trains a tagger on lists of features, or a TSN on lists of videos.

Blocks stand in the order in which things happen: seed, network, data, optimizer, epochs. Order, augmentation
and dropout follow from the seed, the epoch and the step alone, so that a resumed run does what an unbroken
one does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml
from paddle import nn

from videotag.atomic import link_atomic, remove_partial
from videotag.config import Config, TrainSection
from videotag.datasets.batches import check_single_labels
from videotag.engine.checkpoint import load_weights, save_weights, start_from, write_card
from videotag.engine.data import check_data, evaluation_batches, training_batches
from videotag.engine.evaluate import BEST_METRIC, evaluate
from videotag.engine.learner import Learner
from videotag.engine.run_log import RunLog
from videotag.engine.run_state import Progress, drop_old, load_newest, save_state, set_aside
from videotag.errors import ConfigError, FileListError, VideotagError, one_error
from videotag.folder_lock import folder_lock
from videotag.formats.filelist import ListEntry
from videotag.labels import load_imagenet_names, read_labels
from videotag.progress import track
from videotag.weights import CONFIG_FILE, LABELS_FILE, FoundWeights, find_weights

LARGE_WEIGHT_DECAY = 1e-4  # VideoTag: 8e-4, PaddleVideo: 4e-4, both with summed losses
#: Keys of TRAIN that a resumed run may change.
_FREE_KEYS = {"epoch", "use_gpu", "num_gpus", "num_samples", "keep", "early_stop", "filelist", "pretrain"}
logger = logging.getLogger(__name__)


class DivergedError(VideotagError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TrainResult:
    """Where training ended.

    Attributes:
        best_path: weights of the epoch with the best GAP (top-1 of a single-label task) on VALID; of the
            last epoch without validation.
        last_path: weights of the last epoch.
        best: metrics of best_path; empty without validation.
    """

    best_path: Path
    last_path: Path
    best: dict[str, Any]


def train_model(
    config: Config,
    train_entries: Sequence[ListEntry],
    valid_entries: Sequence[ListEntry],
    *,
    save_dir: Path,
    labels: list[str] | None = None,
    resume: bool = False,
    valid_interval: int = 1,
    log_interval: int = 1,
    visualdl_dir: str | None = None,
) -> TrainResult:
    """Trains the model of a config and writes a checkpoint after every epoch.

    Args:
        config: of a tagger or an extractor; TRAIN.pretrain names weights to start from.
        train_entries: what is learned.
        valid_entries: what chooses the best epoch; may be empty.
        save_dir: for checkpoints, config.yaml, labels.txt and train_log.jsonl; an earlier run there is moved
            into a folder earlier-N in it.
        labels: class names, copied beside the weights.
        resume: goes on from the newest whole checkpoint in save_dir; starts anew if there is none.
        valid_interval: epochs between validations; the last epoch is always validated; 0 for never.
        log_interval: steps between log lines.
        visualdl_dir: folder for VisualDL scalars.

    Raises:
        FeatureFileError: files that are missing, damaged or of another width; all, before training.
        FileListError: drop_last leaves no batch, labels do not fit the task, or the list is not the one that
            the run to resume began with.
        ConfigError: the config is not that of the run to resume.
        WeightsError: pretrain does not fit.
        OutputError: another run is at work in save_dir, or it cannot be written.
        DivergedError: the loss became NaN or infinite.
    """
    with folder_lock(save_dir):
        remove_partial(save_dir)
        return _train(
            config,
            train_entries,
            valid_entries,
            save_dir=save_dir,
            labels=labels,
            resume=resume,
            valid_interval=valid_interval,
            log_interval=log_interval,
            visualdl_dir=visualdl_dir,
        )


def _train(
    config: Config,
    train_entries: Sequence[ListEntry],
    valid_entries: Sequence[ListEntry],
    *,
    save_dir: Path,
    labels: list[str] | None,
    resume: bool,
    valid_interval: int,
    log_interval: int,
    visualdl_dir: str | None,
) -> TrainResult:
    """train_model in a folder that no other run writes to."""
    train, name = config.train, config.entry.name
    digest = _digest(train_entries)
    found = load_newest(save_dir, name) if resume else None
    if found:
        _check_same_run(save_dir, config, digest == found.progress.videos)
        progress = found.progress
    else:
        seed = secrets.randbelow(2**31) if train.seed is None else train.seed
        progress = Progress(epoch=0, seed=seed, videos=digest)

    paddle.seed(progress.seed)
    model: nn.Layer = config.entry.cls(config.model)
    if found:
        load_weights(model, found.weights_path, config_name=name)
    elif train.pretrain:
        _start_from_pretrained(model, config, labels)

    if config.task == "single_label":
        check_single_labels(train_entries, train.filelist)
        check_single_labels(valid_entries, config.valid.filelist)
    check_data(config, [*train_entries, *valid_entries])
    _warn_of_old_values(config, len(train_entries))
    steps_per_epoch = _count_steps(len(train_entries), train)

    learner = Learner(model, train, config.task, steps_per_epoch=steps_per_epoch)
    if found:
        learner.restore(found.arrays)
        logger.info("going on after epoch %d, from %s", progress.epoch - 1, found.weights_path)
    else:
        aside = set_aside(save_dir, name)
        if aside:
            logger.warning("%s: the earlier run in it was moved to %s", save_dir, aside)
        write_card(save_dir, config, labels)

    with RunLog(save_dir, visualdl_dir) as log:
        counts = {"num_samples": len(train_entries), "num_valid": len(valid_entries)}
        log.write("start", step=progress.epoch * steps_per_epoch, seed=progress.seed, **counts)
        for epoch in range(progress.epoch, train.epoch):
            if train.early_stop and progress.without_gain >= train.early_stop:
                logger.info("stopped early: %d validations without a gain", progress.without_gain)
                break
            learner.start_epoch()
            batches = training_batches(config, train_entries, epoch=epoch, seed=progress.seed)
            steps = track(batches, f"epoch {epoch}", steps_per_epoch)
            for step, batch in enumerate(steps, start=epoch * steps_per_epoch):
                loss, rate = learner.learn(batch, step=step, seed=_step_seed(progress.seed, step))
                if step % log_interval == 0:
                    value = _finite(loss.item(), step)
                    log.write("train", step=step, epoch=epoch, loss=value, learning_rate=rate)
            _finite(loss.item(), step)  # before weights that are no numbers are saved

            path = _epoch_path(save_dir, name, epoch)
            progress = replace(progress, epoch=epoch + 1)
            with learner.averaged() as averaged:
                save_weights(averaged, path)
                last = epoch == train.epoch - 1
                if valid_entries and valid_interval and (last or (epoch + 1) % valid_interval == 0):
                    batches = evaluation_batches(config, valid_entries, config.valid)
                    metrics = evaluate(averaged, batches, task=config.task)
                    log.write("valid", step=(epoch + 1) * steps_per_epoch, epoch=epoch, **metrics)
                    progress = _judged(progress, metrics, BEST_METRIC[config.task])
            save_state(path, learner.state(), progress)
            best_path = _link(save_dir, name, progress)
            drop_old(save_dir, name, keep=train.keep, best=best_path)
    best_path = _link(save_dir, name, progress)
    last_path = save_dir / f"{name}.pdparams"
    return TrainResult(best_path=best_path or last_path, last_path=last_path, best=progress.best or {})


def _start_from_pretrained(model: nn.Layer, config: Config, labels: list[str] | None) -> None:
    """Loads TRAIN.pretrain; a last layer for other classes starts anew, which is said."""
    train = config.train
    weights = find_weights(train.pretrain)
    old_labels = None
    if train.extend_labels:
        old_labels = _old_labels(weights)
        if labels is None:
            raise ConfigError(
                "TRAIN.extend_labels: the new class names are missing; give --label_file or MODEL.label_file"
            )
    notes = start_from(
        model, weights.path, config_name=config.entry.name, labels=labels, old_labels=old_labels
    )
    for note in notes:
        logger.warning("%s: %s", weights.path, note)


def _old_labels(weights: FoundWeights) -> list[str]:
    beside = weights.path.parent / LABELS_FILE
    if weights.named is None and not beside.is_file():
        raise ConfigError(
            f"TRAIN.extend_labels: no {beside}; put the label file of the pretrained weights there"
        )
    return load_imagenet_names() if weights.named else read_labels(beside)


def _check_same_run(save_dir: Path, config: Config, same_videos: bool) -> None:
    """What a resumed run may not change: the model, how it is trained, and on what."""
    try:
        old = yaml.safe_load((save_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{save_dir / CONFIG_FILE}: cannot be read; train anew without --resume") from error
    new = yaml.safe_load(config.to_yaml())
    problems = []
    for section in ("MODEL", "TRAIN"):
        for key, value in new[section].items():
            before = old.get(section, {}).get(key)
            if value != before and not (section == "TRAIN" and key in _FREE_KEYS):
                problems.append(f"{section}.{key}: {value!r}, but the run to resume has {before!r}")
    if problems:
        problems[-1] += f"; take {save_dir / CONFIG_FILE} as --config, or train anew without --resume"
        raise one_error(ConfigError, problems)
    if not same_videos:
        raise FileListError(
            f"{config.train.filelist}: not the list that the run in {save_dir} began with; "
            "train anew without --resume, from its weights with --pretrain"
        )


def _judged(progress: Progress, metrics: dict[str, Any], metric: str) -> Progress:
    """The progress after a validation."""
    if progress.best is None or metrics[metric] > progress.best[metric]:
        return replace(progress, best_epoch=progress.epoch - 1, best=metrics, without_gain=0)
    return replace(progress, without_gain=progress.without_gain + 1)


def _link(save_dir: Path, name: str, progress: Progress) -> Path | None:
    """Lets {name}.pdparams be the last weights and {name}_best.pdparams the best; returns the latter's epoch.

    Also after a resume, since a kill may have come just before.
    """
    link_atomic(_epoch_path(save_dir, name, progress.epoch - 1), save_dir / f"{name}.pdparams")
    if progress.best_epoch is None:
        return None
    best_path = _epoch_path(save_dir, name, progress.best_epoch)
    link_atomic(best_path, save_dir / f"{name}_best.pdparams")
    return best_path


def _epoch_path(save_dir: Path, name: str, epoch: int) -> Path:
    return save_dir / f"{name}_epoch{epoch}.pdparams"


def _digest(entries: Sequence[ListEntry]) -> str:
    text = json.dumps([(entry.path, entry.label_ids) for entry in entries])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0]) % 2**31


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


def _warn_of_old_values(config: Config, num_samples: int) -> None:
    """Says which values of an old config are not what happens."""
    train = config.train
    if train.num_samples not in (None, num_samples):
        logger.warning(
            "TRAIN.num_samples is %s, the list has %d, which counts", train.num_samples, num_samples
        )
    if train.num_gpus not in (None, 1):
        logger.warning("TRAIN.num_gpus is %s, training runs on 1 device with the whole batch", train.num_gpus)
    summed = config.entry.kind == "tagger" and "loss_reduction" not in train.model_fields_set
    if summed and train.weight_decay >= LARGE_WEIGHT_DECAY:
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
