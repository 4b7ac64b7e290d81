"""Trains the model of a config.

Seed, epoch and step determine order, augmentation and dropout, so that a resumed run equals an uninterrupted
one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import nn

from videotag.config import Config, load_config
from videotag.datasets.batches import Dataset, check_single_labels
from videotag.errors import (
    ConfigError,
    FeatureFileError,
    FileListError,
    RecordError,
    VideotagError,
    one_error,
    problems_of,
)
from videotag.formats.filelist import ListEntry
from videotag.formats.train_log import LOG_FILE
from videotag.inference.data import check_inputs, evaluation_batches, open_dataset
from videotag.inference.load_weights import load_weights
from videotag.inference.parallel import (
    all_gather,
    barrier,
    broadcast,
    is_main,
    main_first,
    on_main,
    world_size,
)
from videotag.inputs.features import check_extractors
from videotag.labels import load_imagenet_names, read_labels
from videotag.models.contract import build_model
from videotag.system.atomic import remove_partial
from videotag.system.failures import FailureList
from videotag.system.folder_lock import folder_lock
from videotag.train_section import FeatureTrainSection, TrainSection
from videotag.training.batches import collect_media_errors, every_sample
from videotag.training.calibrate import fit_standardizers
from videotag.training.checkpoint import load_pretrained, write_config_and_labels
from videotag.training.losses import class_counts_of
from videotag.training.make_learner import make_learner
from videotag.training.optim import with_num_epochs
from videotag.training.probe import Probe, needs_probe, solve_probe, write_probe
from videotag.training.resume import check_resumable, newest_checkpoint, resume_run, with_resolved_auto
from videotag.training.run import Run, link_latest
from videotag.training.run_log import RunLog, open_scalars
from videotag.training.run_state import Checkpoint, Progress, check_save_dir, move_earlier_run
from videotag.training.sizes import check_sizes
from videotag.training.teachers import load_teachers
from videotag.weights import CONFIG_FILE, FoundWeights, find_weights

LARGE_WEIGHT_DECAY = 1e-4  # VideoTag: 8e-4, PaddleVideo: 4e-4, both with summed losses
FEW_STEPS, ENOUGH_STEPS = 200, 500
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        best_path: Path of the weights of the last epoch whose metric on VALID (GAP, or top-1 for single-label
            tasks) is within one standard error of the highest; last_path without validation.
        last_path: Path of the weights of the last epoch.
        best: Validation metrics of best_path; empty without validation.
        failed: Error message by video, for all videos that could not be read and were skipped.
        probe: The metric that selects best_path, of the linear probe before training; None if not measured.
    """

    best_path: Path
    last_path: Path
    best: dict[str, Any]
    failed: dict[str, str]
    probe: float | None = None


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
        config: Config of the model; TRAIN.pretrain names pretrained weights.
        train_entries: Samples to train on.
        valid_entries: Samples to validate on, which select the best epoch; may be empty.
        save_dir: Folder for checkpoints, config.yaml, labels.txt and train_log.jsonl; an earlier run in it is
            moved to a subfolder earlier-N.
        labels: Class names, written beside the weights; a resumed run keeps its own.
        resume: Whether to resume from the newest intact checkpoint in save_dir; if there is none, a new run
            starts.
        valid_interval: Number of epochs between validations; the last epoch is always validated. 0 for no
            validation.
        log_interval: Number of steps between log lines.
        visualdl_dir: Folder for VisualDL scalars; None for none.

    Raises:
        FeatureFileError, RecordError: Files are missing, damaged or of another width; all of them, before
            training.
        FileListError: drop_last leaves no batch, labels do not fit the task, or the list differs from that of
            the run to resume.
        ConfigError: The config differs from that of the run to resume, a teacher does not fit the student, or
            the run does not fit into memory.
        WeightsError: Weights of TRAIN.pretrain or of a teacher do not fit.
        OutputError: Another run is writing to save_dir, a file that no run wrote would be overwritten, or
            the folder is not writable.
        DivergedError: The loss became NaN or infinite.
    """
    train, name = config.train, config.entry.name
    check_save_dir(save_dir, name)
    validated = bool(valid_entries and valid_interval)
    data, valid_data = _open_data(config, train_entries, valid_entries, validated=validated)
    steps_per_epoch = _count_steps(len(data), train)
    config = replace(config, train=with_num_epochs(train, steps_per_epoch))
    _warn_about_few_steps(config, steps_per_epoch, len(data))
    counts = class_counts_of(config, train_entries)
    sizes = check_sizes(config, data, steps_per_epoch=steps_per_epoch)
    teacher = load_teachers(config, labels, save_dir=save_dir)
    with on_main(folder_lock(save_dir)):
        if is_main():
            remove_partial(save_dir)
        found = newest_checkpoint(save_dir, name) if resume else None
        if found:
            config = with_resolved_auto(config, load_config(save_dir / CONFIG_FILE))
        progress, model = _initialize(config, found, data, valid_data, save_dir=save_dir, labels=labels)
        for section in (train, config.valid) if validated else (train,):
            check_inputs(config, section, model.inputs)
        unread: dict[str, VideotagError] = {}
        probe = None
        if not found:
            probe = _prepare_network(
                config, model, data, valid_data, validated=validated, class_counts=counts, unread=unread
            )
            progress = replace(progress, probe=None if probe is None else probe.score)
        learner, config = make_learner(
            config,
            model,
            data,
            steps_per_epoch=steps_per_epoch,
            class_counts=counts,
            teacher=teacher,
            progress=progress,
            unread=unread,
        )
        if found:
            resume_run(config, found, learner, steps_per_epoch, labels=labels)
        else:  # last, so that a user's mistake leaves the folder unchanged
            _start_new_run(config, save_dir, labels, resume=resume)
            if probe is not None and probe.score is not None and is_main():
                write_probe(probe, config, labels, save_dir=save_dir)
        with main_first():
            failures = FailureList(save_dir, append=bool(found) or not is_main())
            messages = failures.messages()
        scalars = open_scalars(visualdl_dir) if is_main() else None
        logger.info("%s", sizes)
        with RunLog(save_dir if is_main() else None, scalars) as log:
            run = Run(
                config=config,
                data=data,
                valid_data=valid_data,
                save_dir=save_dir,
                valid_interval=valid_interval,
                log_interval=log_interval,
                learner=learner,
                log=log,
                steps_per_epoch=steps_per_epoch,
                failures=failures,
                failed=messages,
            )
            run.log_start(progress)
            for video, error in unread.items():
                run.skip_unreadable(video, error)
            progress = run.epochs(progress)
        return _result(run, progress)


def _open_data(
    config: Config,
    train_entries: Sequence[ListEntry],
    valid_entries: Sequence[ListEntry],
    *,
    validated: bool,
) -> tuple[Dataset, Dataset | None]:
    """The training and validation datasets; checks both lists before training starts."""
    if config.train.early_stop and not validated:
        raise ConfigError("TRAIN.early_stop: needs validation; set VALID.filelist, or leave it out")
    opened: list[Dataset | None] = []
    errors: list[VideotagError] = []
    for entries, section in ((train_entries, config.train), (valid_entries, config.valid)):
        try:
            opened.append(open_dataset(config, entries, section) if entries else None)
        except (FeatureFileError, RecordError) as error:
            errors.append(error)
    if errors:
        raise one_error(type(errors[0]), [text for error in errors for text in problems_of(error)])
    data, valid_data = opened
    if data is None:
        raise FileListError("TRAIN.filelist: no samples; list at least one")
    if valid_data is not None:
        for field in {**data.made_by, **valid_data.made_by}:  # each input may come from another network
            check_extractors({**data.made_by.get(field, {}), **valid_data.made_by.get(field, {})})
    if config.task == "single_label":
        check_single_labels(train_entries, config.train.filelist)
        check_single_labels(valid_entries, config.valid.filelist)
    _warn_about_old_values(config, len(data))
    return data, valid_data


def _warn_about_old_values(config: Config, num_samples: int) -> None:
    """Logs a warning for values of an old config that are ignored or have another meaning."""
    train = config.train
    if train.num_samples not in (None, num_samples):
        logger.warning(
            "TRAIN.num_samples is %s, but the list has %d samples; using all", train.num_samples, num_samples
        )
    if train.num_gpus not in (None, world_size()):
        logger.warning(
            "TRAIN.num_gpus is %s, but there are %d processes; they share every batch",
            train.num_gpus,
            world_size(),
        )
    summed = (
        train.optimizer != "lbfgs"
        and isinstance(train, FeatureTrainSection)
        and "loss_reduction" not in train.model_fields_set
    )
    if summed and isinstance(train.weight_decay, float) and train.weight_decay >= LARGE_WEIGHT_DECAY:
        logger.warning(
            "TRAIN.weight_decay is %g, which old configs use with a loss summed over the batch; "
            "set TRAIN.loss_reduction=sum for that loss, or divide weight_decay by the batch size",
            train.weight_decay,
        )


def _count_steps(num_samples: int, train: TrainSection) -> int:
    """The number of steps per epoch; includes an incomplete last batch unless drop_last is set."""
    full, rest = divmod(num_samples, train.batch_size)
    steps = full + (1 if rest and not train.drop_last else 0)
    if not steps:
        raise FileListError(
            f"TRAIN.filelist: {num_samples} videos fill no batch of {train.batch_size}; "
            "lower TRAIN.batch_size or set TRAIN.drop_last=False"
        )
    return steps


def _warn_about_few_steps(config: Config, steps_per_epoch: int, num_samples: int) -> None:
    """Logs a warning if a run is too short to learn much, as with shipped configs and small lists."""
    train, recipe = config.train, "own_videos-single" if config.task == "single_label" else "own_videos"
    total = steps_per_epoch * train.epoch
    if train.optimizer == "lbfgs" or train.min_steps or total >= FEW_STEPS or train.pretrain:
        return
    logger.warning(
        "%d samples are %d steps an epoch at TRAIN.batch_size=%d, and %d epochs are %d steps; networks need "
        "some hundreds: set TRAIN.min_steps=%d, or use configs/%s.yaml or `videotag fit`",
        num_samples,
        steps_per_epoch,
        train.batch_size,
        train.epoch,
        total,
        ENOUGH_STEPS,
        recipe,
    )


def _initialize(
    config: Config,
    found: Checkpoint | None,
    data: Dataset,
    valid_data: Dataset | None,
    *,
    save_dir: Path,
    labels: list[str] | None,
) -> tuple[Progress, nn.Layer]:
    """Initial progress and network of a run: resumed, pretrained or new."""
    train, name = config.train, config.entry.name
    lists = {"videos": data.digest, "valid": valid_data.digest if valid_data else ""}
    if found:
        check_resumable(save_dir, config, labels, lists["videos"] == found.progress.videos)
        progress = found.progress
        if progress.valid != lists["valid"]:
            logger.warning("VALID.filelist differs from that of the resumed run: the best epoch is reset")
            progress = replace(
                progress,
                valid=lists["valid"],
                best_epoch=None,
                best=None,
                highest=None,
                probe=None,
                validations_since_best=0,
            )
    else:
        seed = broadcast(secrets.randbelow(2**31)) if train.seed is None else train.seed
        progress = Progress(epoch=0, seed=seed, videos=lists["videos"], valid=lists["valid"])
    paddle.seed(progress.seed)
    model = build_model(config.entry, config.model)
    if found:
        load_weights(model, found.weights_path, config_name=name)
    elif train.pretrain:
        _start_from_pretrained(model, config, labels)
    return progress, model


def _start_from_pretrained(model: nn.Layer, config: Config, labels: list[str] | None) -> None:
    """Initializes the network from TRAIN.pretrain; logs the layers that do not fit."""
    train = config.train
    weights = find_weights(train.pretrain)
    old_labels = None
    if train.extend_labels:
        old_labels = _old_labels(weights, train)
        if labels is None:
            raise ConfigError(
                "TRAIN.extend_labels: the new class names are missing; give --label_file or MODEL.label_file"
            )
    notes = load_pretrained(
        model, weights.path, config_name=config.entry.name, labels=labels, old_labels=old_labels
    )
    for note in notes:
        logger.warning("%s: %s", weights.path, note)


def _old_labels(weights: FoundWeights, train: TrainSection) -> list[str]:
    if train.old_label_file:
        return read_labels(train.old_label_file)
    if weights.named and weights.named.labels:
        return load_imagenet_names()
    beside = weights.labels_beside
    if weights.named or beside is None:  # a cache folder holds weights of several networks
        raise ConfigError(
            f"TRAIN.extend_labels: the class names of {weights.path} are not known; give its label file with "
            "--set TRAIN.old_label_file=PATH"
        )
    return read_labels(beside)


def _prepare_network(
    config: Config,
    model: nn.Layer,
    data: Dataset,
    valid_data: Dataset | None,
    *,
    validated: bool,
    class_counts: np.ndarray | None,
    unread: dict[str, VideotagError],
) -> Probe | None:
    """Fits a new run's standardizing layers and solves its probe, as far as the config needs them.

    Returns:
        The probe; None if it is not solved.
    """
    train = config.train
    if not train.pretrain:  # pretrained layers expect their own scale
        fit_standardizers(model, every_sample(data, train, unread))
    if not needs_probe(train, num_samples=len(data), validated=validated):
        return None
    valid_samples = None
    if valid_data:
        valid_samples = evaluation_batches(valid_data, config.valid, on_error=collect_media_errors(unread))
    samples = every_sample(data, train, unread)
    return solve_probe(config, model, samples, valid_samples, class_counts=class_counts)


def _start_new_run(config: Config, save_dir: Path, labels: list[str] | None, *, resume: bool) -> None:
    """Moves an earlier run's files and writes the first files of a new run."""
    barrier()  # other processes may still be reading weights of the earlier run
    if is_main():
        aside = move_earlier_run(save_dir, resume=resume)
        if aside:
            logger.warning("%s: moved the earlier run to %s", save_dir, aside)
        (save_dir / LOG_FILE).touch()  # first, because it marks the folder as that of a run
        write_config_and_labels(save_dir, config, labels)


def _result(run: Run, progress: Progress) -> TrainResult:
    """The result of a completed run, the same in every process."""
    name = run.config.entry.name
    best_path = link_latest(run.save_dir, name, progress)
    last_path = run.save_dir / f"{name}.pdparams"
    failed = {video: why for part in all_gather(run.failed) for video, why in part.items()}
    return TrainResult(best_path or last_path, last_path, progress.best or {}, failed, probe=progress.probe)
