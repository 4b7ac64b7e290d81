"""Turns measurements into medians, ratios, a Markdown table between two marks, and JSON beside it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_machine import machine_lines

from videotag.errors import ConfigError
from videotag.safe_text import safe_repr as repr_of
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
TABLE_FILE, NUMBERS_FILE = "performance.md", "performance.json"
_FRAME = f"# Performance\nMeasured by `make bench-quick` or `tools/benchmark/bench.py`.\n\n{BEGIN}\n{END}\n"


@dataclass
class Line:
    """One quantity, measured for several contestants in every round.

    Attributes:
        what: Name of the quantity.
        unit: Unit of the numbers.
        rounds: Contestant -> its number in every round.
        reference: Contestant that the others are compared with; None compares nothing.
        more_is_better: Whether larger numbers are better.
        goals: Contestant -> minimum ratio; without a reference, limit of its median.
    """

    what: str
    unit: str
    rounds: dict[str, list[float]]
    reference: str | None = None
    more_is_better: bool = False
    goals: dict[str, float] = field(default_factory=dict)

    def medians(self) -> dict[str, float]:
        """Contestant -> median of its rounds."""
        return {name: statistics.median(numbers) for name, numbers in self.rounds.items() if numbers}

    def ratios(self) -> dict[str, float]:
        """Contestant -> how many times as good as the reference, as the median of the rounds' ratios.

        Contestants of a round run shortly after each other, so other work affects both alike.
        """
        reference = self.rounds.get(self.reference or "", [])
        found = {}
        for name, numbers in self.rounds.items():
            if numbers and reference and name != self.reference:
                pairs = list(zip(numbers, reference, strict=False))
                found[name] = statistics.median(a / b if self.more_is_better else b / a for a, b in pairs)
        return found

    def is_met(self, name: str) -> bool | None:
        """Whether a contestant reaches its goal; None without a goal or a number to compare."""
        value = self.ratios().get(name) if self.reference else self.medians().get(name)
        if name not in self.goals or value is None:
            return None
        least = self.more_is_better or self.reference is not None
        return value >= self.goals[name] if least else value <= self.goals[name]

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON-serializable values."""
        return {
            "what": self.what,
            "unit": self.unit,
            "reference": self.reference,
            "more_is_better": self.more_is_better,
            "rounds": self.rounds,
            "medians": self.medians(),
            "ratios": self.ratios(),
            "goals": self.goals,
            "goals_met": {name: self.is_met(name) for name in self.goals},
        }


@dataclass
class Part:
    """One part of the benchmark.

    Attributes:
        title: Title of the part.
        lines: Measured quantities.
        notes: Sentences below the table.
    """

    title: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON-serializable values."""
        return {"title": self.title, "lines": [line.to_dict() for line in self.lines], "notes": self.notes}


def take_turns(contestants: Mapping[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """Measures every contestant once per round, in turn, so that other work on the machine affects all.

    Args:
        contestants: Name -> function that measures once.
        num_rounds: Number of rounds.

    Returns:
        Name -> its number in every round.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(num_rounds):
        for name, measure in contestants.items():
            found[name].append(measure())
    return found


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Writes NUMBERS_FILE, and the table into TABLE_FILE, whose other text stays unchanged.

    Args:
        folder: Folder of both files.
        results: "machine", "command" and "parts": name -> Part.to_dict() with its "date" and "rounds".

    Raises:
        ConfigError: TABLE_FILE lacks a mark.
    """
    path = folder / TABLE_FILE
    text = between_marks(_read(path), markdown(results), path)
    write_text(folder / NUMBERS_FILE, json.dumps(results, indent=1) + "\n")
    write_text(path, text)


def read_results(folder: Path) -> dict[str, Any]:
    """The results of an earlier run in a folder; {} if there are none.

    Raises:
        ConfigError: The results cannot be read.
    """
    path = folder / NUMBERS_FILE
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = read_json(path, error=ConfigError, remedy="remove it")
        return found if found["command"] and found["parts"] is not None and found["machine"] else {}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the numbers of a benchmark ({repr_of(error)}); remove it") from error


def check_marks(folder: Path) -> None:
    """Checks before any work that TABLE_FILE has both marks.

    Raises:
        ConfigError: A mark is missing.
    """
    between_marks(_read(folder / TABLE_FILE), "", folder / TABLE_FILE)


def between_marks(text: str, table: str, path: Path) -> str:
    """`text` with `table` between the marks.

    Raises:
        ConfigError: The text does not have both marks, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ConfigError(
            f"{path}: expected one {BEGIN} and one {END} after it; put them where the table goes"
        )
    return f"{before}{BEGIN}\n{table}{END}{after}"


def markdown(results: dict[str, Any]) -> str:
    """Markdown with the machine and a table for every part."""
    lines = [f"Measured by `{results['command']}`:", ""]
    lines += [*machine_lines(results["machine"]), ""]
    for part in results["parts"].values():
        lines += [f"### {part['title']}", *_table(part["lines"])]
        rounds = f" with --rounds={part['rounds']}" if part["rounds"] else ""
        lines += ["", *part["notes"], f"Measured on {part['date']}{rounds}.", ""]
    return "\n".join(lines)


def _table(lines: Sequence[dict[str, Any]]) -> list[str]:
    if not lines:
        return []
    compared, with_goals = any(line["reference"] for line in lines), any(line["goals"] for line in lines)
    head = [
        "what",
        "by",
        "median",
        *(["times as fast"] if compared else []),
        *(["goal"] if with_goals else []),
    ]
    rows = [head, ["---", "---", "---:", *(["---:"] if compared else []), *(["---"] if with_goals else [])]]
    for line in lines:
        what = f"{line['what']}, {line['unit']}"
        for name, median in line["medians"].items():
            row = [what, name, format_number(median)]
            row += [_compared(line, name)] if compared else []
            rows.append(row + ([_goal(line, name)] if with_goals else []))
            what = ""
    return [f"| {' | '.join(row)} |" for row in rows]


def _compared(line: dict[str, Any], name: str) -> str:
    if name == line["reference"]:
        return "1"
    return format_number(line["ratios"][name]) if name in line["ratios"] else ""


def _goal(line: dict[str, Any], name: str) -> str:
    if name not in line["goals"]:
        return ""
    least = line["reference"] is not None or line["more_is_better"]
    verdict = {True: "met", False: "missed", None: "not measured"}[line["goals_met"][name]]
    return f"{'at least' if least else 'at most'} {line['goals'][name]:g}: {verdict}"


def format_number(number: float) -> str:
    """A number with three significant digits."""
    if abs(number) >= 100 or number == 0:
        return f"{number:,.0f}"
    if abs(number) < 0.001:
        return f"{number:.1e}"
    return f"{number:.3g}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else _FRAME
