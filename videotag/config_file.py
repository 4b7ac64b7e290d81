"""The content of a config file before validation: sections of plain values, and overrides of them.

Old spellings of keys are translated by one table (_ALIASES).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from videotag.errors import ConfigError, one_error
from videotag.formats.yaml_text import parse_yaml, read_yaml
from videotag.registry import unknown
from videotag.safe_text import MAX_VALUE, escaped, safe_repr
from videotag.system.resources import find_resource, list_configs

SPLITS = ("TRAIN", "VALID", "TEST", "INFER")
SECTIONS = ("MODEL", "INPUTS", *SPLITS)

#: Old spelling of a key -> current one, in any section.
_ALIASES = {
    "bone_nework": "bone_network",
    "learning_rate_decay": "decay_gamma",
    "l2_weight_decay": "weight_decay",
    "total_videos": "num_samples",
    "pretrain_base": "pretrain",
}


def read_sections(path: str | Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The sections of a config with current key names, and the names of the plugins that it was made with.

    The keys of INPUTS are inputs of the model, which have no old spellings.

    Args:
        path: Path of the config; shipped ones are found from any folder.

    Raises:
        ConfigError: The file is missing, or something in it is not a section; one line per problem.
    """
    raw = _read_yaml(path)
    plugins = raw.pop("PLUGINS", [])
    problems = [
        f"{path}: {escaped(key, limit=MAX_VALUE)}: unknown section; there are: {', '.join(SECTIONS)}"
        for key in raw
        if key not in SECTIONS
    ]
    for key, value in raw.items():
        if key in SECTIONS and not isinstance(value, dict):
            problems.append(f"{path}: {key}: {safe_repr(value)} is not a section of key: value lines")
    if not _are_plugin_names(plugins):
        problems.append(f"{path}: PLUGINS: {safe_repr(plugins)} is not a list of names; leave it out")
    if problems:
        raise one_error(ConfigError, problems)
    sections = {
        name: values if name == "INPUTS" else _translate_old_keys(values, f"{path}: {name}")
        for name, values in raw.items()
    }
    return sections, plugins


def written_values(path: str | Path) -> dict[str, dict[str, Any]]:
    """The sections of a config as written, with current key names and without defaults.

    Args:
        path: Path of the config; shipped ones are found from any folder.

    Raises:
        ConfigError: The file is missing or has no sections.
    """
    raw = _read_yaml(path)
    return {
        section: _translate_old_keys(values, f"{path}: {section}")
        for section, values in raw.items()
        if isinstance(values, dict)
    }


def files_of_config(path: str | Path) -> list[Path]:
    """The paths of a config, of any model, and of the label file that it names.

    Args:
        path: Path of the config; shipped ones are found from any folder.

    Raises:
        ConfigError: The file is missing or has no sections.
    """
    raw, resolved = _read_yaml(path), find_resource(path)
    model = raw.get("MODEL")
    named = [resolved, model.get("label_file") if isinstance(model, dict) else None]
    return [Path(file) for file in named if isinstance(file, str | Path)]


def parse_overrides(texts: list[str]) -> list[tuple[str, Any]]:
    """Splits the KEY=VALUE texts of --set into pairs for load_config.

    Args:
        texts: Values of --set, in order.

    Raises:
        ConfigError: A text has no "=", or no dot in its key.
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


def last_values(overrides: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """SECTION.key -> the last value that overrides give it, as load_config reads them.

    Args:
        overrides: Pairs of dotted key and value, see apply_override.

    Raises:
        ConfigError: An override is invalid, see apply_override.
    """
    raw: dict[str, dict[str, Any]] = {}
    for dotted, value in overrides:
        apply_override(raw, dotted, value)
    return {f"{section}.{key}": value for section, values in raw.items() for key, value in values.items()}


def apply_override(raw: dict[str, dict[str, Any]], dotted: str, value: Any) -> None:
    """Sets a key of a section.

    Args:
        raw: Sections of a config by name, which are changed.
        dotted: Section, in any case, and key, such as TRAIN.batch_size; INPUTS.NAME.key for an input.
        value: Value of the key; text is read as YAML.

    Raises:
        ConfigError: There is no such section, or the text is not YAML.
    """
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
    values = raw.setdefault(section.upper(), {})
    if section.upper() == "INPUTS" and "." in key:
        name, _, key = key.partition(".")
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {escaped(dotted)}: the config has no such section; correct it")
    values.update(_translate_old_keys({key: value}, "--set"))


def _read_yaml(path: str | Path) -> dict[str, Any]:
    resolved = find_resource(path)
    if resolved is None:
        if Path(path).is_dir():
            raise ConfigError(f"{path}: a folder, expected a config file; name a YAML file in it")
        names = ", ".join(f"configs/{p.name}" for p in list_configs())
        raise ConfigError(f"{path}: no such config file; write one, or use a shipped one: {names}")
    raw = read_yaml(resolved, error=ConfigError, remedy="give a config such as configs/attention_lstm.yaml")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no sections; expected MODEL:, TRAIN: ... with key: value lines below")
    return raw


def _translate_old_keys(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The section with current key names; VideoTag's text "None" becomes None."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = _ALIASES.get(key, key)
        if name in result:
            raise ConfigError(
                f"{where}.{escaped(key)}: the same as {escaped(name)}, which is given too; keep one of them"
            )
        result[name] = None if value == "None" else value
    return result


def _are_plugin_names(plugins: Any) -> bool:
    """Whether PLUGINS is a list of plain names without folders."""
    return isinstance(plugins, list) and all(isinstance(name, str) and "/" not in name for name in plugins)
