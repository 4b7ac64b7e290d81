"""fit.yaml, and the advice that follows from the numbers.

Shapes: N videos, C classes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from videotag import __version__
from videotag.fit.bootstrap import mean_ap_of
from videotag.fit.choice import RULE, CandidateResult
from videotag.fit.cross_validation import HeldOutScores
from videotag.fit.features import UsedExtractor
from videotag.fit.labeled_set import LabeledSet
from videotag.fit.options import FitOptions
from videotag.fit.result import ClassRow, FitResult
from videotag.inference.fit_folder import FIT_FILE
from videotag.system.atomic import write_text

REPORT_FILE = "report.html"
FEW_VIDEOS = 10  # of a class, below which its numbers mean little
_IMBALANCE = 10.0  # ratio of the largest to the smallest class
_MAX_NAMED = 10


def class_rows(train_set: LabeledSet, test_set: LabeledSet, scores: np.ndarray) -> list[ClassRow]:
    """A row per class.

    Args:
        train_set: Training set of N videos and C classes.
        test_set: Test set with the same classes.
        scores: Held-out probabilities (N, C) of the training set.
    """
    y, z = train_set.one_hot, test_set.one_hot
    rows = []
    for index, name in enumerate(train_set.names):
        own = slice(index, index + 1)
        ap = mean_ap_of(scores[:, own], y[:, own]) if y[:, index].any() else None
        rows.append(ClassRow(name, int(y[:, index].sum()), int(z[:, index].sum()), ap))
    return rows


def advice(classes: Sequence[ClassRow], num_train: int) -> list[str]:
    """Lines on classes that need more videos.

    Args:
        classes: A row per class.
        num_train: Number of training videos.
    """
    lines = []
    absent = [row.name for row in classes if not row.num_train]
    few = [row for row in classes if 0 < row.num_train < FEW_VIDEOS]
    untested = [row.name for row in classes if row.num_train and not row.num_test]
    if absent:
        lines.append(f"no training video of {_join_names(absent)}: these tags cannot be learned; add videos")
    if few:
        shown = [f"{row.name} ({row.num_train})" for row in few]
        lines.append(
            f"fewer than {FEW_VIDEOS} training videos of {_join_names(shown)}: add videos of these first"
        )
    if untested:
        lines.append(f"no test video of {_join_names(untested)}: the test scores leave them out")
    counts = [row.num_train for row in classes if row.num_train]
    if counts and max(counts) > _IMBALANCE * min(counts) and len(counts) > 1:
        lines.append(
            f"classes have {min(counts)} to {max(counts)} training videos: rare ones are scored low; add "
            "videos, or train with TRAIN.class_weights=balanced"
        )
    everywhere = [row.name for row in classes if row.num_train == num_train]
    if everywhere:
        lines.append(f"every training video has {_join_names(everywhere)}: add videos without it")
    return lines


def _join_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} others" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def write_record(
    result: FitResult, folders: Sequence[Path], extractor: UsedExtractor | None, options: FitOptions
) -> None:
    """Writes fit.yaml, last of all files that a tagger needs; only the report comes after it.

    Args:
        result: Result of the fit.
        folders: Folders of the chosen models, inside save_dir.
        extractor: First stage; None for features.
        options: Options of the fit, with save_dir.

    Raises:
        OutputError: The file cannot be written.
    """
    folder = options.save_dir
    models = [path.relative_to(folder).as_posix() for path in folders]
    comparison = result.comparison
    record: dict[str, Any] = {"made_by": f"videotag {__version__}"}
    if extractor is not None:
        record["extractor"] = {"weights": extractor.weights, "seg_num": extractor.seg_num}
    record |= {
        "models": models,
        "task": result.task,
        "num_classes": len(result.names),
        "num_train": result.num_train,
        "num_test": result.num_test,
        "num_groups": result.num_groups,
        "seed": options.seed,
        "folds": comparison.num_folds,
        "rule": RULE,
        "chosen": list(comparison.chosen.members),
        "candidates": [_candidate(one, comparison.held_out.get(one.name)) for one in comparison.judged],
        "left_out": dict(comparison.skipped),
        "test": [
            {"name": t.name, "mean_ap": round(t.mean_ap, 4), "interval": [round(t.low, 4), round(t.high, 4)]}
            for t in result.test
        ],
        "commands": _commands(folder.as_posix(), models, extractor),
    }
    write_text(folder / FIT_FILE, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def _candidate(one: CandidateResult, held_out: HeldOutScores | None) -> dict[str, Any]:
    """A candidate, or a mean of several, which has no duration of its own."""
    return {
        "name": one.name,
        "score": round(one.mean_ap, 4),
        "interval": [round(one.low, 4), round(one.high, 4)],
        "top1": round(one.hit_at_one, 4),
        **({"seconds": round(held_out.seconds, 1)} if held_out else {}),
        **({"note": one.note} if one.note else {}),
    }


def _commands(folder: str, models: Sequence[str], extractor: UsedExtractor | None) -> list[str]:
    """Commands that repeat the steps by hand."""
    commands = []
    if extractor is not None:
        weights = extractor.name or f"{folder}/{extractor.weights}"
        commands.append(
            f"videotag extract --weights={shlex.quote(weights)} --set INFER.seg_num={extractor.seg_num} "
            f"--precision={extractor.precision} "
            f"--filelist={shlex.quote(f'{folder}/videos.list')} "
            f"--save_dir={shlex.quote(f'{folder}/features')}"
        )
    for model in models:
        config = f"{folder}/candidates/{model.rpartition('/')[2]}.yaml"
        commands.append(
            f"videotag train --config={shlex.quote(config)} "
            f"--label_file={shlex.quote(f'{folder}/labels.txt')} "
            f"--save_dir={shlex.quote(f'{folder}/{model}')}"
        )
    commands.append(
        f"videotag eval --weights={shlex.quote(folder)} "
        f"--filelist={shlex.quote(f'{folder}/test.list')} --save_dir={shlex.quote(f'{folder}/eval')}"
    )
    return commands
