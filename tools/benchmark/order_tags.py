"""Both stages from nothing but clips: does the second one learn tags that only the order of frames tells?

    python tools/benchmark/order_tags.py --out_dir=data/order_tags --backbone=efficientnet_lite0

Clips are generated; a TSN is fine-tuned on their tags; features are extracted; AttentionLSTM and MeanPool are
trained on the same features and evaluated on clips that none has seen. Clips come in time-reversed twins, whose
frames have the same mean: a tagger over the mean must fail at the tags of order, or this test is wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

from videotag.atomic import write_text
from videotag.cli.main import main as videotag
from videotag.errors import VideotagError
from videotag.media.synthetic import ORDERS

TAGGERS = ("AttentionLSTM", "MeanPool")
#: Backbone -> named weights to start from, feature width.
BACKBONES = {
    "efficientnet_lite0": ("efficientnet_lite0_imagenet", 1280),
    "resnet18": (None, 512),
}
TSN_YAML = """\
MODEL: {{name: TSN, backbone: {backbone}, num_classes: {classes}, task: multi_label}}
TRAIN: {{seg_num: {train_frames}, short_size: {size}, target_size: {size}, batch_size: 16, epoch: {epochs}, seed: 1,
        optimizer: adam, learning_rate: 0.001, decay_epochs: [{decay}], weight_decay: 0.0, crop: center,
        flip: false, filelist: {out}/train.list}}
VALID: {{seg_num: {train_frames}, short_size: {size}, target_size: {size}, batch_size: 16, filelist: {out}/val.list}}
TEST: {{seg_num: {frames}, short_size: {size}, target_size: {size}, batch_size: 16, filelist: {out}/test.list}}
INFER: {{seg_num: {frames}, short_size: {size}, target_size: {size}, batch_size: 4}}
"""
TAGGER_YAML = """\
MODEL: {{name: {name}, feature_dims: [{dim}], num_classes: {classes}{extra}}}
TRAIN: {{batch_size: 16, epoch: {epochs}, seed: 1, optimizer: adam, learning_rate: 0.001, decay_epochs: [{decay}],
        weight_decay: 0.0, clip_norm: 5.0, filelist: {out}/features/train.list}}
VALID: {{batch_size: 32, filelist: {out}/features/val.list}}
TEST: {{batch_size: 32, filelist: {out}/features/test.list}}
"""
SMALL_LSTM = ", embedding_size: 128, lstm_size: 64, fc_sizes: [128, 64], drop_rate: 0.2"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark, prints its table and writes OUT_DIR/results.json; 1 if a step fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out_dir", default="data/order_tags", type=Path)
    parser.add_argument("--backbone", default="efficientnet_lite0", choices=sorted(BACKBONES))
    parser.add_argument("--num_clips", default=480, type=int)
    parser.add_argument("--size", default=112, type=int, help="pixels a side")
    parser.add_argument("--frames", default=16, type=int, help="features per clip")
    parser.add_argument("--tsn_epochs", default=8, type=int)
    parser.add_argument("--tagger_epochs", default=40, type=int)
    args = parser.parse_args(argv)
    try:
        results = run(args)
    except VideotagError as error:
        print(f"order_tags: {error}", file=sys.stderr)
        return 1
    write_text(args.out_dir / "results.json", json.dumps(results, indent=2) + "\n")
    print(table(results))
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All steps; what came out, with the average precision of every order tag by tagger."""
    out, started = args.out_dir, time.monotonic()
    call("make-clips", str(out), f"--num_clips={args.num_clips}", f"--size={args.size}", "--duration_sec=2")
    classes = len((out / "labels.txt").read_text(encoding="utf-8").splitlines())
    weights, dim = BACKBONES[args.backbone]
    values = {"out": out, "classes": classes, "size": args.size, "frames": args.frames, "dim": dim}
    tsn_yaml = TSN_YAML.format(
        **values,
        backbone=args.backbone,
        train_frames=4,
        epochs=args.tsn_epochs,
        decay=max(1, args.tsn_epochs * 3 // 4),
    )
    write_text(out / "tsn.yaml", tsn_yaml)
    pretrain = [f"--pretrain={weights}"] if weights else []
    call("train", f"--config={out}/tsn.yaml", f"--save_dir={out}/tsn", "--log_interval=5", *pretrain)
    for split in ("train", "val", "test"):
        words = [f"--filelist={out}/{split}.list", f"--save_dir={out}/features", "--log_interval=100"]
        call("extract", f"--config={out}/tsn.yaml", f"--weights={out}/tsn", *words)
    results: dict[str, Any] = {**vars(args), "out_dir": str(out), "pretrain": weights, "taggers": {}}
    for name in TAGGERS:
        extra = SMALL_LSTM if name == "AttentionLSTM" else ""
        epochs = {"epochs": args.tagger_epochs, "decay": max(1, args.tagger_epochs * 3 // 4)}
        write_text(out / f"{name}.yaml", TAGGER_YAML.format(**values, **epochs, name=name, extra=extra))
        labels = f"--label_file={out}/labels.txt"
        call("train", f"--config={out}/{name}.yaml", f"--save_dir={out}/{name}", labels, "--log_interval=20")
        call("eval", f"--weights={out}/{name}", f"--save_dir={out}/{name}", "--log_interval=100")
        results["taggers"][name] = read_results(out / name)
    results["seconds"] = round(time.monotonic() - started)
    return results


def call(*words: str) -> None:
    """One videotag command.

    Raises:
        VideotagError: it failed.
    """
    print(f"videotag {' '.join(words)}", flush=True)
    if videotag(list(words)):
        raise VideotagError(f"videotag {words[0]} failed; its message stands above")


def read_results(folder: Path) -> dict[str, Any]:
    """Metrics and the average precision of every tag that the test clips have."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with (folder / "per_class.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    average = {row["class_name"]: float(row["average_precision"]) for row in rows if int(row["support"])}
    return {"metrics": metrics, "average_precision": average}


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown: order tags by what changes, then all tags."""
    taggers = results["taggers"]
    lines = [f"| average precision | {' | '.join(taggers)} |", f"|---|{'---|' * len(taggers)}"]
    for change, tags in ORDERS.items():
        for tag in tags:
            shown = [taggers[name]["average_precision"].get(tag) for name in taggers]
            lines.append(
                f"| {tag} ({change}) | {' | '.join('-' if v is None else f'{v:.3f}' for v in shown)} |"
            )
    for metric in ("mean_ap", "gap"):
        shown = [taggers[name]["metrics"][metric] for name in taggers]
        lines.append(f"| all tags, {metric} | {' | '.join(f'{v:.3f}' for v in shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
