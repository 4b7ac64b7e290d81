"""Evaluates a tagger on the list of its config's TEST section: GAP, Hit@1, PERR, mAP and loss.

python eval.py --model_name=AttentionLSTM --weights=data/checkpoints/AttentionLSTM_epoch9
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from videotag.cli import arguments
from videotag.errors import EXIT_OK, ConfigError

SUMMARY = "measure a tagger on a labelled list"
METRICS_FILE = "metrics.json"
Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag eval`."""
    arguments.add_model_arguments(parser)
    parser.add_argument("--weights", default=arguments.DEFAULT_WEIGHTS, help="default: %(default)s")
    parser.add_argument("--filelist", help="a labelled list in place of TEST.filelist")
    parser.add_argument("--batch_size", type=arguments.natural)
    parser.add_argument("--save_dir", default="./data/evaluate_results", help="default: %(default)s")
    parser.add_argument(
        "--log_interval", type=arguments.natural, default=1, help="batches between log lines (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Writes SAVE_DIR/metrics.json and prints the same as a table."""
    from videotag.atomic import write_text
    from videotag.datasets.features import check_features, feature_batches
    from videotag.engine.checkpoint import load_weights
    from videotag.engine.evaluate import evaluate
    from videotag.runtime.device import select_device

    weights = arguments.find_checkpoint(args.weights)
    flags = {"TEST.batch_size": args.batch_size, "TEST.filelist": args.filelist}
    config = arguments.read_config(args, flags, weights=weights)
    if config.entry.kind != "tagger":
        raise ConfigError(f"{config.entry.name}: only taggers can be evaluated so far")
    num_classes, dims, batch_size = config.model.num_classes, config.model.dims, config.test.batch_size
    entries = arguments.read_split(config.test.filelist, "TEST", num_classes=num_classes, labels="optional")
    check_features(entries, dims)
    select_device(config.train.use_gpu)
    model = config.entry.cls(config.model)
    load_weights(model, weights.path, config_name=str(args.config or config.entry.name))
    batches = feature_batches(entries, dims=dims, num_classes=num_classes, batch_size=batch_size)
    num_batches = -(-len(entries) // batch_size)
    metrics = evaluate(model, _logged(batches, num_batches, args.log_interval), task=config.task)
    text = json.dumps(metrics, indent=2)
    write_text(Path(args.save_dir) / METRICS_FILE, text + "\n")
    print(text if args.json else table(metrics))
    logger.info("written: %s", Path(args.save_dir) / METRICS_FILE)
    return EXIT_OK


def table(metrics: dict[str, Any]) -> str:
    """Metrics as lines of name and value."""
    return "\n".join(
        f"{name:<20}{value:.4f}" if isinstance(value, float) else f"{name:<20}{value}"
        for name, value in metrics.items()
    )


def _logged(batches: Iterable[Item], total: int, interval: int) -> Iterator[Item]:
    for index, batch in enumerate(batches, start=1):
        yield batch
        if index % interval == 0 or index == total:
            logger.info("batch %d of %d", index, total)
