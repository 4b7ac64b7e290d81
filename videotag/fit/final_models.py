"""The final networks of a fit: trained on the whole training set, measured on the test set.

Shapes: n test videos, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.config import Config
from videotag.datasets.order import ordered_groups
from videotag.fit.bootstrap import Score, bootstrap_rows, resampled_mean_ap, score_with_interval
from videotag.fit.candidates import BASELINE, CANDIDATES, write_config
from videotag.fit.choice import CandidateResult
from videotag.fit.cross_validation import EVALUATION_BATCH, HeldOutScores
from videotag.fit.labeled_set import LabeledSet, TrainingSet
from videotag.fit.options import FitOptions
from videotag.inference.data import read_section_list
from videotag.inference.evaluate import evaluate
from videotag.inference.trained_model import TrainedModel
from videotag.system.atomic import write_text
from videotag.training.train import train_model


def train_candidates(
    names: Iterable[str],
    held_out: Mapping[str, HeldOutScores],
    train_set: TrainingSet,
    options: FitOptions,
) -> dict[str, Path]:
    """Trains candidates on the whole training set; keeps or resumes what an earlier run did of the same.

    Args:
        names: Names of the candidates.
        held_out: Candidate -> result of its cross-validation, which chose the penalty of a linear one.
        train_set: Training set, whose list is in save_dir.
        options: Options of the fit.

    Returns:
        Candidate -> folder of its checkpoint.

    Raises:
        OutputError: A file cannot be written, or another run writes to a folder.
        DivergedError: The loss of a candidate is not finite.
    """
    by_name, folders = {candidate.name: candidate for candidate in CANDIDATES}, {}
    for name in dict.fromkeys(names):
        candidate = by_name[name]
        config = write_config(candidate, train_set, options, weight_decay=held_out[name].weight_decay)
        folders[name] = options.save_dir / "models" / candidate.folder
        _train(config, folders[name], train_set)
    return folders


def _train(config: Config, folder: Path, train_set: TrainingSet) -> None:
    entries = read_section_list(config, "TRAIN", labels="optional")
    # A run is resumed with the same paths only; and below these, the features may have changed.
    text = json.dumps([train_set.digest, config.to_yaml(), [entry.path for entry in entries]])
    digest = hashlib.sha256(text.encode()).hexdigest()
    record = folder.with_suffix(".digest")
    is_same = record.is_file() and record.read_bytes() == digest.encode()
    write_text(record, digest)  # first, so that a kill resumes the right run
    train_model(
        config,
        entries,
        [],
        save_dir=folder,
        labels=train_set.names,
        resume=is_same,
        valid_interval=0,
        log_interval=100,
    )


def score_on_test(
    chosen: CandidateResult, folders: Mapping[str, Path], test_set: LabeledSet, *, seed: int
) -> tuple[list[Score], dict[str, Any]]:
    """Scores of the chosen model and of the baseline, if it is another one, on the test set.

    Args:
        chosen: The chosen candidate or mean.
        folders: Candidate -> folder of its checkpoint, see train_candidates.
        test_set: Test set of n videos.
        seed: Seed of the bootstrap.

    Returns:
        The scores, that of the chosen model first; and its metrics as `eval` writes them.

    Raises:
        WeightsError: A checkpoint cannot be loaded.
    """
    score, metrics = _score_one(chosen.name, [folders[name] for name in chosen.members], test_set, seed)
    if chosen.name == BASELINE:
        return [score], metrics
    return [score, _score_one(BASELINE, [folders[BASELINE]], test_set, seed)[0]], metrics


def _score_one(
    name: str, folders: Sequence[Path], test_set: LabeledSet, seed: int
) -> tuple[Score, dict[str, Any]]:
    """Score and metrics of a model, or of the mean of several."""
    model = TrainedModel.load(folders)
    kept = _Scores()
    batches = test_set.dataset.batches(ordered_groups(len(test_set), EVALUATION_BATCH))
    metrics = evaluate(model.run, batches, task=test_set.task, observers=[kept])
    scores, y = np.concatenate(kept.scores).astype(np.float64), test_set.one_hot  # (n, C)
    samples = bootstrap_rows(test_set.groups, y.size, seed=seed)
    return score_with_interval(name, scores, y, resampled_mean_ap(scores, y, samples)), metrics


class _Scores:
    """Observer that keeps all scores."""

    def __init__(self) -> None:
        self.scores: list[np.ndarray] = []

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Adds scores (N, C)."""
        self.scores.append(scores)

    def merge(self, other: _Scores, /) -> None:
        """Adds those of another one."""
        self.scores += other.scores
