"""What a trained model says and `eval` measures, in every backend, against the network's own layers."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from videotag.cli import arguments
from videotag.datasets.batches import Batch
from videotag.errors import ConfigError
from videotag.inference import trained_model
from videotag.inference.evaluate import evaluate, in_layers
from videotag.inference.export import export_model
from videotag.inference.mean_logits import NUMPY, mean_logits
from videotag.inference.trained_model import ModelSource, TrainedModel, load_layers
from videotag.inputs.features import padded_inputs
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


def checkpoint(folder, name, seed, more=""):
    """A tagger at random weights, as a command finds it."""
    load_models()
    config = folder / f"{name}{seed}.yaml"
    config.write_text(TAGGER_YAML.format(name=name, more=more), encoding="utf-8")
    args = argparse.Namespace(config=str(config), set=[], model_name=None, use_gpu=None)
    (found,) = arguments.read_model(args, {}, [FoundWeights(folder / f"{name}{seed}.pdparams")]).sources
    paddle.seed(seed)
    save_weights(found.config.entry.cls(found.config.model), found.weights.path)
    return found


def batches():
    """Two batches of mixed lengths with labels; one video has none."""
    rng = np.random.default_rng(0)
    for number, lengths in enumerate(([5, 3, 1], [9, 2])):
        videos = [
            {name: rng.standard_normal((length, dim)) for name, dim in (("rgb", 6), ("audio", 3))}
            for length in lengths
        ]
        labels = (rng.random((len(lengths), 4)) < 0.4).astype(np.float32)
        labels[0] = number
        yield Batch([f"{number}/{index}" for index in range(len(lengths))], padded_inputs(videos), labels)


def wish(source, backend, precision="auto"):
    source.config.infer.backend, source.config.infer.precision = backend, precision
    return [source]


def measured(sources, batches, **options):
    """The metrics as `eval` makes them."""
    return evaluate(TrainedModel(sources).for_evaluation().run, batches, **options)


def in_own_layers(sources, batches, **options):
    return evaluate(in_layers(load_layers(sources)), batches, **options)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("variant", ["standard", "videotag"])
def test_a_tagger_is_measured_alike_in_every_backend(backend, variant, tmp_path):
    sources = wish(checkpoint(tmp_path, "AttentionLSTM", 1, f"{SMALL}, variant: {variant}"), backend)
    expected = in_own_layers(sources, batches())
    assert (expected["num_videos"], expected["num_without_labels"]) == (5, 1)
    assert_same(measured(sources, batches()), expected)


@pytest.mark.parametrize("backend", backend_names())
def test_several_taggers_are_measured_alike_in_every_backend(backend, tmp_path):
    sources = [checkpoint(tmp_path, "AttentionLSTM", 2, SMALL), checkpoint(tmp_path, "MeanPool", 3)]
    wish(sources[0], backend)
    assert_same(measured(sources, batches()), in_own_layers(sources, batches()))


def tsn_source(tsn_dir, *overrides):
    """The TSN of tsn_dir, as a command finds it."""
    config = str(tsn_dir / "tsn.yaml")
    args = argparse.Namespace(config=config, set=list(overrides), model_name=None, use_gpu=None)
    return arguments.read_model(args, {}, [FoundWeights(tsn_dir / "tsn.pdparams")]).sources[0]


def clips(size_px):
    """Two batches of 3 and 2 videos, of 3 frames each; the second frame of every other video is its first.

    Their contrast is low, so that the loss is near 5, whose float32 is finer than what is compared.
    """
    frames = np.random.default_rng(0).integers(115, 141, (5, 3, size_px, size_px, 3)).astype(np.uint8)
    frames[::2, 1] = frames[::2, 0]
    for rows in ([0, 1, 2], [3, 4]):
        yield Batch([str(i) for i in rows], {"frames": frames[rows]}, np.array(rows, np.int64) % 3)


@pytest.mark.parametrize("backend", backend_names())
def test_a_tsn_is_measured_alike_in_every_backend(backend, tsn_dir):
    # Not the size that INFER has.
    sources = [tsn_source(tsn_dir, "TEST.target_size=48", f"INFER.backend={backend}")]
    expected = in_own_layers(sources, clips(48), task="single_label")
    assert_same(measured(sources, clips(48), task="single_label"), expected)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_exported_tsn_is_measured_like_the_checkpoint(backend, tsn_dir, tmp_path):
    source = tsn_source(tsn_dir, "TEST.target_size=32")
    done = export_model([source], tmp_path / "out", card=model_card, backend=backend)
    found = TrainedModel.load(done.folder)
    assert found.sources[0].weights.is_export
    expected = in_own_layers([source], clips(32), task="single_label")
    assert_same(measured(found.sources, clips(32), task="single_label"), expected)
    other = TrainedModel.load(done.folder, overrides=[("TEST.target_size", 48)])
    with pytest.raises(
        ConfigError,
        match=r"TEST.target_size=48: .*out is an export for frames of 32 pixels; give --set TEST.target_size",
    ):
        other.for_evaluation()


def test_metrics_are_those_of_f32_unless_bf16_is_asked_for(tmp_path, caplog):
    caplog.set_level("INFO")
    source = checkpoint(tmp_path, "MeanPool", 4)
    measured([source], batches())
    assert ", f32: the fastest that is installed and agrees" in caplog.text
    assert "bf16" not in caplog.text
    if bf16_instructions():
        measured(wish(source, "auto", "bf16"), batches())
        assert "MeanPool runs in openvino " in caplog.text
        assert ", bf16: as requested" in caplog.text


def exported(source, folder, backend):
    """The export of a checkpoint, as a command finds it."""
    weights = find_weights(export_model([source], folder, card=model_card, backend=backend).folder)
    args = argparse.Namespace(config=None, set=[], model_name=None, use_gpu=None)
    (of_export,) = arguments.read_model(args, {}, [weights]).sources
    return of_export


def test_exports_are_measured_alone_together_and_beside_checkpoints(tmp_path):
    first, second = checkpoint(tmp_path, "MeanPool", 7), checkpoint(tmp_path, "MaxPool", 8)
    exports = [exported(first, tmp_path / "a", "onnx"), exported(second, tmp_path / "b", "openvino")]
    expected = in_own_layers([first, second], batches())
    for together in (exports, [exports[0], second], [first, exports[1]]):
        assert_same(measured(together, batches()), expected)
    assert_same(measured(exports[:1], batches()), in_own_layers([first], batches()))


def test_an_export_for_a_cpu_is_measured_there_whatever_gpu_there_is(tmp_path, monkeypatch):
    first = checkpoint(tmp_path, "MeanPool", 9)
    export = exported(first, tmp_path / "a", "onnx")
    expected = in_own_layers([first], batches())
    monkeypatch.setattr(trained_model, "select_device", lambda use_gpu: "gpu")
    assert_same(measured([export], batches()), expected)


def test_a_backend_for_cpus_is_refused_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_model, "select_device", lambda use_gpu: "gpu")
    model = TrainedModel(wish(checkpoint(tmp_path, "MeanPool", 5), "onnx"))
    with pytest.raises(ConfigError, match=r"--backend=onnx: runs on a CPU only; give --use_gpu=False"):
        model.load_network()


def test_a_backend_that_cannot_be_had_is_found_before_weights_are_read(tmp_path, monkeypatch):
    source = checkpoint(tmp_path, "MeanPool", 6)
    wish(source, "onnx", "bf16")
    gone = ModelSource(FoundWeights(tmp_path / "gone"), source.config)
    monkeypatch.setattr(backends, "bf16_instructions", lambda: "avx512_bf16")
    with pytest.raises(ConfigError, match=r"--backend=onnx --precision=bf16: it computes in f32 only"):
        TrainedModel([gone]).load_network()


def test_a_model_of_a_folder_runs_on_named_arrays_and_gives_its_layers_outputs(tmp_path):
    source = checkpoint(tmp_path, "AttentionLSTM", 10, SMALL)
    (tmp_path / "config.yaml").write_text(source.config.to_yaml(), encoding="utf-8")
    model = TrainedModel.load(tmp_path, overrides=[("INFER.backend", "paddle"), ("INFER.precision", "f32")])
    assert model.task == "multi_label"
    assert [spec.name for spec in model.inputs] == ["rgb", "audio", "rgb.mask", "audio.mask"]
    batch = next(batches())
    found = model.run({**batch.inputs, "text": np.zeros((3, 1))})
    expected = in_layers(load_layers([source]))(batch.inputs)
    assert set(found) == set(expected) == {"logits", "rgb.attention", "audio.attention", "embedding"}
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x.numpy(), atol=1e-5)


def test_several_weights_bring_their_own_configs(tmp_path):
    for name, seed in (("MeanPool", 11), ("MaxPool", 12)):
        (tmp_path / name).mkdir()
        source = checkpoint(tmp_path / name, name, seed)
        (tmp_path / name / "config.yaml").write_text(source.config.to_yaml(), encoding="utf-8")
    both = [tmp_path / "MeanPool", tmp_path / "MaxPool"]
    model = TrainedModel.load(both)
    assert [source.config.entry.name for source in model.sources] == ["MeanPool", "MaxPool"]
    message = r"MaxPool12\.yaml: several weights use their own configs; leave the config out"
    with pytest.raises(ConfigError, match=message):
        TrainedModel.load(both, config=tmp_path / "MaxPool" / "MaxPool12.yaml")
    (tmp_path / "MaxPool" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"MaxPool12\.pdparams: no config belongs to it; put its config"):
        TrainedModel.load(both)


@pytest.mark.parametrize("task", ["multi_label", "single_label"])
def test_a_mean_is_that_of_probabilities(task):
    """Of 0.2 and 0.6 it is 0.4; in the other class of two that is 0.8 and 0.4, and 0.6."""
    p = [np.array([[0.2, 0.8]]), np.array([[0.6, 0.4]])]
    logits = [np.log(x / (1 - x)) if task == "multi_label" else np.log(x) + 7 for x in p]
    expected = np.array([[0.4, 0.6]])
    np.testing.assert_allclose(
        mean_logits(logits, task, NUMPY),
        np.log(expected / (1 - expected)) if task == "multi_label" else np.log(expected),
        atol=1e-12,
    )


def test_a_mean_of_certain_networks_stays_finite():
    found = mean_logits([np.array([[800.0, -800.0]])] * 2, "multi_label", NUMPY)
    np.testing.assert_allclose(found, [[800.0, -800.0]])


def test_a_model_names_what_it_returns(tmp_path, tsn_dir):
    tagger = TrainedModel([checkpoint(tmp_path, "AttentionLSTM", 1, SMALL)])
    assert tagger.outputs == ("logits", "rgb.attention", "audio.attention", "embedding")
    assert set(tagger.run(next(batches()).inputs)) == set(tagger.outputs)
    assert TrainedModel([tsn_source(tsn_dir)]).outputs == ("logits",)
