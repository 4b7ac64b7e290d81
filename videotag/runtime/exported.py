"""A folder that `videotag export` wrote: a network that runs without the code it was trained with.

    export.json                          what the folder holds, and the sha256 of every file
    network.onnx | .xml .bin | .json .pdiparams   the network, by backend
    classifier.safetensors               of an extractor: its last layer, to tag without a second stage
    config.yaml labels.txt               as beside a checkpoint
    README.md                            the card for people; the only file that may be edited

Nothing is read that export.json does not name by a plain file name with its sha256; a network in ONNX or
OpenVINO's form that could name other files is refused. A Paddle program may hold operators that read and
write files, so that an export for Paddle is to be trusted as code is, and sha256s beside the files only tell
damage, not who made them. Networks in OpenVINO and ONNX Runtime run where Paddle is not even installed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from videotag.config import Config, load_config
from videotag.errors import ConfigError, DeviceError, WeightsError
from videotag.inputs import load_readers
from videotag.registry import FEATURES, MASK, ArraySpec, ModelEntry
from videotag.runtime import backends
from videotag.runtime.onnx_export import PROGRAM, ExportError, told_as_export_error
from videotag.runtime.trained import Arrays, Network
from videotag.safe_text import escaped, is_plain
from videotag.sections import ExtractorModel, Key, ModelSection, Positive, Section, TaggerModel, UseGpu
from videotag.system.download import file_digest
from videotag.system.json_text import MAX_CARD_BYTES, read_json
from videotag.system.regular_file import open_regular
from videotag.weights import CONFIG_FILE, EXPORT_FILE, LABELS_FILE, FoundWeights

FORMAT_VERSION = 1
CARD_FILE = "README.md"
CLASSIFIER_FILE = "classifier.safetensors"
#: Backend -> the network's files.
NETWORK_FILES = {
    "openvino": (f"{PROGRAM}.xml", f"{PROGRAM}.bin"),
    "onnx": (f"{PROGRAM}.onnx",),
    "paddle": (f"{PROGRAM}.json", f"{PROGRAM}.pdiparams"),
}
#: The key of every file that an ONNX network names: its length, however many bytes that takes, and the text.
_EXTERNAL_DATA = re.compile(rb"(?:\x08|\x88\x80*\x00)location")


def _printable(text: str) -> str:
    if not all(map(is_plain, text)):
        raise ValueError("holds a character that no name may have")
    return text


Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
logger = logging.getLogger(__name__)


class ArrayInfo(Section):
    """An input or output: its name, shape (null where a size may vary) and dtype."""

    name: Name
    shape: list[int | None]
    dtype: Literal["float32", "bool", "uint8", "int64"]


class SourceWeights(Section):
    """A weight file that the network was made of."""

    file: str
    sha256: Sha256


class Thresholds(Section):
    """Which tags are kept where the user says nothing."""

    decision: float
    top_k: Positive


class Manifest(Section):
    """What export.json holds.

    Attributes:
        format_version: of this file.
        name: of the network, for texts.
        model: as MODEL.name.
        kind: What earlier versions tell first and second stages by: "extractor" if it gives FEATURES.
        task: of the model.
        backend, precision: that the network runs in.
        inputs, outputs: its contract; outputs in the order in which they come.
        feature_dim: of an extractor.
        files: sha256 by file name.
        source_weights: that it was made of.
        thresholds: see Thresholds.
        parity: how far its outputs are from those of the layers it was made of, and the bounds.
        versions: of the packages that made it.
    """

    format_version: Literal[1]
    name: Name
    model: Name
    kind: Literal["tagger", "extractor"]
    task: Literal["multi_label", "single_label"]
    backend: Literal["openvino", "onnx", "paddle"]
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
        missing = [n for n in (CONFIG_FILE, *NETWORK_FILES[self.backend]) if n not in self.files]
        if missing:
            raise ValueError(f"files: {', '.join(missing)} missing")
        if self.precision not in backends.BACKENDS[self.backend].precisions:
            raise ValueError(f"precision: {self.backend} does not compute in {self.precision}")
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
    """An export folder whose files, but the network's, have been compared with their sha256."""

    folder: Path
    manifest: Manifest

    @property
    def has_classifier(self) -> bool:
        """Whether an extractor brings its last layer."""
        return CLASSIFIER_FILE in self.manifest.files


class ExportedTaggerModel(TaggerModel):
    """MODEL section of an exported tagger: keys of its own class are kept, and not looked at."""

    model_config = ConfigDict(extra="allow")


class ExportedExtractorModel(ExtractorModel):
    """MODEL section of an exported extractor: keys of its own class are kept, and not looked at."""

    model_config = ConfigDict(extra="allow")
    backbone: str


class ExportedModel(ModelSection):
    """MODEL section of an exported model whose config has INPUTS: other keys are kept, and not looked at."""

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
    """The export whose export.json lies at `path`; a network's own files are compared when it is loaded.

    Raises:
        WeightsError: damaged, edited, or of a later version.
    """
    folder, manifest = path.parent, read_manifest(path)
    later = (*NETWORK_FILES[manifest.backend], CARD_FILE)
    check_files(folder, manifest, [name for name in manifest.files if name not in later])
    if LABELS_FILE not in manifest.files and (folder / LABELS_FILE).exists():
        raise WeightsError(f"{folder / LABELS_FILE}: is no part of the export; give it as --label_file")
    return Export(folder, manifest)


def read_manifest(path: Path) -> Manifest:
    """What the export.json at `path` says; the files that it names are not looked at.

    Raises:
        WeightsError: Missing, damaged, or of a later version.
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
    """The files that are read where weights are loaded: their own, and config, labels and network beside it.

    Raises:
        WeightsError: The export.json of an export is damaged.
    """
    names = read_manifest(weights.path).files if weights.is_export else (CONFIG_FILE, LABELS_FILE)
    return [weights.path, *(weights.path.parent / name for name in names)]


def check_files(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Compares files of an export with their sha256.

    Raises:
        WeightsError: one is missing or another one.
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
        path: its export.json.
        config_file: a config that the user named, which is a mistake.
        model_name: as of load_config.
        overrides: as of load_config.

    Raises:
        ConfigError: a flag contradicts the export.
        WeightsError: as read_export.
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
        export: of read_export.
        use_gpu: as of the config; a GPU in paddle only.

    Raises:
        WeightsError: a file is damaged, or could make its backend read others.
        ConfigError: what runs it is not installed.
        DeviceError: this machine cannot compute so.
        ExportError: the backend cannot load it.
    """

    def __init__(self, export: Export, *, use_gpu: UseGpu = "auto") -> None:
        manifest = export.manifest
        self.backend, self.precision = manifest.backend, manifest.precision
        self.name = manifest.name
        self.inputs = tuple(ArraySpec(i.name, tuple(i.shape), i.dtype) for i in manifest.inputs)
        self.outputs = tuple(output.name for output in manifest.outputs)
        check_files(export.folder, manifest, NETWORK_FILES[self.backend])
        device = _device(export, use_gpu)
        self.runtime = f"{self.backend} {backends.runtime_version(self.backend)}"
        self.device = device
        self._network = self._load(export, device)
        logger.info("%s runs in %s, %s: as exported", self.name, self.runtime, self.precision)

    def settle(self, sample: Arrays) -> None:
        """Nothing is left to choose."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The network's outputs by name."""
        return self._network(inputs)

    def _load(self, export: Export, device: str) -> Network:
        files = NETWORK_FILES[self.backend]
        path = export.folder / files[0]
        _check_closed(path, self.backend)
        try:
            if self.backend == "openvino":
                from videotag.runtime.openvino_network import from_file

                digests = [export.manifest.files[name] for name in files]
                return from_file(self, path, digests=digests, precision=self.precision)
            if self.backend == "onnx":
                from videotag.runtime.onnx_network import OnnxNetwork

                return OnnxNetwork(self, _network_bytes(path))
            from videotag.runtime.paddle_inference import PaddleNetwork

            with told_as_export_error():
                return PaddleNetwork(path.with_suffix(""), self, precision=self.precision, device=device)
        except ExportError as error:
            package = backends.BACKENDS[self.backend].packages[0]
            made_with = export.manifest.versions.get(package, "(not known)")
            raise ExportError(
                f"{path}: {error}; install {package} {made_with}, which it was made with (here is "
                f"{backends.runtime_version(self.backend)}), or export it again"
            ) from error


def _check_closed(path: Path, backend: str) -> None:
    """Refuses what could make ONNX Runtime or OpenVINO read files that export.json does not name.

    Both read external data of an ONNX network, also from the working folder, and OpenVINO takes a file for
    ONNX by its content, whatever its name.

    Raises:
        WeightsError: it is refused.
    """
    content = _network_bytes(path)
    if backend == "onnx" and _EXTERNAL_DATA.search(content):
        raise WeightsError(
            f"{path}: holds the text 'location', by which ONNX names files outside of the export; export it "
            "again, for another backend if something in the network is called so"
        )
    if backend == "openvino" and not content.startswith(b"<?xml "):
        raise WeightsError(f"{path}: not OpenVINO's XML; export it again")


def _network_bytes(path: Path) -> bytes:
    """The content of a network's file, which its manifest bounds no further."""
    with open_regular(path, error=WeightsError) as file:
        return file.read()


def load_exported(path: Path, *, use_gpu: UseGpu = "auto") -> ExportedNetwork:
    """The network of the export whose export.json lies at `path`.

    Raises:
        WeightsError, ConfigError, DeviceError, ExportError: as ExportedNetwork.
    """
    return ExportedNetwork(read_export(path), use_gpu=use_gpu)


def _device(export: Export, use_gpu: UseGpu) -> str:
    """The device that an export runs on, where this machine can run it."""
    name, precision = export.manifest.backend, export.manifest.precision
    backend = backends.BACKENDS[name]
    if backends.runtime_version(name) is None:
        raise ConfigError(
            f"{export.folder}: an export for {name}, which is not installed; run: "
            f"pip install {backend.packages[0]}"
        )
    device = "cpu"
    if backend.on_gpu:
        from videotag.runtime.device import select_device

        device = select_device(use_gpu)
    elif use_gpu is True:
        raise DeviceError(
            f"{export.folder}: an export for {name}, which runs on a CPU only; give --use_gpu=False, or "
            "export with --to paddle"
        )
    if reason := backends.precision_obstacle(precision, device):
        raise DeviceError(
            f"{export.folder}: an export in {precision}, and {reason}; export with --precision=f32"
        )
    return device
