"""Lists the models, the named weights and the shipped configs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from videotag.cli import arguments
from videotag.errors import EXIT_OK
from videotag.safe_text import escaped

if TYPE_CHECKING:
    from videotag.registry import BackboneEntry, ModelEntry

SUMMARY = "list models, named weights and configs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag models`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Prints the lists."""
    from videotag.models import load_models
    from videotag.system.resources import list_configs
    from videotag.weights import named_weights

    load_models()
    models = [
        {"name": entry.name, "kind": kind, "about": (entry.cls.__doc__ or "").split("\n")[0]}
        for entry, kind in sorted(_entries(), key=lambda pair: pair[0].name.lower())
    ]
    weights: list[dict[str, str | None]] = [
        {"name": w.name, "config": w.config, "licence": w.licence} for w in named_weights().values()
    ]
    configs = [
        {"name": f"configs/{path.name}", "about": path.read_text(encoding="utf-8").split("\n")[0][2:]}
        for path in list_configs()
    ]
    if args.json:
        arguments.show(
            arguments.json_text({"models": models, "weights": weights, "configs": configs}, indent=2)
        )
        return EXIT_OK
    for title, rows in (("models", models), ("named weights", weights), ("configs", configs)):
        arguments.show(title)
        cells = [[escaped(value or "-") for value in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            arguments.show(f"  {line}".rstrip())
    return EXIT_OK


def _entries() -> Iterator[tuple[ModelEntry | BackboneEntry, str]]:
    """Models and backbones, each with its kind."""
    from videotag.registry import list_backbones, list_models

    yield from ((entry, "backbone") for entry in list_backbones())
    yield from ((entry, "extractor" if entry.two_stage else "tagger") for entry in list_models())
