"""Logistic-regression baseline that `eval --report` shows beside a tagger's score.

Shapes: N training videos, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from videotag.config import Config
from videotag.datasets.batches import Batch, raise_error
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.datasets.order import ordered_groups
from videotag.errors import VideotagError
from videotag.fit.candidates import CANDIDATES
from videotag.fit.cross_validation import train_linear
from videotag.formats.record_files import is_record_file
from videotag.inference.data import open_dataset, read_section_list
from videotag.inference.evaluate import evaluate, in_layers
from videotag.models import load_models
from videotag.registry import get_model
from videotag.sections import TaggerModel

MAX_VIDEOS = 5000
MAX_VALUES = 250_000_000  # of all features, 1 GB as float32
_BATCH = 64
logger = logging.getLogger(__name__)


def baseline_metrics(config: Config, batches: Iterable[Batch]) -> Mapping[str, Any] | None:
    """Metrics of a logistic regression on mean and standard deviation of the frames of TRAIN.filelist.

    Args:
        config: Config of a tagger of features, with its TRAIN.filelist.
        batches: Batches of the test set, every sample once.

    Returns:
        Metrics as `evaluate` returns them; None for other models, and if the training list is unknown,
        cannot be read, is too large, or has fewer than two different entries.
    """
    if not isinstance(config.model, TaggerModel) or not config.train.filelist:
        return None
    try:
        labels: Literal["required", "optional"] = "required" if config.task == "single_label" else "optional"
        entries = read_section_list(config, "TRAIN", labels=labels)
        paths = {entry.path for entry in entries}
        if not 2 <= len(paths) <= MAX_VIDEOS or any(map(is_record_file, paths)):
            return None
        dataset = open_dataset(config, entries, config.infer)
        if dataset.sizes is None or int(dataset.sizes.sum()) * sum(config.model.feature_dims) > MAX_VALUES:
            return None
        groups = ordered_groups(len(entries), _BATCH)
        data = MemoryDataset(b for b in dataset.batches(groups, on_error=raise_error) if b is not None)
    except VideotagError as error:
        logger.info("no baseline in the report: %s", error)
        return None
    load_models()
    entry = get_model(str(CANDIDATES[0].model["name"]))
    common = {key: getattr(config.model, key) for key in ("feature_names", "feature_dims", "num_classes")}
    section = entry.config(**{**CANDIDATES[0].model, **common, "task": config.task})
    model = train_linear(replace(config, entry=entry, model=section), data)
    return evaluate(in_layers(model), batches, task=config.task)
