"""Data files of installed packages, found without importing the packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from videotag.errors import ConfigError
from videotag.system.download import Checksum


def find_package_file(package: str, file: str) -> Path | None:
    """The path of a file or folder of an installed package; None if there is none.

    Args:
        package: Name of a top-level package, which may be a namespace; a dot would import it.
        file: Path inside the package.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () if (path := Path(folder) / file).exists()), None)


def checked_package_file(package: str, file: str, *, sha256: str, missing: str, remedy: str) -> Path:
    """The path of a file of an installed package, whose digest is as expected.

    Args:
        package: See find_package_file.
        file: Path inside the package.
        sha256: Digest of the file.
        missing: Message if there is no such file, without the remedy.
        remedy: Command that installs the package.

    Raises:
        ConfigError: The file is missing.
        WeightsError: The digest differs.
    """
    path = find_package_file(package, file)
    if path is None:
        raise ConfigError(f"{missing}; {remedy}")
    Checksum("sha256", sha256, given_by="this version of videotag").check(path, shown_as=path, remedy=remedy)
    return path
