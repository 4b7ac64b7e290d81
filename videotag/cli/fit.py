"""Makes a tagger of your own from labeled clips: features, models, choice, report, in one command.

    videotag fit clips/ --save_dir=data/mine                          # clips/cat/a.mp4, clips/dog/b.mp4
    videotag fit videos.csv --save_dir=data/mine --group_column film  # several labels per video
    videotag fit lists/ --save_dir=data/mine                          # train.list, test.list, labels.txt
    videotag tag new.mp4 --weights=data/mine

Extracts features, compares a logistic regression, an MLP and sequence models by cross-validation over groups,
trains the best one, tests it on held-out videos, and writes SAVE_DIR/report.html. SAVE_DIR/fit.yaml holds all
decisions, and the commands that repeat them by hand. The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from videotag.cli import arguments, source_flags, values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError
from videotag.safe_text import escaped

SUMMARY = "make a tagger of your own from a folder of labeled clips"
_MAX_SEED = 2**31 - 1  # as TRAIN.seed
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag fit`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder with a folder per class, CSV, list, or folder with train.list and test.list",
    )
    parser.add_argument("--save_dir", required=True, help="folder of everything that is written")
    parser.add_argument(
        "--time",
        type=values.duration_sec,
        metavar="10m",
        help="time limit, such as 90s, 10m or 2h; minutes without a unit (default: none)",
    )
    parser.add_argument("--label_file", help="class names in order (default: those of SOURCE)")
    parser.add_argument(
        "--task",
        choices=("multi_label", "single_label"),
        help="default: single_label if every video has exactly one label",
    )
    parser.add_argument(
        "--test_share",
        type=values.fraction,
        help="share of the test set, if SOURCE has none: above 0, at most 0.5, rounded to 1/2, 1/3, 1/4 ... "
        "(default: 0.2)",
    )
    parser.add_argument(
        "--seed",
        type=values.integer(0, _MAX_SEED),
        default=0,
        help="seed of the split, the folds and training (default: %(default)s)",
    )
    parser.add_argument(
        "--extractor_weights",
        help="weights of the first stage (default: weights/tsn if it exists, else EfficientNet-Lite0)",
    )
    parser.add_argument(
        "--extractor_config", help="YAML of the first stage (default: the one beside its weights)"
    )
    parser.add_argument(
        "--seg_num", type=_seg_num, help="frames per video (default: 8 per second, from 8 to 64)"
    )
    source_flags.add_source_flags(parser)
    arguments.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Fits, writes the report and prints what was chosen."""
    from videotag.fit.options import FitOptions
    from videotag.fit.record import REPORT_FILE
    from videotag.fit.report import result_text, use_command, write_fit_report
    from videotag.fit.run import fit
    from videotag.fit.samples import TEST_SHARE, read_samples
    from videotag.runtime.device import select_device
    from videotag.system.atomic import check_may_write
    from videotag.system.kept_memory import keep_freed_memory

    save_dir = Path(args.save_dir)
    if args.test_share is not None and not 0 < args.test_share <= 0.5:
        raise ConfigError(f"--test_share {args.test_share:g}: expected a share above 0 and at most 0.5")
    sample_set = read_samples(
        args.source,
        label_file=args.label_file,
        group_by=args.group_by,
        csv_options=source_flags.csv_options(args),
    )
    if Path(args.source).is_dir() and save_dir.resolve().is_relative_to(Path(args.source).resolve()):
        raise ConfigError(
            f"--save_dir {save_dir}: inside {args.source}, where its files would be read as a class; "
            "choose a folder outside"
        )
    if args.test_share is not None and any(sample.split for sample in sample_set.samples):
        column = f" by --split_column {args.split_column}" if args.split_column else ""
        raise ConfigError(
            f"--test_share {args.test_share:g}: {args.source} fixes the test set{escaped(column)}; "
            "leave --test_share out"
        )
    check_may_write(save_dir)
    if select_device("auto") == "cpu":
        keep_freed_memory()
    options = FitOptions(
        save_dir,
        task=args.task,
        extractor_weights=args.extractor_weights,
        extractor_config=args.extractor_config,
        seg_num=args.seg_num,
        test_share=TEST_SHARE if args.test_share is None else args.test_share,
        seconds=args.time,
        seed=args.seed,
        overwrite=args.overwrite,
    )
    result = fit(sample_set, options)
    write_fit_report(save_dir / REPORT_FILE, result, folder=save_dir)
    for line in result_text(result).splitlines():
        arguments.show(escaped(line, limit=2000))
    arguments.show(f"\nreport: {escaped(str(save_dir / REPORT_FILE))}")
    arguments.show(f"use:    {escaped(use_command(result, save_dir))}")
    return EXIT_FAILURES if result.num_failed else EXIT_OK


def _seg_num(text: str) -> int:
    """A number of frames, as INFER.seg_num."""
    from videotag.sections import MAX_FRAMES  # loads pydantic, which the help does not need

    return values.integer(1, MAX_FRAMES)(text)
