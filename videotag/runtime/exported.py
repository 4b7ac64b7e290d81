"""Folders written by `videotag export`, whose networks run without the code that trained them.

    export.json                          manifest, with the sha256 of every file
    network.*                            the network, in the files of its backend
    classifier.safetensors               for an extractor: its last layer, to tag without a second stage
    config.yaml labels.txt               as beside a checkpoint
    README.md                            model card; the only file that may be edited

Only files that export.json lists by plain name and sha256 are read, and backends reject networks that could
make them read others. A Paddle program may contain operators that read and write files: trust an export for
Paddle as you would trust code. The sha256s detect damage; they do not authenticate the author. An export for
a backend that does not need Paddle runs without it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from videotag.config import Config, load_config
from videotag.errors import ConfigError, DeviceError, WeightsError
from videotag.inputs import load_readers
from videotag.registry import FEATURES, MASK, ArraySpec, ModelEntry, unknown
from videotag.runtime.backends import (
    AUTO,
    Backend,
    ExportError,
    backend_names,
    get_backend,
    list_backends,
    unsupported_precision_reason,
    wrap_backend_errors,
)
from videotag.runtime.choice import RecordedRuntime, RuntimeChoice
from videotag.runtime.trained import Arrays, Network
from videotag.safe_text import escaped, is_plain
from videotag.sections import ExtractorModel, Key, ModelSection, Positive, Section, TaggerModel, UseGpu
from videotag.system.download import file_digest
from videotag.system.json_text import MAX_CARD_BYTES, read_json
from videotag.weights import CONFIG_FILE, EXPORT_FILE, LABELS_FILE, FoundWeights

FORMAT_VERSION = 1
CARD_FILE = "README.md"
CLASSIFIER_FILE = "classifier.safetensors"


def _printable(text: str) -> str:
    if not all(map(is_plain, text)):
        raise ValueError("holds a character that no name may have")
    return text


def _registered(backend: str) -> str:
    if backend not in (names := backend_names()):
        raise ValueError(unknown(backend, names, "backend"))
    return backend


Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
logger = logging.getLogger(__name__)


class ArrayInfo(Section):
    """Name, shape (null for sizes that may vary) and dtype of an input or output."""

    name: Name
    shape: list[int | None]
    dtype: Literal["float32", "bool", "uint8", "int64"]


class SourceWeights(Section):
    """A weight file that the network was made from."""

    file: str
    sha256: Sha256


class Thresholds(Section):
    """Default thresholds of predicted tags."""

    decision: float
    top_k: Positive


class Manifest(Section):
    """Content of export.json.

    Attributes:
        format_version: Version of the format of export.json.
        name: Name of the network, for messages.
        model: Name of the model, MODEL.name of the config.
        role: Role of the network, key "kind" of the file: "extractor" if its output is FEATURES.
        task: Task of the model.
        backend: Name of the backend that runs the network.
        precision: Precision of the network.
        inputs: Inputs of the network, in the order of its arguments.
        outputs: Outputs of the network, in the order in which it returns them.
        feature_dim: Feature width of an extractor; None for other networks.
        files: The sha256 of every file by name.
        source_weights: Weight files that the network was made from.
        thresholds: Default thresholds of predicted tags.
        parity: Differences between the outputs and those of the original layers, and their bounds.
        versions: Versions of the packages that made the export.
    """

    format_version: Literal[1]
    name: Name
    model: Name
    role: Literal["tagger", "extractor"] = Field(alias="kind")
    task: Literal["multi_label", "single_label"]
    backend: Annotated[str, AfterValidator(_registered)]
    precision: Literal["f32", "bf16"]
    inputs: list[ArrayInfo] = Field(min_length=1)
    outputs: list[ArrayInfo] = Field(min_length=1)
    feature_dim: Positive | None = None
    files: dict[FileName, Sha256]
    source_weights: list[SourceWeights] = Field(min_length=1)
    thresholds: Thresholds
    parity: dict[str, Any]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _is_whole(self) -> Manifest:
        backend = get_backend(self.backend)
        missing = [name for name in (CONFIG_FILE, *backend.files) if name not in self.files]
        if missing:
            raise ValueError(f"files: {', '.join(missing)} missing")
        if self.precision not in backend.precisions:
            raise ValueError(f"precision: {self.backend} does not compute in {self.precision}")
        if self.two_stage != (self.role == "extractor"):
            raise ValueError(f"kind: {self.role}, but its outputs are others than those of one")
        if self.two_stage:
            shape = self.inputs[0].shape
            if len(shape) != 4 or shape[1] is None:
                raise ValueError("inputs: an extractor's is of frames, (null, side, side, 3)")
            if self.feature_dim is None:
                raise ValueError("feature_dim: missing, and an extractor has one")
        return self

    @property
    def two_stage(self) -> bool:
        """Whether it is the first stage of a model that has two."""
        return [output.name for output in self.outputs] == [FEATURES]


@dataclass(frozen=True)
class Export:
    """An export folder whose files, except the network's, have been verified by their sha256."""

    folder: Path
    manifest: Manifest

    @property
    def has_classifier(self) -> bool:
        """Whether the export contains the last layer of an extractor."""
        return CLASSIFIER_FILE in self.manifest.files


class ExportedTaggerModel(TaggerModel):
    """MODEL section of an exported tagger; model-specific keys are kept without validation."""

    model_config = ConfigDict(extra="allow")


class ExportedExtractorModel(ExtractorModel):
    """MODEL section of an exported extractor; model-specific keys are kept without validation."""

    model_config = ConfigDict(extra="allow")
    backbone: str


class ExportedModel(ModelSection):
    """MODEL section of an exported model with INPUTS; model-specific keys are kept without validation."""

    model_config = ConfigDict(extra="allow")


def _model_section(manifest: Manifest) -> type[ModelSection]:
    if manifest.two_stage:
        return ExportedExtractorModel
    names = [info.name for info in manifest.inputs]
    are_sequences = all(
        info.name.endswith(MASK) or (info.dtype == "float32" and info.name + MASK in names)
        for info in manifest.inputs
    )
    return ExportedTaggerModel if are_sequences else ExportedModel


def read_export(path: Path) -> Export:
    """Reads an export by the path of its export.json; the network's files are verified when it is loaded.

    Raises:
        WeightsError: A file is damaged or edited, or the export has a newer version.
    """
    folder, manifest = path.parent, read_manifest(path)
    later = (*get_backend(manifest.backend).files, CARD_FILE)
    verify_digests(folder, manifest, [name for name in manifest.files if name not in later])
    if LABELS_FILE not in manifest.files and (folder / LABELS_FILE).exists():
        raise WeightsError(f"{folder / LABELS_FILE}: is no part of the export; give it as --label_file")
    return Export(folder, manifest)


def read_manifest(path: Path) -> Manifest:
    """Reads and validates an export.json, but not the files that it lists.

    Raises:
        WeightsError: The file is missing, damaged, or has a newer version.
    """
    said = read_json(path, error=WeightsError, remedy="export it again", max_bytes=MAX_CARD_BYTES)
    try:
        return Manifest.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise WeightsError(
            f"{path}: no export that this videotag reads ({escaped(what, limit=200)}); export it again"
        ) from error


def files_read_with(weights: FoundWeights) -> list[Path]:
    """The files that are read with weights: the weights themselves, config, labels and network files.

    Raises:
        WeightsError: The export.json of an export is damaged.
    """
    names = read_manifest(weights.path).files if weights.is_export else (CONFIG_FILE, LABELS_FILE)
    return [weights.path, *(weights.path.parent / name for name in names)]


def verify_digests(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Verifies files of an export by their sha256.

    Args:
        folder: Folder of the export.
        manifest: Content of its export.json.
        names: Names of the files.

    Raises:
        WeightsError: A file is missing, damaged or edited.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"{path}: missing, and {EXPORT_FILE} names it; export it again")
        found = file_digest(path)
        if found != manifest.files[name]:
            raise WeightsError(
                f"{path}: damaged or edited: its sha256 is {found[:12]}..., expected "
                f"{manifest.files[name][:12]}... of {EXPORT_FILE}; export it again"
            )


def export_config(
    path: Path,
    *,
    config_file: str | Path | None = None,
    model_name: str | None = None,
    overrides: list[tuple[str, Any]] | None = None,
) -> Config:
    """The config of an export, read without its model's code.

    Args:
        path: Path of its export.json.
        config_file: Config that the user named, which is an error; None for none.
        model_name: Expected name of the model, see load_config.
        overrides: Pairs of dotted key and value, see load_config.

    Raises:
        ConfigError: A flag contradicts the export.
        WeightsError: The export is damaged, see read_export.
    """
    export = read_export(path)
    manifest, folder = export.manifest, export.folder
    if config_file is not None:
        raise ConfigError(f"{config_file}: {folder} is an export with its own config; give no other with it")
    for dotted, value in overrides or []:
        _check_override(dotted, value, export)
    load_readers()
    section = _model_section(manifest)
    entry = ModelEntry(manifest.model, None, section, manifest.task, two_stage=manifest.two_stage)
    path = folder / CONFIG_FILE
    config = load_config(path, model_name=model_name, overrides=overrides, entry=entry, beside_weights=True)
    for dotted, _ in overrides or []:
        if dotted.lower() != "infer.target_size" or not manifest.two_stage:
            continue
        side_px = manifest.inputs[0].shape[1]
        if config.infer.target_size != side_px:
            raise ConfigError(
                f"INFER.target_size={config.infer.target_size}: {folder} is an export for frames of "
                f"{side_px} x {side_px}; leave it out, or export again with it"
            )
    return config


def _check_override(dotted: str, value: Any, export: Export) -> None:
    section, _, key = dotted.partition(".")
    section, manifest = section.upper(), export.manifest
    if section == "MODEL" and key not in _model_section(manifest).keys(Key.OUTSIDE):
        raise ConfigError(
            f"--set {escaped(dotted)}={escaped(str(value))}: {export.folder} is an export, whose network is "
            "fixed; leave it out, or export again with it"
        )
    fixed = {"backend": manifest.backend, "precision": manifest.precision}
    if section == "INFER" and key in fixed and str(value).strip() not in ("auto", fixed[key]):
        raise ConfigError(
            f"--{key}={escaped(str(value))}: {export.folder} is an export for {manifest.backend} in "
            f"{manifest.precision}; leave it out, or export again with it"
        )


class ExportedNetwork:
    """The network of an export; see videotag.runtime.trained.Network.

    Args:
        export: The export, as read by read_export.
        use_gpu: TRAIN.use_gpu of the config; True is an error if the backend runs on CPUs only.

    Raises:
        WeightsError: A file is damaged, or could make the backend read other files.
        ConfigError: The backend is not installed.
        DeviceError: This machine cannot run the export.
        ExportError: The backend cannot load the network.
    """

    # As of a RuntimeNetwork, whose methods it has too.
    requested_precision, needs_sample, choice = AUTO, False, None

    def __init__(self, export: Export, *, use_gpu: UseGpu = "auto") -> None:
        self._folder = export.folder
        manifest = export.manifest
        backend = get_backend(manifest.backend)
        self.backend, self.precision = manifest.backend, manifest.precision
        self.name = manifest.name
        self.inputs = tuple(ArraySpec(i.name, tuple(i.shape), i.dtype) for i in manifest.inputs)
        self.outputs = tuple(output.name for output in manifest.outputs)
        verify_digests(export.folder, manifest, backend.files)
        self.device = _device(export, backend, use_gpu)
        self.runtime = f"{self.backend} {backend.runtime_version()}"
        self._network = self._load(export, backend)
        logger.info("%s runs in %s, %s: as exported", self.name, self.runtime, self.precision)

    def reset(self, previous: RecordedRuntime | None) -> None:
        """Checks that the export has the precision of a folder's features; the backend may differ.

        Args:
            previous: Runtime of the folder's features; None if there are none.

        Raises:
            ConfigError: The features are in another precision.
        """
        if previous is not None and previous.precision != self.precision:
            raise ConfigError(
                f"{self._folder}: an export in {self.precision}, but the features in --save_dir are in "
                f"{previous.precision}; choose another --save_dir"
            )

    def select_runtime(self, sample: Arrays | None = None) -> None:
        """Does nothing: backend and precision of an export are fixed, whatever the inputs (N, ...)."""

    def set_choice(self, choice: RuntimeChoice) -> None:
        """Does nothing, see select_runtime."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The network's outputs by name, (N, ...) float32."""
        return self._network(inputs)

    def _load(self, export: Export, backend: Backend) -> Network:
        digests = [export.manifest.files[name] for name in backend.files]
        try:
            with wrap_backend_errors():
                return backend.load(
                    self, export.folder, digests=digests, precision=self.precision, device=self.device
                )
        except ExportError as error:
            package = backend.runtime_package
            made_with = export.manifest.versions.get(package, "(not known)")
            raise ExportError(
                f"{export.folder / backend.files[0]}: {error}; install {package} {made_with}, which it was "
                f"made with (here is {backend.runtime_version()}), or export it again"
            ) from error


def load_exported(path: Path, *, use_gpu: UseGpu = "auto") -> ExportedNetwork:
    """Loads the network of an export by the path of its export.json.

    Raises:
        WeightsError, ConfigError, DeviceError, ExportError: It cannot be loaded, see ExportedNetwork.
    """
    return ExportedNetwork(read_export(path), use_gpu=use_gpu)


def _device(export: Export, backend: Backend, use_gpu: UseGpu) -> str:
    """The device that an export runs on.

    Raises:
        ConfigError: The backend is not installed.
        DeviceError: This machine cannot run the export.
    """
    name, precision = backend.name, export.manifest.precision
    if backend.runtime_version() is None:
        raise ConfigError(
            f"{export.folder}: an export for {name}, which is not installed; run: "
            f"pip install {backend.runtime_package}"
        )
    device = "cpu"
    if backend.gpu_precisions:
        from videotag.runtime.device import select_device

        device = select_device(use_gpu)
    elif use_gpu is True:
        others = " or ".join(other.name for other in list_backends() if other.gpu_precisions)
        raise DeviceError(
            f"{export.folder}: an export for {name}, which runs on a CPU only; give --use_gpu=False, or "
            f"export with --to {others}"
        )
    if reason := unsupported_precision_reason(precision, device):
        raise DeviceError(
            f"{export.folder}: an export in {precision}, and {reason}; export with --precision=f32"
        )
    return device
