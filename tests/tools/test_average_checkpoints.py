"""The mean of checkpoints: by hand, as a folder that --weights takes, and what has no mean."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main as videotag
from videotag.formats.weight_files import read_weights, write_pdparams

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import average_checkpoints

NET = "MODEL: {name: MeanPool, feature_names: [rgb], feature_dims: [2], num_classes: 2}\n"


def make(folder, text=NET, labels="cat\ndog\n", **arrays):
    """A checkpoint folder; output.weight and output.bias are zeros if not given."""
    Path(folder).mkdir()
    (Path(folder) / "config.yaml").write_text(text, encoding="utf-8")
    if labels:
        (Path(folder) / "labels.txt").write_text(labels, encoding="utf-8")
    state = {"output.weight": np.zeros((2, 2), np.float32), "output.bias": np.zeros(2, np.float32)}
    write_pdparams(Path(folder) / "net.pdparams", state | arrays)


def fails(capsys, *words):
    assert average_checkpoints.main([*words, "--output=mean"]) == 2
    assert not Path("mean").exists()
    return capsys.readouterr().err


def test_means_are_of_fractions_and_whole_numbers_are_the_last(work_dir, capsys):
    for name, bias, steps in (("a", 1.0, 5), ("b", 2.0, 7), ("c", 6.0, 6)):
        make(name, **{"output.bias": np.array([bias, -1], np.float32), "steps": np.array([steps])})
    assert average_checkpoints.main(["a", "b/net", "c/net.pdparams", "--output=mean"]) == 0
    assert "mean/MeanPool.pdparams: the mean of 3 checkpoints, 3 arrays" in capsys.readouterr().out
    state = read_weights("mean/MeanPool.pdparams")
    np.testing.assert_array_equal(state["output.bias"], np.array([3, -1], np.float32))
    assert state["output.bias"].dtype == np.float32
    assert state["steps"].tolist() == [6]
    assert Path("mean/labels.txt").read_text(encoding="utf-8") == "cat\ndog\n"


def test_the_mean_of_a_run_s_epochs_is_evaluated_like_any_checkpoint(tagger_dir, capsys):
    words = ["train", "--config=tagger.yaml", "--label_file=labels.txt", "--save_dir=ck"]
    assert videotag(words) == 0
    epochs = [f"ck/AttentionLSTM_epoch{n}" for n in (0, 1)]
    assert average_checkpoints.main([*epochs, "--output=mean"]) == 0
    one, two, mean = (read_weights(f"{p}.pdparams") for p in (*epochs, "mean/AttentionLSTM"))
    for name in mean:
        np.testing.assert_allclose(mean[name], (one[name] + two[name]) / 2, rtol=1e-5, atol=1e-8)
    capsys.readouterr()
    assert videotag(["eval", "--weights=mean", "--save_dir=ev"]) == 0
    assert "gap" in capsys.readouterr().out


def test_other_networks_shapes_and_names_are_listed_all(work_dir, capsys):
    make("a")
    make("b", **{"output.bias": np.zeros(3, np.float32), "more": np.zeros(1)})
    make("c", **{"extra": np.zeros(1)})
    err = fails(capsys, "a", "b", "c")
    where = "not the network of a/net.pdparams"
    assert f"b/net.pdparams: {where}: output.bias: shape (3,), expected (2,)" in err
    assert f"b/net.pdparams: {where}: more: not part of the network" in err
    assert f"c/net.pdparams: {where}: extra: not part of the network" in err
    make("d", NET.replace("num_classes: 2", "num_classes: 3, topk: 1"), labels=None)
    make("e", labels="cat\nbird\n")
    err = fails(capsys, "a", "d", "e")
    assert "a/net.pdparams and d/net.pdparams: MODEL.num_classes: 2 and 3; give checkpoints of one net" in err
    assert "topk" not in err
    assert "e/net.pdparams: 1 class names differ, first of class 1: 'dog' and 'bird'" in err


def test_mistakes_are_one_line(work_dir, capsys):
    make("a")
    assert "a: only one checkpoint; give two or more" in fails(capsys, "a")
    write_pdparams("bare.pdparams", {"x": np.zeros(1)})
    assert "bare.pdparams: no config belongs to it; put its config.yaml beside it" in fails(
        capsys, "a", "bare"
    )
    assert average_checkpoints.main(["a", "a", "--output=a"]) == 2
    assert "--output a: already exists; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes_stay(work_dir, dtype):
    for name, value in (("a", 60000), ("b", 60000)):  # their sum is beyond float16
        make(name, **{"output.bias": np.full(2, value, dtype)})
    assert average_checkpoints.main(["a", "b", "--output=mean"]) == 0
    state = read_weights("mean/MeanPool.pdparams")
    assert state["output.bias"].dtype == dtype
    assert state["output.bias"].tolist() == [60000, 60000]
