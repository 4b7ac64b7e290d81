"""Finds the files shipped with videotag (configs/, weights/models.yaml), installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def find_resource(name: str | Path) -> Path | None:
    """The path of a file such as "configs/tsn.yaml"; None if it does not exist.

    Searches the working folder, then the checkout, then the installed package. An absolute path, or one with
    "..", is not searched for elsewhere.
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
    """The shipped YAML files of configs/, sorted by name; empty if the folder is missing."""
    for root in (_PACKAGE.parent, _PACKAGE / "_data"):
        if (root / "configs").is_dir():
            return sorted((root / "configs").glob("*.yaml"))
    return []
