"""VideoTag's YAML files as typed sections: MODEL, TRAIN, VALID, TEST, INFER.

VideoTag's old spellings are read through one table (_ALIASES). The class of the MODEL section comes from the
registry, so the model's file must have been imported before a config is read. Values are taken in this order:
default < YAML < --set < flags. All problems of a file are reported together, each with its dotted path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from videotag.errors import ConfigError, one_error
from videotag.formats.yaml_text import parse_yaml, read_yaml
from videotag.registry import ModelEntry, Task, get_model, unknown
from videotag.safe_text import MAX_TEXT, MAX_VALUE, escaped, safe_repr
from videotag.sections import (
    InferSection,
    Section,
    SplitSection,
    TrainSection,
    VideoInferSection,
    VideoSplitSection,
    VideoTrainSection,
)
from videotag.system.resources import find_resource, list_configs

SECTIONS = ("MODEL", "TRAIN", "VALID", "TEST", "INFER")

_MAX_MESSAGE = 1000  # characters; the longest lists the backbones
#: Old spelling -> today's, in any section.
_ALIASES = {
    "bone_nework": "bone_network",
    "learning_rate_decay": "decay_gamma",
    "l2_weight_decay": "weight_decay",
    "total_videos": "num_samples",
    "pretrain_base": "pretrain",
}


#: Keys of any section that name files other than a list, or that mean nothing without one that does.
FILE_KEYS = frozenset(
    [
        *("label_file", "pretrain", "extend_labels", "old_label_file"),
        *("distill_from", "distill_weight", "distill_temperature"),
    ]
)


@dataclass(frozen=True)
class Config:
    """A config file, read and checked."""

    entry: ModelEntry
    model: Any
    train: Any
    valid: Any
    test: Any
    infer: Any

    @property
    def task(self) -> Task:
        """What chooses loss and metrics: the MODEL section's, else the model's own."""
        return self.model.task or self.entry.task

    def to_yaml(self) -> str:
        """The resolved config, every value written out; load_config reads it back to an equal one."""
        sections = (self.model, self.train, self.valid, self.test, self.infer)
        raw = {name: s.model_dump(mode="json") for name, s in zip(SECTIONS, sections, strict=True)}
        return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def load_config(
    path: str | Path,
    *,
    model_name: str | None = None,
    overrides: list[tuple[str, Any]] | None = None,
    entry: ModelEntry | None = None,
    beside_weights: bool = False,
) -> Config:
    """The config in the file `path`.

    Args:
        path: a YAML file; a shipped one ("configs/tsn.yaml") is found from any folder.
        model_name: must name the file's model, upper and lower case being the same.
        overrides: dotted path and value ("TRAIN.batch_size", 32), later ones win; a text value is
            read as YAML.
        entry: of the model, where it need not be registered: of an export, which runs without its code.
        beside_weights: Whether the file was not named by the user, but found beside weights, which may be
            anyone's. Other files that it names are not read, but for lists inside of the working folder.

    Raises:
        ConfigError: the file is missing or wrong; all problems, a line each.
        UnknownNameError: no such model.
    """
    raw, where = _read_yaml(path), str(path)
    problems = [
        f"{where}: {escaped(key, limit=MAX_VALUE)}: unknown section; there are: {', '.join(SECTIONS)}"
        for key in raw
        if key not in SECTIONS
    ]
    raw = {key: value for key, value in raw.items() if key in SECTIONS}
    for key, value in raw.items():
        if not isinstance(value, dict):
            problems.append(f"{where}: {key}: {safe_repr(value)} is not a section of key: value lines")
    if problems:
        raise one_error(ConfigError, problems)
    raw = {section: _old_spellings(values, f"{where}: {section}") for section, values in raw.items()}
    if beside_weights:
        raw = {section: _without_files(values) for section, values in raw.items()}
    for dotted, value in overrides or []:
        _override(raw, dotted, value)
    entry = _entry(raw, where, model_name, entry)
    video = entry.kind == "extractor"
    split: type[Section] = VideoSplitSection if video else SplitSection
    infer: type[Section] = VideoInferSection if video else InferSection
    train: type[Section] = VideoTrainSection if video else TrainSection
    classes = dict(zip(SECTIONS, (entry.config, train, split, split, infer), strict=True))
    sections: dict[str, Section] = {}
    for name, cls in classes.items():
        try:
            sections[name.lower()] = cls.model_validate(raw.get(name, {}))
        except ValidationError as error:
            problems += [f"{where}: {text}" for text in _describe(error, name, cls)]
    if len(sections) == len(classes):
        problems += [f"{where}: {text}" for text in _disagreements(entry, **sections)]
    if problems:
        raise one_error(ConfigError, problems)
    return Config(entry=entry, **sections)


def files_of_config(path: str | Path) -> list[Path]:
    """The file of a config and the label file that it names; the config may be of any model.

    Raises:
        ConfigError: The file is missing, or no sections.
    """
    raw, found = _read_yaml(path), find_resource(path)
    model = raw.get("MODEL")
    named = [found, model.get("label_file") if isinstance(model, dict) else None]
    return [Path(file) for file in named if isinstance(file, str | Path)]


def _disagreements(entry: ModelEntry, *, model: Any, train: Any, **_: Section) -> list[str]:
    """What two sections say against each other, a text each."""
    texts = []
    if train.modality_dropout and len(model.feature_names) == 1:
        texts.append(
            f"TRAIN.modality_dropout: {train.modality_dropout}, but MODEL.feature_names "
            f"{safe_repr(model.feature_names)} is one modality, which always stays; leave it out"
        )
    if train.loss == "asymmetric" and (model.task or entry.task) == "single_label":
        texts.append(
            "TRAIN.loss: asymmetric, which is for any number of tags, but the task is single_label; "
            "set MODEL.task=multi_label, or leave it out"
        )
    return texts


def parse_overrides(texts: list[str]) -> list[tuple[str, Any]]:
    """KEY=VALUE texts of --set as pairs for load_config.

    Raises:
        ConfigError: a text has no "=" or no dot in its key.
    """
    pairs = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or "." not in key:
            raise ConfigError(
                f"--set {escaped(text)}: expected SECTION.key=value, such as TRAIN.batch_size=32"
            )
        pairs.append((key.strip(), value))
    return pairs


def _read_yaml(path: str | Path) -> dict[str, Any]:
    found = find_resource(path)
    if found is None:
        if Path(path).is_dir():
            raise ConfigError(f"{path}: a folder, expected a config file; name a YAML file in it")
        names = ", ".join(f"configs/{p.name}" for p in list_configs())
        raise ConfigError(f"{path}: no such config file; write one or take a shipped one: {names}")
    raw = read_yaml(found, error=ConfigError, remedy="give a config such as configs/attention_lstm.yaml")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no sections; expected MODEL:, TRAIN: ... with key: value lines below")
    return raw


def _old_spellings(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The section with today's key names; VideoTag's text "None" becomes no value."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = _ALIASES.get(key, key)
        if name in result:
            raise ConfigError(
                f"{where}.{escaped(key)}: the same as {escaped(name)}, which is given too; keep one of them"
            )
        result[name] = None if value == "None" else value
    return result


def _without_files(values: dict[str, Any]) -> dict[str, Any]:
    """The section without FILE_KEYS, and without a list outside of the working folder."""
    kept = {key: value for key, value in values.items() if key not in FILE_KEYS}
    filelist = kept.get("filelist")
    if isinstance(filelist, str):
        here = Path.cwd().resolve()
        # `eval --weights=CHECKPOINT` goes over the list that its training left out, data/test.list. A longer
        # text is no path of ours, and errors show paths whole.
        if (
            len(filelist) > MAX_TEXT
            or Path(filelist).is_absolute()
            or not (here / filelist).resolve().is_relative_to(here)
        ):
            del kept["filelist"]
    return kept


def _override(raw: dict[str, dict[str, Any]], dotted: str, value: Any) -> None:
    section, _, key = dotted.partition(".")
    if section.upper() not in SECTIONS:
        raise ConfigError(f"--set {escaped(dotted)}: {unknown(section, SECTIONS, 'section')}")
    if isinstance(value, str):
        try:
            value = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(
                f"--set {escaped(dotted)}: cannot read the value {safe_repr(value)} as YAML: {error}"
            ) from error
    raw.setdefault(section.upper(), {}).update(_old_spellings({key: value}, "--set"))


def _entry(
    raw: dict[str, dict[str, Any]], where: str, model_name: str | None, known: ModelEntry | None
) -> ModelEntry:
    name = raw.get("MODEL", {}).get("name") or model_name
    if not isinstance(name, str):
        raise ConfigError(f"{where}: MODEL.name is missing; name a model of `videotag models`")
    entry = known or get_model(name)
    if name.lower() != entry.name.lower():
        raise ConfigError(f"{where}: MODEL.name: {escaped(name)}, expected {entry.name}; export it again")
    if model_name is not None and model_name.lower() != entry.name.lower():
        if known is None:
            get_model(model_name)  # an unknown name is a mistake of its own
        raise ConfigError(
            f"{where}: is a config of {name}, not of {model_name}; give the one that belongs to it"
        )
    if entry.kind == "backbone":
        raise ConfigError(f"{where}: MODEL.name: {name} is a backbone; use it as MODEL.backbone of a TSN")
    raw.setdefault("MODEL", {})["name"] = entry.name
    return entry


def _describe(error: ValidationError, section: str, cls: type[BaseModel]) -> list[str]:
    """A line for each problem that pydantic found in a section."""
    lines = []
    for problem in error.errors():
        # The names of union members in a location mean nothing to a user: keep keys and list indices.
        path = [p for i, p in enumerate(problem["loc"]) if i == 0 or isinstance(p, int)]
        dotted = ".".join([section, *(escaped(str(part)) for part in path)])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{section}.{unknown(str(path[0]), cls.model_fields, 'key')}")
        elif problem["type"] == "missing":
            lines.append(f"{dotted}: missing; it has no default")
        else:
            text = escaped(problem["msg"].removeprefix("Value error, "), limit=_MAX_MESSAGE)
            seen = "" if isinstance(problem["input"], dict) else f"{safe_repr(problem['input'])}: "
            lines.append(f"{dotted}: {seen}{text[0].lower()}{text[1:]}")
    return list(dict.fromkeys(lines))
