"""Finds the files that come with videotag (configs/, weights/models.yaml), installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def find_resource(name: str | Path) -> Path | None:
    """The file `name` ("configs/tsn.yaml"), or None.

    Looked for in this order: as written from the working folder; in the checkout; in the installed
    package. An absolute path, or one that climbs out with "..", is only taken as written.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_absolute() or ".." in path.parts:
        return None
    for root in (_PACKAGE.parent, _PACKAGE / "_data"):
        if (root / path).is_file():
            return root / path
    return None


def list_configs() -> list[Path]:
    """The YAML files of configs/ as shipped, by name."""
    for root in (_PACKAGE.parent, _PACKAGE / "_data"):
        if (root / "configs").is_dir():
            return sorted((root / "configs").glob("*.yaml"))
    return []
