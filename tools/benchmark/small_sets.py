"""Measures `videotag fit` on small tagging problems, against plain logistic regression.

    python tools/benchmark/small_sets.py --out_dir=data/small_sets
    python tools/benchmark/small_sets.py --problems=tiny,order --contestants=baseline,fit --seeds=1 --time=2m

Makes the problems of small_set_problems.py once, in some minutes. For each problem and seed, the contestants
get the same lists:
  baseline  logistic regression over mean and standard deviation of the frames, standardized; its penalty is
            chosen by cross-validation
  recipe    `videotag train --config=configs/own_videos.yaml`, validated on a fifth of the training clips
  fit       `videotag fit`, told which clips belong together
The score of a problem is mAP if its clips have several tags, else top-1. Each difference from the baseline
has a 95 % interval, from a bootstrap over the groups of the test clips. All numbers: OUT_DIR/results.json.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from order_tags import call
from run_tool import run_tool
from small_set_problems import (
    PROBLEMS,
    Problem,
    Sample,
    make_problem,
    split_samples,
    word_problem,
    write_split,
)

from videotag.cli import arguments, values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, OutputError, VideotagError
from videotag.formats.feature_files import read_features
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.metrics import hit_at_one, mean_ap
from videotag.registry import Task
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json
from videotag.training.folds import group_folds
from videotag.training.logistic import LogisticRegression, probabilities

BASELINE = "baseline"
NUM_RESAMPLES = 400
INTERVAL = (2.5, 97.5)  # percentiles
_SMALLEST_STD = 1e-6  # a statistic that is constant in training is only centered
logger = logging.getLogger("videotag.tools.small_sets")  # which commands show

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
        return _multi_hot(self.test, len(self.problem.labels))


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


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark, prints its tables and writes OUT_DIR/results.json; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="small_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out_dir", default="data/small_sets", type=Path, help="default: %(default)s")
    parser.add_argument(
        "--problems",
        help=f"comma-separated (default: all): {', '.join(p.name for p in PROBLEMS)}, and words with --words",
    )
    parser.add_argument("--contestants", default=",".join(CONTESTANTS), help="default: %(default)s")
    parser.add_argument(
        "--seeds", type=values.natural, default=3, help="number of seeds (default: %(default)s)"
    )
    parser.add_argument("--time", help="time limit of each `videotag fit`, such as 2m (default: that of fit)")
    parser.add_argument("--words", type=Path, help="folder of sign-language videos, one per word")
    arguments.add_switch(parser, "--resume", help="keep what earlier runs with the same --time achieved")
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    names = _selected(args.contestants, list(CONTESTANTS), "--contestants")
    problems = select_problems(args.problems, args.words)
    results, failures = [], []
    for problem in problems:
        folder = args.out_dir / "problems" / problem.name
        samples = make_problem(problem, folder)
        lists = [write_lists(problem, samples, folder, seed) for seed in range(args.seeds)]
        outcomes: dict[str, list[Outcome]] = {}
        for name in names:
            try:
                outcomes[name] = [
                    outcome(name, one, args.out_dir / "runs", time_limit=args.time, resume=args.resume)
                    for one in lists
                ]
            except VideotagError as error:
                failures.append(f"{problem.name}: {name}: {error}")
        results.append(summarize(lists, outcomes))
    totals = {name: total(results, name) for name in rivals_of(names)}
    content = {"options": {**vars(args), "out_dir": str(args.out_dir)}, "problems": results, "totals": totals}
    write_text(args.out_dir / "results.json", json.dumps(content, indent=2, default=str) + "\n")
    print(table(results, names))
    for name, numbers in totals.items():
        print(f"\n{total_text(name, numbers)}")
    for failure in failures:
        logger.error("%s", failure)
    return EXIT_FAILURES if failures else EXIT_OK


def select_problems(names: str | None, words: Path | None) -> list[Problem]:
    """The problems that --problems names; all by default.

    Raises:
        ConfigError: There is no such problem.
        VideotagError: The folder of words has no videos.
    """
    problems = {problem.name: problem for problem in [*PROBLEMS, *([word_problem(words)] if words else [])]}
    return [problems[name] for name in _selected(names, list(problems), "--problems")]


def write_lists(problem: Problem, samples: Sequence[Sample], folder: Path, seed: int) -> Lists:
    """Writes the lists of a problem for a seed into FOLDER/seedN."""
    parts = split_samples(problem, samples, seed)
    out_dir = folder / f"seed{seed}"
    entries = write_split(problem, parts, folder, out_dir)
    groups = {split: [sample.group for sample in part] for split, part in parts.items()}
    return Lists(problem, seed, out_dir, entries["train"], entries["test"], groups["train"], groups["test"])


# ---------------------------------------------------------------- contestants


def outcome(
    name: str, lists: Lists, runs_dir: Path, *, time_limit: str | None = None, resume: bool = False
) -> Outcome:
    """Runs a contestant, and keeps the outcome beside its run.

    Args:
        name: Key of CONTESTANTS.
        lists: Problem and split.
        runs_dir: Folder of all runs.
        time_limit: Value of --time of `videotag fit`; None for its default.
        resume: Whether to return the outcome that an earlier call with the same time limit has kept.

    Raises:
        VideotagError: The contestant failed.
    """
    run_dir = runs_dir / lists.problem.name / f"seed{lists.seed}" / name
    path = run_dir.with_suffix(".json")
    if resume and path.exists():
        kept = read_json(path, error=OutputError, remedy="delete it")
        if kept["time_limit"] == time_limit:
            return Outcome(**kept["outcome"])
    shutil.rmtree(run_dir, ignore_errors=True)
    started = time.monotonic()
    scores, chosen = CONTESTANTS[name](lists, run_dir, time_limit)
    found = Outcome(scores.tolist(), round(time.monotonic() - started, 2), chosen)
    write_text(path, json.dumps({"time_limit": time_limit, "outcome": asdict(found)}) + "\n")
    return found


def baseline(lists: Lists, run_dir: Path, time_limit: str | None) -> tuple[np.ndarray, list[str]]:
    """Scores (N, C) of logistic regression; run_dir and time_limit are not used."""
    problem = lists.problem
    num_classes = len(problem.labels)
    labels = _multi_hot(lists.train, num_classes)
    if problem.task == "single_label":
        labels = labels.argmax(axis=1)
    x = pooled(lists.train)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std < _SMALLEST_STD] = 1
    regression = LogisticRegression((x - mean) / std, labels, task=problem.task, num_classes=num_classes)
    folds = group_folds(lists.groups, labels, seed=lists.seed)
    weights, biases = regression.fit(regression.cross_validate(folds).penalty)
    return probabilities((pooled(lists.test) - mean) / std @ weights + biases, problem.task), []


def recipe(lists: Lists, run_dir: Path, time_limit: str | None) -> tuple[np.ndarray, list[str]]:
    """Scores (N, C) of configs/own_videos.yaml; time_limit is not used."""
    held_out = set(
        group_folds(lists.groups, _multi_hot(lists.train, len(lists.problem.labels)), seed=lists.seed)[
            0
        ].tolist()
    )
    for split, is_held_out in (("train", False), ("val", True)):
        part = [entry for index, entry in enumerate(lists.train) if (index in held_out) == is_held_out]
        write_filelist(run_dir / f"{split}.list", part)
    call(
        "train", "--config=configs/own_videos.yaml", f"--save_dir={run_dir / 'model'}",
        f"--label_file={lists.folder / 'labels.txt'}", f"--set=TRAIN.filelist={run_dir / 'train.list'}",
        f"--set=VALID.filelist={run_dir / 'val.list'}", f"--set=TRAIN.seed={lists.seed}",
        f"--set=MODEL.task={lists.problem.task}", "--log_interval=1000",
    )  # fmt: skip
    return predicted(lists, run_dir / "model", run_dir), []


def fit(lists: Lists, run_dir: Path, time_limit: str | None) -> tuple[np.ndarray, list[str]]:
    """Scores (N, C) of the models that `videotag fit` chooses, and their names."""
    fit_dir = run_dir / "fit"
    limit = [f"--time={time_limit}"] if time_limit else []
    call(
        "fit", str(lists.folder), f"--save_dir={fit_dir}", f"--seed={lists.seed}", "--group_by=folder", *limit
    )  # fmt: skip
    decided = yaml.safe_load((fit_dir / "fit.yaml").read_text(encoding="utf-8"))
    return predicted(lists, fit_dir, run_dir), [str(name) for name in decided["chosen"]]


CONTESTANTS: Mapping[str, Callable[[Lists, Path, str | None], tuple[np.ndarray, list[str]]]] = {
    BASELINE: baseline,
    "recipe": recipe,
    "fit": fit,
}


def predicted(lists: Lists, weights: Path, run_dir: Path) -> np.ndarray:
    """Scores (N, C) by `videotag predict` of the clips to test on."""
    call(
        "predict", f"--weights={weights}", f"--filelist={lists.folder / 'test.list'}",
        f"--save_dir={run_dir}", f"--infer_topk={len(lists.problem.labels)}", "--log_interval=1000",
    )  # fmt: skip
    predictions = json.loads((run_dir / "predictions.json").read_text(encoding="utf-8"))
    rows = {
        one["video_id"]: {tag["class_id"]: tag["probability"] for tag in one["tags"]} for one in predictions
    }
    ids = range(len(lists.problem.labels))
    return np.array([[rows[entry.path][label_id] for label_id in ids] for entry in lists.test])


def pooled(entries: Sequence[ListEntry]) -> np.ndarray:
    """Mean and standard deviation over the frames of each file, (N, 2D) float64."""
    features = [read_features(entry.path).astype(np.float64) for entry in entries]
    return np.stack([np.concatenate([x.mean(axis=0), x.std(axis=0)]) for x in features])


# ---------------------------------------------------------------- numbers


def summarize(lists: Sequence[Lists], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """The scores of a problem by contestant and seed, and the differences from the baseline.

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
    for name in rivals_of(list(outcomes)):
        pairs = [
            (np.array(one.scores), np.array(base.scores))
            for one, base in zip(outcomes[name], outcomes[BASELINE], strict=True)
        ]
        labels, groups = [own.test_labels for own in lists], [own.test_groups for own in lists]
        differences[name] = asdict(difference(pairs, labels, groups, score=score_of(problem.task)))
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


def total(results: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """On how many problems a contestant is at least as good as the baseline, and by how much on average.

    Args:
        results: Results of `summarize`.
        name: Contestant; problems on which it failed do not count.
    """
    found = [result["differences"][name] for result in results if name in result["differences"]]
    return {
        "num_problems": len(found),
        "num_not_worse": sum(one["high"] >= 0 for one in found),
        "num_better": sum(one["low"] > 0 for one in found),
        "mean_difference": float(np.mean([one["mean"] for one in found])) if found else None,
    }


def total_text(name: str, numbers: Mapping[str, Any]) -> str:
    """The line below the table for a contestant."""
    if not numbers["num_problems"]:
        return f"{name}: no results"
    return (
        f"{name} >= {BASELINE} within its interval on {numbers['num_not_worse']} of "
        f"{numbers['num_problems']} problems, better on {numbers['num_better']}; "
        f"mean difference {numbers['mean_difference']:+.3f}"
    )


def table(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The results as a Markdown table, means over seeds; a dash for a contestant that failed.

    Args:
        results: Results of `summarize`.
        names: Contestants, in the order of the columns.
    """
    rivals = rivals_of(names)
    rows = [[
        "problem", "task", "classes", "train", "test",
        *(f"{name}: mAP / top-1" for name in names),
        *(f"{name} - {BASELINE}" for name in rivals),
        *(["fit chose"] if "fit" in names else []),
        f"seconds: {', '.join(names)}",
    ]]  # fmt: skip
    rows.append(["---"] * len(rows[0]))
    for result in results:
        found, differences = result["contestants"], result["differences"]
        rows.append([
            result["name"], result["task"].split("_")[0],
            *(str(result[key]) for key in ("num_classes", "num_train", "num_test")),
            *(_scores_text(found.get(name)) for name in names),
            *(_difference_text(differences.get(name)) for name in rivals),
            *([_chosen_text(found.get("fit"))] if "fit" in names else []),
            ", ".join(f"{np.mean(found[name]['seconds']):.0f}" if name in found else "-" for name in names),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def rivals_of(names: Sequence[str]) -> list[str]:
    """The contestants that are compared with the baseline; none without the baseline."""
    return [name for name in names if name != BASELINE and BASELINE in names]


def _scores_text(found: Mapping[str, Any] | None) -> str:
    return f"{np.mean(found['mean_ap']):.3f} / {np.mean(found['top1']):.3f}" if found else "-"


def _difference_text(one: Mapping[str, float] | None) -> str:
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" if one else "-"


def _chosen_text(found: Mapping[str, Any] | None) -> str:
    """The models that were chosen, each choice once, by seed."""
    return "; ".join(dict.fromkeys(" + ".join(names) for names in found["chosen"])) if found else "-"


def _selected(names: str | None, known: Sequence[str], flag: str) -> list[str]:
    """The comma-separated names, each once; all known ones for None.

    Raises:
        ConfigError: A name is not known, or there is none.
    """
    if names is None:
        return list(known)
    selected = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    wrong = [name for name in selected if name not in known]
    if wrong or not selected:
        raise ConfigError(f"{flag}={names}: expected some of {', '.join(known)}")
    return selected


def _multi_hot(entries: Sequence[ListEntry], num_classes: int) -> np.ndarray:
    labels = np.zeros((len(entries), num_classes), np.int64)
    for row, entry in zip(labels, entries, strict=True):
        row[list(entry.label_ids)] = 1
    return labels


if __name__ == "__main__":
    exit_with(main())
