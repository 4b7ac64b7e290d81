"""Checkpoints for resuming an interrupted training run, with digests to detect damage.

A checkpoint consists of {stem}.pdparams (weights), {stem}.pdopt (optimizer state, as arrays) and a card,
{stem}.json, with the progress and the sha256 of both files. The card is written last and completes the
checkpoint, so that after a kill at any moment the previous one is intact. The stem is {model}_epoch{N} after
epoch N, and {model}_epoch{N}_step{K} after K steps of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, ConfigDict, Field, TypeAdapter, ValidationError

from videotag.errors import OutputError, WeightsError, one_error
from videotag.formats.train_log import LOG_FILE
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.outputs import FileOutput, check_files
from videotag.safe_text import escaped
from videotag.system.atomic import write_text
from videotag.system.download import file_digest
from videotag.system.failures import FAILURES_FILE, FAILURES_HEAD
from videotag.system.json_text import MAX_CARD_BYTES, read_json
from videotag.training.checkpoint import PROBE_FOLDER
from videotag.weights import CONFIG_FILE, LABELS_FILE

_STEM = re.compile(r"(?P<name>.*)_epoch(?P<epoch>\d+)(_step(?P<step>\d+))?", re.DOTALL)
_Natural = Annotated[int, Field(ge=0, strict=True)]
STATES_KEPT = 2  # so that there is a fallback if the last one is damaged
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        epoch: Number of completed epochs.
        seed: Seed of the run.
        videos: Digest of the training list.
        valid: Digest of the validation list.
        best_epoch: Index of the last epoch whose validation metric is within one standard error of the
            highest so far; None before the first validation.
        best: Metrics of that epoch.
        highest: Highest validation metric so far.
        validations_since_best: Number of validations since it was reached.
        step: Number of completed steps of the epoch in progress.
        probe: Validation metric of the linear probe before the first step; None if it was not measured.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    epoch: _Natural
    seed: _Natural
    videos: str
    valid: str
    best_epoch: _Natural | None = None
    best: dict[str, float | int | None] | None = None
    highest: float | None = None
    validations_since_best: Annotated[
        _Natural, Field(validation_alias=AliasChoices("validations_since_best", "without_gain"))
    ] = 0  # cards of version 0.1.0 say without_gain
    step: _Natural = 0
    probe: float | None = None


_PROGRESS = TypeAdapter(Progress)


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint on disk.

    Attributes:
        weights_path: Path of the network's weights.
        arrays: Content of the .pdopt file, arrays by name.
        progress: Progress recorded in the card.
    """

    weights_path: Path
    arrays: dict[str, np.ndarray]
    progress: Progress


def checkpoint_path(save_dir: Path, name: str, epoch: int, step: int = 0) -> Path:
    """The path of a checkpoint's weights.

    Args:
        save_dir: Folder of the run.
        name: Name of the model.
        epoch: Index of the epoch, from 0.
        step: Number of completed steps of the epoch; 0 for the checkpoint after the epoch.
    """
    return save_dir / f"{name}_epoch{epoch}{f'_step{step}' if step else ''}.pdparams"


def save_state(weights_path: Path, arrays: Mapping[str, np.ndarray], progress: Progress) -> None:
    """Completes a checkpoint whose weights are already written.

    Args:
        weights_path: Path of the weights.
        arrays: State of the learner, arrays of any shape by name.
        progress: Progress of the run.

    Raises:
        OutputError: A file cannot be written.
    """
    state_path, card_path = _companions(weights_path)
    write_pdparams(state_path, arrays)
    digests = {path.name: file_digest(path) for path in (weights_path, state_path)}
    write_text(card_path, json.dumps({**asdict(progress), "sha256": digests}, indent=2) + "\n")


def load_newest(save_dir: Path, name: str) -> Checkpoint | None:
    """The newest intact checkpoint; None if there is none.

    Logs a warning for every newer one that is damaged.

    Args:
        save_dir: Folder of the run.
        name: Name of the model.
    """
    for weights_path in _checkpoints(save_dir, name):
        try:
            return load_checkpoint(weights_path)
        except (WeightsError, OSError) as error:
            text = " ".join(str(error).split())
            logger.warning("%s: damaged (%s); falling back to the previous one", weights_path, text)
    if save_dir.is_dir() and _weights(save_dir, name):
        logger.warning(
            "%s: no checkpoint can be resumed; starting a new run (--pretrain uses its weights)", save_dir
        )
    return None


def load_checkpoint(weights_path: Path) -> Checkpoint:
    """The checkpoint with these weights.

    Args:
        weights_path: Path of the weights, beside which the other files are.

    Raises:
        WeightsError, OSError: The checkpoint is damaged.
    """
    state_path, card_path = _companions(weights_path)
    card = read_json(
        card_path,
        error=WeightsError,
        remedy="resume from the previous checkpoint",
        max_bytes=MAX_CARD_BYTES,
    )
    digests = card.pop("sha256", None) if isinstance(card, dict) else None
    for path in (weights_path, state_path):
        if not isinstance(digests, dict) or file_digest(path) != digests.get(path.name):
            raise WeightsError(f"{path}: its sha256 is not the recorded one")
    return Checkpoint(weights_path, read_weights(state_path), _progress(card, card_path))


def _progress(card: dict[str, Any], path: Path) -> Progress:
    """The progress in a card, validated because no digest covers the card."""
    try:
        progress: Progress = _PROGRESS.validate_python(card)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{path}: {escaped(where)}: {first['msg']}") from None
    stem = _STEM.fullmatch(path.stem)
    step = int(stem["step"] or 0) if stem else 0
    if stem is None or (progress.epoch, progress.step) != (int(stem["epoch"]) + (step == 0), step):
        raise WeightsError(f"{path}: epoch {progress.epoch}, step {progress.step} do not match its name")
    if progress.best_epoch is not None and progress.best_epoch >= progress.epoch:
        raise WeightsError(f"{path}: best_epoch {progress.best_epoch} of {progress.epoch} epochs")
    return progress


def delete_old_checkpoints(save_dir: Path, name: str, *, keep: int | None, best: Path | None) -> None:
    """Deletes states that resuming does not need and, if `keep` is set, weights of older checkpoints.

    Checkpoints in the middle of an epoch are deleted completely when the epoch ends.

    Args:
        save_dir: Folder of the run.
        name: Name of the model.
        keep: Number of checkpoints to keep; None keeps the weights of all epochs.
        best: Path of weights that are always kept.
    """
    newest_first = _weights(save_dir, name)
    stay = (
        newest_first if _is_mid_epoch(newest_first[0]) else [p for p in newest_first if not _is_mid_epoch(p)]
    )
    stay = stay[: STATES_KEPT if keep is None else keep]
    for weights_path in (path for path in newest_first if path not in stay):
        state_path, card_path = _companions(weights_path)
        card_path.unlink(missing_ok=True)  # first, because a card implies that the others exist
        state_path.unlink(missing_ok=True)
        if (keep is not None or _is_mid_epoch(weights_path)) and weights_path != best:
            weights_path.unlink(missing_ok=True)


def check_save_dir(save_dir: Path, name: str) -> None:
    """Checks that a run would not overwrite files that no earlier run wrote, such as the user's config.

    Args:
        save_dir: Folder of the run.
        name: Name of the model.

    Raises:
        OutputError: All such files, a line each.
    """
    names = _models(save_dir)
    of_a_run = bool(names) or (save_dir / LOG_FILE).exists()
    cards = [] if of_a_run else [CONFIG_FILE, LABELS_FILE]
    weights = [] if name in names else [f"{name}.pdparams", f"{name}_best.pdparams"]
    problems = [
        f"{save_dir / file}: exists, but no training wrote it; move it away, or choose another --save_dir"
        for file in (*cards, *weights)
        if os.path.lexists(save_dir / file)
    ]
    if problems:
        raise one_error(OutputError, problems)
    check_files([FileOutput(save_dir / FAILURES_FILE, "--save_dir", FAILURES_HEAD)], inputs=())


def move_earlier_run(save_dir: Path, *, resume: bool = False) -> Path | None:
    """Moves an earlier run's files to a subfolder earlier-N, so that two runs do not mix in one folder.

    Weights that no run wrote, without an epoch in their name, are not moved.

    Args:
        save_dir: Folder of the run.
        resume: Whether the run was to be resumed; a log without checkpoints is then continued.

    Returns:
        The subfolder; None if there is nothing to move.

    Raises:
        OutputError: The files cannot be moved.
    """
    names = _models(save_dir)
    if not names and (resume or not (save_dir / LOG_FILE).exists()):
        return None  # a job restarted before its first checkpoint continues its log
    files = [save_dir / file for file in (CONFIG_FILE, LABELS_FILE, LOG_FILE, FAILURES_FILE)]
    for name in names:
        files += [save_dir / f"{name}.pdparams", save_dir / f"{name}_best.pdparams"]
        files += [path for each in _weights(save_dir, name) for path in (each, *_companions(each))]
    files = [path for path in files if path.is_file()]
    if (save_dir / PROBE_FOLDER).is_dir():
        files.append(save_dir / PROBE_FOLDER)
    number = 1
    while (folder := save_dir / f"earlier-{number}").exists():
        number += 1
    try:
        folder.mkdir()
        for path in files:
            path.rename(folder / path.name)
    except OSError as error:
        raise OutputError(
            f"{save_dir}: cannot move the earlier run aside ({error.strerror}); choose another --save_dir"
        ) from error
    return folder


def _models(save_dir: Path) -> set[str]:
    """Names of the models with checkpoints in a folder."""
    stems = [_STEM.fullmatch(path.stem) for path in save_dir.glob("*_epoch*.pdparams")]
    return {stem["name"] for stem in stems if stem}


def _companions(weights_path: Path) -> tuple[Path, Path]:
    return weights_path.with_suffix(".pdopt"), weights_path.with_suffix(".json")


def _weights(save_dir: Path, name: str) -> list[Path]:
    """Paths of the weights of all checkpoints, newest first."""
    numbered = []
    for path in save_dir.glob(f"{name}_epoch*.pdparams"):
        found = _STEM.fullmatch(path.stem)
        if found and found["name"] == name:
            epoch, step = int(found["epoch"]), int(found["step"] or 0)
            numbered.append(((epoch, step) if step else (epoch + 1, 0), path))
    return [path for _, path in sorted(numbered, reverse=True)]


def _is_mid_epoch(weights_path: Path) -> bool:
    found = _STEM.fullmatch(weights_path.stem)
    return bool(found and found["step"])


def _checkpoints(save_dir: Path, name: str) -> list[Path]:
    """Paths of the weights of all checkpoints with a card, newest first."""
    return [path for path in _weights(save_dir, name) if _companions(path)[1].is_file()]
