"""Result of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videotag.fit.bootstrap import Score
from videotag.fit.comparison import Comparison
from videotag.registry import Task


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
class FitResult:
    """What a fit decided and measured, for the report.

    Attributes:
        task: Task.
        names: Class names.
        num_train, num_test, num_groups: Number of videos of both sets, and of training groups.
        num_failed: Number of videos that cannot be read and were left out.
        has_extractor: Whether features were extracted from videos; False if the source holds features.
        comparison: Candidates with held-out scores, and the chosen one.
        test: Scores on the test set: of the chosen model, then of the baseline if it is another one.
        classes: A row per class.
        notes: Lines of advice.
        metrics: Metrics of the chosen model on the test set, as `eval` writes them.
    """

    task: Task
    names: Sequence[str]
    num_train: int
    num_test: int
    num_groups: int
    num_failed: int
    has_extractor: bool
    comparison: Comparison
    test: list[Score]
    classes: list[ClassRow]
    notes: list[str]
    metrics: dict[str, Any]
