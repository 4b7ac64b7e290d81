"""The benchmark of training steps at a small size."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import training

from videotag.datasets.batches import Batch


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks and features of a small size, whatever is asked for."""
    config = training._config
    monkeypatch.setattr(training, "_config", lambda batch_size, **sizes: config(batch_size, **training.SMALL))
    monkeypatch.setattr(training, "keep_freed_memory", lambda: None)  # it would last for all tests


def test_both_ways_are_measured_and_the_kernels_of_a_step(work_dir, capsys):
    before = set(Path().iterdir())
    assert training.main(["--rounds=1", "--steps=2", "--batch_size=4", "--videos=128", "--epochs=1"]) == 0
    out = capsys.readouterr().out
    for way in training.WAYS:
        assert re.search(rf"^\| {way} \| \d+\.\d\d \| \d+\.\d\d \| \d+\.\d% \|$", out, re.M)
    assert re.search(r"^\| ratio \| \d+\.\d\d \| \d+\.\d\d \| \|$", out, re.M)
    assert re.search(r"^A step of cut waits for its batch \d+\.\d\d% of the time\.$", out, re.M)
    for name in ("rnn", "rnn_grad", "matmul", "other"):
        assert re.search(rf"^\| {name} \| [\d,]+ \|$", out, re.M)
    assert re.search(r"^\| 0 \| \d+\.\d{4} \| \d+\.\d{4} \|$", out, re.M)
    assert set(Path().iterdir()) == before, "the profiler leaves nothing in the working folder"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--rounds=0", "--rounds=0: expected at least 1"),
        ("--steps=0", "--steps=0: expected at least 1"),
        ("--epochs=-1", "--epochs=-1: expected at least 1"),
        ("--videos=3", "--videos=3: expected at least one batch, of 4"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_made(capsys, wrong, said):
    assert training.main(["--batch_size=4", wrong]) == 2
    assert capsys.readouterr().err == f"training: {said}\n"


def test_padding_is_less_where_batches_are_cut():
    result = training.measure(2, steps=3, batch_size=4, num_videos=128)
    cut, padded = (result[way] for way in training.WAYS)
    assert 0 <= cut["padding_share"] < 0.1 < padded["padding_share"] < 0.6
    assert len(cut["losses"]) == len(padded["losses"]) == 2 * 3
    assert result["ratio"] > 0
    assert result["processor_ratio"] > 0


def test_the_time_that_a_step_waits_for_its_batch_counts(monkeypatch):
    now = [0.0]

    def passing(seconds, result=None):
        now[0] += seconds
        return result

    inputs = {"rgb": np.ones((1, 5, 2)), "rgb.mask": np.ones((1, 5), bool)}
    batch = Batch(["a"], inputs, np.zeros((1, 1)))
    batches = iter(lambda: passing(1.0, batch), None)
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training, "_loss", lambda *_, step: passing(3.0, 0.5))
    seen = training.Timings()
    training._learn(None, "cut", batches, 2, seen)
    assert (seen.seconds, seen.wait_sec, seen.steps) == (8.0, 2.0, 10)
    assert seen.rates == [10 / 8]


def test_both_ways_learn_the_same(monkeypatch):
    cut, padded = training.loss_curves(4, num_videos=64).values()
    assert cut[-1] < cut[0]
    assert cut == pytest.approx(padded, rel=0.03), "they differ by the order of batches"


def test_each_way_computes_the_steps_that_are_counted(monkeypatch):
    seen = []

    def loss(learner, batch, step):
        forward = learner.model.forward

        def watched(inputs):
            seen.append((inputs["rgb"].shape[1], int(batch.inputs["rgb.mask"].sum(axis=1).max())))
            return forward(inputs)

        monkeypatch.setattr(learner.model, "forward", watched)
        result = real(learner, batch, step)
        monkeypatch.setattr(learner.model, "forward", forward)
        return result

    real = training._loss
    monkeypatch.setattr(training, "_loss", loss)
    size = {"batch_size": 4, "num_videos": 128, "warm_steps": {"cut": 1, "padded": 1}}
    training.measure(1, steps=1, ways=["padded"], **size)
    assert [steps for steps, _ in seen] == [300] * 3
    seen.clear()
    training.measure(1, steps=2, ways=["cut"], **size)
    assert seen[0][0] == 300, "the memory of the longest batch is taken first"
    assert all(steps == longest for steps, longest in seen[1:])


def test_waiting_is_measured_apart_after_what_was_read_meanwhile(monkeypatch, tmp_path):
    config, data = training._data_set(tmp_path, 16, 4, {})
    trial = training.Trial("cut", config, data, warm_steps=1)
    trial.learn(1)
    before, asked = trial.found(), []

    def learn(learner, way, batches, steps, seen):
        asked.append(steps)
        seen.seconds, seen.wait_sec = (9.0, 9.0) if len(asked) == 1 else (4.0, 1.0)

    monkeypatch.setattr(training, "_learn", learn)
    assert trial.wait_share(5) == 0.25
    assert asked == [3, 5]
    assert trial.found() == before


def test_a_padded_batch_has_zeros_and_no_real_steps_behind_its_end():
    x, mask = np.ones((2, 3, 4), np.float32), np.array([[True, True, True], [True, False, False]])
    batch = training._padded(Batch(["a", "b"], {"rgb": x, "rgb.mask": mask}, np.zeros((2, 1))))
    assert batch.inputs["rgb"].shape == (2, 300, 4)
    assert batch.inputs["rgb"].sum() == x.sum()
    assert batch.inputs["rgb.mask"].sum(axis=1).tolist() == [3, 1]
