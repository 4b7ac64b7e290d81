"""Options and result of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videotag.fit.choice import CandidateResult
from videotag.fit.learning_curve import CurvePoint
from videotag.fit.samples import TEST_SHARE
from videotag.registry import Task


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit.

    Attributes:
        save_dir: Folder of everything that is written.
        task: Task; None follows from the labels.
        extractor_weights: Weights of the first stage; None takes OWN_EXTRACTOR if it exists, else the
            built-in one.
        extractor_config: Config of the first stage; None takes the one beside its weights.
        seg_num: Number of frames per video; None follows from the durations.
        test_share: Share of the test set, unless the source fixes it.
        seconds: Time limit in seconds; None for none.
        seed: Seed of splits, folds and training.
        overwrite: Whether outputs of other programs or sources in save_dir may be replaced.
    """

    save_dir: Path
    task: Task | None = None
    extractor_weights: str | None = None
    extractor_config: str | None = None
    seg_num: int | None = None
    test_share: float = TEST_SHARE
    seconds: float | None = None
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class ClassRow:
    """A class in the report.

    Attributes:
        name: Name of the class.
        num_train, num_test: Number of its videos.
        average_precision: On the held-out folds; None without a positive video.
    """

    name: str
    num_train: int
    num_test: int
    average_precision: float | None


@dataclass(frozen=True)
class TestScore:
    """Score of a model on the test set.

    Attributes:
        name: Name of the model.
        mean_ap: mAP.
        low, high: Interval of 90 % of the mAP, by a bootstrap over groups.
        hit_at_one: Share of the videos whose highest score is one of their labels.
    """

    name: str
    mean_ap: float
    low: float
    high: float
    hit_at_one: float


@dataclass(frozen=True)
class FitResult:
    """What a fit decided and measured, for the report.

    Attributes:
        task: Task.
        names: Class names.
        num_train, num_test, num_groups: Number of videos of both sets, and of training groups.
        num_failed: Number of videos that cannot be read and were left out.
        num_folds: Number of folds of the cross-validation.
        judged: Candidates in order of complexity, with held-out scores.
        seconds: Duration of each candidate's cross-validation, by name.
        skipped: Candidates that were left out, and why.
        chosen: The chosen candidate or mean.
        test: Scores on the test set: of the chosen model, then of the baseline if it is another one.
        curve: Held-out mAP of the best candidate among the chosen, by number of training videos.
        of_curve: Name of that candidate.
        expected: Expected held-out mAP with twice the videos, with an interval; None if unknown.
        classes: A row per class.
        notes: Lines of advice.
        metrics: Metrics of the chosen model on the test set, as `eval` writes them.
    """

    task: Task
    names: list[str]
    num_train: int
    num_test: int
    num_groups: int
    num_failed: int
    num_folds: int
    judged: list[CandidateResult]
    seconds: dict[str, float]
    skipped: dict[str, str]
    chosen: CandidateResult
    test: list[TestScore]
    curve: list[CurvePoint]
    of_curve: str
    expected: tuple[float, float, float] | None
    classes: list[ClassRow]
    notes: list[str]
    metrics: dict[str, Any]
