"""Trains both stages on generated clips: does the second one learn tags that depend on the order of frames?

    python tools/benchmark/order_tags.py --out_dir=data/order_tags --backbone=efficientnet_lite0

Generates clips, fine-tunes a TSN on their tags, extracts features, trains AttentionLSTM and MeanPool on the
same features, and tags unseen clips. Clips come in time-reversed twins whose frames have the same mean, so
MeanPool must fail at order tags; otherwise this benchmark is wrong.

"Told apart" is the share of twins in which the right one gets the higher score for an order tag. Chance is
0.5; equal scores count as 0.5.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from run_tool import run_tool

from videotag.cli.main import main as videotag
from videotag.errors import EXIT_OK, VideotagError
from videotag.formats.filelist import read_filelist
from videotag.media.synthetic import ORDERS, TAGS
from videotag.system.atomic import write_text

TAGGERS = ("AttentionLSTM", "MeanPool")
#: Backbone -> (named weights to start from, feature width).
BACKBONES: dict[str, tuple[str | None, int]] = {
    "efficientnet_lite0": ("efficientnet_lite0_imagenet", 1280),
    "resnet18": (None, 512),
}
ENDED_BY = {130: signal.SIGINT, 143: signal.SIGTERM}  # exit code -> signal
SAME_SCORE = 1e-4  # smaller differences are rounding errors


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark, prints its table and writes OUT_DIR/results.json; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="order_tags",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out_dir", default="data/order_tags", type=Path)
    parser.add_argument("--backbone", default="efficientnet_lite0", choices=sorted(BACKBONES))
    parser.add_argument("--num_clips", default=600, type=int)
    parser.add_argument("--size", default=96, type=int, help="pixels a side")
    parser.add_argument("--frames", default=16, type=int, help="features per clip")
    parser.add_argument("--train_frames", default=2, type=int, help="frames per clip and step of the TSN")
    parser.add_argument("--tsn_epochs", default=4, type=int)
    parser.add_argument("--tagger_epochs", default=40, type=int)
    return run_tool(parser, _work, argv)


def _work(args: argparse.Namespace) -> int:
    results = run(args)
    write_text(args.out_dir / "results.json", json.dumps(results, indent=2) + "\n")
    print(table(results))
    return EXIT_OK


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs all steps; returns the options and the results by tagger."""
    out, started = args.out_dir, time.monotonic()
    call("make-clips", str(out), f"--num_clips={args.num_clips}", f"--size={args.size}", "--duration_sec=1.5")
    train_tsn(out, args)
    for split in ("train", "val", "test"):
        words = [f"--filelist={out}/{split}.list", f"--save_dir={out}/features", "--log_interval=100"]
        call("extract", f"--weights={out}/tsn", *words)
    results = {**vars(args), "out_dir": str(out), "pretrain": BACKBONES[args.backbone][0]}
    results["taggers"] = {name: train_tagger(name, out, args) for name in TAGGERS}
    return {**results, "seconds": round(time.monotonic() - started)}


def train_tsn(out: Path, args: argparse.Namespace) -> None:
    """Fine-tunes the first stage on all tags, into OUT/tsn."""
    sizes = {"short_size": args.size, "target_size": args.size, "batch_size": 16}
    middle = {"seg_num": args.train_frames, **sizes}
    train = {
        **middle,
        **training(args.tsn_epochs),
        # Tags depend on size and side.
        "crop": "center",
        "flip": False,
        "filelist": f"{out}/train.list",
    }
    config = {
        "MODEL": {
            "name": "TSN",
            "backbone": args.backbone,
            "num_classes": len(TAGS),
            "task": "multi_label",
        },
        "TRAIN": train,
        "VALID": {**middle, "filelist": f"{out}/val.list"},
        "INFER": {**sizes, "seg_num": args.frames, "batch_size": 4},
    }
    write_text(out / "tsn.yaml", yaml.safe_dump(config))
    weights, _ = BACKBONES[args.backbone]
    pretrain = [f"--pretrain={weights}"] if weights else []
    call("train", f"--config={out}/tsn.yaml", f"--save_dir={out}/tsn", "--log_interval=5", *pretrain)


def train_tagger(name: str, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Trains a tagger into OUT/NAME; returns its metrics and how well it tells twins apart."""
    model: dict[str, Any] = {
        "name": name,
        "feature_dims": [BACKBONES[args.backbone][1]],
        "num_classes": len(TAGS),
    }
    if name == "AttentionLSTM":
        model |= {"embedding_size": 128, "lstm_size": 64, "fc_sizes": [128, 64], "drop_rate": 0.2}
    config = {
        "MODEL": model,
        "TRAIN": {
            **training(args.tagger_epochs),
            "batch_size": 16,
            "clip_norm": 5.0,
            "filelist": f"{out}/features/train.list",
        },
        "VALID": {"filelist": f"{out}/features/val.list"},
        "TEST": {"filelist": f"{out}/features/test.list"},
        "INFER": {"filelist": f"{out}/features/test.list"},
    }
    write_text(out / f"{name}.yaml", yaml.safe_dump(config))
    labels = f"--label_file={out}/labels.txt"
    folder = f"--save_dir={out}/{name}"
    call("train", f"--config={out}/{name}.yaml", folder, labels, "--log_interval=20")
    call("eval", f"--weights={out}/{name}", folder, "--log_interval=100")
    call("predict", f"--weights={out}/{name}", folder, f"--infer_topk={len(TAGS)}", "--log_interval=1000")
    metrics = json.loads((out / name / "metrics.json").read_text(encoding="utf-8"))
    return {"metrics": metrics, "told_apart": told_apart(out, name)}


def training(epochs: int) -> dict[str, Any]:
    """TRAIN settings of both stages."""
    return {
        "epoch": epochs,
        "decay_epochs": [max(1, epochs * 3 // 4)],
        "optimizer": "adam",
        "learning_rate": 0.001,
        "weight_decay": 0.0,
        "seed": 1,
    }


def told_apart(out: Path, name: str) -> dict[str, float]:
    """Kind of change -> share of test twins that a tagger tells apart, in [0, 1]."""
    predictions = json.loads((out / name / "predictions.json").read_text(encoding="utf-8"))
    scores = {
        p["video_id"]: {tag["class_name"]: tag["probability"] for tag in p["tags"]} for p in predictions
    }
    labels = {entry.path: entry.label_ids for entry in read_filelist(out / "features" / "test.list")}
    paths = sorted(scores)
    right: dict[str, list[float]] = {change: [] for change in ORDERS}
    for first, second in zip(paths[::2], paths[1::2], strict=True):  # twins stand side by side
        for change, tags in ORDERS.items():
            for tag in tags:
                has = [TAGS.index(tag) in labels[path] for path in (first, second)]
                if has[0] != has[1]:
                    own, other = (first, second) if has[0] else (second, first)
                    gain = scores[own][tag] - scores[other][tag]
                    right[change].append(0.5 if abs(gain) < SAME_SCORE else float(gain > 0))
    return {change: sum(values) / len(values) for change, values in right.items() if values}


def call(*words: str) -> None:
    """Runs one videotag command; a signal that ended it ends this process too.

    Raises:
        VideotagError: The command failed.
    """
    print(f"videotag {' '.join(words)}", flush=True)
    code = videotag(list(words))
    if code in ENDED_BY:
        signal.raise_signal(ENDED_BY[code])
    if code:
        raise VideotagError(f"videotag {words[0]} failed; see its message above")


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    taggers = results["taggers"]
    lines = [f"| | {' | '.join(taggers)} |", f"|---|{'---|' * len(taggers)}"]
    for change, (one, other) in ORDERS.items():
        shown = [f"{taggers[name]['told_apart'][change]:.2f}" for name in taggers]
        lines.append(f"| {one} / {other}: twins told apart | {' | '.join(shown)} |")
    for metric in ("mean_ap", "gap"):
        shown = [f"{taggers[name]['metrics'][metric]:.3f}" for name in taggers]
        lines.append(f"| all tags: {metric} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    exit_with(main())
