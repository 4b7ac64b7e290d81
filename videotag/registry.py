"""Registries of models, backbones and readers, and the interfaces of models.

A file registers its class with a decorator; nothing else has to change:

    @register_model("AttentionLSTM", config=AttentionLSTMConfig, task="multi_label")
    class AttentionLSTM(SequenceTagger): ...

This file imports neither Paddle nor pydantic.
Shapes: N samples, B frames, T steps, H and W height and width in pixels, D feature width, C classes.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args, runtime_checkable

from videotag.class_checks import check_base, check_methods
from videotag.errors import PluginError, UnknownNameError
from videotag.safe_text import MAX_VALUE, escaped

#: Output of every model: (N, C), before sigmoid or softmax.
LOGITS = "logits"
#: Suffix of the mask (N, T) bool of a sequence input; True on real steps, which come first.
MASK = ".mask"
#: Suffix of the output with the attention weights (N, T) of a sequence input.
ATTENTION = ".attention"
#: Output (N, D) of some taggers that stands for the whole sample: the input of the last layer.
EMBEDDING = "embedding"
#: Output (B, D) of the first stage of a two-stage model.
FEATURES = "features"
#: Input (N, T, H, W, 3) uint8 RGB of models of frames.
FRAMES = "frames"
Task = Literal["multi_label", "single_label"]
Dtype = Literal["float32", "bool", "uint8", "int64"]
_LAYER = "paddle.nn.layer.layers.Layer"
_READER = "videotag.inputs.reader.Reader"
_READER_METHODS = {
    "__init__": ("self", "inputs", "section"),
    "specs": ("self",),
    "check": ("self", "fields"),
    "read": ("self", "field", "rng"),
    "collate": ("self", "samples"),
}
Cls = TypeVar("Cls", bound=type)


@dataclass(frozen=True)
class ArraySpec:
    """Specification of an input or output array of a model.

    Attributes:
        name: Name of the array.
        shape: Shape of the array, with None for sizes that may vary. The first axis is the batch.
        dtype: Data type of the array, one of Dtype.
        below: Exclusive upper bound of integers, such as the size of a vocabulary; the lower bound is 0.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Dtype = "float32"
    below: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple | list) or not self.shape:
            raise ValueError(
                f"array {self.name!r}: shape {self.shape!r}, expected sizes such as (None, None, 2048)"
            )
        if self.dtype not in get_args(Dtype):
            dtypes = ", ".join(get_args(Dtype))
            raise ValueError(f"array {self.name!r}: dtype {self.dtype!r}, expected one of {dtypes}")

    def __str__(self) -> str:
        return format_array_spec(self.shape, self.dtype)

    def accepts_shape(self, shape: Sequence[int | None]) -> bool:
        """Whether arrays of a shape, in which None may vary, fit this specification."""
        return len(shape) == len(self.shape) and all(
            own is None or own == size for own, size in zip(self.shape, shape, strict=True)
        )


def format_array_spec(shape: Sequence[int | None], dtype: Any) -> str:
    """A shape, in which None may vary, and a data type, for messages: "(any, 2048) float32"."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)}) {dtype}"


def sequence_specs(dims: Mapping[str, int]) -> list[ArraySpec]:
    """Specifications of feature sequences (N, T, D), followed by their masks (N, T).

    Args:
        dims: Feature width D by name.
    """
    sequences = [ArraySpec(name, (None, None, dim)) for name, dim in dims.items()]
    return sequences + [ArraySpec(name + MASK, (None, None), "bool") for name in dims]


class Model(Protocol):
    """Interface of a registered model class, built as cls(config).

    Attributes:
        inputs: Specifications of forward's inputs; exports keep their order.
        outputs: Names of forward's outputs, LOGITS first.
    """

    inputs: tuple[ArraySpec, ...]
    outputs: tuple[str, ...]

    def forward(self, inputs: Mapping[str, Any], /) -> dict[str, Any]:
        """Computes the outputs, LOGITS (N, C) and others, by name from the input tensors by name."""


class TwoStages(Protocol):
    """Optional interface of a model whose first stage, frames to features, can run separately.

    Its input is FRAMES. Its logits are those of a linear layer on the features, averaged over the frames.

    Attributes:
        feature_dim: Feature width D.
        classifier: Name of the attribute with the linear layer; an attribute of the class.
    """

    feature_dim: int
    classifier: str

    def encoder(self, size_px: int | None = None) -> Any:
        """The first stage as a Model: FRAMES (B, H, W, 3) uint8 -> FEATURES (B, D).

        Args:
            size_px: Height and width of its frames in pixels; None if they may vary.
        """


@runtime_checkable
class NamedClassifier(Protocol):
    """Optional interface of a model whose last layer is not called "output".

    Attributes:
        classifier: Name of the layer that is reinitialized for other classes.
    """

    classifier: str


@runtime_checkable
class PublishedLayouts(Protocol):
    """Optional interface of a model that can read weight files of other systems."""

    def layouts(self) -> list[Any]:
        """The supported layouts, one videotag.models.layouts.Layout per system."""


@runtime_checkable
class RecognizesOthers(Protocol):
    """Optional interface of a model that recognizes weight files of other networks."""

    def remedy(self, state: Iterable[str], /) -> str | None:
        """The remedy if a file with these parameter names belongs to another network; None if unknown."""


@runtime_checkable
class PublishedBackbone(Protocol):
    """Optional interface of a backbone that can read weight files of other systems."""

    def layouts(self) -> list[Any]:
        """The supported layouts, one models.layouts.Layout per system, with the classifier as "fc."."""

    @classmethod
    def owns(cls, names: Iterable[str], /) -> bool:
        """Whether the parameter names of a file, in any known layout, are those of this network."""

    @classmethod
    def shipped_config(cls) -> str | None:
        """The path of the shipped config of a TSN with this backbone; None if there is none."""


@dataclass(frozen=True)
class ModelEntry:
    """Registry entry of a model.

    Attributes:
        name: Name of the model.
        cls: Class of the networks, see Model; built as cls(config).
        config: Pydantic class of the MODEL section.
        task: Default task, which selects loss and metrics.
        two_stage: Whether the class implements TwoStages.
        plugin: Name of the plugin that registered it; None for built-in models.
    """

    name: str
    cls: Any
    config: Any
    task: Task
    two_stage: bool = False
    plugin: str | None = None


@dataclass(frozen=True)
class BackboneEntry:
    """Registry entry of a backbone, which maps normalized frames (B, 3, H, W) to features (B, D).

    Attributes:
        name: Name of the backbone.
        cls: Class of the networks, built as cls(config()).
        config: Pydantic class of the backbone's settings.
        plugin: Name of the plugin that registered it; None for built-in backbones.
    """

    name: str
    cls: Any
    config: Any
    plugin: str | None = None


@dataclass(frozen=True)
class ReaderEntry:
    """Registry entry of a reader.

    Attributes:
        name: Name of the reader in INPUTS.
        cls: Class of the readers, see videotag.inputs.reader.Reader.
        options: Pydantic class of an entry of the INPUTS section.
        plugin: Name of the plugin that registered it; None for built-in readers.
    """

    name: str
    cls: Any
    options: Any
    plugin: str | None = None


Entry = TypeVar("Entry", ModelEntry, BackboneEntry, ReaderEntry)


class _Registry(Generic[Entry]):
    """Entries by case-insensitive name; an addition replaces the dict, so that it can be undone."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.entries: dict[str, Entry] = {}

    def add(self, entry: Entry) -> None:
        key = entry.name.lower()
        taken = self.entries.get(key)
        if taken is None:
            self.entries = {**self.entries, key: entry}
            return
        if taken.plugin and not entry.plugin:  # built-in ones may be imported after a plugin
            raise PluginError(
                f"plugin {taken.plugin}: {self._what} {taken.name!r} is built in; choose another name"
            )
        raise ValueError(f"{self._what} {entry.name!r} is registered twice: {taken.cls} and {entry.cls}")

    def get(self, name: str) -> Entry:
        try:
            return self.entries[name.lower()]
        except KeyError:
            names = (entry.name for entry in self.entries.values())
            raise UnknownNameError(unknown(name, names, self._what)) from None

    def all(self) -> list[Entry]:
        return sorted(self.entries.values(), key=lambda entry: entry.name.lower())


_MODELS: _Registry[ModelEntry] = _Registry("model")
_BACKBONES: _Registry[BackboneEntry] = _Registry("backbone")
_READERS: _Registry[ReaderEntry] = _Registry("reader")
_REGISTRIES: tuple[_Registry[Any], ...] = (_MODELS, _BACKBONES, _READERS)
_plugin: str | None = None  # name of the plugin that is being loaded


@contextlib.contextmanager
def registering(plugin: str) -> Iterator[None]:
    """Context in which registrations are attributed to a plugin, and undone if the block raises an error."""
    global _plugin
    before, _plugin = _plugin, plugin
    snapshots = [(registry, registry.entries) for registry in _REGISTRIES]
    try:
        yield
    except BaseException:
        for registry, earlier in snapshots:  # built-in modules that the plugin imported stay imported
            registry.entries = {
                key: entry
                for key, entry in registry.entries.items()
                if entry.plugin is None or key in earlier
            }
        raise
    finally:
        _plugin = before


def num_entries() -> int:
    """The number of registered models, backbones and readers."""
    return sum(len(registry.entries) for registry in _REGISTRIES)


def _plugin_of(cls: type) -> str | None:
    """The plugin being loaded; None for a built-in class, whose module a plugin may import first."""
    return None if cls.__module__.startswith("videotag.") else _plugin


def register_model(name: str, *, config: Any, task: Task) -> Callable[[Cls], Cls]:
    """A class decorator that registers a model.

    Args:
        name: Name of the model, case-insensitive.
        config: Pydantic class of the MODEL section.
        task: Default task, which selects loss and metrics; MODEL.task overrides it.

    Raises:
        ValueError: The name is already registered, or the task is unknown.
        TypeError: The class or its config does not implement its interface; these are programming errors,
            hence no VideotagErrors.
    """
    if task not in get_args(Task):
        raise ValueError(f"model {name!r}: task {task!r}, expected one of {', '.join(get_args(Task))}")
    check_base(config, "videotag.sections.ModelSection")

    def add(cls: Cls) -> Cls:
        check_base(cls, _LAYER)
        check_methods(cls, {"__init__": ("self", "config"), "forward": ("self", "inputs")}, base=_LAYER)
        plugin = _plugin_of(cls)
        two_stage = hasattr(cls, "encoder") and hasattr(cls, "classifier")  # TwoStages
        _MODELS.add(ModelEntry(name, cls, config, task, two_stage=two_stage, plugin=plugin))
        return cls

    return add


def register_backbone(name: str, *, config: Any) -> Callable[[Cls], Cls]:
    """A class decorator that registers a backbone.

    Args:
        name: Name of the backbone, case-insensitive.
        config: Pydantic class of the backbone's settings.

    Raises:
        ValueError: The name is already registered.
        TypeError: The class or its config does not implement its interface.
    """
    check_base(config, "videotag.sections.Section")

    def add(cls: Cls) -> Cls:
        check_base(cls, _LAYER)
        check_methods(cls, {"__init__": ("self", "config"), "forward": ("self", "images")}, base=_LAYER)
        _BACKBONES.add(BackboneEntry(name, cls, config, plugin=_plugin_of(cls)))
        return cls

    return add


def register_reader(name: str, *, options: Any) -> Callable[[Cls], Cls]:
    """A class decorator that registers a reader of one kind of input.

    Args:
        name: Name of the reader, case-insensitive.
        options: Pydantic class of an entry of the INPUTS section.

    Raises:
        ValueError: The name is already registered.
        TypeError: The class or its options do not implement their interface.
    """
    check_base(options, "videotag.sections.InputOptions")

    def add(cls: Cls) -> Cls:
        check_base(cls, _READER)
        check_methods(cls, _READER_METHODS, base=_READER, inheritable=("__init__", "check"))
        _READERS.add(ReaderEntry(name, cls, options, plugin=_plugin_of(cls)))
        return cls

    return add


def get_model(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        UnknownNameError: There is no such model; the message suggests the nearest and lists all.
    """
    return _MODELS.get(name)


def get_backbone(name: str) -> BackboneEntry:
    """The entry of a backbone.

    Raises:
        UnknownNameError: There is no such backbone; the message suggests the nearest and lists all.
    """
    return _BACKBONES.get(name)


def get_reader(name: str) -> ReaderEntry:
    """The entry of a reader.

    Raises:
        UnknownNameError: There is no such reader; the message suggests the nearest and lists all.
    """
    return _READERS.get(name)


def list_models() -> list[ModelEntry]:
    """All models, sorted by name."""
    return _MODELS.all()


def list_backbones() -> list[BackboneEntry]:
    """All backbones, sorted by name."""
    return _BACKBONES.all()


def list_readers() -> list[ReaderEntry]:
    """All readers, sorted by name."""
    return _READERS.all()


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """The message for an unknown name, with the nearest known name and a list of all.

    Args:
        name: Unknown name.
        known: Known names.
        what: Kind of thing that is named, such as "model".
    """
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    name = escaped(name, limit=MAX_VALUE)
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{name}: unknown {what}; {hint}there are: {', '.join(names) or 'none'}"
