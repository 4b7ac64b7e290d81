"""What `eval` measures in every backend against the network's own layers."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
from videotag.datasets.feature_dataset import FeatureBatch, pad
from videotag.datasets.video_dataset import ClipBatch
from videotag.inference.eval_network import load_eval_network

from videotag.cli import arguments
from videotag.errors import ConfigError
from videotag.inference import members as engine_members
from videotag.inference.ensemble import load_members
from videotag.inference.evaluate import evaluate
from videotag.inference.export import export_tagger
from videotag.models import load_models, paddle
from videotag.reports.model_card import model_card
from videotag.runtime import backends
from videotag.runtime.backends import backend_names, bf16_instructions
from videotag.training.checkpoint import save_weights
from videotag.weights import FoundWeights, find_weights

TAGGER_YAML = """
MODEL: {{name: {name}, feature_names: [rgb, audio], feature_dims: [6, 3], num_classes: 4, topk: 3{more}}}
TRAIN: {{use_gpu: false}}
"""
SMALL = ", embedding_size: 7, lstm_size: 5, fc_sizes: [9, 8]"


def member(folder, name, seed, more=""):
    """A tagger at random weights, as a command finds it."""
    load_models()
    config = folder / f"{name}{seed}.yaml"
    config.write_text(TAGGER_YAML.format(name=name, more=more), encoding="utf-8")
    args = argparse.Namespace(config=str(config), set=[], model_name=None, use_gpu=None)
    (found,) = arguments.read_members(args, {}, [FoundWeights(folder / f"{name}{seed}.pdparams")])
    paddle.seed(seed)
    save_weights(found.config.entry.cls(found.config.model), found.weights.path)
    return found


def batches():
    """Two batches of mixed lengths with labels; one video has none."""
    rng = np.random.default_rng(0)
    for number, lengths in enumerate(([5, 3, 1], [9, 2])):
        videos = [f"{number}/{index}" for index in range(len(lengths))]
        arrays = {
            name: pad([rng.standard_normal((length, dim)) for length in lengths])
            for name, dim in (("rgb", 6), ("audio", 3))
        }
        labels = (rng.random((len(lengths), 4)) < 0.4).astype(np.float32)
        labels[0] = number
        features, masks = ({name: pair[i] for name, pair in arrays.items()} for i in (0, 1))
        yield FeatureBatch(videos, features, masks, labels)


def wish(found, backend, precision="auto"):
    found.config.infer.backend, found.config.infer.precision = backend, precision
    return [found]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("variant", ["standard", "videotag"])
def test_a_tagger_is_measured_alike_in_every_backend(backend, variant, tmp_path):
    members = wish(member(tmp_path, "AttentionLSTM", 1, f"{SMALL}, variant: {variant}"), backend)
    expected = evaluate(load_members(members), batches())
    assert (expected["num_videos"], expected["num_without_labels"]) == (5, 1)
    assert_same(evaluate(load_eval_network(members), batches()), expected)


@pytest.mark.parametrize("backend", backend_names())
def test_several_taggers_are_measured_alike_in_every_backend(backend, tmp_path):
    members = [member(tmp_path, "AttentionLSTM", 2, SMALL), member(tmp_path, "MeanPool", 3)]
    wish(members[0], backend)
    expected = evaluate(load_members(members), batches())
    assert_same(evaluate(load_eval_network(members), batches()), expected)


@pytest.mark.parametrize("backend", backend_names())
def test_a_tsn_is_measured_alike_in_every_backend(backend, tsn_dir):
    overrides = ["TEST.target_size=48", f"INFER.backend={backend}"]  # not the size that INFER has
    args = argparse.Namespace(config=str(tsn_dir / "tsn.yaml"), set=overrides, model_name=None, use_gpu=None)
    members = arguments.read_members(args, {}, [FoundWeights(tsn_dir / "tsn.pdparams")])
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((5, 3, 3, 48, 48)).astype(np.float32)  # 5 videos of 3 frames
    rows = [
        ClipBatch([str(i) for i in rows], clips[rows], np.array(rows, np.int64) % 3)
        for rows in ([0, 1, 2], [3, 4])
    ]
    expected = evaluate(load_members(members), rows, task="single_label")
    found = evaluate(load_eval_network(members), rows, task="single_label")
    assert_same(found, expected)


def test_metrics_are_those_of_f32_unless_bf16_is_asked_for(tmp_path, caplog):
    caplog.set_level("INFO")
    found = member(tmp_path, "MeanPool", 4)
    evaluate(load_eval_network([found]), batches())
    assert ", f32: the fastest that is installed and agrees" in caplog.text
    assert "bf16" not in caplog.text
    if bf16_instructions():
        evaluate(load_eval_network(wish(found, "auto", "bf16")), batches())
        assert "MeanPool runs in openvino " in caplog.text
        assert ", bf16: as asked for" in caplog.text


def exported(found, folder, backend):
    """The export of a member, as a command finds it."""
    weights = find_weights(export_tagger([found], folder, card=model_card, backend=backend).folder)
    args = argparse.Namespace(config=None, set=[], model_name=None, use_gpu=None)
    (of_export,) = arguments.read_members(args, {}, [weights])
    return of_export


def test_exports_are_measured_alone_together_and_beside_checkpoints(tmp_path):
    first, second = member(tmp_path, "MeanPool", 7), member(tmp_path, "MaxPool", 8)
    exports = [exported(first, tmp_path / "a", "onnx"), exported(second, tmp_path / "b", "openvino")]
    expected = evaluate(load_members([first, second]), batches())
    for together in (exports, [exports[0], second], [first, exports[1]]):
        assert_same(evaluate(load_eval_network(together), batches()), expected)
    alone = evaluate(load_members([first]), batches())
    assert_same(evaluate(load_eval_network(exports[:1]), batches()), alone)


def test_an_export_for_a_cpu_is_measured_there_whatever_gpu_there_is(tmp_path, monkeypatch):
    first = member(tmp_path, "MeanPool", 9)
    export = exported(first, tmp_path / "a", "onnx")
    expected = evaluate(load_members([first]), batches())
    monkeypatch.setattr(engine_members, "select_device", lambda use_gpu: "gpu")
    assert_same(evaluate(load_eval_network([export]), batches()), expected)


def test_a_gpu_keeps_the_layers_unless_a_backend_is_asked_for(tmp_path, monkeypatch):
    """Without a GPU here: what would be built is looked at, nothing runs."""
    monkeypatch.setattr(engine_members, "select_device", lambda use_gpu: "gpu")
    found = member(tmp_path, "MeanPool", 5)
    assert isinstance(load_eval_network([found]), paddle.nn.Layer)
    assert not isinstance(load_eval_network(wish(found, "paddle")), paddle.nn.Layer)
    with pytest.raises(ConfigError, match=r"--backend=onnx: runs on a CPU only; give --use_gpu=False"):
        load_eval_network(wish(found, "onnx"))


def test_a_backend_that_cannot_be_had_is_found_before_weights_are_read(tmp_path, monkeypatch):
    found = member(tmp_path, "MeanPool", 6)
    gone = SimpleNamespace(config=found.config, weights=FoundWeights(tmp_path / "gone"))
    wish(found, "onnx", "bf16")
    monkeypatch.setattr(backends, "bf16_instructions", lambda: "avx512_bf16")
    with pytest.raises(ConfigError, match=r"--backend=onnx --precision=bf16: it computes in f32 only"):
        load_eval_network([gone])
