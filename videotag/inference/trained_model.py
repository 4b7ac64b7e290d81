"""A trained model from weights, config and labels: named arrays in, named arrays out.

    model = TrainedModel.load("data/checkpoints")
    model.run({"rgb": features, "rgb.mask": mask})["logits"]

A checkpoint runs in the backend of its INFER section, an export in the backend it was made for. Several of
them run as an ensemble that averages their probabilities.
Shapes: N samples, T steps, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from videotag.config import Config, load_config
from videotag.errors import ConfigError, one_error
from videotag.inference.extractor import Extractor, load_extractor
from videotag.inference.mean_logits import NUMPY, mean_logits
from videotag.inputs.features import as_declared
from videotag.inputs.frames import Frames
from videotag.labels import load_imagenet_names, read_labels
from videotag.registry import FRAMES, LOGITS, ArraySpec, Task
from videotag.runtime.agreement import tags_tolerances
from videotag.runtime.backends import check_name
from videotag.runtime.choice import RuntimeNetwork, RuntimeRequest
from videotag.runtime.device import select_device
from videotag.runtime.exported import export_config, load_exported
from videotag.runtime.trained import TrainedNetwork
from videotag.safe_text import safe_repr
from videotag.system.download import file_digest
from videotag.weights import FoundWeights, find_weights

if TYPE_CHECKING:
    from paddle import nn


class _Network(Protocol):
    """A loaded network: inputs by name -> outputs (arrays or tensors) by name."""

    @property
    def needs_sample(self) -> bool: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def select_runtime(self, sample: Any, /) -> object: ...

    def __call__(self, inputs: Any, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class ModelSource:
    """Weights and the config of their network.

    Attributes:
        weights: Weights as find_weights returns them.
        config: Config of the network.
        config_file: Config file named by the user; None if it comes with the weights.
    """

    weights: FoundWeights
    config: Config
    config_file: str | Path | None = None

    def class_names(self) -> list[str] | None:
        """The C class names that come with the weights; None without any.

        Raises:
            LabelFileError: The label file beside the weights is invalid.
        """
        if self.weights.named:
            return load_imagenet_names() if self.weights.named.labels else None
        beside = self.weights.labels_beside
        return read_labels(beside, num_classes=self.config.model.num_classes) if beside else None


def read_source(
    weights: FoundWeights,
    config_file: str | Path | None = None,
    *,
    model_name: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    default_config: str | Path | None = None,
) -> ModelSource:
    """Reads the config of weights; for an export, without the model's code.

    Args:
        weights: Weights as find_weights returns them.
        config_file: Config file named by the user; by default the one that comes with the weights.
        model_name: Expected name of the model; None allows any.
        overrides: Pairs of key and value that override the config; see load_config.
        default_config: Config file for weights that come without one.

    Raises:
        ConfigError: The config is missing or invalid.
        WeightsError: The export is damaged.
    """
    if weights.is_export:
        config = export_config(
            weights.path, config_file=config_file, model_name=model_name, overrides=list(overrides)
        )
        return ModelSource(weights, config)
    path = config_file or weights.config or default_config
    if path is None:
        raise ConfigError(f"{weights.path}: no config belongs to it; put its config.yaml beside it")
    from videotag.models import load_models  # loads Paddle, which an export may not need

    load_models()
    is_beside = not config_file and weights.config_is_beside
    config = load_config(path, model_name=model_name, overrides=list(overrides), beside_weights=is_beside)
    check_name(config.infer.backend, where=f"{path}: INFER.backend")
    return ModelSource(weights, config, config_file)


class TrainedModel:
    """A trained network or an ensemble of several; loaded on first use.

    Args:
        sources: One or more networks; the first one's config applies to the ensemble.

    Raises:
        ConfigError: Several networks include a two-stage one, or differ in inputs, classes, task or class
            names; the message has one line per difference, with the two weight files.
    """

    def __init__(self, sources: Sequence[ModelSource]) -> None:
        self.sources = list(sources)
        self.config = self.sources[0].config
        if len(self.sources) > 1:
            _check_sources(self.sources)

    @classmethod
    def load(
        cls,
        weights: str | Path | Sequence[str | Path],
        config: str | Path | None = None,
        overrides: Sequence[tuple[str, Any]] = (),
    ) -> TrainedModel:
        """The model of a checkpoint, an export, or an ensemble of several.

        Args:
            weights: A file, a prefix, a folder, an export, or a name; or a sequence of these.
            config: Config file of a single checkpoint; by default the one that comes with the weights.
            overrides: Pairs of key and value that override the config; see load_config.

        Raises:
            ConfigError, WeightsError: An argument is invalid.
        """
        several = [weights] if isinstance(weights, str | Path) else weights
        if config is not None and len(several) > 1:
            raise ConfigError(f"{config}: several weights use their own configs; leave the config out")
        return cls([read_source(find_weights(one), config, overrides=overrides) for one in several])

    @property
    def task(self) -> Task:
        """Task of the model, which selects sigmoid or softmax."""
        return self.config.task

    @property
    def inputs(self) -> tuple[ArraySpec, ...]:
        """Name, shape and dtype of the arrays that `run` takes; loads the network."""
        return self._opened[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the arrays that `run` returns, LOGITS first; loads the network."""
        return self._opened[1].outputs

    def labels(self, label_file: str | Path | None = None, *, default: str | None = None) -> list[str]:
        """The C class names from label_file, by default those that come with the weights.

        Args:
            label_file: Label file named by the user.
            default: Label file for weights that come without labels.

        Raises:
            LabelFileError: No label file is found, or it is invalid.
        """
        return self.sources[0].weights.labels(label_file, self.config.model, default=default)

    def for_evaluation(self) -> TrainedModel:
        """The model as `eval` measures it: on frames of TEST.target_size.

        Evaluation draws no sample, so metrics are in float32 unless the config names another precision.

        Raises:
            ConfigError: An export takes frames of another size than TEST.target_size.
        """
        return TrainedModel([replace(s, config=_for_evaluation(s)) for s in self.sources])

    def select_runtime(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Selects backend and precision on a sample; without one, "auto" is float32.

        Later calls have no effect.

        Args:
            arrays: Sample of the inputs to come, arrays (N, ...) by name as `run` takes.

        Raises:
            WeightsError, ConfigError, DeviceError: The network cannot be loaded; see load_network.
        """
        inputs, network = self._opened
        network.select_runtime(as_declared(arrays, inputs))

    @property
    def needs_sample(self) -> bool:
        """Whether a sample of the user's data selects the precision; loads the network."""
        return self._opened[1].needs_sample

    def load_network(self) -> None:
        """Loads the network now, to find its problems before any work.

        Raises:
            WeightsError: Weights are missing, damaged or do not match the config.
            ConfigError, DeviceError: The backend, precision or device is not available.
        """
        _ = self._opened

    def run(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Runs the network on a batch.

        Args:
            arrays: Inputs by name, as in Batch.inputs; arrays that `inputs` does not declare are ignored.

        Returns:
            Outputs by name, including LOGITS (N, C) float32.

        Raises:
            KeyError: A declared input is missing.
            WeightsError, ConfigError, DeviceError: The network cannot be loaded; see load_network.
        """
        inputs, network = self._opened
        return network(as_declared(arrays, inputs))

    @cached_property
    def _opened(self) -> tuple[tuple[ArraySpec, ...], _Network]:
        return _open(self.sources)


def _for_evaluation(source: ModelSource) -> Config:
    config = source.config
    if not config.entry.two_stage:
        return config
    if source.weights.is_export and config.test.target_size != config.infer.target_size:
        raise ConfigError(
            f"TEST.target_size={config.test.target_size}: {source.weights.path.parent} is an export for "
            f"frames of {config.infer.target_size} pixels; give --set "
            f"TEST.target_size={config.infer.target_size}"
        )
    return replace(config, infer=config.infer.model_copy(update={"target_size": config.test.target_size}))


def _open(sources: Sequence[ModelSource]) -> tuple[tuple[ArraySpec, ...], _Network]:
    """The inputs and the runnable network of a model."""
    first, has_exports = sources[0], any(source.weights.is_export for source in sources)
    if len(sources) > 1 and has_exports:
        opened = [_open([source]) for source in sources]
        return opened[0][0], _Mean([network for _, network in opened], first.config.task)
    if first.config.entry.two_stage:
        extractor = load_extractor(first.config, first.weights, with_classifier=True)
        return (ArraySpec(FRAMES, (None, None, None, None, 3), "uint8"),), _TwoStages(extractor)
    if has_exports:
        exported = load_exported(first.weights.path, use_gpu=first.config.train.use_gpu)
        return exported.inputs, exported
    request = runtime_request(first.config)
    request.check()
    network = trained_network(sources)
    tolerances = tags_tolerances(first.config.task)
    return network.inputs, RuntimeNetwork(network, request, tolerances=tolerances)


def runtime_request(config: Config) -> RuntimeRequest:
    """The backend, precision and device that a config requests for a checkpoint.

    Raises:
        DeviceError: A GPU was requested but none is available.
    """
    return RuntimeRequest(config.infer.backend, config.infer.precision, select_device(config.train.use_gpu))


def load_layers(sources: Sequence[ModelSource], *, temperature: float = 1.0) -> nn.Layer:
    """The Paddle model of one checkpoint, or the ensemble of several, in evaluation mode.

    Args:
        sources: Compatible checkpoints; see TrainedModel.
        temperature: Positive divisor of each model's logits.

    Raises:
        WeightsError: Weights are missing, damaged or do not match their config.
        DeviceError: A GPU was requested but none is available.
    """
    from videotag.inference.ensemble import Ensemble
    from videotag.inference.load_weights import load_model

    models = [
        load_model(s.config, s.weights.path, config_name=str(s.config_file or s.config.entry.name))
        for s in sources
    ]
    alone = len(models) == 1 and temperature == 1
    model = models[0] if alone else Ensemble(models, sources[0].config.task, temperature=temperature)
    model.eval()
    return model


def trained_network(sources: Sequence[ModelSource]) -> TrainedNetwork:
    """The network of one checkpoint, or the ensemble of several, ready to be compiled by a backend.

    Args:
        sources: Compatible checkpoints; see TrainedModel.

    Raises:
        WeightsError: Weights are missing, damaged or do not match their config.
        DeviceError: A GPU was requested but none is available.
    """
    config = sources[0].config
    return TrainedNetwork.from_model(
        load_layers(sources),
        weights=[file_digest(source.weights.path) for source in sources],
        config=[_identity(source.config) for source in sources],
        name=config.entry.name if len(sources) == 1 else f"the mean of {len(sources)} taggers",
    )


def _identity(config: Config) -> list[Any]:
    """What determines a network besides its weights, as JSON-compatible values."""
    return [config.entry.name, config.task, config.model.model_dump(mode="json")]


class _Mean:
    """An ensemble of networks in any backends that averages their probabilities."""

    outputs = (LOGITS,)

    def __init__(self, networks: Sequence[_Network], task: Task) -> None:
        self._networks = networks
        self._task: Task = task
        self.needs_sample = any(network.needs_sample for network in networks)

    def select_runtime(self, sample: Mapping[str, np.ndarray]) -> None:
        """Selects the runtime of each network on inputs (N, ...) by name."""
        for network in self._networks:
            network.select_runtime(sample)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """LOGITS (N, C) float32 of the mean probabilities."""
        logits = [np.asarray(network(inputs)[LOGITS], np.float64) for network in self._networks]
        return {LOGITS: mean_logits(logits, self._task, NUMPY).astype(np.float32)}


class _TwoStages:
    """Classifies clips of frames by an extractor and its classifier."""

    outputs = (LOGITS,)

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.needs_sample = extractor.network.needs_sample

    def select_runtime(self, sample: Mapping[str, np.ndarray]) -> None:
        """Selects the extractor's runtime on FRAMES (N, T, H, W, 3) uint8."""
        self._extractor.network.select_runtime({FRAMES: np.concatenate(sample[FRAMES])})

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """LOGITS (N, C) float32, averaged over the frames, of FRAMES (N, T, H, W, 3) uint8."""
        clips = ((None, _distinct(clip)) for clip in inputs[FRAMES])
        found = self._extractor.features_of(clips)
        return {LOGITS: np.stack([self._extractor.logits(x).mean(axis=0) for _, x in found if x is not None])}


def _distinct(clip: np.ndarray) -> Frames:
    """Drops the consecutive duplicates in a clip (T, H, W, 3), which abound in short videos."""
    is_new = [True, *(not np.array_equal(a, b) for a, b in zip(clip[1:], clip, strict=False))]
    return Frames(clip[is_new], np.cumsum(is_new) - 1, None, 0.0, None)


def _check_sources(sources: Sequence[ModelSource]) -> None:
    """Checks that every network is compatible with the first.

    Raises:
        ConfigError: Some networks are incompatible; see TrainedModel.
    """
    problems = [
        f"{source.weights.path}: {source.config.entry.name} is not a tagger; only taggers can be averaged"
        for source in sources
        if source.config.entry.two_stage
    ]
    if not problems:
        first, *others = sources
        for other in others:
            pair = f"{first.weights.path} and {other.weights.path}"
            problems += [f"{pair}: {text}" for text in _differences_of(first, other)]
    if problems:
        raise one_error(ConfigError, problems)


def _differences_of(first: ModelSource, other: ModelSource) -> Iterator[str]:
    yield from differences(first.config, first.class_names(), other.config, other.class_names())


def _described(config: Config) -> dict[str, Any]:
    """Non-default reader options of each input, by name."""
    return {name: options.model_dump(exclude_defaults=True) for name, options in config.inputs.items()}


def differences(
    config: Config, names: Sequence[str] | None, other: Config, other_names: Sequence[str] | None
) -> Iterator[str]:
    """Yields the differences that prevent averaging the probabilities of two models, one text each.

    Args:
        config: Config of the first model.
        names: Class names of the first model; compared only if both models have names.
        other: Config of the second model.
        other_names: Class names of the second model.
    """
    pairs = [
        ("inputs", _described(config), _described(other)),
        ("num_classes", config.model.num_classes, other.model.num_classes),
        ("task", config.task, other.task),
    ]
    for what, one, two in pairs:
        if one != two:
            yield f"{what} {one} and {two} differ; give weights with the same {what}"
    if names and other_names and len(names) == len(other_names):
        unlike = [i for i, (one, two) in enumerate(zip(names, other_names, strict=True)) if one != two]
        if unlike:
            i = unlike[0]
            yield (
                f"{len(unlike)} class names differ, first of class {i}: {safe_repr(names[i])} and "
                f"{safe_repr(other_names[i])}; give weights with the same labels"
            )
