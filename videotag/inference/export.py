"""Exports: self-contained folders with network, config, labels and card, verified against the original.

videotag.runtime.exported defines the folder's content and runs it; videotag.runtime.parity compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml

import videotag
from videotag.config import Config
from videotag.errors import OutputError, VideotagError, WeightsError
from videotag.formats.filelist import ListEntry
from videotag.formats.train_log import read_train_log
from videotag.formats.weight_files import write_safetensors
from videotag.inference.data import evaluation_batches, frame_entries, open_dataset
from videotag.inference.extractor import load_extractor
from videotag.inference.input_files import InputFiles
from videotag.inference.trained_model import ModelSource, trained_network
from videotag.inputs.features import as_declared
from videotag.inputs.frames import read_frames
from videotag.labels import write_labels
from videotag.registry import FRAMES, ArraySpec
from videotag.runtime import parity
from videotag.runtime.backends import ExportError, get_backend, package_version
from videotag.runtime.choice import RuntimeNetwork
from videotag.runtime.exported import (
    CARD_FILE,
    CLASSIFIER_FILE,
    FORMAT_VERSION,
    ArrayInfo,
    Export,
    ExportedNetwork,
    Manifest,
    read_manifest,
)
from videotag.runtime.trained import TrainedNetwork
from videotag.safe_text import escaped
from videotag.sections import Key
from videotag.system.atomic import check_may_write, replace_folder, write_text
from videotag.system.download import file_digest
from videotag.weights import CONFIG_FILE, EXPORT_FILE, LABELS_FILE

_SAMPLE_ROWS = 16  # videos or frames of the user's data to compare on


@dataclass(frozen=True)
class Origin:
    """The provenance of weights.

    Attributes:
        training_data: Training data as a noun phrase, such as "240 samples of `train.list`"; None if unknown.
        licence: License of the weights; None if unknown.
    """

    training_data: str | None
    licence: str | None


class CardWriter(Protocol):
    """Writes the text of an export's README.md."""

    def __call__(
        self,
        manifest: Manifest,
        config: Config,
        labels: Sequence[str] | None,
        /,
        *,
        parity: str,
        origins: Sequence[Origin],
    ) -> str:
        """The card's text; see videotag.reports.model_card."""


@dataclass(frozen=True)
class ExportResult:
    """An export on disk.

    Attributes:
        folder: Folder of the export.
        manifest: Content of its export.json.
        parity: Result of the comparison with the original network.
    """

    folder: Path
    manifest: Manifest
    parity: parity.Parity


def check_output(folder: Path, *, inputs: Iterable[str | Path | None] = ()) -> None:
    """Checks before any work that the export can be written; only an older export may be replaced.

    Args:
        folder: Folder of the export.
        inputs: Files that the command reads, which must not be replaced; None entries are skipped.

    Raises:
        OutputError: The folder holds anything else, or cannot be written.
    """
    try:
        check_may_write(folder.resolve().parent)
    except OutputError as error:
        raise OutputError(f"{folder}: cannot write there; choose another --output") from error
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if folder.is_dir() and not names:
        return
    if EXPORT_FILE not in names:
        raise OutputError(f"{folder}: exists and is not an export; choose another --output")
    try:
        own = {EXPORT_FILE, *read_manifest(folder / EXPORT_FILE).files}
    except WeightsError as error:
        raise OutputError(
            f"{folder}: its {EXPORT_FILE} is damaged; remove the folder, or choose another --output"
        ) from error
    if foreign := sorted(names - own):
        raise OutputError(
            f"{folder}: an older export that also holds {foreign[0]}, which is not part of it; move that "
            "file away, or choose another --output"
        )
    sources = InputFiles(inputs)
    for path in sorted(folder.iterdir()):
        if problem := sources.refusal(path):
            raise OutputError(f"{path}: {problem}; choose another --output")


def export_model(
    sources: Sequence[ModelSource],
    folder: Path,
    *,
    backend: str,
    precision: str = "f32",
    labels: Sequence[str] | None = None,
    samples: Sequence[ListEntry] = (),
    card: CardWriter,
) -> ExportResult:
    """Exports a tagger, an ensemble that averages the probabilities of several, or an extractor.

    An extractor is its backbone, with its classifier if the weights have a matching one.

    Args:
        sources: Compatible checkpoints, see TrainedModel; one of an extractor. The export takes the first
            one's config.
        folder: Folder of the export; see check_output.
        backend: Name of the backend that will run the export.
        precision: Precision of the export, "f32" or "bf16".
        labels: C class names; None if unknown.
        samples: The user's feature files, or videos of an extractor, compared in addition to generated ones.
        card: Renders README.md.

    Raises:
        ExportError: The network cannot be exported, or the export deviates too much; nothing is written.
        WeightsError: Weights are missing, damaged, or do not match their config.
        OutputError: The folder cannot be written.
        MediaError: A video of samples cannot be decoded.
    """
    sources = [_on_cpu(source) for source in sources]
    parts_of = _extractor_parts if sources[0].config.entry.two_stage else _tagger_parts
    return _ExportWriter(parts_of(sources, samples), sources, backend, precision, labels, card).write(folder)


@dataclass
class _Parts:
    """What depends on the kind of model: network, comparison, and an extractor's width and classifier."""

    trained: TrainedNetwork
    compare: Callable[..., parity.Parity]  # of an ExportedNetwork and its precision
    feature_dim: int | None = None
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def _tagger_parts(sources: Sequence[ModelSource], samples: Sequence[ListEntry]) -> _Parts:
    config, trained = sources[0].config, trained_network(sources)
    arrays = parity.random_samples(trained.inputs) + _own_features(config, samples, trained.inputs)
    return _Parts(trained, partial(parity.tagger_parity, trained, samples=arrays, task=config.task))


def _extractor_parts(sources: Sequence[ModelSource], samples: Sequence[ListEntry]) -> _Parts:
    config, weights = sources[0].config, sources[0].weights
    files: dict[str, Mapping[str, np.ndarray]] = {}
    try:
        extractor = load_extractor(config, weights, with_classifier=True)
        assert extractor.classifier is not None, "requested by with_classifier"
        files[CLASSIFIER_FILE] = dict(zip(("weight", "bias"), extractor.classifier, strict=True))
    except WeightsError:
        extractor = load_extractor(config, weights)
    assert isinstance(extractor.network, RuntimeNetwork), "sources are checkpoints"
    trained = extractor.network.trained
    batches = parity.frame_batches(parity.frame_samples(config.infer.target_size))
    arrays = [{FRAMES: frames} for frames in batches + _own_frames(config, samples)]
    compare = partial(parity.feature_parity, trained, samples=arrays)
    return _Parts(trained, compare, extractor.feature_dim, files)


@dataclass
class _ExportWriter:
    """An export that is not written yet; see export_model."""

    parts: _Parts
    sources: Sequence[ModelSource]
    backend: str
    precision: str
    labels: Sequence[str] | None
    card: CardWriter

    @property
    def trained(self) -> TrainedNetwork:
        return self.parts.trained

    def write(self, folder: Path) -> ExportResult:
        """Writes a temporary folder, verifies it by running it, and moves it into place."""
        if reason := get_backend(self.backend).unsupported_reason(self.trained.layer):
            raise self._refusal(reason)
        check_output(folder)
        config = self.sources[0].config
        with replace_folder(folder) as staging_dir:
            self._write_files(staging_dir)
            manifest = self._manifest(staging_dir)
            network = ExportedNetwork(Export(staging_dir, manifest), use_gpu=False)
            result = self.parts.compare(network=network, precision=self.precision)
            if not result.ok:
                raise ExportError(
                    f"{self.trained.name}: refused, the export to {self.backend} in {self.precision} "
                    f"deviates too much from the network: {result.text}; give another --to or --precision"
                )
            manifest.parity = result.measurements
            manifest.outputs = [
                ArrayInfo(name=name, shape=result.shapes[name], dtype="float32")
                for name in self.trained.outputs
            ]
            origins = [_origin(source) for source in self.sources]
            card = self.card(manifest, config, self.labels, parity=result.text, origins=origins)
            write_text(staging_dir / CARD_FILE, card)
            manifest.files[CARD_FILE] = file_digest(staging_dir / CARD_FILE)
            write_text(staging_dir / EXPORT_FILE, manifest.model_dump_json(indent=2, by_alias=True) + "\n")
        return ExportResult(folder, manifest, result)

    def _write_files(self, staging_dir: Path) -> None:
        try:
            get_backend(self.backend).save(self.trained, staging_dir)
        except ExportError as error:
            raise self._refusal(str(error)) from error
        config = self.sources[0].config
        write_text(
            staging_dir / CONFIG_FILE, portable_yaml(config, backend=self.backend, precision=self.precision)
        )
        if self.labels is not None:
            write_labels(staging_dir / LABELS_FILE, self.labels)
        for name, arrays in self.parts.arrays.items():
            write_safetensors(staging_dir / name, arrays)

    def _refusal(self, reason: str) -> ExportError:
        return ExportError(
            f"{self.trained.name}: cannot be exported to {self.backend}: {reason}; give another --to, or run "
            "the model from its weights"
        )

    def _manifest(self, staging_dir: Path) -> Manifest:
        """The content of export.json, except the outputs' shapes, the parity and the card's digest."""
        config, trained = self.sources[0].config, self.trained
        files = {path.name: file_digest(path) for path in sorted(staging_dir.iterdir())}
        outputs = [{"name": name, "shape": [], "dtype": "float32"} for name in trained.outputs]
        thresholds = {"decision": 0.0, "top_k": config.model.topk}
        weights = [source.weights.path for source in self.sources]
        return Manifest.model_validate(
            {
                "format_version": FORMAT_VERSION,
                "name": trained.name,
                "model": config.entry.name,
                "kind": "extractor" if config.entry.two_stage else "tagger",
                "task": config.task,
                "backend": self.backend,
                "precision": self.precision,
                "inputs": [
                    {"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in trained.inputs
                ],
                "outputs": outputs,
                "feature_dim": self.parts.feature_dim,
                "files": files,
                "source_weights": [{"file": path.name, "sha256": file_digest(path)} for path in weights],
                "thresholds": thresholds,
                "parity": {},
                "versions": _versions(self.backend),
            }
        )


def _on_cpu(source: ModelSource) -> ModelSource:
    """The source on the CPU, where every export is made and compared."""
    config = source.config
    train = config.train.model_copy(update={"use_gpu": False})
    return replace(source, config=replace(config, train=train))


def _origin(source: ModelSource) -> Origin:
    named = source.weights.named
    if named:  # its config describes the published weights
        return Origin(source.config.model.dataset, named.licence)
    return Origin(_training_data(source), None)


def _training_data(source: ModelSource) -> str | None:
    """The data of a checkpoint's training run: the number of samples in its log, and its config's list.

    MODEL.dataset says nothing about it: a run keeps the one of the shipped config that it started from.
    """
    log = read_train_log(source.weights.path.parent)
    if log is None or log.num_samples is None:
        return None
    filelist = source.config.train.filelist if source.config_file is None else None
    # Without its folder, as the card contains no local path.
    of_list = f" of `{escaped(Path(filelist).name)}`" if filelist else ""
    return f"{log.num_samples} samples{of_list}"


def portable_yaml(config: Config, *, backend: str, precision: str) -> str:
    """The resolved config as YAML for an export, without machine-specific keys.

    Args:
        config: Config of the exported model.
        backend: Backend of the export.
        precision: Precision of the export.
    """
    raw = config.sections(lambda section: section.keys(Key.FILE) | section.keys(Key.LOCAL))
    raw["INFER"] |= {"backend": backend, "precision": precision}
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _versions(backend: str) -> dict[str, str]:
    """The versions of the packages that make an export, by package name."""
    used = get_backend(backend)
    packages = ["paddlepaddle", *used.converter_packages, used.runtime_package]
    versions = {package: str(package_version(package)) for package in packages}
    return {"videotag": videotag.__version__, **versions}


def _own_features(
    config: Config, entries: Sequence[ListEntry], inputs: Sequence[ArraySpec]
) -> list[dict[str, np.ndarray]]:
    """The first batches of the user's feature files."""
    if not entries:
        return []

    def refuse(_: str, error: VideotagError) -> None:
        raise error

    dataset = open_dataset(config, entries, config.infer)
    few = config.infer.model_copy(update={"batch_size": 4})
    batches = evaluation_batches(dataset, few, on_error=refuse)
    return [as_declared(batch.inputs, inputs) for batch in islice(batches, _SAMPLE_ROWS // 4)]


def _own_frames(config: Config, entries: Sequence[ListEntry]) -> list[np.ndarray]:
    """Frames (K, H, W, 3) uint8 of each of the user's first videos."""
    videos = frame_entries(config, config.infer, entries[: _SAMPLE_ROWS // 4])
    split = config.infer.model_copy(update={"seg_num": 4})
    return [read_frames(video, split).images for video in videos]
