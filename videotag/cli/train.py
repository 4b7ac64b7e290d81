"""Trains a tagger on a list of features or a TSN on a list of videos; writes a checkpoint after every epoch.

python train.py --model_name=AttentionLSTM --config=configs/attention_lstm.yaml --save_dir=data/checkpoints
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from videotag.cli import arguments, values
from videotag.cli.tables import metrics_table
from videotag.errors import EXIT_FAILURES, EXIT_OK
from videotag.system.failures import FAILURES_FILE

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
    from videotag.training.fitted_config import fit_config
    from videotag.training.launch import launch_on_gpus
    from videotag.training.probe import comparison_with_probe
    from videotag.training.train import train_model

    save_dir = Path(args.save_dir)
    fitted = fit_config(
        args.config,
        arguments.overrides(args, _flags(args)),
        default=arguments.DEFAULT_CONFIG,
        save_dir=save_dir,
        model_name=args.model_name,
        resume=args.resume,
    )
    config = fitted.config
    if args.fix_random_seed and config.train.seed is None:
        config.train.seed = 0
    check_may_write(save_dir)
    valid_entries = []
    if args.valid_interval and config.valid.filelist:
        valid_entries = read_section_list(config, "VALID", labels="optional")
    launch_on_gpus(config.train.use_gpu, log_dir=save_dir / "launch")
    if select_device(config.train.use_gpu) == "cpu":
        keep_freed_memory()
    arguments.join_processes()
    for note in fitted.notes:
        logger.info("%s", note)
    result = train_model(
        config,
        fitted.entries,
        valid_entries,
        save_dir=save_dir,
        labels=fitted.labels,
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
        text = comparison_with_probe(
            result.best, result.probe, task=config.task, pretrain=pretrain, save_dir=save_dir
        )
        print(text)
    if result.failed:
        path = save_dir / FAILURES_FILE
        logger.warning("skipped: %d videos that cannot be read: %s", len(result.failed), path)
    return EXIT_FAILURES if result.failed else EXIT_OK


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the flags by config key; None for flags that are not given."""
    return {
        "TRAIN.batch_size": args.batch_size,
        "TRAIN.learning_rate": args.learning_rate,
        "TRAIN.epoch": args.epoch,
        "TRAIN.pretrain": args.pretrain,
        "TRAIN.keep": args.keep,
        "TRAIN.extend_labels": args.extend_labels or None,
        "MODEL.label_file": args.label_file,
    }
