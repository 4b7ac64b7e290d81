"""Scores, differences with intervals, and tables of tools/benchmark/small_sets.py.

Shapes: N test clips, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from small_set_pools import Problem

from videotag.formats.filelist import ListEntry
from videotag.metrics import hit_at_one, mean_ap
from videotag.registry import Task

BASELINE = "baseline"
BEST, LAST = "best", "last"
NUM_RESAMPLES = 400
INTERVAL = (2.5, 97.5)  # percentiles

Score: TypeAlias = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Lists:
    """A problem with the split of a seed, as a contestant gets it.

    Attributes:
        problem: The problem.
        seed: Seed of the split and of the contestant.
        folder: Folder of train.list, test.list and labels.txt.
        train: Paths and class ids to train on.
        test: Paths and class ids to test on.
        groups: Group of each clip to train on.
        test_groups: Group of each clip to test on.
    """

    problem: Problem
    seed: int
    folder: Path
    train: list[ListEntry]
    test: list[ListEntry]
    groups: list[str]
    test_groups: list[str]

    @property
    def test_labels(self) -> np.ndarray:
        """Labels (N, C) in {0, 1} of the clips to test on."""
        return multi_hot(self.test, len(self.problem.labels))


@dataclass(frozen=True)
class Outcome:
    """What a contestant achieved with the split of a seed.

    Attributes:
        scores: Scores (N, C) of the clips to test on.
        seconds: Wall time of training and prediction.
        chosen: Names of the models that `fit` chose; empty for other contestants.
    """

    scores: list[list[float]]
    seconds: float = 0.0
    chosen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Mean difference of two contestants' scores over the seeds, with its interval.

    Attributes:
        mean: Mean difference, above 0 if the first contestant is better.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


def summarize(lists: Sequence[Lists], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """The scores of a problem by contestant and seed, and their differences.

    Args:
        lists: Problem with the split of each seed.
        outcomes: Contestant -> outcome of each seed; those that failed are missing.
    """
    problem, first = lists[0].problem, lists[0]
    contestants = {}
    for name, found in outcomes.items():
        scored = [(np.array(one.scores), own.test_labels) for one, own in zip(found, lists, strict=True)]
        contestants[name] = {
            "mean_ap": [mean_ap(scores, labels) for scores, labels in scored],
            "top1": [hit_at_one(scores, labels) for scores, labels in scored],
            "seconds": [one.seconds for one in found],
            "chosen": [one.chosen for one in found],
        }
    differences = {}
    for name, reference in comparisons(list(outcomes)):
        pairs = [
            (np.array(one.scores), np.array(other.scores))
            for one, other in zip(outcomes[name], outcomes[reference], strict=True)
        ]
        labels, groups = [own.test_labels for own in lists], [own.test_groups for own in lists]
        interval = difference(pairs, labels, groups, score=score_of(problem.task))
        differences[f"{name} - {reference}"] = asdict(interval)
    return {
        "name": problem.name,
        "about": problem.about,
        "task": problem.task,
        "num_classes": len(problem.labels),
        "num_train": len(first.train),
        "num_test": len(first.test),
        "num_test_groups": len(set(first.test_groups)),
        "contestants": contestants,
        "differences": differences,
    }


def score_of(task: Task) -> Score:
    """The score by which contestants are compared, a function of scores (N, C) and labels (N, C)."""
    return mean_ap if task == "multi_label" else hit_at_one


def difference(
    scores: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: Sequence[np.ndarray],
    groups: Sequence[Sequence[str]],
    *,
    score: Score,
    num_resamples: int = NUM_RESAMPLES,
) -> Difference:
    """Mean difference of two contestants over the seeds, with a bootstrap interval.

    A resample draws groups with replacement, the same for all seeds, whose test clips overlap.

    Args:
        scores: Per seed, the scores (N, C) of both contestants.
        labels: Per seed, the labels (N, C).
        groups: Per seed, the group of each of the N clips.
        score: Score of scores (N, C) and labels (N, C).
        num_resamples: Number of resamples.
    """
    names = sorted({group for own in groups for group in own})
    index = {name: number for number, name in enumerate(names)}
    members = [np.array([index[group] for group in own]) for own in groups]  # (N,) each

    def mean_difference(counts: np.ndarray) -> float:
        gains = []
        for (first, second), own, member in zip(scores, labels, members, strict=True):
            rows = np.repeat(np.arange(len(own)), counts[member])
            gains.append(score(first[rows], own[rows]) - score(second[rows], own[rows]))
        return float(np.mean(gains))

    rng = np.random.default_rng(0)
    share = np.full(len(names), 1 / len(names))
    resampled = [mean_difference(rng.multinomial(len(names), share)) for _ in range(num_resamples)]
    low, high = np.percentile(resampled, INTERVAL)
    return Difference(mean_difference(np.ones(len(names), np.int64)), float(low), float(high))


def total(results: Sequence[Mapping[str, Any]], name: str, reference: str) -> dict[str, Any]:
    """On how many problems a contestant is at least as good as another one, and by how much on average.

    Args:
        results: Results of `summarize`; problems on which one of both failed do not count.
        name: Contestant.
        reference: The other contestant.
    """
    key = f"{name} - {reference}"
    found = [result["differences"][key] for result in results if key in result["differences"]]
    return {
        "num_problems": len(found),
        "num_not_worse": sum(one["high"] >= 0 for one in found),
        "num_better": sum(one["low"] > 0 for one in found),
        "mean_difference": float(np.mean([one["mean"] for one in found])) if found else None,
    }


def total_text(name: str, reference: str, numbers: Mapping[str, Any]) -> str:
    """The line below the table for a comparison."""
    if not numbers["num_problems"]:
        return f"{name} - {reference}: no results"
    return (
        f"{name} >= {reference} within its interval on {numbers['num_not_worse']} of "
        f"{numbers['num_problems']} problems, better on {numbers['num_better']}; "
        f"mean difference {numbers['mean_difference']:+.3f}"
    )


def table(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The results as a Markdown table, means over seeds; a dash for a contestant that failed.

    Args:
        results: Results of `summarize`.
        names: Contestants, in the order of the columns.
    """
    differences = [f"{name} - {reference}" for name, reference in comparisons(names)]
    rows = [[
        "problem", "task", "classes", "train", "test",
        *(f"{name}: mAP / top-1" for name in names),
        *differences,
        *(["fit chose"] if "fit" in names else []),
        f"seconds: {', '.join(names)}",
    ]]  # fmt: skip
    rows.append(["---"] * len(rows[0]))
    for result in results:
        found = result["contestants"]
        rows.append([
            result["name"], result["task"].split("_")[0],
            *(str(result[key]) for key in ("num_classes", "num_train", "num_test")),
            *(_scores_text(found.get(name)) for name in names),
            *(_difference_text(result["differences"].get(key)) for key in differences),
            *([_chosen_text(found.get("fit"))] if "fit" in names else []),
            ", ".join(f"{np.mean(found[name]['seconds']):.0f}" if name in found else "-" for name in names),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def comparisons(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a contestant and its reference: the baseline, and for "best" also "last"."""
    pairs = [(name, BASELINE) for name in names if name != BASELINE]
    return [pair for pair in [*pairs, (BEST, LAST)] if set(pair) <= set(names)]


def _scores_text(found: Mapping[str, Any] | None) -> str:
    return f"{np.mean(found['mean_ap']):.3f} / {np.mean(found['top1']):.3f}" if found else "-"


def _difference_text(one: Mapping[str, float] | None) -> str:
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" if one else "-"


def _chosen_text(found: Mapping[str, Any] | None) -> str:
    """The models that were chosen, each choice once, by seed."""
    return "; ".join(dict.fromkeys(" + ".join(names) for names in found["chosen"])) if found else "-"


def multi_hot(entries: Sequence[ListEntry], num_classes: int) -> np.ndarray:
    """Labels (N, C) int64 in {0, 1} of N entries.

    Args:
        entries: Paths and class ids.
        num_classes: Number of classes C.
    """
    labels = np.zeros((len(entries), num_classes), np.int64)
    for row, entry in zip(labels, entries, strict=True):
        row[list(entry.label_ids)] = 1
    return labels
