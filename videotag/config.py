"""Reads VideoTag's YAML configs into typed sections: MODEL, INPUTS, TRAIN, VALID, TEST, INFER.

The registry provides the class of the MODEL section, so the model's module must be imported before its config
is read. Later sources override earlier ones: defaults, YAML, --set, flags. Keys that VALID does not set may
follow TRAIN, see FollowsTrain. All problems of a file are reported together, each with its dotted key.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from videotag.config_file import SPLITS, apply_override, read_sections
from videotag.errors import ConfigError, PluginError, UnknownNameError, one_error
from videotag.registry import ModelEntry, Task, get_model, get_reader, list_backbones, list_readers, unknown
from videotag.safe_text import MAX_TEXT, MAX_VALUE, escaped, safe_repr
from videotag.sections import (
    ExtractorModel,
    FollowsTrain,
    InferSection,
    InputOptions,
    Key,
    Section,
    SplitSection,
    TaggerModel,
)
from videotag.train_section import FeatureTrainSection, TrainSection

_MAX_PLUGINS_SHOWN = 5
_MAX_MESSAGE = 1000  # characters; the longest message lists the backbones


@dataclass(frozen=True)
class Config:
    """A validated config.

    Attributes:
        entry: Registry entry of the model.
        model, train, valid, test, infer: Sections of the config.
        inputs: Options of the reader by input, the section INPUTS.
        names_inputs: Whether the file has an INPUTS section; otherwise, the inputs follow from MODEL.
    """

    entry: ModelEntry
    model: Any
    inputs: dict[str, Any]
    train: Any
    valid: Any
    test: Any
    infer: Any
    names_inputs: bool = False

    @property
    def task(self) -> Task:
        """The task, which selects loss and metrics: MODEL.task, else the model's registered task."""
        return self.model.task or self.entry.task

    def with_train(self, **values: Any) -> Config:
        """This config with other values of keys of TRAIN, which are not validated."""
        return replace(self, train=self.train.model_copy(update=values))

    @property
    def plugins(self) -> list[str]:
        """Names of the plugins that registered the model, its parts and the readers."""
        readers = [get_reader(options.reader).plugin for options in self.inputs.values()]
        names = [self.entry.plugin, *self.model.plugins(), *readers]
        return [name for name in dict.fromkeys(names) if name is not None]

    def readers(self, section: Any) -> list[tuple[str | None, Any]]:
        """The readers of a section's samples.

        One reader serves all inputs with the same reader name and field.

        Args:
            section: Section TRAIN, VALID, TEST or INFER of this config.

        Returns:
            Pairs of field name, None for the default field, and reader.
        """
        groups: dict[tuple[str, str | None], dict[str, Any]] = {}
        for name, options in self.inputs.items():
            groups.setdefault((options.reader, options.field), {})[name] = options
        return [(field, get_reader(name).cls(group, section)) for (name, field), group in groups.items()]

    def sections(self, leave_out: Callable[[type[Section]], set[str]] = lambda _: set()) -> dict[str, Any]:
        """The sections as plain values for YAML, including defaults.

        Args:
            leave_out: Function from the class of a section to the keys to omit.
        """
        named = zip(SPLITS, (self.train, self.valid, self.test, self.infer), strict=True)
        raw = {"MODEL": self.model.model_dump(mode="json", exclude=leave_out(type(self.model)))}
        if self.names_inputs:
            raw["INPUTS"] = {
                name: options.model_dump(mode="json", exclude_none=True)
                for name, options in self.inputs.items()
            }
        if self.plugins:
            raw["PLUGINS"] = self.plugins
        return raw | {n: s.model_dump(mode="json", exclude=leave_out(type(s))) for n, s in named}

    def to_yaml(self) -> str:
        """The resolved config as YAML, including defaults; load_config restores an equal config from it."""
        return yaml.safe_dump(self.sections(), sort_keys=False, allow_unicode=True)


def load_config(
    path: str | Path,
    *,
    model_name: str | None = None,
    overrides: list[tuple[str, Any]] | None = None,
    entry: ModelEntry | None = None,
    beside_weights: bool = False,
) -> Config:
    """Reads and validates a config file.

    Args:
        path: Path of a YAML file; shipped ones ("configs/tsn.yaml") are accessible from any folder.
        model_name: Expected name of the file's model, ignoring case; None for any.
        overrides: Pairs of dotted key and value, such as ("TRAIN.batch_size", 32); later ones win. A text
            value is parsed as YAML.
        entry: Registry entry of a model that is not registered, for exports, which run without its code.
        beside_weights: Whether the file lies beside weights and is thus untrusted, instead of being named by
            the user. Files that it names are then ignored, except lists in the working folder.

    Raises:
        ConfigError: The file is missing or invalid; one line of the message per problem.
        UnknownNameError: The model or a reader does not exist.
    """
    where, overrides = str(path), overrides or []
    raw, plugins = read_sections(path)
    inputs = raw.pop("INPUTS", None)
    input_overrides = [pair for pair in overrides if _section_of(pair[0]) == "INPUTS"]
    try:
        entry = _entry(raw, where, model_name, entry)
        if input_overrides and inputs is None:
            inputs = _default_inputs(entry, raw["MODEL"], overrides)
        if inputs is not None:
            for dotted, value in input_overrides:  # first, because they decide which keys exist
                apply_override({"INPUTS": inputs}, dotted, value)
        classes = {"MODEL": entry.config, **_split_classes(entry, inputs)}
    except UnknownNameError as error:
        raise UnknownNameError(f"{where}: {error}{_plugin_hint(plugins)}") from None
    if beside_weights:
        raw = {name: _drop_file_keys(values, classes[name]) for name, values in raw.items()}
    for dotted, value in overrides:
        if _section_of(dotted) != "INPUTS":
            apply_override(raw, dotted, value)
    sections, problems = _validate_sections(raw, classes)
    read: dict[str, InputOptions] = {}
    if inputs is not None or "model" in sections:
        named = _inputs_of(entry, sections["model"]) if inputs is None else inputs
        read, input_problems = _read_inputs(named)
        problems += input_problems
    problems = problems or _cross_section_errors(entry, read, **sections)
    if problems:
        raise one_error(ConfigError, [f"{where}: {text}" for text in problems])
    # An export is read without the model's code, and thus without its default inputs.
    names_inputs = inputs is not None or not issubclass(entry.config, TaggerModel | ExtractorModel)
    return Config(entry=entry, inputs=read, names_inputs=names_inputs, **sections)


def _section_of(dotted: str) -> str:
    """The name of the section of a dotted key, ignoring case."""
    return dotted.partition(".")[0].upper()


def _plugin_hint(plugins: list[str]) -> str:
    """The remedy for an unknown name; the plugins that a config names are never loaded automatically."""
    if not plugins:
        return "; if it comes from a plugin, give --plugin FILE.py"
    files = (f"{escaped(name, limit=MAX_VALUE)}.py" for name in plugins[:_MAX_PLUGINS_SHOWN])
    flags = (f"--plugin {shlex.quote(file)}" for file in files)
    return f"; the config was made with plugins: give {' '.join(flags)}"


def _default_inputs(
    entry: ModelEntry, model: dict[str, Any], overrides: list[tuple[str, Any]]
) -> dict[str, dict[str, Any]] | None:
    """The INPUTS section that follows from MODEL; None if MODEL is invalid, which is reported later."""
    raw = {"MODEL": dict(model)}
    for dotted, value in overrides:
        if _section_of(dotted) == "MODEL":
            apply_override(raw, dotted, value)
    try:
        return _inputs_of(entry, entry.config.model_validate(raw["MODEL"]))
    except ValidationError:
        return None


def _inputs_of(entry: ModelEntry, model: Any) -> dict[str, dict[str, Any]]:
    """The default inputs of a MODEL section; PluginError if they are not entries of INPUTS."""
    inputs = model.default_inputs()
    if not isinstance(inputs, dict) or not all(isinstance(each, dict) for each in inputs.values()):
        raise PluginError(
            f"model {entry.name}: default_inputs() returned {safe_repr(inputs)}; return the entries of "
            'INPUTS, such as {"rgb": {"reader": "features", "width": 2048}}'
        )
    return inputs


def _split_classes(entry: ModelEntry, inputs: dict[str, Any] | None) -> dict[str, type[Section]]:
    """The classes of TRAIN, VALID, TEST and INFER, which combine those of all readers."""
    names = list(entry.config.default_readers)
    if inputs is not None:
        selected = [options.get("reader") for options in inputs.values() if isinstance(options, dict)]
        names = [name for name in selected if isinstance(name, str)]
    readers = [get_reader(name).cls for name in dict.fromkeys(names)]
    split = _merge_sections(SplitSection, [reader.split_section for reader in readers])
    train = _merge_sections(TrainSection, [reader.train_section for reader in readers])
    infer = _merge_sections(InferSection, [reader.infer_section for reader in readers])
    return {"TRAIN": train, "VALID": split, "TEST": split, "INFER": infer}


def _merge_sections(base: type[Section], classes: list[type[Section]]) -> type[Section]:
    """A class with the keys of all classes; one of them if it already has all keys."""
    all_ = list(dict.fromkeys(classes))
    bases = [cls for cls in all_ if not any(other is not cls and issubclass(other, cls) for other in all_)]
    if len(bases) < 2:
        return bases[0] if bases else base
    return _merged_section(base, *bases)


@functools.cache
def _merged_section(base: type[Section], *bases: type[Section]) -> type[Section]:
    def reduce(section: Section) -> tuple[Any, ...]:  # no module has the class, so pickle needs its bases
        return _unpickled_section, (base, bases, section.__dict__)

    return type(base.__name__, bases, {"__doc__": base.__doc__, "__reduce__": reduce})


def _unpickled_section(
    base: type[Section], bases: tuple[type[Section], ...], values: dict[str, Any]
) -> Section:
    return _merged_section(base, *bases).model_construct(**values)


def _validate_sections(
    raw: dict[str, dict[str, Any]], classes: dict[str, type[Section]]
) -> tuple[dict[str, Any], list[str]]:
    """The valid sections by name in lower case, and the problems of the others."""
    sections: dict[str, Any] = {}
    problems = []
    for name, cls in classes.items():
        values = raw.get(name, {})
        if name == "VALID" and "train" in sections:
            values = _values_of_train(cls, values, sections["train"]) | values
        try:
            sections[name.lower()] = cls.model_validate(values)
        except ValidationError as error:
            problems += error_lines(error, name, cls)
    return sections, problems


def _read_inputs(named: dict[str, Any]) -> tuple[dict[str, InputOptions], list[str]]:
    """The entries of INPUTS by name, and their problems."""
    read, problems = {}, []
    for name, raw in named.items():
        where = f"INPUTS.{escaped(str(name))}"
        reader = raw.get("reader") if isinstance(raw, dict) else None
        if not isinstance(reader, str):
            there = ", ".join(each.name for each in list_readers())
            problems.append(f"{where}: {safe_repr(raw)} has no reader; write reader: NAME, one of {there}")
            continue
        cls = get_reader(reader).options
        try:
            read[name] = cls.model_validate(raw)
        except ValidationError as error:
            problems += error_lines(error, where, cls)
    return read, problems


def _cross_section_errors(
    entry: ModelEntry, inputs: dict[str, InputOptions], *, model: Any, train: Any, **_: Section
) -> list[str]:
    """Cross-section validation errors."""
    texts = []
    if not inputs:
        texts.append(f"INPUTS: missing, and {entry.name} has no default; name its inputs and their readers")
    if isinstance(train, FeatureTrainSection) and train.modality_dropout and len(inputs) == 1:
        texts.append(
            f"TRAIN.modality_dropout: {train.modality_dropout}, but MODEL.feature_names "
            f"{safe_repr(list(inputs))} is a single modality, which is never dropped; leave it out"
        )
    if train.logit_adjustment and (model.task or entry.task) == "multi_label":
        texts.append(
            f"TRAIN.logit_adjustment: {train.logit_adjustment} needs a single_label task, but the task is "
            "multi_label; set MODEL.task=single_label, or leave it out"
        )
    if train.loss == "asymmetric" and (model.task or entry.task) == "single_label":
        texts.append(
            "TRAIN.loss: asymmetric needs a multi_label task, but the task is single_label; "
            "set MODEL.task=multi_label, or leave it out"
        )
    return texts


def _drop_file_keys(values: dict[str, Any], cls: type[Section]) -> dict[str, Any]:
    """The section without keys that name files, and without a list outside the working folder."""
    files = cls.keys(Key.FILE)
    kept = {key: value for key, value in values.items() if key not in files}
    filelist = kept.get("filelist")
    if isinstance(filelist, str):
        here = Path.cwd().resolve()
        # Kept so that `eval --weights=CHECKPOINT` uses the test list of its training, data/test.list. Longer
        # texts are rejected because errors show paths in full.
        if (
            len(filelist) > MAX_TEXT
            or Path(filelist).is_absolute()
            or not (here / filelist).resolve().is_relative_to(here)
        ):
            del kept["filelist"]
    return kept


def _values_of_train(cls: type[Section], written: dict[str, Any], train: Section) -> dict[str, Any]:
    """TRAIN's values of the keys that VALID does not set; see FollowsTrain.

    Args:
        cls: Class of the section VALID.
        written: Keys that VALID sets.
        train: Section TRAIN.
    """
    return {
        name: getattr(train, name)
        for name, field in cls.model_fields.items()
        for follows in field.metadata
        if isinstance(follows, FollowsTrain) and name not in written and follows.unless not in written
    }


def _entry(
    raw: dict[str, dict[str, Any]], where: str, model_name: str | None, known: ModelEntry | None
) -> ModelEntry:
    name = raw.get("MODEL", {}).get("name") or model_name
    if not isinstance(name, str):
        raise ConfigError(f"{where}: MODEL.name is missing; name a model of `videotag models`")
    if known is None and name.lower() in (backbone.name.lower() for backbone in list_backbones()):
        raise ConfigError(f"{where}: MODEL.name: {name} is a backbone; use it as MODEL.backbone of a TSN")
    entry = known or get_model(name)
    if name.lower() != entry.name.lower():
        raise ConfigError(f"{where}: MODEL.name: {escaped(name)}, expected {entry.name}; export it again")
    if model_name is not None and model_name.lower() != entry.name.lower():
        if known is None:
            get_model(model_name)  # raises UnknownNameError if there is no such model
        raise ConfigError(
            f"{where}: is a config of {name}, not of {model_name}; give a config of {model_name}"
        )
    raw.setdefault("MODEL", {})["name"] = entry.name
    return entry


def error_lines(error: ValidationError, section: str, cls: type[BaseModel]) -> list[str]:
    """The validation errors of a section, one line each."""
    lines = []
    for problem in error.errors():
        # Only keys and list indices: names of union members in a location mean nothing to users.
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
