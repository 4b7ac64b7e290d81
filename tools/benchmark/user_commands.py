"""Runs commands of videotag as users do, and reads what they write, for same_results.py.

Every command is a process of its own on one thread of the CPU. Nothing is imported from videotag, so that
this file still works after any of its modules has moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
F32 = "--precision=f32"  # `auto` may choose bf16 from the data
#: Beginnings of environment variables that may change results.
_OWN_VARIABLES = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "PADDLE_", "FLAGS_", "VIDEOTAG_", "PYTHON", "CUDA_")


class CommandFailedError(Exception):
    """A command ended with an exit code other than 0.

    Attributes:
        code: The exit code; negative if a signal ended the command.
    """

    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code


def run(work: Path, script: str, *words: str) -> None:
    """Runs a command in the working folder, on one thread of the CPU.

    Args:
        work: The working folder.
        script: Path of a script below the project's root, or "videotag".
        words: Arguments of the command.

    Raises:
        CommandFailedError: The exit code is not 0. The text holds the command and the last line of stderr.
    """
    program = ["-m", "videotag"] if script == "videotag" else [str(ROOT / script)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(_OWN_VARIABLES)}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VIDEOTAG_CACHE": str(work / "cache")}
    done = subprocess.run(
        [sys.executable, *program, *words],
        cwd=work,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        last = said[-1] if said else "no message"
        text = f"{' '.join([script, *words])}: exit code {done.returncode}: {last}"
        raise CommandFailedError(text, code=done.returncode)


def predict(work: Path, filelist: str, *words: str) -> dict[str, str]:
    """Runs predict.py; the tags of each video."""
    run(work, "predict.py", *words, f"--filelist={filelist}", "--save_dir=out", F32, "--overwrite")
    return {video["video_id"]: tags_text(video["tags"]) for video in read_json(work / "out/predictions.json")}


def tag(work: Path, *words: str) -> dict[str, Any]:
    """Runs `videotag tag`; the tags of each video and its segments, and the digest of the whole JSON."""
    run(work, "videotag", "tag", *words, F32, "--save_dir=out", "--quiet", "--overwrite")
    predictions = read_json(work / "out/predictions.json")
    found: dict[str, Any] = {"sha256": sha256([json.dumps(predictions, sort_keys=True).encode()])}
    for video in predictions:
        segments = [f"{s['start_sec']}-{s['end_sec']} s {tags_text(s['tags'])}" for s in video["segments"]]
        found[video["video_id"]] = [tags_text(video["tags"]), *segments]
    return found


def evaluate(work: Path, *words: str) -> dict[str, Any]:
    """Runs eval.py; its metrics, and the digest of its table of classes."""
    run(work, "eval.py", *words, "--save_dir=out", "--overwrite")
    per_class = (work / "out/per_class.csv").read_bytes()
    return {**read_json(work / "out/metrics.json"), "per_class.csv": sha256([per_class])}


def extract(work: Path, filelist: str, *words: str) -> dict[str, Any]:
    """Runs tsn_extractor.py; what features() says about its output."""
    shutil.rmtree(work / "out/features", ignore_errors=True)  # features that are up to date would be kept
    run(work, "tsn_extractor.py", *words, f"--filelist={filelist}", "--save_dir=out/features", F32)
    return features(work / "out/features")


def export(work: Path, weights: str, backend: str, filelist: str) -> dict[str, Any]:
    """Exports weights and predicts with the export; {"exit code": 2} if the backend is refused."""
    try:
        run(work, "videotag", "export", f"--weights={weights}", f"--to={backend}")
    except CommandFailedError as error:
        return {"exit code": error.code}
    folder = f"{weights}/export_{backend}_f32"
    return {**contract(work / folder), "predictions": predict(work, filelist, f"--weights={folder}")}


def contract(folder: Path) -> dict[str, Any]:
    """Inputs, outputs, thresholds and parity of an export."""
    manifest = read_json(folder / "export.json")
    arrays = {
        f"{side} {array['name']}": f"{array['dtype']} {array['shape']}"
        for side in ("inputs", "outputs")
        for array in manifest[side]
    }
    return {**arrays, "thresholds": manifest["thresholds"], "parity": manifest["parity"]}


def training(folder: Path, name: str) -> dict[str, Any]:
    """Loss and learning rate of every step, all validations, and the digest of the last weights."""
    lines = (folder / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event for event in events if event["event"] == "train"]
    return {
        "losses": [event["loss"] for event in steps],
        "learning_rates": [event["learning_rate"] for event in steps],
        "valid": [
            {key: value for key, value in event.items() if key not in ("event", "time")}
            for event in events
            if event["event"] == "valid"
        ],
        "weights": weights_digest(folder / f"{name}.pdparams"),
    }


def weights_digest(path: Path) -> str:
    """The digest of all arrays in a .pdparams file and of their names."""
    with path.open("rb") as file:
        arrays = pickle.load(file)  # noqa: S301 - written by train.py a moment ago
    return sha256(part for name in sorted(arrays) for part in (name.encode(), *array_parts(arrays[name])))


def features(folder: Path) -> dict[str, Any]:
    """Digests of all feature arrays in a folder and of their stamps, and the mean of each array.

    A stamp says what made the features: features with another one are extracted again.
    """
    arrays: list[bytes] = []
    stamps: list[bytes] = []
    means = {}
    for path in sorted(folder.rglob("*.npy")):
        name, array = str(path.relative_to(folder)), np.load(path, allow_pickle=False)
        stamp = json.loads(path.read_bytes().rpartition(b"\nvideotag stamp: ")[2])
        del stamp["input"]["mtime_ns"]
        arrays += [name.encode(), *array_parts(array)]
        stamps += [name.encode(), json.dumps(stamp, sort_keys=True).encode()]
        means[name] = float(array.mean(dtype=np.float64))
    return {"arrays": sha256(arrays), "stamps": sha256(stamps), "means": means}


def array_parts(array: np.ndarray) -> tuple[bytes, bytes]:
    """What to digest of an array: its type and shape, then its values in C order."""
    return f"{array.dtype.str} {array.shape}".encode(), array.tobytes()


def tags_text(tags: Iterable[dict[str, Any]]) -> str:
    """Class ids and probabilities with all digits, such as "3:0.537133 0:0.504637"."""
    return " ".join(f"{tag['class_id']}:{tag['probability']!r}" for tag in tags)


def sha256(parts: Iterable[bytes]) -> str:
    """SHA-256 of byte strings, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
