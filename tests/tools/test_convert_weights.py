"""Weight files from one system's names to another's, and back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.config import load_config
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.load_weights import network_state
from videotag.models import load_models, paddle

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import convert_weights

load_models()

TSN = "MODEL: {name: TSN, num_layers: 50, num_classes: 7}\n"
LSTM = """
MODEL: {name: AttentionLSTM, variant: VARIANT, feature_names: [rgb], feature_dims: [5], embedding_size: 4,
        lstm_size: 3, fc_sizes: [6, 5], num_classes: 2}
"""


def make(work_dir, text):
    """A config file, and weights of its network in our own names."""
    (work_dir / "net.yaml").write_text(text, encoding="utf-8")
    config = load_config("net.yaml")
    paddle.seed(0)
    state = {name: t.numpy() for name, t in network_state(config.entry.cls(config.model)).items()}
    write_pdparams("own.pdparams", state)
    return state


@pytest.mark.parametrize(
    ("text", "system", "name"),
    [
        (TSN, "torchvision", "layer1.0.bn1.running_mean"),
        (TSN, "paddle.vision", "layer1.0.bn1._mean"),
        (TSN, "videotag", "bn2a_branch2a_mean"),
        (LSTM.replace("VARIANT", "videotag"), "videotag", "rgb_lstm_forward.w_0"),
        (LSTM.replace("VARIANT", "paddlevideo"), "paddlevideo", "head.bi_lstm0.weight_hh_l0_reverse"),
    ],
)
def test_there_and_back_is_the_same(work_dir, capsys, text, system, name):
    state = make(work_dir, text)
    args = ["--config=net.yaml"]
    assert convert_weights.main(["own.pdparams", "theirs.safetensors", f"--to={system}", *args]) == 0
    assert f"in the layout {system}" in capsys.readouterr().out
    assert name in read_weights("theirs.safetensors")
    assert convert_weights.main(["theirs.safetensors", "back.pdparams", *args]) == 0
    back = read_weights("back.pdparams")
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[key], state[key]) for key in state)


def test_an_extractor_without_classifier_is_converted_without_one(work_dir):
    state = make(work_dir, TSN)
    write_pdparams("bare.pdparams", {n: a for n, a in state.items() if not n.startswith("fc.")})
    assert convert_weights.main(["bare.pdparams", "t.pdparams", "--config=net.yaml", "--to=torchvision"]) == 0
    names = read_weights("t.pdparams")
    assert "fc.weight" not in names
    assert len(names) == len(state) - 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["own.pdparams", "x.pdparams", "--to=keras"],
            "--to keras: not a layout of TSN; one of videotag-own",
        ),
        (["own.pdparams", "x.h5"], "x.h5: expected the suffix .pdparams or .safetensors"),
        (["other.pdparams", "x.pdparams"], "other.pdparams: does not fit the network of TSN"),
        (["missing", "x.pdparams"], "missing: no weights"),
        (["own.pdparams", "own.pdparams"], "own.pdparams: TARGET is SOURCE; give another TARGET"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(work_dir, capsys, args, message):
    make(work_dir, TSN)
    write_pdparams("other.pdparams", {"a": np.zeros(3)})
    assert convert_weights.main([*args, "--config=net.yaml"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("x.pdparams").exists()
    assert not Path("x.h5").exists()


def test_a_target_that_is_there_is_replaced_by_overwrite_alone(work_dir, capsys):
    state = make(work_dir, TSN)
    words = ["own.pdparams", "t.pdparams", "--config=net.yaml"]
    write_pdparams("t.pdparams", {"a": np.zeros(3)})
    before = Path("t.pdparams").read_bytes()
    assert convert_weights.main(words) == 2
    assert "t.pdparams: exists with other content; give another TARGET" in capsys.readouterr().err
    assert Path("t.pdparams").read_bytes() == before
    assert convert_weights.main([*words, "--overwrite"]) == 0
    assert read_weights("t.pdparams").keys() == state.keys()
    assert convert_weights.main(words) == 0, "the same again"
    os.link("own.pdparams", "linked.pdparams")
    os.link("net.yaml", "yaml.pdparams")
    for target in ("linked.pdparams", "yaml.pdparams"):
        assert convert_weights.main(["own.pdparams", target, "--config=net.yaml", "--overwrite"]) == 2
