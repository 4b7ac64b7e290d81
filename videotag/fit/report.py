"""What `videotag fit` decided and measured, as a page and as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.fit.choice import RULE
from videotag.fit.learning_curve import MIN_VIDEOS, CurvePoint
from videotag.fit.result import ClassRow, FitResult
from videotag.reports.tags_report import template
from videotag.system.atomic import write_text

_WIDTH, _HEIGHT, _MARGIN = 560, 280, 44  # pixels of the picture
_MAX_CLASSES = 200  # rows in the page, the worst first


def result_text(result: FitResult) -> str:
    """The table of candidates, the scores on the test set and the advice, for a terminal.

    Args:
        result: Result of the fit.
    """
    name_width = max(len(one.name) for one in result.comparison.judged) + 2
    lines = [f"  {'candidate':<{name_width}}{'held-out mAP':>13}{'90 % interval':>17}{'top-1':>8}"]
    for one in result.comparison.judged:
        mark = "*" if one.name == result.comparison.chosen.name else " "
        interval = f"{one.low:.3f} to {one.high:.3f}"
        lines.append(
            f"{mark} {one.name:<{name_width}}{one.mean_ap:>13.3f}{interval:>17}{one.hit_at_one:>8.3f}"
        )
    lines += [f"  {name}: left out, {why}" for name, why in result.comparison.skipped.items()]
    lines.append(f"\n{'test set, ' + str(result.num_test) + ' videos':<{name_width + 2}}")
    for score in result.test:
        interval = f"{score.low:.3f} to {score.high:.3f}"
        lines.append(
            f"  {score.name:<{name_width}}{score.mean_ap:>13.3f}{interval:>17}{score.hit_at_one:>8.3f}"
        )
    lines += [f"\n{note}" for note in [*_forecast_lines(result), *result.notes]]
    return "\n".join(lines)


def use_command(result: FitResult, folder: Path) -> str:
    """The command that uses the tagger: `tag`, or `predict` if it was made of features.

    Args:
        result: Result of the fit.
        folder: Folder of the fit.
    """
    command = "tag new.mp4" if result.has_extractor else "predict --filelist=new.list"
    return f"videotag {command} --weights={shlex.quote(str(folder))}"


def write_fit_report(path: Path, result: FitResult, *, folder: Path) -> None:
    """Writes the page.

    Args:
        path: The HTML file to write.
        result: Result of the fit.
        folder: Folder of the fit, for the commands in the page.

    Raises:
        OutputError: The file cannot be written.
    """
    classes = sorted(result.classes, key=_by_precision)
    page = template("fit_report.html.j2").render(
        title=f"Tagger {folder.name}",
        quoted=shlex.quote(str(folder)),
        use=use_command(result, folder),
        result=result,
        rule=RULE,
        notes=[*_forecast_lines(result), *result.notes],
        chart=_chart(result.comparison.curve, result.comparison.expected),
        classes=classes[:_MAX_CLASSES],
        num_hidden=max(0, len(classes) - _MAX_CLASSES),
    )
    write_text(path, page)


def _by_precision(row: ClassRow) -> float:
    return -1.0 if row.average_precision is None else row.average_precision


def _forecast_lines(result: FitResult) -> list[str]:
    comparison = result.comparison
    if len(comparison.curve) < 2:
        return [f"no learning curve: it needs {MIN_VIDEOS} training videos, and time"]
    if comparison.expected is None:
        return []
    score, low, high = comparison.expected
    return [
        f"twice the videos would give {comparison.curve_candidate} a held-out mAP of about {score:.2f} "
        f"({low:.2f} to {high:.2f}); now {comparison.curve[-1].score:.2f}"
    ]


def _chart(curve: Sequence[CurvePoint], expected: tuple[float, float, float] | None) -> dict[str, Any] | None:
    """Coordinates in pixels of the learning curve's picture; None for fewer than two points."""
    if len(curve) < 2:
        return None
    points = [(p.num_videos, p.score, p.score - p.error, p.score + p.error) for p in curve]
    if expected is not None:
        points.append((2 * curve[-1].num_videos, *expected))
    counts = np.log([point[0] for point in points])
    lowest = max(0.0, float(np.floor(min(point[2] for point in points) * 10) / 10))
    highest = min(1.0, float(np.ceil(max(point[3] for point in points) * 10) / 10))
    highest = max(highest, lowest + 0.1)

    def x(count: float) -> float:
        share = (np.log(count) - counts[0]) / max(counts[-1] - counts[0], 1e-9)
        return float(round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1))

    def y(score: float) -> float:
        share = (min(max(score, lowest), highest) - lowest) / (highest - lowest)
        return float(round(_HEIGHT - _MARGIN - share * (_HEIGHT - 2 * _MARGIN), 1))

    drawn = [
        {"x": x(n), "y": y(score), "low": y(low), "high": y(high), "videos": n, "score": f"{score:.3f}"}
        for n, score, low, high in points
    ]
    measured = drawn[: len(curve)]
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "margin": _MARGIN,
        "points": measured,
        "expected": drawn[-1] if expected is not None else None,
        "line": " ".join(f"{p['x']},{p['y']}" for p in measured),
        "ticks": [
            {"y": y(value), "text": f"{value:.1f}"} for value in np.arange(lowest, highest + 0.01, 0.1)
        ],
    }
