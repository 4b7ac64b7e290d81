"""Figures of an evaluation as PNG data URLs: learning curves, precision-recall curves, a confusion matrix.

matplotlib is imported when a figure is drawn, and used through its objects only: no global state changes.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from videotag.metrics import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISSING = "no pictures: matplotlib is not installed; run: pip install 'videotag[report]'"
BASE_FONT = "DejaVu Sans"  # shipped with matplotlib
DOTS_PER_INCH = 110
FEW_POINTS = 20  # curves up to this size get dots: a single point has no line, many dots hide the dashes
MAX_NAME = 24  # characters
_MAX_POINTS = 1000  # of a loss curve; matplotlib cannot draw lines of a million points
_SMOOTHED_SHARE = 20  # the smoothed loss is the mean over a 20th of the curve
#: Okabe and Ito's color-blind-safe colors, without the two that are faint on white; line styles for prints
#: in gray.
LINES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", "-"),
    ("#E69F00", "--"),
)
_WHOLE = (0.0, 0.0, 1.0, 1.0)  # left, bottom, width, height as fractions of the figure


class Names(NamedTuple):
    """Class names that a figure can draw.

    Attributes:
        texts: One text per class; `class 17` if no font has its characters.
        fonts: Font families, tried in this order for every character.
    """

    texts: list[str]
    fonts: list[str]


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def curves_figure(micro: Curve, curves: Sequence[Curve], names: Names) -> str:
    """Draws the precision-recall curve of all classes together, and those of some classes.

    Args:
        micro: Curve of all classes together.
        curves: Curves of single classes, at most len(LINES).
        names: Names of those classes, in the same order.

    Returns:
        A PNG as a data URL.
    """
    figure = _new_figure(4.8, 4.0)
    axes = figure.add_axes(_WHOLE, xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    styles = [("black", "-"), *LINES]
    for curve, (color, line) in zip([micro, *curves], styles, strict=False):
        # Steps: linear interpolation between points of a precision-recall curve is too optimistic.
        axes.plot(
            curve.recall,
            curve.precision,
            drawstyle="steps-pre",
            color=color,
            linestyle=line,
            linewidth=2.4 if curve is micro else 1.5,
            marker="." if curve.recall.size <= FEW_POINTS else None,
        )
    legend = axes.legend(
        axes.lines,
        [f"{i}" for i in range(len(axes.lines))],  # set below: a name may start with _ or hold $
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )
    for text, name in zip(legend.get_texts(), ["all classes (micro)", *names.texts], strict=True):
        text.set(text=name, parse_math=False, fontfamily=names.fonts)
    return _data_url(figure)


def learning_figure(losses: Mapping[int, float], metric: Mapping[int, float], *, metric_name: str) -> str:
    """Draws the training loss over steps and a validation metric over epochs; a panel without data is empty.

    Args:
        losses: Training loss by step.
        metric: Validation metric by epoch, counted from 0.
        metric_name: Name of the metric.

    Returns:
        A PNG as a data URL.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(9.0, 3.0)
    left = figure.add_axes((0.0, 0.0, 0.45, 1.0), xlabel="step", ylabel="training loss")
    right = figure.add_axes((0.57, 0.0, 0.43, 1.0), xlabel="epoch", ylabel=f"validation {metric_name}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    steps, values = _means(losses)
    window = max(1, values.size // _SMOOTHED_SHARE)
    smoothed = np.convolve(values, np.full(window, 1 / window), "valid") if values.size else values
    middle = (window - 1) // 2
    left.plot(steps, values, color=LINES[0][0], alpha=0.3, linewidth=1)
    left.plot(steps[middle : middle + smoothed.size], smoothed, color=LINES[0][0], linewidth=2)
    right.plot(*_sorted(metric), color=LINES[1][0], marker=".", linewidth=1.5)
    return _data_url(figure)


def _sorted(values: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """The keys (n,), ascending, and their values (n,) as float64."""
    keys = np.array(sorted(values), np.float64)
    return keys, np.array([values[int(key)] for key in keys], np.float64)


def _means(values: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean key and mean value of at most _MAX_POINTS groups of neighbors, each (n,) float64."""
    keys, numbers = _sorted(values)
    count = min(keys.size, _MAX_POINTS)
    if not count:
        return keys, numbers
    keys, numbers = (np.array([part.mean() for part in np.array_split(x, count)]) for x in (keys, numbers))
    return keys, numbers


def matrix_figure(
    counts: np.ndarray,
    rows: Names,
    columns: Names,
    *,
    row_totals: np.ndarray,
    row_label: str,
    column_label: str,
) -> str:
    """Draws a matrix of counts, darker for a larger share of the row's total; zeros stay empty.

    A shade by count would show frequent classes as the most confused ones.

    Args:
        counts: (R, K) int >= 0, with R and K at least 1.
        rows: R names.
        columns: K names.
        row_totals: (R,) int >= 0, number of videos of each row's class, of which counts are a part.
        row_label: Axis label of the rows.
        column_label: Axis label of the columns.

    Returns:
        A PNG as a data URL.
    """
    num_rows, num_columns = counts.shape
    figure = _new_figure(0.55 * num_columns, 0.42 * num_rows)
    axes = figure.add_axes(_WHOLE, xlabel=column_label, ylabel=row_label)
    totals = np.broadcast_to(row_totals[:, None], counts.shape)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)  # (R, K)
    darkest = shares.max() or 1.0
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    axes.set_xticks(range(num_columns), columns.texts, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_rows), rows.texts)
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        for text in axis.get_ticklabels():
            text.set(parse_math=False, fontfamily=names.fonts)
    for row, column in np.argwhere(counts):
        color = "white" if shares[row, column] > 0.55 * darkest else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=8)
    return _data_url(figure)


def drawable(class_ids: Sequence[int], names: Sequence[str]) -> Names:
    """Class names that a figure can draw with the installed fonts.

    Args:
        class_ids: Ids, shown instead of a name with a character that no font has.
        names: Names of those classes, "" if unknown; names over MAX_NAME characters are shortened.
    """
    short = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…" for name in names]
    base = _characters_of(BASE_FONT)
    missing = {character for name in short for character in name} - base
    font = _best_font(missing) if missing else None
    known = base | (_characters_of(font) if font else set())
    texts = [
        name if name and name.isprintable() and known.issuperset(name) else f"class {class_id}"
        for class_id, name in zip(class_ids, short, strict=True)
    ]
    return Names(texts, [BASE_FONT, font] if font else [BASE_FONT])


def _best_font(characters: Iterable[str]) -> str | None:
    """The installed family with most of the characters, ties broken by name; None if none has any."""
    from matplotlib.font_manager import fontManager

    wanted = set(characters)
    families = {
        font.name
        for font in fontManager.ttflist
        # findfont warns about families without a regular font. Last Resort draws a box for every character.
        if font.style == "normal" and font.weight == 400 and not font.name.startswith("Last Resort")
    }
    covered = {family: len(wanted & _characters_of(family)) for family in sorted(families)}
    best = max(covered, key=covered.__getitem__, default=None)
    return best if best and covered[best] else None


def _characters_of(family: str) -> set[str]:
    """The characters in the regular font of a family."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    path = findfont(FontProperties(family=[family]))
    return {chr(code) for code in get_font(path).get_charmap()}


def _new_figure(width: float, height: float) -> Figure:
    """An empty figure without a GUI; width and height of its axes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _data_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    # The picture grows to fit the labels; layouts of a fixed size fail on long names.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
