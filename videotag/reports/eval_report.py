"""HTML report of an evaluation: metrics, learning curves, classes, curves, confusions, worst mistakes.

One self-contained file: pictures are embedded, nothing is fetched, and its only script sorts the table.
Shapes: C classes.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from videotag.formats.train_log import TrainLog
from videotag.media.suffixes import VIDEO_SUFFIXES
from videotag.metrics import (
    Confusion,
    Mistakes,
    PerClass,
    PerClassTable,
    ScoreHistograms,
    frequency_groups,
)
from videotag.metrics.confusion import PairCounts
from videotag.reports.figures import (
    LINES,
    MISSING,
    can_draw,
    curves_figure,
    drawable,
    learning_figure,
    matrix_figure,
)
from videotag.reports.tags_report import template, thumbnails
from videotag.system.atomic import open_atomic, write_text

CSV_COLUMNS = ("class_id", "class_name", "average_precision", "precision", "recall", "support", "group")
CSV_HEAD = re.compile(",".join(CSV_COLUMNS) + "\n")  # start of a per-class CSV
MAX_ROWS = 100  # worst classes shown, and best classes shown
MATRIX_SIZE = 12  # rows and columns
_NUM_PAIRS = 200  # enough to fill a matrix, unless all pairs share a class


@dataclass(frozen=True)
class Observed:
    """Accumulators of one evaluation.

    Attributes:
        per_class: Average precision, precision, recall and support of every class.
        curves: Score histograms for the precision-recall curves.
        confusion: Confusion for one label per video, MissedTags for several.
        mistakes: The videos with the highest loss.
    """

    per_class: PerClass
    curves: ScoreHistograms
    confusion: PairCounts
    mistakes: Mistakes


def write_per_class(path: str | Path, table: PerClassTable, class_names: Sequence[str] | None) -> None:
    """Writes a CSV with one row per class; NaN and unknown names become empty cells.

    Args:
        path: The CSV to write.
        table: Numbers of the C classes.
        class_names: C names; None leaves the cells empty.

    Raises:
        OutputError: The file cannot be written.
    """
    with open_atomic(path, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(CSV_COLUMNS)
        groups = frequency_groups(table.support)
        for class_id, (*numbers, support, group) in enumerate(zip(*table, groups, strict=True)):
            shown = ["" if np.isnan(number) else f"{number:.6f}" for number in numbers]
            rows.writerow([class_id, class_names[class_id] if class_names else "", *shown, support, group])


def write_eval_report(
    path: str | Path,
    metrics: Mapping[str, Any],
    observed: Observed,
    *,
    class_names: Sequence[str] | None = None,
    video_root: str | Path | None = None,
    title: str = "Evaluation",
    note: str = "",
    train_logs: Mapping[str, TrainLog] | None = None,
    best_metric: str = "gap",
    baseline: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report.

    Args:
        path: The HTML file to write.
        metrics: Metric name -> number, shown as a table.
        observed: Accumulators of the same evaluation.
        class_names: C names; None shows class ids.
        video_root: Folder with the videos of the features, see find_video; None shows no thumbnails.
        title: Title of the page.
        note: Text below the title, such as the paths of the weights and the list.
        train_logs: Log of the training by the folder of its weights, for the learning curves.
        best_metric: Validation metric of the learning curves.
        baseline: Metrics of a logistic regression on the same training list, shown beside; None for none.

    Raises:
        OutputError: The file cannot be written.
    """
    table = observed.per_class.compute()
    page = template("eval_report.html.j2").render(
        title=title,
        note=note,
        learning=_learning_pictures(train_logs or {}, best_metric) if can_draw() else {},
        best_metric=best_metric,
        metrics=metrics,
        baseline=baseline,
        threshold=observed.per_class.threshold,
        num_classes=table.support.size,
        classes=_class_rows(table, class_names),
        max_rows=MAX_ROWS,
        one_label=isinstance(observed.confusion, Confusion),
        no_pictures=None if can_draw() else MISSING,
        curves=_curves_picture(observed.curves, table.support, class_names) if can_draw() else None,
        confusion=_confusion_picture(observed.confusion, table.support, class_names) if can_draw() else None,
        mistakes=list(_mistakes(observed, class_names, video_root)),
    )
    write_text(path, page)


def find_video(feature_path: str, video_root: str | Path) -> Path | None:
    """The video below video_root from which features were extracted, found by name; None if there is none.

    Features of clips/a.mp4 may lie at out/clips/a.npy, so this tries out/clips/a, clips/a and a, in that
    order, with every video suffix.
    """
    path = PurePath(os.path.normpath(feature_path))
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    for start in range(len(parts)):
        mirrored = Path(video_root, *parts[start:])
        for suffix in sorted(VIDEO_SUFFIXES):
            for spelling in (suffix, suffix.upper()):
                video = mirrored.with_suffix(spelling)
                if video.is_file():
                    return video
    return None


def _name(class_id: int, class_names: Sequence[str] | None) -> str:
    return class_names[class_id] if class_names else f"class {class_id}"


def _class_rows(table: PerClassTable, class_names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of the class table, worst first; of many classes, only the worst and best with videos."""
    order = np.argsort(table.average_precision, kind="stable")  # NaN last
    if order.size > 2 * MAX_ROWS:
        known = order[table.support[order] > 0]
        order = np.concatenate([known[:MAX_ROWS], known[MAX_ROWS:][-MAX_ROWS:]])
    return [
        {
            "id": class_id,
            "name": _name(class_id, class_names),
            "numbers": [
                None if np.isnan(column[class_id]) else float(column[class_id]) for column in table[:3]
            ],
            "support": int(table.support[class_id]),
        }
        for class_id in order.tolist()
    ]


def _curves_picture(
    curves: ScoreHistograms, support: np.ndarray, class_names: Sequence[str] | None
) -> str | None:
    """The curves of all classes together and of the most frequent ones; None if no video has a label."""
    frequent = np.argsort(-support, kind="stable")[: len(LINES)]
    class_ids = frequent[support[frequent] > 0].tolist()
    if not class_ids:
        return None
    names = drawable(class_ids, [_name(i, class_names) for i in class_ids])
    return curves_figure(curves.curve(), [curves.curve([i]) for i in class_ids], names)


def _learning_pictures(logs: Mapping[str, TrainLog], best_metric: str) -> dict[str, str]:
    """Learning curves by folder, for the logs with any number to draw."""
    pictures = {}
    for folder, log in logs.items():
        metric = {i: values[best_metric] for i, values in log.validations.items() if best_metric in values}
        if log.losses or metric:
            pictures[folder] = learning_figure(log.losses, metric, metric_name=best_metric)
    return pictures


def _confusion_picture(
    confusion: PairCounts, support: np.ndarray, class_names: Sequence[str] | None
) -> str | None:
    """The matrix of the most confused classes; None if there are no confusions."""
    pairs = confusion.pairs(_NUM_PAIRS)
    if not pairs:
        return None
    if isinstance(confusion, Confusion):
        rows = columns = _first(class_id for true, predicted, _ in pairs for class_id in (true, predicted))
        labels = {"row_label": "true class", "column_label": "predicted class"}
    else:
        rows, columns = _first(true for true, _, _ in pairs), _first(predicted for _, predicted, _ in pairs)
        labels = {"row_label": "missed true tag", "column_label": "tag predicted instead"}
    row_names, column_names = (drawable(ids, [_name(i, class_names) for i in ids]) for ids in (rows, columns))
    return matrix_figure(
        confusion.matrix(rows, columns), row_names, column_names, row_totals=support[rows], **labels
    )


def _first(class_ids: Iterable[int]) -> list[int]:
    """The first MATRIX_SIZE distinct ids."""
    return list(dict.fromkeys(class_ids))[:MATRIX_SIZE]


def _mistakes(
    observed: Observed, class_names: Sequence[str] | None, video_root: str | Path | None
) -> Iterator[dict[str, Any]]:
    """Yields the template's variables for each mistake."""
    for mistake in observed.mistakes.compute():
        true_ids = {class_id for class_id, _ in mistake.true}
        pictures, reason = _pictures(mistake.video_id, video_root)
        yield {
            "id": mistake.video_id,
            "loss": mistake.loss,
            "true": [(_name(i, class_names), probability) for i, probability in mistake.true],
            "predicted": [
                (_name(i, class_names), probability, i in true_ids) for i, probability in mistake.predicted
            ],
            "thumbnails": pictures,
            "reason": reason,
        }


def _pictures(video_id: str, video_root: str | Path | None) -> tuple[list[str], str]:
    """Thumbnails as data URLs, and the reason if there are none."""
    if video_root is None:
        return [], "No thumbnails: --video_root, the folder of the videos, was not given."
    video = find_video(video_id, video_root)
    if video is None:
        return [], f"No thumbnails: no video of this name in {video_root}."
    pictures = thumbnails(str(video))
    return pictures, "" if pictures else f"No thumbnails: {video} cannot be decoded."
