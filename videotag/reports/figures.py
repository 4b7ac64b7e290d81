"""Figures of an evaluation as PNG data URLs: precision-recall curves and a confusion matrix.

matplotlib is imported when a figure is drawn, and used through its objects only: no global state changes.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Iterable, Sequence
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


def matrix_figure(
    counts: np.ndarray, rows: Names, columns: Names, *, darkest: int, row_label: str, column_label: str
) -> str:
    """Draws a matrix of counts, darker for larger counts; zeros stay empty.

    Args:
        counts: (R, K) int >= 0, with R and K at least 1.
        rows: R names.
        columns: K names.
        darkest: Count of the darkest color, at least 1; larger counts look the same.
        row_label: Axis label of the rows.
        column_label: Axis label of the columns.

    Returns:
        A PNG as a data URL.
    """
    num_rows, num_columns = counts.shape
    figure = _new_figure(0.55 * num_columns, 0.42 * num_rows)
    axes = figure.add_axes(_WHOLE, xlabel=column_label, ylabel=row_label)
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    axes.set_xticks(range(num_columns), columns.texts, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_rows), rows.texts)
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        for text in axis.get_ticklabels():
            text.set(parse_math=False, fontfamily=names.fonts)
    for row, column in np.argwhere(counts):
        count = counts[row, column]
        color = "white" if count > 0.55 * darkest else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=8)
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
