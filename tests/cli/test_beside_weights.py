"""What lies beside weights may be anyone's: files that its config names are not read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.inference.weights_stage import read_stage
from videotag.models import load_models, paddle
from videotag.training.checkpoint import save_weights

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
MODEL: {{name: AttentionLSTM, feature_dims: [6], embedding_size: 8, lstm_size: 4, fc_sizes: [8, 8],
        num_classes: 3, topk: 3{model}}}
TRAIN: {{{train}}}
INFER: {{backend: paddle, precision: f32{infer}}}
"""
PREDICT = ["predict", "--save_dir=out", "--json"]


def config_text(model="", train="", infer=""):
    return CONFIG.format(model=model, train=train, infer=infer)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """The working folder, with weights and config in ck, features a.npy, and a file that nobody named."""
    here = tmp_path / "here"
    (here / "ck").mkdir(parents=True)
    monkeypatch.chdir(here)
    load_models()
    (here / "ck" / "config.yaml").write_text(config_text())
    config = load_config("ck/config.yaml")
    paddle.seed(0)
    save_weights(config.entry.cls(config.model), here / "ck" / "AttentionLSTM.pdparams")
    np.save("a.npy", np.random.default_rng(0).random((5, 6), np.float32))
    (tmp_path / "secret").write_text("secret1\nsecret2\nsecret3\n")
    (tmp_path / "secret.list").write_text(f"{here}/a.npy\n")
    return here


def names(capsys):
    out, err = capsys.readouterr()
    assert "secret" not in out + err
    return {tag["class_name"] for tag in json.loads(out)["tags"]}


def test_a_label_file_named_beside_a_checkpoint_is_not_read(checkpoint, tmp_path, capsys):
    text = config_text(model=f", label_file: {tmp_path}/secret")
    (checkpoint / "ck" / "config.yaml").write_text(text)
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy"]) == 0
    assert names(capsys) == {"0", "1", "2"}


def test_one_named_in_an_export_is_not_read(checkpoint, tmp_path, capsys):
    assert main(["export", "--weights=ck", "--to=onnx", "--output=ex"]) == 0
    path, manifest_path = checkpoint / "ex" / "config.yaml", checkpoint / "ex" / "export.json"
    path.write_text(path.read_text().replace("MODEL:\n", f"MODEL:\n  label_file: {tmp_path}/secret\n"))
    manifest = json.loads(manifest_path.read_text())
    manifest["files"]["config.yaml"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path.write_text(json.dumps(manifest))
    capsys.readouterr()
    assert main([*PREDICT, "--weights=ex", "--video_path=a.npy"]) == 0
    assert names(capsys) == {"0", "1", "2"}


@pytest.mark.parametrize("count", [10**20, 10**7])
def test_class_ids_of_a_config_that_does_not_fit_its_weights_are_not_made(checkpoint, capsys, count):
    path = checkpoint / "ck" / "config.yaml"
    path.write_text(path.read_text().replace("num_classes: 3", f"num_classes: {count}"))
    code = [
        "import re, sys",
        "from videotag.cli.main import main",
        "code = main(sys.argv[1:])",
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        "peak_kb = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]",
        "print(int(peak_kb) // 1024)",
        "sys.exit(code)",
    ]
    words = [*PREDICT, "--weights=ck", "--video_path=a.npy"]
    limited = ["bash", "-c", 'ulimit -v 6000000; exec "$@"', "-", sys.executable, "-c", "\n".join(code)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*limited, *words], capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert "MODEL.num_classes" in done.stderr
    assert int(done.stdout) < 700, "MB; the network would take 320 more, its class ids 600"


def test_one_that_the_user_named_is_read(checkpoint, capsys):
    (checkpoint / "own.txt").write_text("a\nb\nc\n")
    (checkpoint / "own.yaml").write_text(config_text(model=", label_file: own.txt"))
    for words in (["--label_file=own.txt"], ["--set=MODEL.label_file=own.txt"], ["--config=own.yaml"]):
        assert main([*PREDICT, "--weights=ck", "--video_path=a.npy", *words]) == 0
        assert names(capsys) == {"a", "b", "c"}


@pytest.mark.parametrize("value", ["null", "None"])
def test_a_label_file_that_is_set_to_null_opens_no_file_of_that_name(checkpoint, capsys, value):
    (checkpoint / value).write_text("a\nb\nc\n")
    words = [f"--set=MODEL.label_file={value}"]
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy", *words]) == 0
    assert names(capsys) == {"0", "1", "2"}


def test_a_label_file_that_is_no_text_is_an_error(checkpoint, capsys):
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy", "--set=MODEL.label_file=5"]) == 2
    assert "MODEL.label_file" in capsys.readouterr().err


def test_labels_beside_are_read_but_no_link_to_another_folder(checkpoint, tmp_path, capsys):
    labels = checkpoint / "ck" / "labels.txt"
    labels.symlink_to(tmp_path / "secret")
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy"]) == 0
    out, err = capsys.readouterr()
    assert {tag["class_name"] for tag in json.loads(out)["tags"]} == {"0", "1", "2"}
    assert "labels.txt: a link that leaves its folder, not read; give --label_file" in err
    (checkpoint / "ck" / "names").write_text("a\nb\nc\n")
    labels.unlink()
    labels.symlink_to("names")
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy"]) == 0
    assert names(capsys) == {"a", "b", "c"}


def test_weights_config_and_labels_that_are_links_into_one_other_folder_are_read(checkpoint, capsys):
    """As a cache of Hugging Face keeps them."""
    (checkpoint / "ck" / "labels.txt").write_text("a\nb\nc\n")
    (checkpoint / "hub" / "blobs").mkdir(parents=True)
    (checkpoint / "hub" / "snapshots" / "1").mkdir(parents=True)
    for number, name in enumerate(("AttentionLSTM.pdparams", "config.yaml", "labels.txt")):
        (checkpoint / "ck" / name).rename(checkpoint / "hub" / "blobs" / f"{number:064}")
        (checkpoint / "hub" / "snapshots" / "1" / name).symlink_to(f"../../blobs/{number:064}")
    assert main([*PREDICT, "--weights=hub/snapshots/1", "--video_path=a.npy"]) == 0
    assert names(capsys) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "text",
    [
        "token: {secret}",
        "{secret}\n{secret}",
        "a: {{{secret}",
        "- {secret}",
        "MODEL:\n  name: AttentionLSTM\n  token: {secret}",
        "x" * 80 + "{secret}: 1",
    ],
)
def test_an_error_of_a_config_that_links_to_another_file_shows_nothing_of_it(checkpoint, capsys, text):
    (checkpoint.parent / "passwords").write_text(text.format(secret="hunter2"))
    (checkpoint / "ck" / "config.yaml").unlink()
    (checkpoint / "ck" / "config.yaml").symlink_to(checkpoint.parent / "passwords")
    assert main([*PREDICT, "--weights=ck", "--video_path=a.npy"]) == 2
    out, err = capsys.readouterr()
    assert "config.yaml" in err
    assert "hunter2" not in out + err


def test_a_list_named_beside_weights_is_read_inside_of_the_working_folder_alone(checkpoint, tmp_path, capsys):
    config = checkpoint / "ck" / "config.yaml"
    (checkpoint / "link.list").symlink_to(tmp_path / "secret.list")
    for place in (tmp_path / "secret.list", "../secret.list", "link.list"):
        config.write_text(config_text(infer=f", filelist: {place}"))
        assert main([*PREDICT, "--weights=ck"]) == 2
        out, err = capsys.readouterr()
        assert "INFER.filelist: no list of files" in err
        assert "may only name lists inside the working folder" in err
        assert not out
    config.write_text(config_text(infer=f", filelist: {'x/' * 150}y"))
    assert main([*PREDICT, "--weights=ck"]) == 2
    assert "INFER.filelist: no list of files" in capsys.readouterr().err
    (checkpoint / "own.list").write_text("a.npy\n")
    config.write_text(config_text(infer=", filelist: own.list"))
    assert main([*PREDICT, "--weights=ck"]) == 0


def test_weights_named_beside_weights_are_not_looked_for(checkpoint):
    keys = "pretrain: /secret, extend_labels: true, old_label_file: /secret"
    (checkpoint / "ck" / "config.yaml").write_text(config_text(train=keys))
    config = read_stage("predictor", None, "ck", []).config
    assert (config.train.pretrain, config.train.old_label_file, config.train.extend_labels) == (
        None,
        None,
        False,
    )
    kept = read_stage("predictor", "ck/config.yaml", "ck", []).config  # named, so it is the user's own
    assert kept.train.pretrain == "/secret"
