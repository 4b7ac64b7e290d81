"""Trains the model of a config.

Seed, epoch and step determine order, augmentation and dropout, so that a resumed run equals an uninterrupted
one.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import nn

from videotag.config import Config, load_config
from videotag.datasets.batches import Batch, Dataset, OnError, check_single_labels
from videotag.datasets.order import ordered_groups
from videotag.errors import (
    ConfigError,
    FeatureFileError,
    FileListError,
    MediaError,
    RecordError,
    VideotagError,
    one_error,
    problems_of,
)
from videotag.formats.filelist import ListEntry
from videotag.formats.record_files import is_record_file
from videotag.formats.train_log import LOG_FILE
from videotag.inference.data import check_inputs, evaluation_batches, open_dataset
from videotag.inference.load_weights import load_weights, network_state, set_state
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
from videotag.labels import load_imagenet_names, read_labels, write_labels
from videotag.models.contract import build_model
from videotag.safe_text import safe_repr
from videotag.sections import FeatureTrainSection, InputOptions, Key, TrainSection
from videotag.system.atomic import remove_partial, write_text
from videotag.system.failures import FailureList
from videotag.system.folder_lock import folder_lock
from videotag.training.batches import training_batches
from videotag.training.calibrate import standardize
from videotag.training.checkpoint import load_pretrained, write_config_and_labels
from videotag.training.last_layer_solver import LastLayerSolver
from videotag.training.learner import Learner
from videotag.training.optim import with_num_epochs
from videotag.training.probe import is_probed, solve_probe
from videotag.training.range_test import find_learning_rate
from videotag.training.run import Run, link_latest
from videotag.training.run_log import RunLog, open_scalars
from videotag.training.run_state import (
    Checkpoint,
    Progress,
    check_save_dir,
    load_checkpoint,
    load_newest,
    move_earlier_run,
)
from videotag.training.sizes import check_sizes
from videotag.training.teachers import load_teachers
from videotag.weights import CONFIG_FILE, LABELS_FILE, FoundWeights, find_weights

LARGE_WEIGHT_DECAY = 1e-4  # VideoTag: 8e-4, PaddleVideo: 4e-4, both with summed losses
FEW_STEPS, ENOUGH_STEPS = 200, 500
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        best_path: Path of the weights with the best GAP (top-1 accuracy for single-label tasks) on VALID;
            last_path without validation.
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
    _warn_about_few_steps(config.train, steps_per_epoch, len(data))
    counts = _class_counts(config, train_entries)
    sizes = check_sizes(config, data, steps_per_epoch=steps_per_epoch)
    teacher = load_teachers(config, labels, save_dir=save_dir)
    with on_main(folder_lock(save_dir)):
        if is_main():
            remove_partial(save_dir)
        found = _newest_checkpoint(save_dir, name) if resume else None
        if found:
            config = _with_calibrated(config, load_config(save_dir / CONFIG_FILE))
        lists = {"videos": data.digest, "valid": valid_data.digest if valid_data else ""}
        progress, model = _initialize(config, found, save_dir, lists=lists, labels=labels)
        for section in (train, config.valid) if validated else (train,):
            check_inputs(config, section, model.inputs)
        unread: dict[str, VideotagError] = {}
        if not found:
            standardize(model, _every_sample(data, train, unread))
            if is_probed(train, num_samples=len(data), validated=validated):
                samples = _every_sample(data, train, unread)
                valid_samples = None
                if valid_data:
                    valid_samples = evaluation_batches(valid_data, config.valid, on_error=_collector(unread))
                score = solve_probe(config, model, samples, valid_samples, class_counts=counts)
                progress = replace(progress, probe=score)
        learner, config = _make_learner(
            config,
            model,
            data,
            steps_per_epoch=steps_per_epoch,
            class_counts=counts,
            teacher=teacher,
            progress=progress,
            unread=unread,
        )
        train = config.train
        if found:
            _resume(config, found, learner, steps_per_epoch, labels=labels)
        else:  # last, so that a user's mistake leaves the folder unchanged
            _start_new_run(config, save_dir, labels, resume=resume)
        with main_first():
            failures = FailureList(save_dir, append=bool(found) or not is_main())
            messages = failures.messages()
        scalars = open_scalars(visualdl_dir) if is_main() else None
        logger.info("%s", sizes)
        with RunLog(save_dir if is_main() else None, scalars) as log:
            numbers = {"num_samples": len(data), "num_valid": len(valid_data) if valid_data else 0}
            step = progress.epoch * steps_per_epoch + progress.step
            values = {"seed": progress.seed, "processes": world_size(), **numbers}
            text = ", ".join(f"{key} {value}" for key, value in values.items())
            log.write("start", text, step=step, **values)
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
            for video, error in unread.items():
                run.skip_unreadable(video, error)
            while progress.epoch < train.epoch and not _stops_early(train, progress):
                progress = run.epoch(progress)
        best_path = link_latest(save_dir, name, progress)
        last_path = save_dir / f"{name}.pdparams"
        failed = {video: why for part in all_gather(run.failed) for video, why in part.items()}
        return TrainResult(
            best_path or last_path, last_path, progress.best or {}, failed, probe=progress.probe
        )


def _make_learner(
    config: Config,
    model: nn.Layer,
    data: Dataset,
    *,
    steps_per_epoch: int,
    class_counts: np.ndarray | None,
    teacher: nn.Layer | None,
    progress: Progress,
    unread: dict[str, VideotagError],
) -> tuple[Learner | LastLayerSolver, Config]:
    """The learner of a run, and the config in which "auto" is replaced by what the training set suggests.

    Args:
        config: Config of the model.
        model: Network.
        data: Dataset of the TRAIN section.
        steps_per_epoch: Number of steps per epoch.
        class_counts: (C,) number of samples with each class; None if no key needs it.
        teacher: Teacher network; None for none.
        progress: Progress of the run.
        unread: Receives the error of every sample that cannot be read.
    """
    train, task, num_classes = config.train, config.task, config.model.num_classes
    if train.optimizer == "lbfgs":
        name = config.entry.name
        solver = LastLayerSolver(
            model, train, task, num_classes=num_classes, name=name, class_counts=class_counts
        )
        if progress.epoch:  # resumed after the only step
            return solver, config
        solver.read(_every_sample(data, train, unread))
        if train.weight_decay == "auto":
            config = _with_train(config, weight_decay=solver.choose_penalty())
        return solver, config

    def learner(model: nn.Layer, train: TrainSection) -> Learner:
        return Learner(
            model,
            train,
            task,
            steps_per_epoch=steps_per_epoch,
            num_classes=num_classes,
            class_counts=class_counts,
            teacher=teacher,
        )

    if train.learning_rate == "auto":
        batches = itertools.chain.from_iterable(
            training_batches(config, data, epoch=epoch, seed=progress.seed, on_error=_collector(unread))
            for epoch in range(train.epoch)
        )
        # A copy, because Paddle numbers the state of a second optimizer of the same weights differently.
        copy = build_model(config.entry, config.model)
        set_state(network_state(copy), {n: x.numpy() for n, x in network_state(model).items()})
        rate = find_learning_rate(learner(copy, train), batches, seed=progress.seed)
        logger.info("TRAIN.learning_rate: %g, by a range test", rate)
        config = _with_train(config, learning_rate=rate)
    return learner(model, config.train), config


def _with_train(config: Config, **values: Any) -> Config:
    return replace(config, train=config.train.model_copy(update=values))


def _with_calibrated(config: Config, of_run: Config) -> Config:
    """The config of a resumed run in which "auto" is replaced by what the run chose."""
    keys = [key for key in ("learning_rate", "weight_decay") if getattr(config.train, key) == "auto"]
    return _with_train(config, **{key: getattr(of_run.train, key) for key in keys})


def _every_sample(data: Dataset, train: TrainSection, unread: dict[str, VideotagError]) -> Iterator[Batch]:
    """Every training sample once, in list order and without augmentation, for all processes alike."""
    groups = ordered_groups(len(data), train.batch_size)
    return (batch for batch in data.batches(groups, on_error=_collector(unread)) if batch is not None)


def _collector(unread: dict[str, VideotagError]) -> OnError:
    """A handler that collects the errors of samples that cannot be read, and raises all others."""

    def on_error(video: str, error: VideotagError) -> None:
        if not isinstance(error, MediaError | RecordError):
            raise error
        unread[video] = error

    return on_error


def _class_counts(config: Config, entries: Sequence[ListEntry]) -> np.ndarray | None:
    """(C,) number of training samples with each class; None if no key of TRAIN needs it."""
    keys = [key for key in ("class_weights", "logit_adjustment") if getattr(config.train, key)]
    if not keys:
        return None
    if any(is_record_file(entry.path) for entry in entries):
        raise ConfigError(
            f"TRAIN.{keys[0]}: counts the labels of a list, but record files hold theirs inside; remove it"
        )
    ids = [label_id for entry in entries for label_id in entry.label_ids]
    return np.bincount(ids, minlength=config.model.num_classes)


def _resume(
    config: Config,
    found: Checkpoint,
    learner: Learner | LastLayerSolver,
    steps_per_epoch: int,
    *,
    labels: list[str] | None,
) -> None:
    """Restores the learner, updates the run's config and labels, and logs where the run resumes."""
    learner.restore(found.arrays)
    if is_main():
        _record_settings(found.weights_path.with_name(CONFIG_FILE), config)
        if labels is not None:  # equal to those of the run, if it has any
            write_labels(found.weights_path.with_name(LABELS_FILE), labels)
    progress = found.progress
    epoch = config.train.epoch
    if progress.epoch >= epoch:
        logger.info("nothing to train: %d epochs are done, TRAIN.epoch=%d", progress.epoch, epoch)
    else:
        done = f"{progress.epoch} of {epoch} epochs"
        done += f" and {progress.step} of {steps_per_epoch} steps" if progress.step else ""
        logger.info("resuming after %s from %s", done, found.weights_path)
    if config.train.pretrain:
        logger.info("TRAIN.pretrain is ignored: the resumed run has its own weights")


def _record_settings(path: Path, config: Config) -> None:
    """Records in a run's config what may change on --resume: more epochs, and VALID, TEST and INFER."""
    old = load_config(path)
    train = old.train.model_copy(update={"epoch": max(old.train.epoch, config.train.epoch)})
    new = replace(old, train=train, valid=config.valid, test=config.test, infer=config.infer)
    if new != old:
        write_text(path, new.to_yaml())


def _start_new_run(config: Config, save_dir: Path, labels: list[str] | None, *, resume: bool) -> None:
    """Moves an earlier run's files and writes the first files of a new run."""
    barrier()  # other processes may still be reading weights of the earlier run
    if is_main():
        aside = move_earlier_run(save_dir, resume=resume)
        if aside:
            logger.warning("%s: moved the earlier run to %s", save_dir, aside)
        (save_dir / LOG_FILE).touch()  # first, because it marks the folder as that of a run
        write_config_and_labels(save_dir, config, labels)


def _newest_checkpoint(save_dir: Path, name: str) -> Checkpoint | None:
    """The checkpoint to resume from, the same in every process; None if there is none."""
    found = load_newest(save_dir, name) if is_main() else None
    path = broadcast(found.weights_path if found else None)
    return found if is_main() or path is None else load_checkpoint(path)


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
        check_extractors({**data.made_by, **valid_data.made_by})
    if config.task == "single_label":
        check_single_labels(train_entries, config.train.filelist)
        check_single_labels(valid_entries, config.valid.filelist)
    _warn_about_old_values(config, len(data))
    return data, valid_data


def _initialize(
    config: Config,
    found: Checkpoint | None,
    save_dir: Path,
    *,
    lists: dict[str, str],
    labels: list[str] | None,
) -> tuple[Progress, nn.Layer]:
    """Initial progress and network of a run: resumed, pretrained or new."""
    train, name = config.train, config.entry.name
    if found:
        _check_resumable(save_dir, config, labels, lists["videos"] == found.progress.videos)
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


def _stops_early(train: TrainSection, progress: Progress) -> bool:
    if not train.early_stop or progress.validations_since_best < train.early_stop:
        return False
    logger.info("stopped early: no improvement in %d validations", progress.validations_since_best)
    return True


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


def _shown(options: InputOptions | None) -> str:
    return safe_repr(options.model_dump(mode="json")) if options else "not there"


def _check_resumable(save_dir: Path, config: Config, labels: list[str] | None, same_videos: bool) -> None:
    """Checks that model, training settings and data are those of the run to resume."""
    old = load_config(save_dir / CONFIG_FILE)
    problems = []
    for section, new, before in (("MODEL", config.model, old.model), ("TRAIN", config.train, old.train)):
        old_values = before.model_dump()
        for key, value in new.model_dump(exclude=type(new).keys(Key.RESUMABLE)).items():
            if value != old_values.get(key):
                problems.append(
                    f"{section}.{key}: {safe_repr(value)}, but the run to resume has "
                    f"{safe_repr(old_values.get(key))}"
                )
    for name in sorted(config.inputs.keys() | old.inputs.keys()):
        options, before = config.inputs.get(name), old.inputs.get(name)
        if options != before:
            problems.append(f"INPUTS.{name}: {_shown(options)}, but the run to resume has {_shown(before)}")
    if problems:
        problems[-1] += f"; give --config={save_dir / CONFIG_FILE}, or start a new run without --resume"
        raise one_error(ConfigError, problems)
    beside = save_dir / LABELS_FILE
    if labels is not None and beside.is_file() and labels != read_labels(beside):
        raise ConfigError(
            f"MODEL.label_file: class names differ from those of the run to resume; give {beside}, or start "
            "a new run without --resume"
        )
    if not same_videos:
        raise FileListError(
            f"{config.train.filelist}: differs from the list of the run in {save_dir}; "
            "start a new run without --resume, from its weights with --pretrain"
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


def _warn_about_few_steps(train: TrainSection, steps_per_epoch: int, num_samples: int) -> None:
    """Logs a warning if a run is too short to learn much, as with shipped configs and small lists."""
    total = steps_per_epoch * train.epoch
    if train.optimizer == "lbfgs" or train.min_steps or total >= FEW_STEPS or train.pretrain:
        return
    logger.warning(
        "%d samples are %d steps an epoch at TRAIN.batch_size=%d, and %d epochs are %d steps; networks need "
        "some hundreds: set TRAIN.min_steps=%d, or use configs/own_videos.yaml or `videotag fit`",
        num_samples,
        steps_per_epoch,
        train.batch_size,
        train.epoch,
        total,
        ENOUGH_STEPS,
    )


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
