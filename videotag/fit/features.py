"""The first stage of `videotag fit`: the features of all videos, extracted and read into memory.

Shapes: N videos, T steps, D feature width.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from videotag.config import load_config
from videotag.datasets.batches import Batch
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.datasets.order import ordered_groups
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import (
    ConfigError,
    FeatureFileError,
    FileListError,
    MediaError,
    OutputError,
    WeightsError,
    one_error,
)
from videotag.fit.options import FitOptions
from videotag.fit.samples import Sample
from videotag.formats.feature_files import read_shapes_and_stamp
from videotag.formats.filelist import ListEntry, read_filelist, write_filelist
from videotag.inference.extract import ExtractJob
from videotag.inference.extractor import load_extractor
from videotag.inference.jobs import run_job
from videotag.inference.outputs import Destination
from videotag.inference.trained_model import read_source
from videotag.inputs.features import FeatureOptions, FeatureReader
from videotag.media.video import probe
from videotag.registry import Task
from videotag.sections import SplitSection
from videotag.system.atomic import replace_folder, write_text
from videotag.system.json_text import read_json
from videotag.system.progress import track
from videotag.weights import CONFIG_FILE, DEFAULT_EXTRACTOR, FoundWeights, find_weights

OWN_EXTRACTOR = "weights/tsn"  # of the user, as `videotag extract` takes by default
MODALITY = "rgb"
VIDEO_LIST = "videos.list"
_FRAMES_PER_SEC, _MIN_FRAMES, _MAX_FRAMES = 8, 8, 64
PRECISION = ("INFER.precision", "f32")  # of features, unless the extractor's config names another
_FOLDER = "extractor"  # of the copy of weights that no name stands for
_DECISION_FILE = "extraction.json"
_EXTRACTION_SHARE = 0.5  # of the time limit
_NUM_TIMED = 12  # videos that are extracted to estimate the time of all
_NUM_PROBED = 20  # videos whose duration decides the number of frames
_READ_BATCH = 64
_MAX_VALUE = 1e15  # of a feature: sums of squares stay finite in float32, which ends at 3e38
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsedExtractor:
    """The first stage that made the features.

    Attributes:
        found: Weights.
        config: Config that the user gave; None for the one that comes with the weights.
        seg_num: Number of frames per video.
        precision: Precision of the features.
    """

    found: FoundWeights
    config: str | None
    seg_num: int
    precision: str

    @property
    def name(self) -> str | None:
        """Name of published weights with their own config; None for others, which keep_extractor copies."""
        return self.found.named.name if self.found.named and not self.config else None

    @property
    def weights(self) -> str:
        """The name, or the path of the copy inside save_dir."""
        return self.name or (_FOLDER if self.found.is_export else f"{_FOLDER}/{self.found.path.name}")


@dataclass(frozen=True)
class FrameDecision:
    """The number of frames per video that a fit decided on, which a later run with the same options keeps.

    Attributes:
        extractor: Weights as the user names them.
        seconds: Time limit in seconds; None for none.
    """

    extractor: str
    seconds: float | None

    def read(self, save_dir: Path) -> int | None:
        """The number of frames of an earlier run with the same extractor and limit; None without one.

        Args:
            save_dir: Folder of the fit.
        """
        try:
            found = read_json(save_dir / _DECISION_FILE, error=OutputError, remedy="it is written again")
        except OutputError:
            return None
        if not isinstance(found, dict) or {**found, "seg_num": None} != {**asdict(self), "seg_num": None}:
            return None
        number = found.get("seg_num")
        return number if isinstance(number, int) and number > 0 else None

    def write(self, save_dir: Path, seg_num: int) -> None:
        """Records a number of frames.

        Args:
            save_dir: Folder of the fit.
            seg_num: Number of frames per video.

        Raises:
            OutputError: The file cannot be written.
        """
        write_text(save_dir / _DECISION_FILE, json.dumps({**asdict(self), "seg_num": seg_num}) + "\n")


def extract_features(
    samples: Sequence[Sample], options: FitOptions
) -> tuple[list[Sample], UsedExtractor | None, list[str]]:
    """The samples with feature files instead of videos, which are extracted unless they are up to date.

    Args:
        samples: Videos, or feature files, which are returned as they are.
        options: Options of the fit.

    Returns:
        The samples that can be read; the extractor, None for feature files; and notes for the user.

    Raises:
        ConfigError: Extractor flags are given for feature files, or the weights are not an extractor's.
        FileListError: No video can be read.
        WeightsError, DeviceError, OutputError: See load_extractor and run_job.
    """
    if all(sample.is_features for sample in samples):
        if options.extractor_weights or options.extractor_config or options.seg_num:
            raise ConfigError(
                "the source already holds features, so no extractor runs; leave out --extractor_weights, "
                "--extractor_config and --seg_num"
            )
        return list(samples), None, []
    save_dir = options.save_dir
    found, shown = _find_extractor(options)
    entries = [ListEntry(s.path, s.label_ids) for s in samples]
    destination = Destination(
        save_dir / "features",
        "features.list",
        filelist=save_dir / VIDEO_LIST,
        overwrite=options.overwrite,
    )
    write_filelist(save_dir / VIDEO_LIST, entries)
    job = _job_in_time(found, shown, options, entries, destination)
    seg_num = job.extractor.config.infer.seg_num
    logger.info("extracting %d frames of each of %d videos with %s", seg_num, len(samples), shown)
    summary = run_job(job, entries, destination, log_interval=max(1, len(samples) // 10))
    if summary.list_path is None:
        raise FileListError(f"none of the {len(samples)} videos can be read; see {destination.save_dir}")
    notes = []
    if summary.failed:
        notes.append(
            f"{len(summary.failed)} videos cannot be read and are left out, see "
            f"{destination.save_dir / 'failures.jsonl'}"
        )
    kept = [s for s in samples if s.path not in summary.failed]
    paths = [entry.path for entry in read_filelist(summary.list_path)]
    return (
        [replace(s, path=path, video=s.path) for s, path in zip(kept, paths, strict=True)],
        UsedExtractor(found, options.extractor_config, seg_num, job.extractor.network.precision),
        notes,
    )


def _find_extractor(options: FitOptions) -> tuple[FoundWeights, str]:
    """The weights of the first stage and their name for messages."""
    if options.extractor_weights:
        return find_weights(options.extractor_weights), options.extractor_weights
    try:
        return find_weights(OWN_EXTRACTOR), OWN_EXTRACTOR
    except WeightsError:
        return find_weights(DEFAULT_EXTRACTOR), DEFAULT_EXTRACTOR


def _job_in_time(
    found: FoundWeights,
    shown: str,
    options: FitOptions,
    entries: Sequence[ListEntry],
    destination: Destination,
) -> ExtractJob:
    """The job that extracts the features, with fewer frames if a time limit needs it."""
    if options.seg_num:
        return _extract_job(found, options, options.seg_num)
    decided = FrameDecision(shown, options.seconds)
    seg_num = decided.read(options.save_dir)
    if seg_num is not None:
        return _extract_job(found, options, seg_num)
    seg_num = _num_frames(entries)
    job = _extract_job(found, options, seg_num)
    if options.seconds is not None:
        limit = options.seconds * _EXTRACTION_SHARE
        affordable = _affordable_frames(job, entries, destination, seg_num, limit)
        if affordable < seg_num:
            logger.warning(
                "extracting %d of %d frames of each video, to keep --time; --seg_num takes more",
                affordable,
                seg_num,
            )
            seg_num = affordable
            job = _extract_job(found, options, seg_num)
    decided.write(options.save_dir, seg_num)
    return job


def _extract_job(found: FoundWeights, options: FitOptions, seg_num: int) -> ExtractJob:
    """The job that extracts seg_num frames per video."""
    config = read_source(found, options.extractor_config).config
    if not config.entry.two_stage:  # before its key seg_num is set, which others lack
        raise ConfigError(f"{found.path}: {config.entry.name} is not an extractor; give a TSN's weights")
    overrides: list[tuple[str, Any]] = [("INFER.seg_num", seg_num)]
    if not found.is_export and config.infer.precision == "auto":
        # Chosen on a sample, 16 bits could be refused once other clips are added.
        overrides.append(PRECISION)
    config = read_source(found, options.extractor_config, overrides=overrides).config
    return ExtractJob(load_extractor(config, found))


def _affordable_frames(
    job: ExtractJob, entries: Sequence[ListEntry], destination: Destination, seg_num: int, limit_sec: float
) -> int:
    """The number of frames per video, at most seg_num, that keeps a time limit; measured on some videos."""
    sample = list(entries[:: max(1, len(entries) // _NUM_TIMED)])[:_NUM_TIMED]
    if len(sample) < _NUM_TIMED:
        return seg_num
    run_job(job, sample[:2], destination, log_interval=_NUM_TIMED)  # without the start of the network
    start = time.monotonic()
    summary = run_job(job, sample, destination, log_interval=_NUM_TIMED)  # keeps the first two at least
    num_extracted = len(sample) - summary.kept
    if not num_extracted:
        return seg_num
    seconds = (time.monotonic() - start) / num_extracted * len(entries)
    if seconds <= limit_sec:
        return seg_num
    return max(_MIN_FRAMES, int(seg_num * limit_sec / seconds))


def _num_frames(entries: Sequence[ListEntry]) -> int:
    """The number of frames per video: some per second of the median duration."""
    step = max(1, len(entries) // _NUM_PROBED)
    durations = []
    for entry in entries[::step]:
        try:
            durations.append(float(probe(entry.path).duration_sec))
        except MediaError:
            continue  # the extraction reports it
    seconds = median(durations) if durations else 0.0
    return int(np.clip(round(_FRAMES_PER_SEC * seconds), _MIN_FRAMES, _MAX_FRAMES))


def keep_extractor(extractor: UsedExtractor, save_dir: Path) -> None:
    """Copies weights into the folder with their config, unless a name stands for both in fit.yaml.

    Args:
        extractor: First stage.
        save_dir: Folder of the fit.

    Raises:
        OutputError: A file cannot be written.
    """
    found, target = extractor.found, save_dir / _FOLDER
    if extractor.name is not None:
        return
    source, config = found.path.resolve(), extractor.config or found.config
    if source.is_relative_to(target.resolve()):  # of an earlier run
        if extractor.config is not None:
            write_text(target / CONFIG_FILE, load_config(extractor.config).to_yaml())
        return
    with replace_folder(target) as folder:
        if found.is_export:
            shutil.copytree(source.parent, folder, dirs_exist_ok=True)
        else:
            shutil.copy2(source, folder / found.path.name)
            if config is not None:
                write_text(folder / CONFIG_FILE, load_config(config).to_yaml())


def read_features(samples: Sequence[Sample], names: Sequence[str], task: Task, width: int) -> MemoryDataset:
    """The features of all samples in memory.

    Args:
        samples: Feature files of N videos.
        names: C class names.
        task: Task, which selects the form of the labels.
        width: Feature width D.

    Raises:
        FeatureFileError: Files are missing, damaged, or of different widths or extractors, or hold values
            that are not finite or too large.
    """
    entries = [ListEntry(sample.path, sample.label_ids) for sample in samples]
    reader = FeatureReader({MODALITY: FeatureOptions(reader="features", width=width)}, SplitSection())
    dataset = SampleDataset(entries, [(None, reader)], num_classes=len(names), task=task)
    groups = ordered_groups(len(samples), _READ_BATCH)
    problems: list[str] = []
    batches = dataset.batches(groups, on_error=lambda _, error: problems.append(str(error)))
    return MemoryDataset(_checked(track(batches, "read features", len(groups)), problems))


def _checked(batches: Iterable[Batch | None], problems: list[str]) -> Iterator[Batch]:
    """Yields the batches; then raises an error with all problems, those found here included.

    Args:
        batches: Batches of features; None for one of damaged files alone.
        problems: Texts of the errors of damaged files.

    Raises:
        FeatureFileError: There is a problem.
    """
    for batch in batches:
        if batch is None:
            continue
        magnitudes = np.abs(batch.inputs[MODALITY]).max(axis=(1, 2))  # (N,)
        problems += [
            f"{path}: a value of {value:.3g}, too large for statistics in float32, expected at most "
            f"{_MAX_VALUE:g}; extract it again, or leave it out"
            for path, value in zip(batch.ids, magnitudes.tolist(), strict=True)
            if value > _MAX_VALUE
        ]
        yield batch
    if problems:
        raise one_error(FeatureFileError, problems)


def feature_width(samples: Sequence[Sample]) -> int:
    """The feature width D of the first sample.

    Args:
        samples: Feature files, at least one.

    Raises:
        FeatureFileError: The file is missing, damaged or has several modalities.
    """
    shapes, _ = read_shapes_and_stamp(samples[0].path, {MODALITY: None})
    return shapes[MODALITY][1]
