"""What --resume restores, and which settings of a run may change with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from videotag.config import Config, load_config
from videotag.errors import ConfigError, FileListError, one_error
from videotag.inference.parallel import broadcast, is_main
from videotag.labels import read_labels, write_labels
from videotag.safe_text import safe_repr
from videotag.sections import InputOptions, Key
from videotag.system.atomic import write_text
from videotag.training.last_layer_solver import LastLayerSolver
from videotag.training.learner import Learner
from videotag.training.run_state import Checkpoint, load_checkpoint, load_newest
from videotag.weights import CONFIG_FILE, LABELS_FILE

logger = logging.getLogger(__name__)


def with_resolved_auto(config: Config, run_config: Config) -> Config:
    """The config of a resumed run in which "auto" is replaced by what the run chose.

    Args:
        config: Config to resume with.
        run_config: Config that the run recorded.
    """
    keys = [key for key in ("learning_rate", "weight_decay") if getattr(config.train, key) == "auto"]
    return config.with_train(**{key: getattr(run_config.train, key) for key in keys})


def resume_run(
    config: Config,
    found: Checkpoint,
    learner: Learner | LastLayerSolver,
    steps_per_epoch: int,
    *,
    labels: list[str] | None,
) -> None:
    """Restores the learner, updates the run's config and labels, and logs where the run resumes.

    Args:
        config: Config to resume with, see check_resumable.
        found: Checkpoint of the run, whose weights the network already has.
        learner: Learner of the run.
        steps_per_epoch: Number of steps per epoch.
        labels: Class names to resume with; None keeps the file of the run.

    Raises:
        OutputError: A file cannot be written.
    """
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


def newest_checkpoint(save_dir: Path, name: str) -> Checkpoint | None:
    """The checkpoint to resume from, the same in every process; None if there is none.

    Args:
        save_dir: Folder of the run.
        name: Name of the model.
    """
    found = load_newest(save_dir, name) if is_main() else None
    path = broadcast(found.weights_path if found else None)
    return found if is_main() or path is None else load_checkpoint(path)


def _shown(options: InputOptions | None) -> str:
    return safe_repr(options.model_dump(mode="json")) if options else "not there"


def check_resumable(save_dir: Path, config: Config, labels: list[str] | None, same_videos: bool) -> None:
    """Checks that model, training settings and data are those of the run to resume.

    Args:
        save_dir: Folder of the run.
        config: Config to resume with.
        labels: Class names to resume with; None if unknown.
        same_videos: Whether the training list is that of the run.

    Raises:
        ConfigError: Settings or class names differ; one line per difference.
        FileListError: The training list differs.
    """
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
    if config.train.schedule == "cosine" and config.train.epoch != old.train.epoch:
        problems.append(
            f"TRAIN.epoch: {config.train.epoch}, but the run to resume has {old.train.epoch}, at which its "
            "cosine schedule ends"
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
