"""Models, backbones and readers by name, and what each of them promises.

A file registers what it defines with a decorator; nothing else has to change:

    @register_model("AttentionLSTM", config=AttentionLSTMConfig, task="multi_label")
    class AttentionLSTM(SequenceTagger): ...

This file loads neither Paddle nor pydantic: classes are kept as they come.
Shapes: N samples, C classes.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

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


def sequence_specs(dims: Mapping[str, int]) -> list[ArraySpec]:
    """Inputs of sequences of features: per name (N, T, D), then their masks.

    Args:
        dims: D by name.
    """
    sequences = [ArraySpec(name, (None, None, dim)) for name, dim in dims.items()]
    return sequences + [ArraySpec(name + MASK, (None, None), "bool") for name in dims]


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


class TwoStages(Protocol):
    """What a model promises besides, if its first stage, frames to features, runs alone.

    Its input is FRAMES; its logits are the mean over the frames of a linear layer on their features.

    Attributes:
        feature_dim: D, the width of the features.
        classifier: Name of the attribute that holds that layer.
    """

    feature_dim: int
    classifier: str

    def encoder(self, size_px: int | None = None) -> Any:
        """The first stage as a Model: FRAMES (B, H, W, 3) uint8 -> FEATURES (B, D).

        Args:
            size_px: H and W of its frames, if they are fixed.
        """


@runtime_checkable
class NamedClassifier(Protocol):
    """What a model promises besides, if its last layer is not called "output".

    Attributes:
        classifier: Name of the layer that starts anew for other classes.
    """

    classifier: str


@runtime_checkable
class PublishedLayouts(Protocol):
    """What a model promises besides, if it reads weight files of other systems."""

    def layouts(self) -> list[Any]:
        """Its videotag.models.layouts.Layout by system."""

    def remedy(self, state: Iterable[str], /) -> str | None:
        """What to do about a file that holds arrays of these names, if it is of another network."""


@runtime_checkable
class PublishedBackbone(Protocol):
    """What a backbone promises besides, if it reads weight files of other systems."""

    def layouts(self) -> list[Any]:
        """Its videotag.models.layouts.Layout by system, with the classifier behind it as "fc."."""

    @classmethod
    def owns(cls, names: Iterable[str], /) -> bool:
        """Whether a file with arrays of these names, in any known layout, holds this network."""

    @classmethod
    def shipped_config(cls) -> str | None:
        """The shipped config of a TSN over it; None if there is none."""


@dataclass(frozen=True)
class ModelEntry:
    """What the registry knows of a model.

    Attributes:
        name: Name, as the model file spells it.
        cls: Class of the networks, see Model; built as cls(config).
        config: Pydantic class of the MODEL section.
        task: What chooses loss and metrics.
        two_stage: Whether it keeps the promises of TwoStages.
        plugin: Name of the plugin that registered it; None if it is videotag's own.
    """

    name: str
    cls: Any
    config: Any
    task: Task
    two_stage: bool = False
    plugin: str | None = None


@dataclass(frozen=True)
class BackboneEntry:
    """What the registry knows of a backbone: a network (B, 3, H, W) -> (B, D), normalised frames to features.

    Attributes:
        name: Name, as its file spells it.
        cls: Class of the networks, built as cls(config()).
        config: Pydantic class of its settings.
        plugin: Name of the plugin that registered it; None if it is videotag's own.
    """

    name: str
    cls: Any
    config: Any
    plugin: str | None = None


@dataclass(frozen=True)
class ReaderEntry:
    """What the registry knows of a reader.

    Attributes:
        name: Name, as INPUTS spells it.
        cls: Class of the readers, see videotag.inputs.reader.Reader.
        options: Pydantic class of an entry of the INPUTS section.
        plugin: Name of the plugin that registered it; None if it is videotag's own.
    """

    name: str
    cls: Any
    options: Any
    plugin: str | None = None


Entry = TypeVar("Entry", ModelEntry, BackboneEntry, ReaderEntry)


class _Registry(Generic[Entry]):
    """Entries by name, upper and lower case being the same."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: dict[str, Entry] = {}

    def add(self, entry: Entry) -> None:
        key = entry.name.lower()
        if key in self._entries:
            taken = self._entries[key].cls
            raise ValueError(f"{self._what} {entry.name!r} is registered twice: {taken} and {entry.cls}")
        self._entries[key] = entry

    def get(self, name: str) -> Entry:
        try:
            return self._entries[name.lower()]
        except KeyError:
            names = (entry.name for entry in self._entries.values())
            raise UnknownNameError(unknown(name, names, self._what)) from None

    def forget(self, plugin: str) -> None:
        self._entries = {key: entry for key, entry in self._entries.items() if entry.plugin != plugin}

    def all(self) -> list[Entry]:
        return sorted(self._entries.values(), key=lambda entry: entry.name.lower())


_MODELS: _Registry[ModelEntry] = _Registry("model")
_BACKBONES: _Registry[BackboneEntry] = _Registry("backbone")
_READERS: _Registry[ReaderEntry] = _Registry("reader")
_plugin: str | None = None  # that is being loaded


@contextlib.contextmanager
def registering(plugin: str) -> Iterator[None]:
    """While the block lasts, what is registered is of this plugin; if it fails, nothing of it stays."""
    global _plugin
    before, _plugin = _plugin, plugin
    try:
        yield
    except BaseException:
        for names in (_MODELS, _BACKBONES, _READERS):
            names.forget(plugin)
        raise
    finally:
        _plugin = before


def _plugin_of(cls: type) -> str | None:
    """The plugin being loaded; None for a class of videotag's own, which a plugin has imported."""
    return None if cls.__module__.startswith("videotag.") else _plugin


def register_model(name: str, *, config: Any, task: Task) -> Callable[[Cls], Cls]:
    """A class decorator that registers a model under `name` (upper and lower case are the same).

    Args:
        name: Name of the model.
        config: Pydantic class of the MODEL section.
        task: What chooses loss and metrics, unless MODEL.task does.

    Raises:
        ValueError: The name is taken; a programmer's mistake, hence no VideotagError.
    """

    def add(cls: Cls) -> Cls:
        two_stage, plugin = hasattr(cls, "encoder"), _plugin_of(cls)
        _MODELS.add(ModelEntry(name, cls, config, task, two_stage=two_stage, plugin=plugin))
        return cls

    return add


def register_backbone(name: str, *, config: Any) -> Callable[[Cls], Cls]:
    """A class decorator that registers a backbone.

    Args:
        name: Name of the backbone.
        config: Pydantic class of its settings.

    Raises:
        ValueError: The name is taken.
    """

    def add(cls: Cls) -> Cls:
        _BACKBONES.add(BackboneEntry(name, cls, config, plugin=_plugin_of(cls)))
        return cls

    return add


def register_reader(name: str, *, options: Any) -> Callable[[Cls], Cls]:
    """A class decorator that registers a reader of one kind of input.

    Args:
        name: Name of the reader.
        options: Pydantic class of an entry of the INPUTS section.

    Raises:
        ValueError: The name is taken.
    """

    def add(cls: Cls) -> Cls:
        _READERS.add(ReaderEntry(name, cls, options, plugin=_plugin_of(cls)))
        return cls

    return add


def get_model(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        UnknownNameError: No such model; the text names the nearest and lists all.
    """
    return _MODELS.get(name)


def get_backbone(name: str) -> BackboneEntry:
    """The entry of a backbone.

    Raises:
        UnknownNameError: No such backbone; the text names the nearest and lists all.
    """
    return _BACKBONES.get(name)


def get_reader(name: str) -> ReaderEntry:
    """The entry of a reader.

    Raises:
        UnknownNameError: No such reader; the text names the nearest and lists all.
    """
    return _READERS.get(name)


def list_models() -> list[ModelEntry]:
    """All models, by name."""
    return _MODELS.all()


def list_backbones() -> list[BackboneEntry]:
    """All backbones, by name."""
    return _BACKBONES.all()


def list_readers() -> list[ReaderEntry]:
    """All readers, by name."""
    return _READERS.all()


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """The text of an error about an unknown name: the nearest known one and all there are."""
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    name = escaped(name, limit=MAX_VALUE)
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{name}: unknown {what}; {hint}there are: {', '.join(names) or 'none'}"
