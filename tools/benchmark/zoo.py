"""Trains every tagger on generated features and compares what each can learn, and how fast.

    python tools/benchmark/zoo.py --save_dir=data/zoo_bench
    python tools/benchmark/zoo.py --models MeanPool,BiGRU --quick

Tags are of three kinds: content, co-occurrence of content, and order, which no pooling over steps can learn.
The benchmark checks itself: models blind to order must fail at order tags, and at least one other model must
not (exit code 1 otherwise). SAVE_DIR gets zoo.md, zoo.json, the features, and a config and a checkpoint per
model.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import json
import logging
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from run_tool import run_tool
from zoo_models import BenchOptions, Row, problems_of, run_zoo

from videotag.cli import arguments, values
from videotag.errors import EXIT_FAILURES, EXIT_OK, ConfigError, OutputError
from videotag.inference.outputs import FileOutput, check_files
from videotag.models import load_models
from videotag.registry import ModelEntry, get_model, list_models
from videotag.system.atomic import check_writable, write_text

DEFAULT_VIDEOS, DEFAULT_EPOCHS = 3000, 15
QUICK_VIDEOS, QUICK_EPOCHS = 800, 15
TEST_SHARE = 3  # training videos per test video
MIN_VIDEOS = 20  # with fewer, hardly any video has an order tag
JSON_FILE, TABLE_FILE = "zoo.json", "zoo.md"
_JSON_HEAD, _TABLE_HEAD = re.compile(r'\{\s*"options": '), re.compile(r"\| model \| GAP \|")
logger = logging.getLogger("videotag.tools.zoo")  # which commands show


def main(argv: list[str] | None = None) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", help="comma-separated names (default: all taggers)")
    parser.add_argument("--save_dir", default="./data/zoo_bench", help="default: %(default)s")
    parser.add_argument(
        "--seed", type=values.whole, default=0, help="seed of features and training (default: %(default)s)"
    )
    parser.add_argument(
        "--videos",
        type=values.natural,
        help=f"number to train on; a third as many are for testing (default: {DEFAULT_VIDEOS})",
    )
    parser.add_argument("--epoch", type=values.natural, help=f"default: {DEFAULT_EPOCHS}")
    arguments.add_switch(
        parser, "--quick", help=f"{QUICK_VIDEOS} videos and {QUICK_EPOCHS} epochs by default"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return run_tool(parser, run, argv)


def run(args: argparse.Namespace) -> int:
    """Writes and prints the table; logs problems."""

    videos = args.videos or (QUICK_VIDEOS if args.quick else DEFAULT_VIDEOS)
    if videos < MIN_VIDEOS:
        raise ConfigError(f"--videos {videos}: expected {MIN_VIDEOS} or more")
    if args.seed >= 2**31:
        raise ConfigError(f"--seed {args.seed}: expected a number below {2**31}")
    options = BenchOptions(
        seed=args.seed,
        num_train=videos,
        num_test=max(MIN_VIDEOS, videos // TEST_SHARE),
        epochs=args.epoch or (QUICK_EPOCHS if args.quick else DEFAULT_EPOCHS),
    )
    entries, save_dir = select_taggers(args.models), Path(args.save_dir)
    check_place(save_dir, entries)
    check_writable(save_dir)
    # Written first, to mark the folder as a benchmark's.
    write_text(save_dir / JSON_FILE, json.dumps(as_json([], options, ["not finished"]), indent=2) + "\n")
    rows, failed = run_zoo(entries, options, save_dir=save_dir)
    problems = problems_of(rows) + [f"{name}: {text}" for name, text in failed.items()]
    text = json.dumps(as_json(rows, options, problems), indent=2)
    write_text(save_dir / JSON_FILE, text + "\n")
    write_text(save_dir / TABLE_FILE, markdown(rows) + "\n")
    arguments.show(text if args.json else markdown(rows))
    if not any(row.sees_order for row in rows):
        logger.warning("no model here sees order, so it was not checked that order tags can be learned")
    for problem in problems:
        logger.error("%s", problem)
    return EXIT_FAILURES if problems else EXIT_OK


def check_place(save_dir: Path, entries: list[ModelEntry]) -> None:
    """Refuses a folder in which files of something else would be replaced.

    Raises:
        OutputError: There are such files.
    """
    files = ((JSON_FILE, _JSON_HEAD), (TABLE_FILE, _TABLE_HEAD))
    check_files([FileOutput(save_dir / name, "--save_dir", head) for name, head in files], inputs=())
    if (save_dir / JSON_FILE).exists():
        return
    for name in ("data", *(f"{entry.name}.yaml" for entry in entries)):
        if (save_dir / name).exists():
            raise OutputError(
                f"{save_dir / name}: exists and was not written by this benchmark; choose another --save_dir"
            )


def select_taggers(models: str | None) -> list[ModelEntry]:
    """The distinct taggers that --models names; all by default.

    Raises:
        UnknownNameError: There is no such model.
        ConfigError: A model is not a tagger, or there are no names.
    """
    load_models()
    if models is None:
        return taggers()
    names = [name.strip() for name in models.split(",") if name.strip()]
    entries = list({entry.name: entry for entry in map(get_model, names)}.values())
    wrong = [entry.name for entry in entries if entry not in taggers()]
    if wrong or not entries:
        names_ = ", ".join(entry.name for entry in taggers())
        what = f"{', '.join(wrong)} is not a tagger" if wrong else "no names"
        raise ConfigError(f"--models {models}: {what}; there are: {names_}")
    return entries


def taggers() -> list[ModelEntry]:
    """The models over features."""
    return [entry for entry in list_models() if entry.config.default_readers == ("features",)]


def markdown(rows: list[Row]) -> str:
    """The table in Markdown, best GAP first."""
    head = ["model", "GAP", "Hit@1", "PERR", "mAP", "content", "co-occurrence", "order", "twins told apart"]
    head += ["parameters", "trained/s", "tagged/s", "training, CPU s"]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for row in sorted(rows, key=lambda row: -row.gap):
        shares = [row.gap, row.hit_at_one, row.perr, row.mean_ap, *row.mean_ap_by_kind.values()]
        cells = [row.model, *(f"{share:.3f}" for share in [*shares, row.told_apart])]
        cells += [f"{row.num_parameters:,}", f"{row.trained_per_sec:,.0f}", f"{row.tagged_per_sec:,.0f}"]
        cells.append(f"{row.train_cpu_sec:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(rows: list[Row], options: BenchOptions, problems: list[str]) -> dict[str, Any]:
    """All results and options as JSON-serializable values; NaN becomes None."""
    models = [asdict(row) for row in rows]
    for model in models:
        kinds = model["mean_ap_by_kind"]
        model["mean_ap_by_kind"] = {kind: _number(value) for kind, value in kinds.items()}
        model["told_apart"] = _number(model["told_apart"])
    return {"options": asdict(options), "models": models, "problems": problems}


def _number(value: float) -> float | None:
    """The value, or None for NaN, which JSON lacks."""
    return value if value == value else None


if __name__ == "__main__":
    exit_with(main())
