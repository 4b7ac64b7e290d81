"""Models, backbones and readers by name, and what each of them promises.

A file registers what it defines with a decorator; nothing else has to change:

    @register_model("AttentionLSTM", config=AttentionLSTMConfig, task="multi_label")
    class AttentionLSTM(SequenceTagger): ...

This file loads neither Paddle nor pydantic: classes are kept as they come.
Shapes: N samples, C classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from videotag.errors import UnknownNameError
from videotag.safe_text import MAX_VALUE, escaped

#: The output that every model gives: (N, C), before sigmoid or softmax.
LOGITS = "logits"
#: A mask (N, T) bool of an input NAME is the input NAME + MASK; True on real steps, which come first.
MASK = ".mask"
#: The weight of every step (N, T) of an input NAME is the output NAME + ATTENTION.
ATTENTION = ".attention"
#: The output (B, D) of the first stage of a model that has two.
FEATURES = "features"
#: The input (N, T, H, W, 3) uint8 RGB of models over frames.
FRAMES = "frames"
Kind = Literal["backbone", "extractor", "tagger"]
Task = Literal["multi_label", "single_label"]
Cls = TypeVar("Cls", bound=type)


@dataclass(frozen=True)
class ArraySpec:
    """An array that goes into a model or comes out of it.

    Attributes:
        name: Name of the array.
        shape: Its shape; None where a size may vary. The first axis is the batch.
        dtype: Its dtype.
        below: Integers are at least 0 and below this, such as the size of a vocabulary.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Literal["float32", "bool", "uint8", "int64"] = "float32"
    below: int = 256


class Model(Protocol):
    """What a registered class promises of its networks, built as cls(config).

    Attributes:
        inputs: Arrays that forward takes by name, in the order that an export keeps.
        outputs: Names of the arrays that forward returns, LOGITS first.
    """

    inputs: tuple[ArraySpec, ...]
    outputs: tuple[str, ...]

    def forward(self, inputs: Mapping[str, Any], /) -> dict[str, Any]:
        """Tensors by name: LOGITS (N, C), and what else `outputs` names."""


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

    @property
    def two_stage(self) -> bool:
        """Whether the first stage, frames to features, runs alone."""
        return self.kind == "extractor"


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
