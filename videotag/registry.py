"""The models there are: name -> class, typed config, kind and task.

A model file registers itself with a decorator; nothing else has to change:

    @register_model("AttentionLSTM", config=AttentionLSTMConfig, kind="tagger", task="multi_label")
    class AttentionLSTM(nn.Layer): ...

This file knows no Paddle and no pydantic: classes are kept as they come.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from videotag.errors import UnknownNameError
from videotag.safe_text import MAX_VALUE, escaped

Kind = Literal["backbone", "extractor", "tagger"]
Task = Literal["multi_label", "single_label"]
Cls = TypeVar("Cls", bound=type)


@dataclass(frozen=True)
class ModelEntry:
    """What the registry knows of a model.

    Attributes:
        name: as the model file spells it.
        cls: the network; built as cls(config).
        config: the pydantic class of the MODEL section.
        kind: "backbone" (B, 3, H, W) -> (B, D); "extractor" clips -> logits and features;
            "tagger" features and masks -> logits.
        task: chooses loss and metrics.
    """

    name: str
    cls: Any
    config: Any
    kind: Kind
    task: Task


_MODELS: dict[str, ModelEntry] = {}


def register_model(name: str, *, config: Any, kind: Kind, task: Task) -> Callable[[Cls], Cls]:
    """A class decorator that registers a model under `name` (upper and lower case are the same).

    Raises:
        ValueError: the name is taken; a programmer's mistake, hence no VideotagError.
    """

    def add(cls: Cls) -> Cls:
        key = name.lower()
        if key in _MODELS:
            raise ValueError(f"model {name!r} is registered twice: {_MODELS[key].cls} and {cls}")
        _MODELS[key] = ModelEntry(name=name, cls=cls, config=config, kind=kind, task=task)
        return cls

    return add


def get_model(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        UnknownNameError: no such model; the text names the nearest and lists all.
    """
    try:
        return _MODELS[name.lower()]
    except KeyError:
        raise UnknownNameError(unknown(name, (entry.name for entry in list_models()), "model")) from None


def list_models(kind: Kind | None = None) -> list[ModelEntry]:
    """All entries, or those of one kind, by name."""
    return sorted((e for e in _MODELS.values() if kind in (None, e.kind)), key=lambda e: e.name.lower())


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """The text of an error about an unknown name: the nearest known one and all there are."""
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    name = escaped(name, limit=MAX_VALUE)
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{name}: unknown {what}; {hint}there are: {', '.join(names) or 'none'}"
