"""Sizes of a run are known, and checked, before its network is built."""

from __future__ import annotations

import re
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.datasets.sample_dataset import SampleDataset
from videotag.formats.filelist import ListEntry
from videotag.models import load_models
from videotag.models.contract import build_model
from videotag.train_section import TrainSection, VideoTrainSection
from videotag.training import sizes, train
from videotag.training.sizes import WeightCount, batch_bytes, count_weights, weights_bytes

load_models()
TRAIN = ["train", "--config=tagger.yaml", "--save_dir=ck"]
TSN = "MODEL: {name: TSN, backbone: ResNet18, num_classes: 3}\nTRAIN: {freeze: ['backbone.*']}"
VLAD = "MODEL: {name: NetVLAD, feature_dims: [6], hidden_size: 4, num_classes: 3, context_gating: True}"


def count(config):
    return count_weights(config.entry, config.model, config.train)


@pytest.fixture
def unbuilt(monkeypatch):
    """Training fails if it builds a network."""

    def build(*_):
        raise AssertionError("a network was built")

    monkeypatch.setattr(train, "build_model", build)


@pytest.mark.parametrize("text", [None, TSN, VLAD])
def test_weights_are_counted_as_they_are_built(tagger_dir, text):
    path = Path("tagger.yaml")
    if text:
        path.write_text(text, encoding="utf-8")
    config = load_config(path)
    model = build_model(config.entry, config.model)
    if text == TSN:
        for name, parameter in model.named_parameters():
            parameter.stop_gradient |= name.startswith("backbone.")
    parameters = [(parameter.numel().item(), parameter.stop_gradient) for parameter in model.parameters()]
    trained = sum(number for number, is_fixed in parameters if not is_fixed)
    assert count(config) == WeightCount(sum(number for number, _ in parameters), trained)
    assert trained


def test_counting_takes_no_memory_and_leaves_no_trace(tagger_dir):
    paddle.seed(1)
    config = load_config("tagger.yaml")
    before = build_model(config.entry, config.model)
    overrides = [("MODEL.lstm_size", 1_000_000), ("MODEL.fc_sizes", [1_000_000, 8])]
    assert count(load_config("tagger.yaml", overrides=overrides)).all > 10**13
    paddle.seed(1)
    after = build_model(config.entry, config.model)
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_network_that_reads_its_weights_when_it_is_built_is_not_counted(tagger_dir):
    class Reads(paddle.nn.Layer):
        def __init__(self, _):
            super().__init__()
            self.layer = paddle.nn.Linear(2, 2)
            self.layer.weight.numpy()

    config = load_config("tagger.yaml")
    entry = type("Entry", (), {"cls": Reads, "name": "Reads"})
    assert count_weights(entry, config.model, config.train) is None


@pytest.mark.parametrize(
    ("section", "floats"),
    [
        (TrainSection(), 10 + 4 * 8),  # rmsprop: gradient, momentum, mean square, mean gradient
        (TrainSection(optimizer="adam"), 10 + 3 * 8),
        (TrainSection(optimizer="adam", ema_decay=0.9), 10 + 4 * 8),
        (VideoTrainSection(), 10 + 2 * 8),  # momentum
    ],
)
def test_bytes_per_weight_are_those_of_the_optimizer(section, floats):
    assert weights_bytes(WeightCount(10, 8), section) == 4 * floats


def test_a_batch_is_as_long_as_the_mean_sample(tagger_dir):
    for name, steps in (("a", 2), ("b", 6)):
        np.save(f"{name}.npy", np.ones((steps, 6), np.float32))
    config = load_config("tagger.yaml")
    data = SampleDataset(
        [ListEntry("a.npy", (0,)), ListEntry("b.npy", (1,))],
        config.readers(config.train),
        num_classes=4,
        task="multi_label",
    )
    assert batch_bytes(config, data) == 2 * 4 * (6 * 4 + 1)  # 2 videos of 4 steps, each 6 floats and a mask


def test_training_says_its_sizes_before_it_starts(tagger_dir, capsys):
    assert main(TRAIN) == 0
    lines = capsys.readouterr().err.splitlines()
    sizes_line = next(line for line in lines if " weights, " in line)
    weights = count(load_config("tagger.yaml")).all
    steps = int(np.mean([len(np.load(f"features/train{index}.npy")) for index in range(10)]))
    size = weights * 4 * 5 + 4 * steps * (6 * 4 + 1)
    assert (
        sizes_line
        == f"{weights:,} weights, 3 steps an epoch, 6 steps, at least {size / 1e3:.1f} KB of memory"
    )
    assert lines.index(sizes_line) < lines.index(next(line for line in lines if line.startswith("epoch 1")))


def test_a_network_that_cannot_fit_is_refused_before_it_is_built(tagger_dir, capsys, monkeypatch, unbuilt):
    monkeypatch.setattr(sizes, "memory_limit", lambda: 16_000_000_000)
    words = ["--set=MODEL.lstm_size=100000", "--set=MODEL.fc_sizes=[16,8]"]
    assert main([*TRAIN, *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "not enough memory: " in line
    assert " weights of AttentionLSTM, their gradients and the state of rmsprop take " in line
    assert "this machine or container has 16.0 GB; lower the sizes in MODEL" in line
    assert not Path("ck").exists()


def test_a_batch_that_cannot_fit_names_the_batch_size(tagger_dir, capsys, monkeypatch, unbuilt):
    monkeypatch.setattr(sizes, "weights_bytes", lambda *_: 10)
    monkeypatch.setattr(sizes, "memory_limit", lambda: 100)
    assert main(TRAIN) == 2
    err = capsys.readouterr().err
    assert re.search(r"a batch of 4 takes \d+ bytes, but this .* has 100 bytes; lower TRAIN.batch_size", err)


def test_a_run_on_a_gpu_is_measured_by_its_memory(tagger_dir, capsys, monkeypatch, unbuilt):
    monkeypatch.setattr(sizes.paddle, "get_device", lambda: "gpu:0")
    properties = type("Properties", (), {"total_memory": 1000})
    monkeypatch.setattr(sizes.paddle.device.cuda, "get_device_properties", lambda index: properties)
    assert main(TRAIN) == 2
    assert "but the GPU has 1.0 KB" in capsys.readouterr().err
