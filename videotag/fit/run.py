"""Labeled clips -> a trained tagger: features, splits, candidates, choice, final training, test.

Every stage keeps what an interrupted run has done: features by their stamps, the cross-validation of each
candidate by a digest of its data and settings, and the final networks as resumable training runs.
Shapes: N training videos, D feature width, C classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from videotag.config import Config, load_config
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.datasets.order import ordered_groups
from videotag.errors import FileListError, OutputError
from videotag.fit.candidates import BASELINE, CANDIDATES, Candidate, candidate_sections
from videotag.fit.choice import (
    INTERVAL,
    CandidateResult,
    bootstrap_rows,
    mean_ap_of,
    one_hot,
    select_candidate,
)
from videotag.fit.cross_validation import EVALUATION_BATCH, HeldOutScores, OutOfTimeError, cross_validate
from videotag.fit.features import (
    MODALITY,
    extract_features,
    feature_width,
    leak_notes,
    merge_copies,
    read_features,
)
from videotag.fit.learning_curve import CurvePoint, forecast, learning_curve
from videotag.fit.record import advice, class_rows, write_record
from videotag.fit.result import FitOptions, FitResult, TestScore
from videotag.fit.samples import LABELS_FILE, Sample, SampleSet, assign, check_classes
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.inference.data import read_section_list
from videotag.inference.evaluate import evaluate
from videotag.inference.fit_folder import FIT_FILE
from videotag.inference.trained_model import TrainedModel
from videotag.labels import write_labels
from videotag.metrics import hit_at_one
from videotag.models import load_models
from videotag.registry import Task
from videotag.sections import Key
from videotag.system.atomic import open_atomic, remove_partial, write_text
from videotag.system.folder_lock import LOCK_FILE, folder_lock
from videotag.training.folds import NUM_FOLDS, group_folds
from videotag.training.run import DivergedError
from videotag.training.threads import one_thread
from videotag.training.train import train_model

MARK_FILE = ".fit"  # marks a folder of a fit, also before fit.yaml
_MANY_VIDEOS, _FEW_FOLDS = 1500, 3
_FINAL_SHARE = 0.3  # of the time left; reserved for the final training
logger = logging.getLogger(__name__)


class Deadline:
    """A time limit that starts now.

    Args:
        seconds: Limit in seconds; None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds left, infinite without a limit; negative after it."""
        return float("inf") if self._end is None else self._end - time.monotonic()


def check_save_dir(save_dir: Path, samples: Sequence[Sample], *, overwrite: bool) -> None:
    """Refuses a folder that is not of a fit, or that holds the videos.

    Raises:
        OutputError: The folder holds foreign files, and overwrite is False; or it holds videos.
    """
    inside = save_dir.resolve()
    for sample in samples:
        if Path(sample.path).resolve().is_relative_to(inside):
            raise OutputError(f"--save_dir {save_dir}: holds {sample.path}; choose a folder without videos")
    if overwrite or not save_dir.is_dir() or (save_dir / MARK_FILE).is_file():
        return
    others = [path.name for path in save_dir.iterdir() if path.name != LOCK_FILE]
    if others:
        raise OutputError(
            f"--save_dir {save_dir}: holds {sorted(others)[0]}, and no earlier fit; choose a new folder, or "
            "give --overwrite"
        )


@dataclass(frozen=True)
class _Data:
    """Training and test set of a fit, with what identifies them.

    Attributes:
        samples: Samples of the training set, then of the test set.
        train, test: Features and labels.
        names: Class names.
        task: Task.
        width: Feature width D.
        digest: SHA-256 of samples, splits and mean features.
    """

    samples: list[Sample]
    train: MemoryDataset
    test: MemoryDataset
    names: list[str]
    task: Task
    width: int
    digest: str

    @property
    def train_groups(self) -> list[str]:
        return [sample.group for sample in self.samples[: len(self.train)]]

    @property
    def test_groups(self) -> list[str]:
        return [sample.group for sample in self.samples[len(self.train) :]]


def fit(sample_set: SampleSet, options: FitOptions) -> FitResult:
    """Trains a tagger from labeled videos or features, and tests it.

    Args:
        sample_set: Videos or feature files, see read_samples.
        options: Options.

    Returns:
        What was decided and measured; save_dir then holds fit.yaml, the models and metrics.json.

    Raises:
        FileListError: There are too few videos or labels.
        ConfigError, WeightsError, DeviceError: The extractor cannot be loaded.
        OutputError: Another run writes to save_dir, it holds foreign files, or it holds the videos.
    """
    deadline, save_dir, names = Deadline(options.seconds), options.save_dir, sample_set.names
    load_models()
    task = options.task or sample_set.task()
    check_classes(sample_set, task)
    check_save_dir(save_dir, sample_set.samples, overwrite=options.overwrite)
    with folder_lock(save_dir):
        remove_partial(save_dir)
        (save_dir / MARK_FILE).touch()
        samples, extractor, notes = extract_features(sample_set.samples, options)
        num_failed = len(sample_set.samples) - len(samples)
        data, more = _split(samples, names, task, options)
        notes = [*sample_set.notes, *notes, *more]
        for note in notes:
            logger.warning("%s", note)
        with one_thread():
            selection = _select(data, deadline, options)
        chosen = selection.chosen
        scores, metrics = _run_test([selection.folders[name] for name in chosen.members], data)
        test = [_test_score(chosen.name, scores, data, options.seed)]
        if chosen.name != BASELINE:
            scores, _ = _run_test([selection.folders[BASELINE]], data)
            test.append(_test_score(BASELINE, scores, data, options.seed))
        averaged = np.mean([selection.found[name].scores for name in chosen.members], axis=0)
        classes = class_rows(names, data.train.labels, data.test.labels, averaged, task)
        result = FitResult(
            task=task,
            names=names,
            num_train=len(data.train),
            num_test=len(data.test),
            num_groups=len(set(data.train_groups)),
            num_failed=num_failed,
            num_folds=selection.num_folds,
            judged=selection.judged,
            seconds={name: each.seconds for name, each in selection.found.items()},
            skipped=selection.skipped,
            chosen=chosen,
            test=test,
            curve=selection.curve,
            of_curve=selection.of_curve,
            expected=forecast(selection.curve, 2 * len(data.train)),
            classes=classes,
            notes=[*notes, *advice(classes, len(data.train))],
            metrics=metrics,
        )
        write_text(save_dir / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        members = [selection.folders[name].relative_to(save_dir).as_posix() for name in chosen.members]
        write_record(result, members, extractor, options)
        return result


@dataclass(frozen=True)
class _Selection:
    """What the training set decides.

    Attributes:
        num_folds: Number of folds.
        found: Candidate -> result of its cross-validation.
        skipped: Candidate -> why it was left out.
        judged: Candidates and means, in order of complexity.
        chosen: The chosen one.
        curve: Learning curve of the best candidate among the chosen.
        of_curve: Name of that candidate.
        folders: Candidate -> folder of its final checkpoint, for the chosen ones and the baseline.
    """

    num_folds: int
    found: dict[str, HeldOutScores]
    skipped: dict[str, str]
    judged: list[CandidateResult]
    chosen: CandidateResult
    curve: list[CurvePoint]
    of_curve: str
    folders: dict[str, Path]


def _select(data: _Data, deadline: Deadline, options: FitOptions) -> _Selection:
    """Compares the candidates, and trains the chosen ones and the baseline on the whole training set."""
    save_dir, by_name = options.save_dir, {candidate.name: candidate for candidate in CANDIDATES}
    folds = _folds(data, options.seed)
    configs = {c.name: _write_config(c, data, options) for c in CANDIDATES}
    found, skipped = _cross_validate(configs, data, folds, deadline, save_dir)
    scores = {name: each.scores for name, each in found.items()}
    judged, chosen = select_candidate(
        scores, data.train.labels, data.train_groups, task=data.task, seed=options.seed
    )
    logger.info("chosen: %s, held-out mAP %.3f", chosen.name, chosen.score)
    by_score = {one.name: one.score for one in judged}
    of_curve = max(chosen.members, key=lambda name: by_score[name])
    curve = learning_curve(
        of_curve,
        configs,
        found,
        data.train,
        folds,
        data.train_groups,
        task=data.task,
        seconds_left=lambda: deadline.seconds_left() * (1 - _FINAL_SHARE),
    )
    folders = {}
    for name in dict.fromkeys([*chosen.members, BASELINE]):
        config = _write_config(by_name[name], data, options, weight_decay=found[name].weight_decay)
        folders[name] = _train_final(config, save_dir / "models" / by_name[name].folder, data)
    return _Selection(len(folds), found, skipped, judged, chosen, curve, of_curve, folders)


def _split(
    samples: list[Sample], names: list[str], task: Task, options: FitOptions
) -> tuple[_Data, list[str]]:
    """Both sets in memory, with their lists written; and notes for the user."""
    width = feature_width(samples)
    everything = read_features(samples, names, task, width)
    means = everything.means(MODALITY)
    samples, notes = merge_copies(samples, means)
    samples = assign(samples, share=options.test_share, seed=options.seed)
    notes += leak_notes(samples, means)
    # Removed before anything of it changes and written last, so that a folder with fit.yaml is complete.
    (options.save_dir / FIT_FILE).unlink(missing_ok=True)
    write_labels(options.save_dir / LABELS_FILE, names)
    order = np.array(sorted(range(len(samples)), key=lambda index: samples[index].split == "test"))
    samples, means, everything = [samples[index] for index in order], means[order], everything.subset(order)
    num_train = sum(sample.split == "train" for sample in samples)
    for split, part in (("train", samples[:num_train]), ("test", samples[num_train:])):
        write_filelist(options.save_dir / f"{split}.list", [ListEntry(s.path, s.label_ids) for s in part])
    digest = hashlib.sha256(json.dumps([task, names, width]).encode())
    for sample in samples:
        digest.update(json.dumps([sample.label_ids, sample.group, sample.split]).encode())
    digest.update(means.tobytes())
    data = _Data(
        samples,
        everything.subset(np.arange(num_train)),
        everything.subset(np.arange(num_train, len(samples))),
        names,
        task,
        width,
        digest.hexdigest(),
    )
    return data, notes


def _folds(data: _Data, seed: int) -> list[np.ndarray]:
    """The folds of the training set; (n,) indices each."""
    groups = data.train_groups
    if len(set(groups)) < 2:
        raise FileListError(
            f"all {len(groups)} training videos are in one group, {groups[0]}, but comparing models takes "
            "two; name smaller groups, or add videos"
        )
    num_folds = NUM_FOLDS if len(groups) < _MANY_VIDEOS else _FEW_FOLDS
    return group_folds(groups, data.train.labels, num_folds=num_folds, seed=seed)


def _write_config(
    candidate: Candidate, data: _Data, options: FitOptions, *, weight_decay: float | None = None
) -> Config:
    """Writes the YAML with which `videotag train` repeats a candidate, and returns its config."""
    sections = candidate_sections(
        candidate,
        num_videos=len(data.train),
        width=data.width,
        num_classes=len(data.names),
        task=data.task,
        seed=options.seed,
        filelists={
            "TRAIN": str(options.save_dir / "train.list"),
            "TEST": str(options.save_dir / "test.list"),
        },
        weight_decay=weight_decay,
    )
    path = options.save_dir / "candidates" / f"{candidate.folder}.yaml"
    write_text(path, yaml.safe_dump(sections, sort_keys=False, allow_unicode=True))
    return load_config(path)


def _cross_validate(
    configs: Mapping[str, Config],
    data: _Data,
    folds: Sequence[np.ndarray],
    deadline: Deadline,
    save_dir: Path,
) -> tuple[dict[str, HeldOutScores], dict[str, str]]:
    """Name -> held-out scores of the candidates for which there is time; and name -> why one was left out."""
    found: dict[str, HeldOutScores] = {}
    skipped: dict[str, str] = {}
    for candidate in CANDIDATES:
        config = configs[candidate.name]
        path = save_dir / "cross_validation" / f"{candidate.folder}.npz"
        settings = config.sections(lambda cls: cls.keys(Key.LOCAL))  # without lists, which name save_dir
        text = [data.digest, [fold.tolist() for fold in folds], settings]
        digest = hashlib.sha256(json.dumps(text).encode()).hexdigest()
        kept = _read_held_out(path, digest)
        if kept is None:
            if not candidate.is_linear and deadline.seconds_left() <= 0:
                skipped[candidate.name] = "no time was left"
                continue
            try:
                kept = cross_validate(
                    candidate, config, data.train, folds,
                    seconds_left=lambda: deadline.seconds_left() * (1 - _FINAL_SHARE),
                )  # fmt: skip
            except DivergedError:
                skipped[candidate.name] = "its scores are not finite"
                continue
            except OutOfTimeError:
                skipped[candidate.name] = "it would take longer than the time that was left"
                continue
            _write_held_out(path, kept, digest)
        found[candidate.name] = kept
        y = one_hot(data.train.labels, len(data.names), data.task)
        logger.info("%s: held-out mAP %.3f, %.0f s", candidate.name, mean_ap_of(kept.scores, y), kept.seconds)
    for name, why in skipped.items():
        logger.warning("%s is left out: %s", name, why)
    return found, skipped


def _write_held_out(path: Path, held: HeldOutScores, digest: str) -> None:
    penalty = np.nan if held.weight_decay is None else held.weight_decay
    with open_atomic(path, "wb") as file:
        np.savez(
            file, scores=held.scores, seconds=held.seconds, weight_decay=penalty, digest=np.array(digest)
        )


def _read_held_out(path: Path, digest: str) -> HeldOutScores | None:
    """The result of an earlier run; None if there is none of the same data, folds and config."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["digest"]) != digest:
                return None
            penalty = float(arrays["weight_decay"])
            return HeldOutScores(
                arrays["scores"], float(arrays["seconds"]), None if np.isnan(penalty) else penalty
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _train_final(config: Config, folder: Path, data: _Data) -> Path:
    """Trains a candidate on the whole training set; keeps or resumes an earlier run of the same."""
    entries = read_section_list(config, "TRAIN", labels="optional")
    # The lists of a run are compared by path, but features may have changed below the same paths.
    digest = hashlib.sha256(f"{data.digest} {config.to_yaml()}".encode()).hexdigest()
    record = folder.with_suffix(".digest")
    is_same = record.is_file() and record.read_text(encoding="utf-8") == digest
    write_text(record, digest)  # first, so that a kill resumes the right run
    train_model(
        config,
        entries,
        [],
        save_dir=folder,
        labels=data.names,
        resume=is_same,
        valid_interval=0,
        log_interval=100,
    )
    return folder


class _Scores:
    """Observer that keeps all scores."""

    def __init__(self) -> None:
        self.scores: list[np.ndarray] = []

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Adds scores (N, C)."""
        self.scores.append(scores)

    def merge(self, other: _Scores, /) -> None:
        """Adds those of another one."""
        self.scores += other.scores


def _run_test(folders: Sequence[Path], data: _Data) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities (n, C) of a model, or of the mean of several, on the test set; and its metrics."""
    model = TrainedModel.load(folders)
    kept = _Scores()
    batches = data.test.batches(ordered_groups(len(data.test), EVALUATION_BATCH))
    metrics = evaluate(model.run, batches, task=data.task, observers=[kept])
    return np.concatenate(kept.scores).astype(np.float64), metrics


def _test_score(name: str, scores: np.ndarray, data: _Data, seed: int) -> TestScore:
    y = one_hot(data.test.labels, len(data.names), data.task)
    samples = bootstrap_rows(data.test_groups, y.size, seed=seed)
    low, high = np.percentile([mean_ap_of(scores[rows], y[rows]) for rows in samples], INTERVAL)
    return TestScore(name, mean_ap_of(scores, y), float(low), float(high), hit_at_one(scores, y))
