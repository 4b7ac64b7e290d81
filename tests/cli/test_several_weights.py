"""--weights=A,B,C of predict and eval: the mean of probabilities, and weights that do not go together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main


@pytest.fixture
def trained(tagger_dir, capsys):
    """tagger_dir with three checkpoints of two networks: a, b and c."""
    text = (tagger_dir / "tagger.yaml").read_text(encoding="utf-8")
    pool = "MODEL: {name: MeanPool, feature_names: [rgb], feature_dims: [6], num_classes: 4, topk: 4}\n"
    (tagger_dir / "pool.yaml").write_text(pool + text[text.index("TRAIN") :], encoding="utf-8")
    for folder, config, seed in (("a", "tagger", 1), ("b", "pool", 2), ("c", "pool", 3)):
        train = [
            "train",
            f"--config={config}.yaml",
            f"--save_dir={folder}",
            "--epoch=1",
            "--valid_interval=0",
        ]
        assert main([*train, "--label_file=labels.txt", f"--set=TRAIN.seed={seed}"]) == 0
    capsys.readouterr()
    return tagger_dir


def predicted(weights):
    """Probabilities (videos, classes) of predict."""
    assert main(["predict", f"--weights={weights}", "--save_dir=out", "--infer_topk=4"]) == 0
    videos = json.loads(Path("out/predictions.json").read_text(encoding="utf-8"))
    rows = [{tag["class_id"]: tag["probability"] for tag in video["tags"]} for video in videos]
    return np.array([[row[c] for c in range(4)] for row in rows])


def fails(capsys, words):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == ""
    return err


def test_predict_and_eval_take_the_mean_of_probabilities(trained, capsys):
    alone = [predicted(name) for name in "abc"]
    np.testing.assert_allclose(predicted("a,b,c"), np.mean(alone, axis=0), atol=2e-6)
    np.testing.assert_allclose(predicted("c/MeanPool,b"), np.mean(alone[1:], axis=0), atol=2e-6)
    assert main(["eval", "--weights=a,b,c", "--save_dir=ev"]) == 0
    metrics = json.loads(Path("ev/metrics.json").read_text(encoding="utf-8"))
    lines = Path("features/test.list").read_text(encoding="utf-8").splitlines()
    labels = np.zeros((len(lines), 4))
    for row, line in zip(labels, lines, strict=True):
        row[[int(word) for word in line.split()[1:]]] = 1
    p = np.mean(alone, axis=0)
    loss = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum() / len(lines)
    assert metrics["loss"] == pytest.approx(loss, abs=1e-4)


def test_one_path_with_a_comma_stays_one(trained, capsys):
    expected = predicted("b")
    Path("b").rename("b,1")
    for weights in ("b,1", "b,1/MeanPool", "b,1/MeanPool.pdparams"):
        np.testing.assert_array_equal(predicted(weights), expected)
    capsys.readouterr()
    assert "no: no weights; tried" in fails(capsys, ["eval", "--weights=c,no"])
    assert "--weights=c,: a comma without weights on both sides" in fails(capsys, ["predict", "--weights=c,"])


def test_weights_that_do_not_go_together_are_named_in_pairs(trained, capsys):
    for key, value in (
        ("num_classes: 4", "num_classes: 5"),
        ("feature_dims:\n  - 6", "feature_dims:\n  - 7"),
    ):
        path = Path("b/config.yaml")
        path.write_text(path.read_text(encoding="utf-8").replace(key, value), encoding="utf-8")
    Path("b/labels.txt").unlink()
    Path("c/labels.txt").write_text("cat\ndog\n鲸\nbird\n", encoding="utf-8")
    for command in ("predict", "eval"):
        err = fails(capsys, [command, "--weights=a,b,c"])
        pair = "a/AttentionLSTM.pdparams and b/MeanPool.pdparams: "
        one, two = ({"rgb": {"reader": "features", "width": width}} for width in (6, 7))
        assert f"{pair}inputs {one} and {two} differ; give weights with the same" in err
        assert pair + "num_classes 4 and 5 differ; give weights with the same" in err
        assert "c/MeanPool.pdparams: 2 class names differ, first of class 2: 'bird' and '鲸'" in err
    Path("c/config.yaml").write_text(
        Path("c/config.yaml").read_text(encoding="utf-8").replace("task: null", "task: single_label"),
        encoding="utf-8",
    )
    assert "task multi_label and single_label" in fails(capsys, ["predict", "--weights=a,c"])


def test_several_weights_need_taggers_with_configs_of_their_own(trained, capsys):
    err = fails(capsys, ["eval", "--weights=a,b", "--config=tagger.yaml"])
    assert "--config=tagger.yaml: each of several --weights has its own; leave it out" in err
    Path("bare.pdparams").write_bytes(Path("b/MeanPool.pdparams").read_bytes())
    err = fails(capsys, ["eval", "--weights=a,bare"])
    assert "bare.pdparams: no config belongs to it; put its config.yaml beside it" in err
    err = fails(capsys, ["predict", "--weights=a,efficientnet_lite0_imagenet"])
    assert "TSN is not a tagger; only taggers can be averaged" in err
