"""Measures `videotag fit` on small tagging problems, against plain logistic regression.

    python tools/benchmark/small_sets.py --out_dir=data/small_sets
    python tools/benchmark/small_sets.py --problems=tiny,order --contestants=baseline,fit --seeds=1 --time=2m

Makes the problems of small_set_problems.py once, in some minutes. For each problem and seed, the contestants
get the same lists:
  baseline  logistic regression over mean and standard deviation of the frames, standardized; its penalty is
            chosen by cross-validation
  recipe    `videotag train` with configs/own_videos.yaml, or own_videos-single.yaml for one class per clip
  fit       `videotag fit`, told which clips belong together
  best      the recipe with a fifth of the training clips as VALID: the checkpoint called best
  last      that run's last checkpoint
The score of a problem is mAP if its clips have several tags, else top-1. Each difference has a 95 % interval,
from a bootstrap over the groups of the test clips. All numbers: OUT_DIR/results.json.
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
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from order_tags import call
from run_tool import run_tool
from small_set_clips import word_problem
from small_set_pools import Problem, Sample, make_problem, split_samples, write_split
from small_set_problems import PROBLEMS
from small_set_scores import (
    BASELINE,
    BEST,
    LAST,
    Lists,
    Outcome,
    comparisons,
    multi_hot,
    summarize,
    table,
    total,
    total_text,
)

from videotag.cli import arguments, values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, OutputError, VideotagError
from videotag.formats.feature_files import read_features
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.registry import Task
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json
from videotag.training.folds import group_folds
from videotag.training.logistic import LogisticRegression, probabilities

#: Shipped config by task.
RECIPES: dict[Task, str] = {"multi_label": "own_videos.yaml", "single_label": "own_videos-single.yaml"}
_SMALLEST_STD = 1e-6  # a statistic that is constant in training is only centered
logger = logging.getLogger("videotag.tools.small_sets")  # which commands show

Scores: TypeAlias = tuple[np.ndarray, list[str]]  # scores (N, C), and the models that `fit` chose


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
    totals = {pair: total(results, *pair) for pair in comparisons(names)}
    content = {
        "options": {**vars(args), "out_dir": str(args.out_dir)},
        "problems": results,
        "totals": {" - ".join(pair): numbers for pair, numbers in totals.items()},
    }
    write_text(args.out_dir / "results.json", json.dumps(content, indent=2, default=str) + "\n")
    print(table(results, names))
    for pair, numbers in totals.items():
        print(f"\n{total_text(*pair, numbers)}")
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


def baseline(lists: Lists, run_dir: Path, time_limit: str | None) -> Scores:
    """Scores (N, C) of logistic regression; run_dir and time_limit are not used.

    It is plain on purpose: unlike that of `fit`, it does not limit standardized values.
    """
    problem = lists.problem
    num_classes = len(problem.labels)
    labels = multi_hot(lists.train, num_classes)
    if problem.task == "single_label":
        labels = labels.argmax(axis=1)
    x = pooled(lists.train)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std < _SMALLEST_STD] = 1
    regression = LogisticRegression((x - mean) / std, labels, task=problem.task, num_classes=num_classes)
    folds = group_folds(lists.groups, labels, seed=lists.seed)
    weights, biases = regression.fit(regression.cross_validate(folds).penalty)
    return probabilities((pooled(lists.test) - mean) / std @ weights + biases, problem.task), []


def recipe(lists: Lists, run_dir: Path, time_limit: str | None) -> Scores:
    """Scores of the recipe, trained on all training clips; time_limit is not used."""
    _train_recipe(lists, run_dir / "model", lists.folder / "train.list")
    return predicted(lists, run_dir / "model", run_dir), []


def best(lists: Lists, run_dir: Path, time_limit: str | None) -> Scores:
    """Scores of the checkpoint of the recipe that is best on a fifth of the clips; time_limit is not used."""
    return predicted(lists, _validated(lists, run_dir), run_dir), []


def last(lists: Lists, run_dir: Path, time_limit: str | None) -> Scores:
    """Scores of the last checkpoint of the run of `best`; time_limit is not used."""
    model_dir = _validated(lists, run_dir.with_name(BEST))
    return predicted(lists, model_dir / "LatentTransformer.pdparams", run_dir), []


def _validated(lists: Lists, run_dir: Path) -> Path:
    """Folder of the recipe with a fifth of the training clips as VALID, which is trained if it is missing."""
    model_dir = run_dir / "model"
    if not model_dir.exists():
        labels = multi_hot(lists.train, len(lists.problem.labels))
        held_out = set(group_folds(lists.groups, labels, seed=lists.seed)[0].tolist())
        for split, is_held_out in (("train", False), ("val", True)):
            part = [entry for index, entry in enumerate(lists.train) if (index in held_out) == is_held_out]
            write_filelist(run_dir / f"{split}.list", part)
        valid = f"--set=VALID.filelist={run_dir / 'val.list'}"
        _train_recipe(lists, model_dir, run_dir / "train.list", valid)
    return model_dir


def _train_recipe(lists: Lists, model_dir: Path, filelist: Path, *flags: str) -> None:
    call(
        "train", f"--config=configs/{RECIPES[lists.problem.task]}", f"--save_dir={model_dir}",
        f"--label_file={lists.folder / 'labels.txt'}", f"--set=TRAIN.filelist={filelist}",
        f"--set=TRAIN.seed={lists.seed}", "--log_interval=1000",
        *flags,
    )  # fmt: skip


def fit(lists: Lists, run_dir: Path, time_limit: str | None) -> Scores:
    """Scores (N, C) of the models that `videotag fit` chooses, and their names."""
    fit_dir = run_dir / "fit"
    limit = [f"--time={time_limit}"] if time_limit else []
    call(
        "fit", str(lists.folder), f"--save_dir={fit_dir}", f"--seed={lists.seed}", "--group_by=folder", *limit
    )  # fmt: skip
    decided = yaml.safe_load((fit_dir / "fit.yaml").read_text(encoding="utf-8"))
    return predicted(lists, fit_dir, run_dir), [str(name) for name in decided["chosen"]]


CONTESTANTS: Mapping[str, Callable[[Lists, Path, str | None], Scores]] = {
    BASELINE: baseline,
    "recipe": recipe,
    "fit": fit,
    BEST: best,
    LAST: last,
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


if __name__ == "__main__":
    exit_with(main())
