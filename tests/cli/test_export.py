"""`videotag export`, and the commands that run from what it writes, with and without Paddle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.inference.tagger import Tagger
from videotag.media.writer import write_video
from videotag.models import load_models, paddle
from videotag.training.checkpoint import save_weights

TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3, topk: 2}
INFER: {seg_num: 6, short_size: 40, target_size: 32, backend: paddle, precision: f32}
"""
TAGGER_YAML = """
MODEL: {name: AttentionLSTM, feature_dims: [512], embedding_size: 8, lstm_size: 4, fc_sizes: [8, 8],
        num_classes: 4, topk: 4}
INFER: {backend: paddle, precision: f32}
"""
#: Runs commands, a JSON list each, where importing some modules fails.
BLOCKED = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if any(name == no or name.startswith(no + ".") for no in json.loads(sys.argv[1])):
            raise ModuleNotFoundError(f"{name} must not be imported", name=name)

sys.meta_path.insert(0, Blocked())
from videotag.cli.main import main

sys.exit(max(main([*json.loads(words), "--debug"]) for words in sys.argv[2:]))
"""
TRAINING_CODE = [
    "videotag.models",
    "videotag.training",
    *(f"videotag.inference.{name}" for name in ("load_weights", "ensemble", "evaluate", "tasks")),
]


def make_checkpoint(folder, text, labels):
    load_models()
    folder.mkdir()
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    config = load_config(folder / "config.yaml")
    paddle.seed(0)
    save_weights(config.entry.cls(config.model), folder / f"{config.entry.name}.pdparams")
    (folder / "labels.txt").write_text(labels, encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints tsn and ck of both stages, their exports for every backend, a video, features."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        make_checkpoint(folder / "ck", TAGGER_YAML, "cat\ndog\nbird\n鲸\n")
        make_checkpoint(folder / "tsn", TSN_YAML, "one\ntwo\nthree\n")
        rng = np.random.default_rng(0)
        lines = []
        for number, steps in enumerate((1, 7, 3)):
            np.save(f"{number}.npy", rng.standard_normal((steps, 512)).astype(np.float32))
            lines.append(f"{number}.npy {number}\n")
        Path("my.list").write_text("".join(lines), encoding="utf-8")
        write_video("a.mp4", rng.integers(0, 255, (12, 48, 64, 3), dtype=np.uint8), fps=8)
        for backend in ("openvino", "onnx", "paddle"):
            for weights in ("ck", "tsn"):
                assert main(["export", f"--weights={weights}", "--to", backend]) == 0
    return folder


@pytest.fixture
def here(made, monkeypatch):
    """That folder as the working folder; what is written goes elsewhere."""
    monkeypatch.chdir(made)
    return made


def probabilities(predictions, classes):
    rows = np.zeros((len(predictions), classes))
    for row, video in zip(rows, predictions, strict=True):
        for tag in video["tags"]:
            row[tag["class_id"]] = tag["probability"]
    return rows


def predicted(save_dir):
    return probabilities(json.loads((save_dir / "predictions.json").read_text(encoding="utf-8")), 4)


def fails(capsys, words):
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == ""
    return err


def run_blocked(blocked, *commands):
    words = [json.dumps(blocked), *map(json.dumps, commands)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True, env=env, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def by_checkpoints(made, tmp_path_factory):
    """What the checkpoints say: probabilities of features, results of one stage and of both, features."""
    save_dir = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(made)
        assert main(["predict", "--weights=ck", "--filelist=my.list", f"--save_dir={save_dir}"]) == 0
        one = Tagger.load(extractor_weights="tsn").tag("a.mp4").to_dict()
        two = Tagger.load(extractor_weights="tsn", predictor_weights="ck").tag("a.mp4").to_dict()
        assert main(["extract", "--weights=tsn", "--video_path=a.mp4", f"--save_dir={save_dir}"]) == 0
    return predicted(save_dir), one, two, np.load(save_dir / "a.npy", allow_pickle=False)


@pytest.mark.parametrize(
    ("backend", "blocked"),
    [
        ("openvino", ["paddle", "paddle2onnx", *TRAINING_CODE]),
        ("onnx", ["paddle", "paddle2onnx", *TRAINING_CODE]),
        ("paddle", TRAINING_CODE),
    ],
)
def test_predict_tag_and_extract_run_from_exports_without_the_code_that_made_them(
    here, by_checkpoints, tmp_path, backend, blocked
):
    second, first = (f"{place}/export_{backend}_f32" for place in ("ck", "tsn"))
    two_stages = [f"--extractor_weights={first}", f"--predictor_weights={second}"]
    done = run_blocked(
        blocked,
        ["predict", f"--weights={second}", "--filelist=my.list", f"--save_dir={tmp_path}/predict"],
        ["predict", f"--weights={first}", "--video_path=a.mp4", f"--save_dir={tmp_path}/one"],
        ["extract", f"--weights={first}", "--video_path=a.mp4", f"--save_dir={tmp_path}/extract"],
        ["tag", "a.mp4", "--quiet", *two_stages, f"--save_dir={tmp_path}/two"],
    )
    assert done.returncode == 0, done.stderr
    scores, one, two, features = by_checkpoints
    np.testing.assert_allclose(predicted(tmp_path / "predict"), scores, atol=2e-5)
    for place, expected in (("one", one), ("two", two)):
        (found,) = json.loads((tmp_path / place / "predictions.json").read_text(encoding="utf-8"))
        np.testing.assert_allclose(
            probabilities([found], 4), probabilities([expected], 4), atol=2e-5, err_msg=place
        )
        assert {t["class_name"] for t in found["tags"]} == {t["class_name"] for t in expected["tags"]}
    np.testing.assert_allclose(found["attention"]["rgb"], two["attention"]["rgb"], atol=1e-4)
    found = np.load(tmp_path / "extract" / "a.npy", allow_pickle=False)
    assert np.abs(found - features).max() <= 1e-4 * np.abs(features).max()


def test_an_exported_extractor_tags_alone_from_python(here, by_checkpoints):
    _, one, _, _ = by_checkpoints
    found = Tagger.load(extractor_weights="tsn/export_onnx_f32").tag("a.mp4").to_dict()
    assert [t["class_name"] for t in found["tags"]] == [t["class_name"] for t in one["tags"]]
    np.testing.assert_allclose(probabilities([found], 4), probabilities([one], 4), atol=2e-5)


def test_what_is_blocked_would_be_noticed(here, tmp_path):
    """Or else the test above says nothing."""
    done = run_blocked(
        ["paddle"], ["predict", "--weights=ck", "--filelist=my.list", f"--save_dir={tmp_path}"]
    )
    assert "paddle must not be imported" in done.stderr
    assert done.stderr.endswith(
        "Paddle is not installed; only predict, extract and tag with exports for openvino or onnx run "
        "without it; run: pip install paddlepaddle\n"
    )
    assert done.returncode == 2


def test_the_parity_is_printed_and_stored(here, tmp_path, capsys):
    assert main(["export", "--weights=ck", "--to=onnx", f"--output={tmp_path}/out"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("parity: probability differs by up to ")
    assert out.endswith(f"written: {tmp_path}/out\n")
    told = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert told["parity"]["max_probability_difference"] < 1e-5
    assert f"{told['parity']['max_probability_difference']:.1e}" in out
    assert main(["export", "--weights=ck", "--to=onnx", f"--output={tmp_path}/out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "onnx"


def test_flags_of_tags_go_on_working(here, tmp_path, capsys):
    words = ["predict", "--weights=ck/export_onnx_f32", "--filelist=my.list", "--json"]
    words += [f"--save_dir={tmp_path}", "--batch_size=2"]
    assert main([*words, "--infer_topk=1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["tags"]) for row in rows] == [1, 1, 1]
    assert main([*words, "--threshold=1"]) == 0
    assert all(not json.loads(line)["tags"] for line in capsys.readouterr().out.splitlines())
    assert main([*words, "--backend=onnx", "--precision=f32", "--set", "MODEL.topk=2"]) == 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--backend=openvino",
            "--backend=openvino: ck/export_onnx_f32 is an export for onnx in f32; leave it out",
        ),
        (
            "--precision=bf16",
            "--precision=bf16: ck/export_onnx_f32 is an export for onnx in f32; leave it out",
        ),
        ("--set=INFER.backend=paddle", "--backend=paddle: ck/export_onnx_f32 is an export"),
        ("--config=ck/config.yaml", "ck/config.yaml: ck/export_onnx_f32 is an export with its own config"),
        (
            "--set=MODEL.num_classes=5",
            "--set MODEL.num_classes=5: ck/export_onnx_f32 is an export, whose network",
        ),
        (
            "--set=model.lstm_size=5",
            "--set model.lstm_size=5: ck/export_onnx_f32 is an export, whose network",
        ),
        ("--model_name=NetVLAD", "is a config of AttentionLSTM, not of NetVLAD"),
        ("--use_gpu=True", "an export for onnx, which runs on a CPU only; give --use_gpu=False"),
    ],
)
def test_flags_that_contradict_an_export_are_one_line(here, tmp_path, capsys, flag, message):
    words = [
        "predict",
        "--weights=ck/export_onnx_f32",
        "--filelist=my.list",
        f"--save_dir={tmp_path}/no",
        flag,
    ]
    err = fails(capsys, words)
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "no" / "predictions.json").exists()


def test_flags_that_contradict_an_exported_stage_are_one_line(here, capsys):
    words = ["tag", "a.mp4", "--extractor_weights=tsn/export_onnx_f32"]
    assert "--backend=paddle: tsn/export_onnx_f32 is an export" in fails(capsys, [*words, "--backend=paddle"])
    err = fails(capsys, [*words, "--extractor_config=configs/tsn.yaml"])
    assert "configs/tsn.yaml: tsn/export_onnx_f32 is an export with its own config" in err
    for size in (24, 3):  # 3 are the colours
        words = ["extract", "--weights=tsn/export_onnx_f32", "--set", f"INFER.target_size={size}"]
        err = fails(capsys, words)
        assert f"INFER.target_size={size}: tsn/export_onnx_f32 is an export for frames of 32 x 32;" in err


def test_eval_of_an_export_gives_the_metrics_of_its_checkpoint(here, tmp_path, capsys):
    (tmp_path / "v.list").write_text("a.mp4 1\n", encoding="utf-8")
    size = ["--set=TEST.seg_num=6", "--set=TEST.short_size=40", "--set=TEST.target_size=32"]
    for stage, words in (("ck", ["--filelist=my.list"]), ("tsn", [f"--filelist={tmp_path}/v.list", *size])):
        metrics = []
        for weights in (stage, f"{stage}/export_openvino_f32", f"{stage}/export_onnx_f32"):
            assert main(["eval", f"--weights={weights}", *words, f"--save_dir={tmp_path}/ev"]) == 0
            metrics.append(json.loads((tmp_path / "ev" / "metrics.json").read_text(encoding="utf-8")))
        assert metrics[1] == pytest.approx(metrics[0], abs=1e-4)
        assert metrics[2] == pytest.approx(metrics[0], abs=1e-4)
    words = ["eval", "--weights=tsn/export_onnx_f32", f"--filelist={tmp_path}/v.list"]
    message = "TEST.target_size=224: tsn/export_onnx_f32 is an export for frames of 32 pixels; give --set"
    assert message in fails(capsys, words)


def test_train_starts_from_no_export(here, tmp_path, capsys):
    words = ["train", "--config=ck/config.yaml", "--set=TRAIN.filelist=my.list", "--valid_interval=0"]
    err = fails(capsys, [*words, f"--save_dir={tmp_path}/ck", "--pretrain=ck/export_onnx_f32"])
    assert "ck/export_onnx_f32: an export, which cannot be trained or changed; give the weights" in err


def test_exports_of_several_taggers_and_several_exports_say_the_same(here, tmp_path):
    shutil.copytree("ck", tmp_path / "b", ignore=shutil.ignore_patterns("export*"))
    both = f"ck,{tmp_path}/b"
    assert main(["export", f"--weights={both}", "--to=onnx", f"--output={tmp_path}/both"]) == 0
    rows = []
    for weights in ("ck", f"{tmp_path}/both", "ck/export_onnx_f32,ck/export_paddle_f32,ck"):
        save_dir = tmp_path / "out"
        assert main(["predict", f"--weights={weights}", "--filelist=my.list", f"--save_dir={save_dir}"]) == 0
        rows.append(predicted(save_dir))
    np.testing.assert_allclose(rows[1], rows[0], atol=2e-5)
    np.testing.assert_allclose(rows[2], rows[0], atol=2e-5)


def test_own_samples_are_compared_too(here, tmp_path, capsys):
    for weights, line in (("ck", "1.npy 99"), ("tsn", "a.mp4 99")):
        (tmp_path / "s.list").write_text(line + "\n", encoding="utf-8")
        words = ["export", f"--weights={weights}", "--to=onnx", f"--output={tmp_path}/{weights}"]
        assert main(words) == 0
        alone = json.loads((tmp_path / weights / "export.json").read_text(encoding="utf-8"))["parity"]
        assert main([*words, f"--sample={tmp_path}/s.list"]) == 0
        found = json.loads((tmp_path / weights / "export.json").read_text(encoding="utf-8"))["parity"]
        assert found["batches"] == alone["batches"] + 1
        assert found["rows"] > alone["rows"]
    (tmp_path / "s.list").write_text("no.npy\n", encoding="utf-8")
    assert "no.npy" in fails(capsys, ["export", "--weights=ck", "--to=onnx", f"--sample={tmp_path}/s.list"])


def test_mistakes_end_before_work(here, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine", encoding="utf-8")
    to = ["export", "--weights=ck", "--to=onnx"]
    for words, message in (
        ([*to, f"--output={tmp_path}/mine"], "mine: exists and is not an export; choose another --output"),
        ([*to, "--output=ck"], "ck: exists and is not an export; choose another --output"),
        (["export", "--weights=ck,ck", "--to=onnx"], "ck/export_onnx_f32: contains an export of "),
        (["extract", "--weights=ck", "--video_path=a.mp4"], "AttentionLSTM is not an extractor; give one"),
        ([*to, "--precision=bf16"], "--to=onnx --precision=bf16: it computes in f32 only"),
        ([*to, "--use_gpu"], "--use_gpu=True: export runs on a CPU; leave it out"),
        ([*to, "--set=TRAIN.use_gpu=True"], "--set TRAIN.use_gpu=True: export runs on a CPU; leave it"),
        ([*to, "--set=infer.backend=paddle"], "--set INFER.backend=paddle: the export is for onnx; leave it"),
        (
            [*to, "--set=INFER.precision=bf16"],
            "--set INFER.precision=bf16: the export is in f32; leave it out, or give --precision=bf16",
        ),
        ([*to, "--label_file=my.list"], "my.list: 3 names, expected num_classes 4"),
        (
            ["export", "--weights=ck/export_onnx_f32", "--to=onnx"],
            "ck/export_onnx_f32: is an export; give the weights it was made from",
        ),
    ):
        assert message in fails(capsys, words)
    assert (tmp_path / "mine" / "a.txt").read_text(encoding="utf-8") == "mine"


def test_a_network_without_export_is_refused_with_the_reason(here, tmp_path, capsys):
    make_checkpoint(
        tmp_path / "old", TAGGER_YAML.replace("topk: 4", "topk: 4, variant: videotag"), "a\nb\nc\nd\n"
    )
    err = fails(capsys, ["export", f"--weights={tmp_path}/old", "--to=paddle"])
    assert "AttentionLSTM: cannot be exported to paddle: PeepholeLSTM: a loop over steps in Python" in err
    assert err.count("\n") == 1


def test_weights_without_labels_are_exported_with_a_warning(here, tmp_path, capsys):
    shutil.copytree("ck", tmp_path / "bare", ignore=shutil.ignore_patterns("export*", "labels.txt"))
    assert main(["export", f"--weights={tmp_path}/bare", "--to=onnx"]) == 0
    assert "no class names in the export" in capsys.readouterr().err
    assert not (tmp_path / "bare" / "export_onnx_f32" / "labels.txt").exists()


def test_labels_that_are_damaged_are_an_error(here, tmp_path, capsys):
    shutil.copytree("ck", tmp_path / "ck", ignore=shutil.ignore_patterns("export*"))
    for content in (b"cat\ndog\n", b"\xff\xfe\n" * 4):
        (tmp_path / "ck" / "labels.txt").write_bytes(content)
        assert "ck/labels.txt:" in fails(capsys, ["export", f"--weights={tmp_path}/ck", "--to=onnx"])
        assert not (tmp_path / "ck" / "export_onnx_f32").exists()


def test_the_working_folder_may_be_the_output(here, tmp_path, monkeypatch):
    weights = Path("ck").resolve()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    words = ["export", f"--weights={weights}", "--to=onnx", "--output=."]
    words += ["--set=INFER.precision=f32", "--set=INFER.backend=auto", "--set=TRAIN.use_gpu=auto"]
    assert main(words) == 0
    assert (tmp_path / "out" / "export.json").is_file()


def test_features_of_another_precision_are_not_mixed_with_an_exports(here, tmp_path, capsys):
    (tmp_path / "fx").mkdir()
    told = {"backend": "paddle", "precision": "bf16"}
    (tmp_path / "fx" / "runtime.json").write_text(json.dumps(told), encoding="utf-8")
    words = ["extract", "--weights=tsn/export_onnx_f32", "--video_path=a.mp4", f"--save_dir={tmp_path}/fx"]
    assert "an export in f32, but the features in --save_dir are in bf16; choose" in fails(capsys, words)
