"""What same_results.py runs: every shipped YAML at a small size, the demo's path, and other ways to train.

A case runs commands in a working folder that holds the files of tiny_inputs.py, and returns what users get
from them: a dict of strings, numbers, lists and dicts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from tiny_inputs import COUNTS, FEATURE_DIM, FILM_TAGS, NUM_CLASSES, NUM_SHAPES, RECORD_DIMS
from user_commands import (
    F32,
    ROOT,
    contract,
    evaluate,
    export,
    extract,
    features,
    predict,
    run,
    sha256,
    tag,
    training,
)

BACKENDS = ("onnx", "openvino", "paddle")
#: MODEL.name -> keys of MODEL that make the network small. The others are small if their inputs are.
SMALL: dict[str, dict[str, object]] = {
    "AttentionLSTM": {"embedding_size": 8, "lstm_size": 6, "fc_sizes": [10, 9]},
    "AttentionCluster": {"cluster_nums": [3, 2], "fc_sizes": [10, 9]},
    "BiGRU": {"hidden_size": 6},
    "BiLSTM": {"hidden_size": 6},
    "LatentTransformer": {"num_queries": 3, "hidden_size": 8, "num_heads": 2},
    "NetVLAD": {"cluster_size": [4, 3], "hidden_size": 7},
    "NeXtVLAD": {"groups": [3, 2], "cluster_size": [4, 3], "hidden_size": 8, "gating_reduction": 2},
}
SMALL_FRAMES = {"seg_num": 2, "short_size": 36, "target_size": 32}
FILM_WEIGHTS = "efficientnet_lite0_imagenet"
FILM_EXTRACTOR = ("--config=configs/tsn_efficientnet_lite0.yaml", f"--weights={FILM_WEIGHTS}")
FILM_STEPS = 8  # frames sampled from each film
QUICK = ("demo", "aids", "configs/attention_lstm.yaml", "configs/moe_yt8m.yaml", "configs/tsn-single.yaml")

Case: TypeAlias = "Callable[[Path], dict[str, Any]]"


def all_cases(*, quick: bool = False) -> dict[str, Case]:
    """The cases by name, in a fixed order.

    Args:
        quick: Return only those of QUICK, which take less than 2 minutes on two cores.
    """
    cases: dict[str, Case] = {"demo": run_demo, "formats": run_formats}
    cases |= {"aids": run_aids, "frames": run_frames, "backends": run_backends}
    exported = set()  # YAMLs of one network differ in how they train it
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["MODEL"]
        network = (model["name"], model.get("variant"), model.get("backbone"))
        backends = () if network in exported else BACKENDS
        exported.add(network)
        run_config = run_tagger_config if "feature_names" in model else run_extractor_config
        cases[f"configs/{path.name}"] = partial(run_config, config=path.name, model=model, backends=backends)
    return {name: cases[name] for name in QUICK} if quick else cases


# ---------------------------------------------------------------- every shipped YAML


def run_tagger_config(
    work: Path, *, config: str, model: dict[str, Any], backends: Sequence[str]
) -> dict[str, Any]:
    """Trains a tagger for three steps, predicts with it and exports it to the backends."""
    out, small = f"runs/{config}", small_tagger(model)
    run(work, "train.py", f"--config=configs/{config}", f"--save_dir={out}", "--epoch=1", *small)
    inputs = small_inputs(model)
    return {
        **training(work / out, model["name"]),
        "predictions": predict(work, inputs, f"--weights={out}"),
        "exports": {backend: export(work, out, backend, inputs) for backend in backends},
    }


def run_extractor_config(
    work: Path, *, config: str, model: dict[str, Any], backends: Sequence[str]
) -> dict[str, Any]:
    """Trains an extractor for three steps, predicts and extracts with it and exports it to the backends."""
    out, small = f"runs/{config}", small_extractor(model)
    run(work, "train.py", f"--config=configs/{config}", f"--save_dir={out}", "--epoch=1", *small)
    found = {
        **training(work / out, model["name"]),
        "predictions": predict(work, "clips/test.list", f"--weights={out}"),
        "features": extract(work, "clips/test.list", f"--weights={out}"),
        "exports": {},
    }
    for backend in backends:
        found["exports"][backend] = export(work, out, backend, "clips/test.list")
        folder = f"{out}/export_{backend}_f32"
        found["exports"][backend]["features"] = extract(work, "clips/test.list", f"--weights={folder}")
    return found


def small_inputs(model: dict[str, Any]) -> str:
    """The list to predict: of .npy files for a tagger of one modality, else of TFRecords."""
    return f"{'features' if len(model['feature_names']) == 1 else 'tfrecord'}/test.list"


def small_tagger(model: dict[str, Any]) -> list[str]:
    """Flags that make the tagger of a YAML small and train it on made-up inputs."""
    names = model["feature_names"]
    dims = [FEATURE_DIM] if len(names) == 1 else [RECORD_DIMS[name] for name in names]
    sizes = SMALL.get(model["name"], {}) | {"feature_dims": dims, "num_classes": NUM_CLASSES, "topk": 3}
    lists = Path(small_inputs(model)).parent
    return [*settings("MODEL", sizes), *learning(str(lists)), "--label_file=labels.txt"]


def small_extractor(model: dict[str, Any]) -> list[str]:
    """Flags that make the extractor of a YAML small and train it on made-up clips.

    ResNet-18 replaces ResNet-101: after three steps from random weights, the latter's features are huge.
    """
    sizes: dict[str, object] = {"num_classes": NUM_SHAPES}
    if model.get("num_layers") == 101:
        sizes["num_layers"] = 18
    frames = [word for name in ("TRAIN", "VALID", "TEST", "INFER") for word in settings(name, SMALL_FRAMES)]
    return [*settings("MODEL", sizes), *frames, *learning("clips"), "--label_file=shapes.txt"]


def learning(lists: str) -> list[str]:
    """Flags that train on one kind of made-up inputs, 12 videos in batches of 4."""
    train = {"batch_size": 4, "seed": 3, "use_gpu": False, "filelist": f"{lists}/train.list"}
    return [
        *settings("TRAIN", train),
        *settings("VALID", {"batch_size": 3, "filelist": f"{lists}/val.list"}),
        *settings("TEST", {"batch_size": 3, "filelist": f"{lists}/val.list"}),
    ]


def settings(section: str, values: Mapping[str, object]) -> list[str]:
    """A `--set` flag for each value of a config section."""
    return [f"--set={section}.{key}={json.dumps(value)}" for key, value in values.items()]


# ---------------------------------------------------------------- other ways through


def run_demo(work: Path) -> dict[str, Any]:
    """What `make demo` does, on made-up films; then both stages again from exports."""
    for split in COUNTS:
        words = (f"--filelist=films/{split}.list", "--save_dir=runs/features", F32, *film_frames())
        run(work, "tsn_extractor.py", *FILM_EXTRACTOR, *words)
    small = [*settings("MODEL", {"num_classes": len(FILM_TAGS)}), *learning("runs/features")]
    words = ("--config=configs/attention_lstm_demo.yaml", "--label_file=film_labels.txt", "--epoch=4")
    run(work, "train.py", *words, "--save_dir=runs/ck", *small)
    return {
        "features": features(work / "runs/features"),
        **training(work / "runs/ck", "AttentionLSTM"),
        "metrics": evaluate(work, "--weights=runs/ck"),
        "predictions": predict(work, "runs/features/test.list", "--weights=runs/ck"),
        "tags of two stages": tag_films(work, FILM_WEIGHTS, "--predictor_weights=runs/ck"),
        "tags of one stage": tag_films(work, FILM_WEIGHTS, "--infer_topk=3"),
        "exports": {backend: run_demo_export(work, backend) for backend in BACKENDS},
    }


def run_demo_export(work: Path, backend: str) -> dict[str, Any]:
    """Exports both stages of the demo; features and tags from the exports."""
    first = f"runs/export_{backend}"
    run(work, "videotag", "export", *FILM_EXTRACTOR, f"--to={backend}", f"--output={first}")
    run(work, "videotag", "export", "--weights=runs/ck", f"--to={backend}")
    second = f"runs/ck/export_{backend}_f32"
    return {
        "extractor": contract(work / first),
        "tagger": contract(work / second),
        "features": extract(work, "films/test.list", f"--weights={first}", *film_frames()),
        "tags": tag_films(work, first, f"--predictor_weights={second}"),
    }


def tag_films(work: Path, extractor: str, *words: str) -> dict[str, Any]:
    """Tags films with weights or an export of the first stage; segments last a second."""
    words = (f"--extractor_weights={extractor}", f"--seg_num={FILM_STEPS}", "--segment_sec=1", *words)
    return tag(work, "films/test", *words)


def film_frames() -> list[str]:
    """Flags that sample FILM_STEPS frames from each film."""
    return settings("INFER", {"seg_num": FILM_STEPS})


def run_formats(work: Path) -> dict[str, Any]:
    """Trains on, evaluates and predicts the same records as TFRecords, pickles, shards and .npz files."""
    run(work, "tools/tf2pkl.py", "tfrecord", "shard", "--format=shard")
    for split in COUNTS:
        names = [f"shard/{split}{part}.safetensors" for part in range(2)]
        (work / f"shard/{split}.list").write_text("\n".join(names) + "\n", encoding="utf-8")
    return {kind: run_format(work, kind) for kind in ("tfrecord", "pickle", "shard", "npz")}


def run_format(work: Path, kind: str) -> dict[str, Any]:
    """What comes of the records in one format."""
    small = small_tagger({"name": "AttentionLSTM", "feature_names": list(RECORD_DIMS)})
    words = ("--config=configs/attention_lstm_yt8m.yaml", "--epoch=1", *small, *learning(kind))
    run(work, "train.py", *words, f"--save_dir=runs/{kind}")
    return {
        **training(work / f"runs/{kind}", "AttentionLSTM"),
        "metrics": evaluate(work, f"--weights=runs/{kind}"),
        "predictions": predict(work, f"{kind}/test.list", f"--weights=runs/{kind}"),
    }


def run_aids(work: Path) -> dict[str, Any]:
    """Trains in other ways: resumed, with aids, taught, from other weights; then combines two taggers."""
    model = {"name": "AttentionLSTM", "feature_names": ["rgb"]}
    small = ("--config=configs/attention_lstm.yaml", *small_tagger(model))

    def train(name: str, epoch: int, *words: str) -> dict[str, Any]:
        run(work, "train.py", *small, f"--save_dir=runs/{name}", f"--epoch={epoch}", *words)
        return training(work / f"runs/{name}", "AttentionLSTM")

    varied = {"sample_steps": 3, "mixup_alpha": 0.4, "loss": "asymmetric", "ema_decay": 0.9, "clip_norm": 1.0}
    more = {"accumulate_steps": 2, "optimizer": "adam", "warmup_epochs": 0.5, "freeze": ["fc1.*"]}
    teacher = {"distill_from": ["runs/resumed"]}
    several = "--weights=runs/resumed,runs/varied"
    return {
        "first epoch": train("resumed", 1),
        "resumed": train("resumed", 2, "--resume"),
        "varied": train("varied", 1, *settings("TRAIN", varied)),
        "more": train("more", 1, *settings("TRAIN", more)),
        "taught": train("taught", 1, *settings("TRAIN", teacher)),
        "pretrained": train("pretrained", 1, "--pretrain=runs/resumed"),
        "several": {
            "metrics": evaluate(work, several),
            "predictions": predict(work, "features/test.list", several),
        },
    }


def run_frames(work: Path) -> dict[str, Any]:
    """Turns videos into folders of JPEGs and trains a TSN of several tags on them."""
    for split in COUNTS:
        words = (f"--filelist=clips/{split}.list", "--save_dir=jpeg", "--short_size=36")
        run(work, "videotag", "frames", *words)
    small = small_extractor({"num_layers": 101})
    several = settings("MODEL", {"format": "frames", "task": "multi_label"})
    config = ("--config=configs/tsn.yaml", "--save_dir=runs/tsn", "--epoch=1")
    run(work, "train.py", *config, *small, *several, *learning("jpeg"))
    return {
        "pictures": sha256(path.read_bytes() for path in sorted((work / "jpeg").rglob("*.jpg"))),
        **training(work / "runs/tsn", "TSN"),
        "metrics": evaluate(work, "--weights=runs/tsn"),
        "predictions": predict(work, "jpeg/test.list", "--weights=runs/tsn"),
    }


def run_backends(work: Path) -> dict[str, Any]:
    """Runs the trained networks of both stages in each backend."""
    tagger = ("--config=configs/attention_lstm.yaml", "--save_dir=runs/ck", "--epoch=1")
    model = {"name": "AttentionLSTM", "feature_names": ["rgb"]}
    run(work, "train.py", *tagger, *small_tagger(model))
    extractor = ("--config=configs/tsn.yaml", "--save_dir=runs/tsn", "--epoch=1")
    run(work, "train.py", *extractor, *small_extractor({"num_layers": 101}))
    found = {}
    for backend in BACKENDS:
        flag = f"--backend={backend}"
        found[backend] = {
            "metrics": evaluate(work, "--weights=runs/ck", flag),
            "predictions": predict(work, "features/test.list", "--weights=runs/ck", flag),
            "labels of clips": predict(work, "clips/test.list", "--weights=runs/tsn", flag),
            "features": extract(work, "clips/test.list", "--weights=runs/tsn", flag),
        }
    return found
