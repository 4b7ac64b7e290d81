"""Downloads named weights into the cache folder, or lists all of them.

videotag download
videotag download torchvision_resnet101_v1

The cache folder is $VIDEOTAG_CACHE, else videotag in $XDG_CACHE_HOME or ~/.cache. `--weights NAME` of other
commands downloads automatically.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from videotag.cli.arguments import json_text, show
from videotag.errors import EXIT_OK
from videotag.safe_text import escaped

if TYPE_CHECKING:
    from videotag.weights import NamedWeights

SUMMARY = "download named weights, or list them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag download`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="weights to download; if none, list all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints the paths of the files, or the list."""
    from videotag.weights import get_named_weights, named_weights

    if not args.names:
        rows = [_row(weights) for weights in named_weights().values()]
        show(json_text(rows, indent=2) if args.json else _table(rows))
        return EXIT_OK
    chosen = [get_named_weights(name) for name in args.names]  # rejects unknown names before any download
    paths = {weights.name: str(weights.path()) for weights in chosen}
    show(json_text(paths, indent=2) if args.json else "\n".join(paths.values()))
    return EXIT_OK


def _row(weights: NamedWeights) -> dict[str, Any]:
    path = weights.present()
    return {
        "name": weights.name,
        "size": path.stat().st_size if path else weights.size,
        "licence": weights.licence,
        "verified": weights.verified,
        "path": str(path) if path else None,
        "url": weights.url,
        "command": weights.remedy,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            row["name"],
            f"{row['size'] / 1e6:,.1f} MB" if row["size"] else "size unknown",
            escaped(row["licence"]),
            "verified" if row["verified"] else "not verified",
            "present" if row["path"] else row["command"],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
