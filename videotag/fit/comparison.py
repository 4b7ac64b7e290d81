"""Compares the candidates on the training set: cross-validation, choice, learning curve.

The cross-validation of each candidate and the learning curve are kept under a digest of data, folds and
settings, so that an interrupted run continues.
Shapes: N training videos, C classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videotag.config import Config
from videotag.fit.bootstrap import mean_ap_of
from videotag.fit.candidates import CANDIDATES, Candidate, write_config
from videotag.fit.choice import CandidateResult, select_candidate
from videotag.fit.cross_validation import HeldOutScores, OutOfTimeError, cross_validate
from videotag.fit.labeled_set import TrainingSet
from videotag.fit.learning_curve import CurvePoint, forecast, learning_curve
from videotag.fit.options import FitOptions
from videotag.sections import Key
from videotag.system.atomic import open_atomic
from videotag.training.run import DivergedError

_FOLDER = "cross_validation"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """Held-out results of all candidates, the selected one and its learning curve.

    Attributes:
        num_folds: Number of folds of the cross-validation.
        held_out: Candidate -> result of its cross-validation.
        skipped: Candidate -> why it was left out.
        judged: Candidates and means of several, in order of complexity.
        chosen: The chosen one.
        curve: Held-out mAP of the best candidate among the chosen, by number of training videos.
        curve_candidate: Name of that candidate.
        expected: Its expected held-out mAP with twice the videos of the last point of the curve, and the ends
            of its interval; None if unknown.
    """

    num_folds: int
    held_out: Mapping[str, HeldOutScores]
    skipped: Mapping[str, str]
    judged: list[CandidateResult]
    chosen: CandidateResult
    curve: list[CurvePoint]
    curve_candidate: str
    expected: tuple[float, float, float] | None

    def chosen_scores(self) -> np.ndarray:
        """Held-out probabilities (N, C) of the chosen candidate or mean."""
        scores: np.ndarray = np.mean([self.held_out[name].scores for name in self.chosen.members], axis=0)
        return scores


def compare_candidates(
    train_set: TrainingSet, options: FitOptions, *, seconds_left: Callable[[], float]
) -> Comparison:
    """Results of the candidates for which there is time, and the selected one or mean of several.

    Args:
        train_set: Training set.
        options: Options of the fit; configs and scores are written below its save_dir.
        seconds_left: Function that returns the time in seconds that is left for this.

    Raises:
        ConfigError: A value of a candidate's config is out of its range.
        OutputError: A file cannot be written.
    """
    configs = {candidate.name: write_config(candidate, train_set, options) for candidate in CANDIDATES}
    held_out, skipped = _cross_validate_all(configs, train_set, options.save_dir, seconds_left)
    scores = {name: each.scores for name, each in held_out.items()}
    judged, chosen = select_candidate(scores, train_set, seed=options.seed)
    logger.info("chosen: %s, held-out mAP %.3f", chosen.name, chosen.mean_ap)
    by_score = {one.name: one.mean_ap for one in judged}
    best = max(chosen.members, key=lambda name: by_score[name])
    candidate = next(candidate for candidate in CANDIDATES if candidate.name == best)
    curve = _learning_curve(
        candidate, configs[best], held_out[best], train_set, options, seconds_left=seconds_left
    )
    return Comparison(
        num_folds=len(train_set.folds),
        held_out=held_out,
        skipped=skipped,
        judged=judged,
        chosen=chosen,
        curve=curve,
        curve_candidate=best,
        expected=forecast(curve, 2 * curve[-1].num_videos),
    )


def _cross_validate_all(
    configs: Mapping[str, Config],
    train_set: TrainingSet,
    save_dir: Path,
    seconds_left: Callable[[], float],
) -> tuple[dict[str, HeldOutScores], dict[str, str]]:
    """Name -> held-out scores of the candidates for which there is time; and name -> why one was left out."""
    held_out: dict[str, HeldOutScores] = {}
    skipped: dict[str, str] = {}
    for candidate in CANDIDATES:
        config = configs[candidate.name]
        path = save_dir / _FOLDER / f"{candidate.folder}.npz"
        digest = _digest(config, train_set)
        kept = _read(path, digest)
        if kept is not None:
            result = _held_out_scores(kept)
        else:
            new = _cross_validate_in_time(candidate, config, train_set, seconds_left)
            if isinstance(new, str):
                skipped[candidate.name] = new
                continue
            result = new
            penalty = np.nan if result.weight_decay is None else result.weight_decay
            _write(path, digest, scores=result.scores, seconds=result.seconds, weight_decay=penalty)
        held_out[candidate.name] = result
        score = mean_ap_of(result.scores, train_set.one_hot)
        logger.info("%s: held-out mAP %.3f, %.0f s", candidate.name, score, result.seconds)
    for name, why in skipped.items():
        logger.warning("%s is left out: %s", name, why)
    return held_out, skipped


def _cross_validate_in_time(
    candidate: Candidate, config: Config, train_set: TrainingSet, seconds_left: Callable[[], float]
) -> HeldOutScores | str:
    """The result of a candidate, or why it is left out; linear ones never are for lack of time."""
    if not candidate.is_linear and seconds_left() <= 0:
        return "no time was left"
    try:
        return cross_validate(candidate, config, train_set, seconds_left=seconds_left)
    except DivergedError:
        return "its scores are not finite"
    except OutOfTimeError:
        return "it would take longer than the time that was left"


def _learning_curve(
    candidate: Candidate,
    config: Config,
    held_out: HeldOutScores,
    train_set: TrainingSet,
    options: FitOptions,
    *,
    seconds_left: Callable[[], float],
) -> list[CurvePoint]:
    """The learning curve of a candidate; that of an earlier run unless time cut it short."""
    path = options.save_dir / _FOLDER / "learning_curve.npz"
    digest = _digest(config, train_set)
    kept = _read(path, digest)
    if kept is not None:
        return [CurvePoint(int(n), float(score), float(error)) for n, score, error in kept["points"]]
    curve = learning_curve(
        candidate, config, held_out, train_set, seconds_left=seconds_left, seed=options.seed
    )
    if len(curve) > 1:
        _write(path, digest, points=np.array([astuple(point) for point in curve]))
    return curve


def _digest(config: Config, train_set: TrainingSet) -> str:
    """SHA-256 of what decides the held-out scores and the learning curve of a candidate."""
    settings = config.sections(lambda cls: cls.keys(Key.LOCAL))  # without lists, which name save_dir
    text = [train_set.digest, [fold.tolist() for fold in train_set.folds], settings]
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def _held_out_scores(kept: Mapping[str, np.ndarray]) -> HeldOutScores:
    """The result whose arrays were kept; a penalty of NaN stands for None."""
    penalty = float(kept["weight_decay"])
    return HeldOutScores(kept["scores"], float(kept["seconds"]), None if np.isnan(penalty) else penalty)


def _write(path: Path, digest: str, **arrays: Any) -> None:
    with open_atomic(path, "wb") as file:
        np.savez(file, digest=np.array(digest), **arrays)


def _read(path: Path, digest: str) -> dict[str, np.ndarray] | None:
    """The arrays of an earlier run; None if there are none of the same data, folds and config."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays) if str(arrays["digest"]) == digest else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
