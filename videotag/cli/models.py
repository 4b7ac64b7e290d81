"""Lists the models, the named weights and the shipped configs."""

from __future__ import annotations

import argparse
import json

from videotag.cli import arguments
from videotag.errors import EXIT_OK

SUMMARY = "list models, named weights and configs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag models`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Prints what there is."""
    from videotag.models import load_models
    from videotag.registry import list_models
    from videotag.resources import list_configs
    from videotag.weights import named_weights

    load_models()
    models = [
        {"name": e.name, "kind": e.kind, "about": (e.cls.__doc__ or "").split("\n")[0]} for e in list_models()
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
            json.dumps(
                {"models": models, "weights": weights, "configs": configs}, indent=2, ensure_ascii=False
            )
        )
        return EXIT_OK
    for title, rows in (("models", models), ("named weights", weights), ("configs", configs)):
        arguments.show(title)
        widths = {key: max(len(row[key] or "-") for row in rows) for key in rows[0]}
        for row in rows:
            arguments.show("  " + "  ".join((row[key] or "-").ljust(widths[key]) for key in row).rstrip())
    return EXIT_OK
