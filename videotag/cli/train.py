"""Trains a tagger on a list of features or a TSN on a list of videos; writes a checkpoint after every epoch.

python train.py --model_name=AttentionLSTM --config=configs/attention_lstm.yaml --save_dir=data/checkpoints
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from videotag.cli import arguments, values
from videotag.cli.tables import metrics_table
from videotag.errors import EXIT_FAILURES, EXIT_OK, LabelFileError
from videotag.system.failures import FAILURES_FILE

if TYPE_CHECKING:
    from videotag.config import Config
    from videotag.formats.filelist import ListEntry

SHARES_WORK = True  # supports paddle.distributed.launch
SUMMARY = "train a tagger on feature lists, or a TSN on videos"
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag train`."""
    arguments.add_model_arguments(parser)
    parser.add_argument("--pretrain", help="weights to start from: a file, a prefix or a folder")
    arguments.add_switch(
        parser, "--resume", help="resume from the newest checkpoint in --save_dir, or start if there is none"
    )
    parser.add_argument("--keep", type=values.natural, help="checkpoints to keep (default: all weights)")
    arguments.add_switch(
        parser,
        "--extend_labels",
        help="with --pretrain: classes with the same name in the old and new label file keep their weights",
    )
    parser.add_argument("--save_dir", default="./data/checkpoints", help="default: %(default)s")
    parser.add_argument(
        "--label_file",
        help="class names, copied beside the checkpoints: one per line, or YouTube-8M's vocabulary.csv",
    )
    parser.add_argument("--batch_size", type=values.natural, help="videos per step, over all devices")
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--epoch", type=values.natural, help="number of epochs")
    parser.add_argument(
        "--valid_interval",
        type=values.whole,
        default=1,
        help="epochs between validations, 0 for never (default: 1)",
    )
    parser.add_argument(
        "--log_interval", type=values.natural, default=1, help="steps per log line (default: 1)"
    )
    arguments.add_switch(parser, "--fix_random_seed", help="use the same seed in every run")
    parser.add_argument("--visualdl", metavar="DIR", help="also write scalars for VisualDL to this folder")


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the paths of the weights and the metrics of the best epoch."""
    from videotag.inference.data import read_section_list
    from videotag.inference.parallel import is_main
    from videotag.runtime.device import select_device
    from videotag.system.atomic import check_may_write
    from videotag.system.kept_memory import keep_freed_memory
    from videotag.training.launch import launch_on_gpus
    from videotag.training.probe import comparison_with_probe
    from videotag.training.train import train_model

    config, labels, train_entries, notes = _read_config(args)
    if args.fix_random_seed and config.train.seed is None:
        config.train.seed = 0
    check_may_write(Path(args.save_dir))
    valid_entries = []
    if args.valid_interval and config.valid.filelist:
        valid_entries = read_section_list(config, "VALID", labels="optional")
    launch_on_gpus(config.train.use_gpu, log_dir=Path(args.save_dir) / "launch")
    if select_device(config.train.use_gpu) == "cpu":
        keep_freed_memory()
    arguments.join_processes()
    for note in notes:
        logger.info("%s", note)
    result = train_model(
        config,
        train_entries,
        valid_entries,
        save_dir=Path(args.save_dir),
        labels=labels,
        resume=args.resume,
        valid_interval=args.valid_interval,
        log_interval=args.log_interval,
        visualdl_dir=args.visualdl,
    )
    if not is_main():
        return EXIT_OK  # the launcher ends all processes at the first non-zero code
    print(f"last weights: {result.last_path}")
    print(f"best weights: {result.best_path}")
    print(metrics_table(result.best))
    if result.probe is not None and result.best:
        pretrain = config.train.pretrain
        print(comparison_with_probe(result.best, result.probe, task=config.task, pretrain=pretrain))
    if result.failed:
        path = Path(args.save_dir, FAILURES_FILE)
        logger.warning("skipped: %d videos that cannot be read: %s", len(result.failed), path)
    return EXIT_FAILURES if result.failed else EXIT_OK


def _read_config(
    args: argparse.Namespace,
) -> tuple[Config, list[str] | None, list[ListEntry], list[str]]:
    """The config, fitted to the data; the class names; the samples to train on; and what was fitted."""
    from videotag.config_file import written_values
    from videotag.inference.data import read_list, read_section_list
    from videotag.training.fitted_config import (
        FEATURE_DIMS,
        NUM_CLASSES,
        check_class_ids,
        fit_feature_dims,
        fit_num_classes,
    )
    from videotag.weights import CONFIG_FILE, LABELS_FILE

    flags = {
        "TRAIN.batch_size": args.batch_size,
        "TRAIN.learning_rate": args.learning_rate,
        "TRAIN.epoch": args.epoch,
        "TRAIN.pretrain": args.pretrain,
        "TRAIN.keep": args.keep,
        "TRAIN.extend_labels": args.extend_labels or None,
        "MODEL.label_file": args.label_file,
    }
    own, own_labels = (Path(args.save_dir) / name for name in (CONFIG_FILE, LABELS_FILE))
    default = str(own) if args.resume and own.is_file() else arguments.DEFAULT_CONFIG
    path = args.config or default
    is_own = args.resume and args.config in (None, str(own))
    if is_own and own_labels.is_file() and arguments.label_file(args) is None:
        flags["MODEL.label_file"] = str(own_labels)  # the original may no longer exist
    set_values = arguments.set_values(args)
    pretrain = written_values(path).get("TRAIN", {}).get("pretrain")
    has_weights = (is_own and own.is_file()) or args.pretrain or set_values.get("TRAIN.pretrain", pretrain)
    notes = []
    if not has_weights:
        label_file = arguments.label_file(args)
        flags[NUM_CLASSES], note = fit_num_classes(path, label_file=label_file, set_keys=set_values)
        notes += [note] if note else []
    config = arguments.read_config(args, flags, default=default)
    labels, train = _read_labels(config), config.train
    if labels and train.filelist and flags.get(NUM_CLASSES):
        entries = read_list(train.filelist, config, train, labels="required")
        check_class_ids(entries, config.model.label_file, num_classes=len(labels), filelist=train.filelist)
    else:
        entries = read_section_list(config, "TRAIN", labels="required")
    fixed_by = "--set" if FEATURE_DIMS in set_values else "the weights to start from" if has_weights else None
    dims, note = fit_feature_dims(config, entries, path, fixed_by=fixed_by)
    if dims:
        config = arguments.read_config(args, {**flags, FEATURE_DIMS: dims}, default=default)
    return config, labels, entries, [*notes, note] if note else notes


def _read_labels(config: Config) -> list[str] | None:
    """The class names; None if there is no label file."""
    from videotag.labels import read_labels

    path, num_classes = config.model.label_file, config.model.num_classes
    labels = read_labels(path) if path else None
    if labels is not None and len(labels) != num_classes:
        raise LabelFileError(
            f"{path}: {len(labels)} names, expected num_classes {num_classes}; give the model's label file, "
            f"or set MODEL.num_classes={len(labels)}"
        )
    return labels
