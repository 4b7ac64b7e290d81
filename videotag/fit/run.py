"""Labeled clips -> a trained tagger: features, splits, candidates, choice, final training, test.

Every stage keeps what an interrupted run has done: features by their stamps, the cross-validation of each
candidate by a digest of its data and settings, and the final networks as resumable training runs.
Shapes: N training videos, D feature width, C classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videotag.errors import OutputError, one_error
from videotag.fit.candidates import BASELINE, METHOD
from videotag.fit.comparison import compare_candidates
from videotag.fit.copies import leak_notes, merge_copies
from videotag.fit.features import (
    MODALITY,
    VIDEO_LIST,
    extract_features,
    feature_width,
    keep_extractor,
    read_features,
)
from videotag.fit.final_models import score_on_test, train_candidates
from videotag.fit.labeled_set import LabeledSet, TrainingSet, training_folds
from videotag.fit.options import FitOptions
from videotag.fit.record import REPORT_FILE, advice, class_rows, write_record
from videotag.fit.result import FitResult
from videotag.fit.samples import LABELS_FILE, Sample, SampleSet, assign, check_classes
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.inference.fit_folder import FIT_FILE, MARK_FILE
from videotag.inference.input_files import InputFiles
from videotag.labels import write_labels
from videotag.models import load_models
from videotag.registry import Task
from videotag.safe_text import safe_repr
from videotag.sections import MAX_PATH
from videotag.system.atomic import remove_partial, write_text
from videotag.system.folder_lock import LOCK_FILE, folder_lock
from videotag.system.text import read_text
from videotag.training.threads import one_thread

METRICS_FILE = "metrics.json"
TRAIN_LIST, TEST_LIST = "train.list", "test.list"
_OUTPUTS = (VIDEO_LIST, TRAIN_LIST, TEST_LIST, LABELS_FILE, METRICS_FILE, FIT_FILE, REPORT_FILE)
_REMEDY = "choose a new folder, or give --overwrite"
_FINAL_SHARE = 0.3  # of the time left after the split; reserved for the final training
logger = logging.getLogger(__name__)


def fit(sample_set: SampleSet, options: FitOptions) -> FitResult:
    """Trains a tagger from labeled videos or features, and tests it.

    Args:
        sample_set: Videos or feature files, see read_samples.
        options: Options.

    Returns:
        What was decided and measured; save_dir then holds fit.yaml, the models and metrics.json, but no
        report.html.

    Raises:
        FileListError: There are too few videos, groups or labels.
        FeatureFileError: Feature files are missing, damaged, or of different widths or extractors.
        ConfigError, WeightsError, DeviceError: The extractor cannot be loaded.
        DivergedError: The loss of a final network is not finite.
        OutputError: Another run writes to save_dir, it holds foreign files, or it holds the videos or lists
            of the source.
    """
    deadline = Deadline(options.seconds)
    load_models()
    task = options.task or sample_set.task()
    check_classes(sample_set, task)
    _check_split(sample_set.samples, options)
    check_save_dir(options.save_dir, sample_set, overwrite=options.overwrite)
    with folder_lock(options.save_dir):
        remove_partial(options.save_dir)
        source = os.path.abspath(sample_set.source) if sample_set.source else ""  # noqa: PTH100
        write_text(options.save_dir / MARK_FILE, f"{source}\n")
        samples, extractor, notes = extract_features(sample_set.samples, options)
        train_set, test_set, more = _split(samples, sample_set.names, task, options)
        # Removed before anything of the tagger changes, so that a folder with fit.yaml is complete.
        for name in (FIT_FILE, REPORT_FILE):
            (options.save_dir / name).unlink(missing_ok=True)
        if extractor is not None:
            keep_extractor(extractor, options.save_dir)
        _write_lists(train_set, test_set, options.save_dir)
        notes = [*sample_set.notes, *notes, *more]
        for note in notes:
            logger.warning("%s", note)
        with one_thread():
            end = deadline.part(1 - _FINAL_SHARE)
            comparison = compare_candidates(train_set, options, seconds_left=end.seconds_left)
            members = comparison.chosen.members
            folders = train_candidates([*members, BASELINE], comparison.held_out, train_set, options)
        scores, metrics = score_on_test(comparison.chosen, folders, test_set, seed=options.seed)
        classes = class_rows(train_set, test_set, comparison.chosen_scores())
        result = FitResult(
            task=task,
            names=sample_set.names,
            num_train=len(train_set),
            num_test=len(test_set),
            num_groups=len(set(train_set.groups)),
            num_failed=len(sample_set.samples) - len(samples),
            has_extractor=extractor is not None,
            comparison=comparison,
            test=scores,
            classes=classes,
            notes=[*notes, *advice(classes, len(train_set))],
            metrics=metrics,
        )
        write_text(options.save_dir / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
        write_record(result, [folders[name] for name in members], extractor, options)
        return result


class Deadline:
    """A time limit that starts now.

    Args:
        seconds: Limit in seconds; None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = float("inf") if seconds is None else time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds until the limit, infinite without one; negative after it."""
        return self._end - time.monotonic()

    def part(self, share: float) -> Deadline:
        """A limit that starts now, of a share in (0, 1] of the time that is left."""
        return Deadline(share * self.seconds_left())


def _check_split(samples: Sequence[Sample], options: FitOptions) -> None:
    """Refuses, before the extraction, a split with an empty set or a single training group.

    Raises:
        FileListError: See assign and training_folds.
    """
    samples = assign(samples, share=options.test_share, seed=options.seed)
    groups = [sample.group for sample in samples if sample.split == "train"]
    training_folds(groups, np.full(len(groups), -1), seed=options.seed)  # the folds of no labels


def check_save_dir(save_dir: Path, sample_set: SampleSet, *, overwrite: bool) -> None:
    """Refuses a folder that is not of a fit, or in which the source or its lists would be replaced.

    Args:
        save_dir: Folder of everything that is written.
        sample_set: Videos or feature files of the user.
        overwrite: Whether foreign files may be replaced; those that are read never are.

    Raises:
        OutputError: The folder holds foreign files, and overwrite is False; or it holds videos, or lists
            or names that are read.
    """
    inside = save_dir.resolve()
    for sample in sample_set.samples:
        if Path(sample.path).resolve().is_relative_to(inside):
            raise OutputError(f"--save_dir {save_dir}: holds {sample.path}; choose a folder without videos")
    inputs = InputFiles(sample_set.files)
    refused = [(path, inputs.refusal(path)) for path in (save_dir / name for name in _OUTPUTS)]
    if problems := [f"{path}: {text}; give another --save_dir" for path, text in refused if text]:
        raise one_error(OutputError, problems)
    if overwrite or not save_dir.is_dir():
        return
    if (save_dir / MARK_FILE).is_file():
        earlier = read_text(
            save_dir / MARK_FILE, error=OutputError, missing=_REMEDY, binary=_REMEDY, max_bytes=MAX_PATH
        ).strip()
        if earlier and Path(earlier).exists() and not Path(earlier).samefile(sample_set.source or earlier):
            raise OutputError(
                f"--save_dir {save_dir}: holds a tagger of {earlier}; choose a new folder, or give "
                "--overwrite"
            )
        return
    others = [path.name for path in save_dir.iterdir() if path.name != LOCK_FILE]
    if others:
        raise OutputError(
            f"--save_dir {save_dir}: holds {sorted(others)[0]}, and no earlier fit; choose a new folder, or "
            "give --overwrite"
        )


def _split(
    samples: list[Sample], names: list[str], task: Task, options: FitOptions
) -> tuple[TrainingSet, LabeledSet, list[str]]:
    """Both sets in memory, and notes for the user."""
    width = feature_width(samples)
    everything = read_features(samples, names, task, width)
    means = everything.means(MODALITY)
    samples, notes = merge_copies(samples, means)
    samples = assign(samples, share=options.test_share, seed=options.seed)
    notes += [*leak_notes(samples, means), *_group_notes(samples)]
    order = np.array(sorted(range(len(samples)), key=lambda index: samples[index].split == "test"))
    samples, means = [samples[index] for index in order], means[order]
    num_train = sum(sample.split == "train" for sample in samples)
    train_samples, test_samples = samples[:num_train], samples[num_train:]
    train, test = everything.subset(order[:num_train]), everything.subset(order[num_train:])
    train_set = TrainingSet(
        train_samples,
        train,
        names,
        task,
        width,
        folds=training_folds([sample.group for sample in train_samples], train.labels, seed=options.seed),
        digest=_digest(train_samples, means[:num_train], [METHOD, task, names, width]),
    )
    return train_set, LabeledSet(test_samples, test, names, task, width), notes


def _group_notes(samples: Sequence[Sample]) -> list[str]:
    """A note if groups are on both sides of a split that the source fixes."""
    groups = [{sample.group for sample in samples if sample.split == split} for split in ("train", "test")]
    both = sorted(groups[0] & groups[1])
    if not both:
        return []
    return [
        f"groups in both training and test set: {len(both)}, the first is {safe_repr(both[0])}; "
        "the test scores may be too high"
    ]


def _write_lists(train_set: LabeledSet, test_set: LabeledSet, save_dir: Path) -> None:
    """Writes the lists of both sets, and the class names."""
    write_labels(save_dir / LABELS_FILE, train_set.names)
    for name, part in ((TRAIN_LIST, train_set), (TEST_LIST, test_set)):
        write_filelist(save_dir / name, [ListEntry(s.path, s.label_ids) for s in part.samples])


def _digest(samples: Sequence[Sample], means: np.ndarray, others: list[object]) -> str:
    """SHA-256 of the labels, groups and mean features of samples, and of other settings."""
    digest = hashlib.sha256(json.dumps(others).encode())
    for sample in samples:
        digest.update(json.dumps([sample.label_ids, sample.group]).encode())
    digest.update(means.tobytes())
    return digest.hexdigest()
