"""What a broken-off training run needs to go on: checkpoints with a digest, the newest whole one found again.

A checkpoint is {stem}.pdparams (weights), {stem}.pdopt (optimizer and the like, arrays too) and {stem}.json,
the card, with the progress and the digest of both files. The card is written last: without it there is no
checkpoint, so a kill at any moment leaves the one before. The stem is {model}_epoch{N} after an epoch, and
{model}_epoch{N}_step{K} after K steps of one.
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
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from videotag.errors import OutputError, WeightsError, one_error
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.outputs import FileOutput, check_files
from videotag.safe_text import escaped
from videotag.system.atomic import write_text
from videotag.system.download import file_digest
from videotag.system.failures import FAILURES_FILE, FAILURES_HEAD
from videotag.system.json_text import MAX_CARD_BYTES, read_json
from videotag.training.run_log import LOG_FILE
from videotag.weights import CONFIG_FILE, LABELS_FILE

_STEM = re.compile(r"(?P<name>.*)_epoch(?P<epoch>\d+)(_step(?P<step>\d+))?", re.DOTALL)
_Natural = Annotated[int, Field(ge=0, strict=True)]
STATES_KEPT = 2  # if the last one is damaged, the one before is there
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs finished.
        step: steps done of the next one.
        seed: of the run.
        videos: digest of the training list.
        valid: digest of the validation list.
        best_epoch: the one with the best validation; None before the first one.
        best: its metrics.
        without_gain: validations since then.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    epoch: _Natural
    seed: _Natural
    videos: str
    valid: str
    best_epoch: _Natural | None = None
    best: dict[str, float | int | None] | None = None
    without_gain: _Natural = 0
    step: _Natural = 0


_PROGRESS = TypeAdapter(Progress)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        weights_path: the network's weights.
        arrays: of the .pdopt file.
        progress: of the card.
    """

    weights_path: Path
    arrays: dict[str, np.ndarray]
    progress: Progress


def checkpoint_path(save_dir: Path, name: str, epoch: int, step: int = 0) -> Path:
    """The weights of a checkpoint after an epoch, counted from 0, or after the first `step` steps of it."""
    return save_dir / f"{name}_epoch{epoch}{f'_step{step}' if step else ''}.pdparams"


def save_state(weights_path: Path, arrays: Mapping[str, np.ndarray], progress: Progress) -> None:
    """Completes a checkpoint whose weights are written already.

    Raises:
        OutputError: the place cannot be written.
    """
    state_path, card_path = _companions(weights_path)
    write_pdparams(state_path, arrays)
    digests = {path.name: file_digest(path) for path in (weights_path, state_path)}
    write_text(card_path, json.dumps({**asdict(progress), "sha256": digests}, indent=2) + "\n")


def load_newest(save_dir: Path, name: str) -> Checkpoint | None:
    """The newest checkpoint whose files are whole; None if there is none.

    Warns of every newer one that is damaged.
    """
    for weights_path in _checkpoints(save_dir, name):
        try:
            return load_checkpoint(weights_path)
        except (WeightsError, OSError) as error:
            text = " ".join(str(error).split())
            logger.warning("%s: damaged (%s); going back to the one before", weights_path, text)
    if save_dir.is_dir() and _weights(save_dir, name):
        logger.warning(
            "%s: no checkpoint can be resumed, starting anew; --pretrain takes its weights", save_dir
        )
    return None


def load_checkpoint(weights_path: Path) -> Checkpoint:
    """The checkpoint of these weights.

    Raises:
        WeightsError, OSError: it is damaged.
    """
    state_path, card_path = _companions(weights_path)
    card = read_json(
        card_path,
        error=WeightsError,
        remedy="resume from the checkpoint before",
        max_bytes=MAX_CARD_BYTES,
    )
    digests = card.pop("sha256", None) if isinstance(card, dict) else None
    for path in (weights_path, state_path):
        if not isinstance(digests, dict) or file_digest(path) != digests.get(path.name):
            raise WeightsError(f"{path}: its content is not what was written")
    return Checkpoint(weights_path, read_weights(state_path), _progress(card, card_path))


def _progress(card: dict[str, Any], path: Path) -> Progress:
    """What a card says; its own text has no digest."""
    try:
        progress: Progress = _PROGRESS.validate_python(card)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{path}: {escaped(where)}: {first['msg']}") from None
    stem = _STEM.fullmatch(path.stem)
    step = int(stem["step"] or 0) if stem else 0
    if stem is None or (progress.epoch, progress.step) != (int(stem["epoch"]) + (step == 0), step):
        raise WeightsError(f"{path}: epoch {progress.epoch}, step {progress.step}: not those of its name")
    if progress.best_epoch is not None and progress.best_epoch >= progress.epoch:
        raise WeightsError(f"{path}: best_epoch {progress.best_epoch} of {progress.epoch} epochs")
    return progress


def drop_old(save_dir: Path, name: str, *, keep: int | None, best: Path | None) -> None:
    """Deletes the states that are not needed to go on and, with `keep`, the weights of older checkpoints.

    Of checkpoints within an epoch nothing is left when the epoch is done.

    Args:
        save_dir: of the run.
        name: of the model.
        keep: checkpoints that stay; None keeps the weights of all epochs.
        best: weights that stay in any case.
    """
    newest_first = _weights(save_dir, name)
    stay = newest_first if _in_epoch(newest_first[0]) else [p for p in newest_first if not _in_epoch(p)]
    stay = stay[: STATES_KEPT if keep is None else keep]
    for weights_path in (path for path in newest_first if path not in stay):
        state_path, card_path = _companions(weights_path)
        card_path.unlink(missing_ok=True)  # first: a card promises the others
        state_path.unlink(missing_ok=True)
        if (keep is not None or _in_epoch(weights_path)) and weights_path != best:
            weights_path.unlink(missing_ok=True)


def check_room(save_dir: Path, name: str) -> None:
    """Refuses a folder in which a run would replace files that are of no earlier run, such as its own config.

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
        f"{save_dir / file}: exists and belongs to no training in this folder; move it away, or choose "
        "another --save_dir"
        for file in (*cards, *weights)
        if os.path.lexists(save_dir / file)
    ]
    if problems:
        raise one_error(OutputError, problems)
    check_files([FileOutput(save_dir / FAILURES_FILE, "--save_dir", FAILURES_HEAD)], inputs=())


def set_aside(save_dir: Path, *, resume: bool = False) -> Path | None:
    """Moves an earlier run's files in save_dir into a folder earlier-N in it; None if there are none.

    Two runs in one folder, of one model or of two, would leave weights beside another's config and labels.
    Weights that no run wrote, being of no epoch, stay where they are.
    """
    names = _models(save_dir)
    if not names and (resume or not (save_dir / LOG_FILE).exists()):
        return None  # a job that is started again and again before its first checkpoint goes on in its log
    files = [save_dir / file for file in (CONFIG_FILE, LABELS_FILE, LOG_FILE)]
    for name in names:
        files += [save_dir / f"{name}.pdparams", save_dir / f"{name}_best.pdparams"]
        files += [path for each in _weights(save_dir, name) for path in (each, *_companions(each))]
    files = [path for path in files if path.is_file()]
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
    """The names of the models that have checkpoints in a folder."""
    stems = [_STEM.fullmatch(path.stem) for path in save_dir.glob("*_epoch*.pdparams")]
    return {stem["name"] for stem in stems if stem}


def _companions(weights_path: Path) -> tuple[Path, Path]:
    return weights_path.with_suffix(".pdopt"), weights_path.with_suffix(".json")


def _weights(save_dir: Path, name: str) -> list[Path]:
    """The weights of all checkpoints, the newest first."""
    numbered = []
    for path in save_dir.glob(f"{name}_epoch*.pdparams"):
        found = _STEM.fullmatch(path.stem)
        if found and found["name"] == name:
            epoch, step = int(found["epoch"]), int(found["step"] or 0)
            numbered.append(((epoch, step) if step else (epoch + 1, 0), path))
    return [path for _, path in sorted(numbered, reverse=True)]


def _in_epoch(weights_path: Path) -> bool:
    found = _STEM.fullmatch(weights_path.stem)
    return bool(found and found["step"])


def _checkpoints(save_dir: Path, name: str) -> list[Path]:
    """The weights of all checkpoints that have a card, the newest first."""
    return [path for path in _weights(save_dir, name) if _companions(path)[1].is_file()]
