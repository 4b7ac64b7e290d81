"""Numbers taken from the log of a training run, whatever else stands in it."""

from __future__ import annotations

import json
import os

import pytest

from videotag.formats import train_log
from videotag.formats.train_log import LOG_FILE, read_train_log


@pytest.fixture
def read(tmp_path):
    def read_lines(*lines):
        texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        (tmp_path / LOG_FILE).write_bytes(b"\n".join(texts) + b"\n")
        return read_train_log(tmp_path)

    return read_lines


def start(step, **values):
    return {"event": "start", "step": step, **values}


def train(step, loss):
    return {"event": "train", "step": step, "epoch": 0, "loss": loss}


def test_losses_and_metrics_are_read_by_step_and_epoch(read):
    log = read(
        start(0, num_samples=240),
        train(0, 0.5),
        train(10, 1),
        {"event": "valid", "step": 12, "epoch": 0, "gap": 0.25, "note": "x"},
    )
    assert log.losses == {0: 0.5, 10: 1.0}
    assert log.validations[0]["gap"] == 0.25
    assert "note" not in log.validations[0]
    assert log.num_samples == 240


def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(read):
    log = read(start(0), train(0, 3), train(1, 2), train(2, 9), start(2, num_samples=7), train(3, 1))
    assert log.losses == {0: 3.0, 1: 2.0, 3: 1.0}
    assert log.num_samples == 7


def test_odd_lines_are_skipped(read):
    odd = [
        b"",
        b"not json",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"event": "train", "step": ' + b"9" * 5000 + b', "loss": 1}',
        b'{"event": "train", "step": 1, "loss": NaN}',
        b'{"event": "train", "step": 1, "loss": 1' + b" " * 70_000 + b"}",
        [1],
        5,
        {"event": ["train"], "step": 1, "loss": 1},
        train(True, 1),
        train(-1, 1),
        train(1.5, 1),
        train(2**40, 1),
        train(1, "1"),
        train(1, None),
        {"event": "valid", "epoch": "0", "gap": 1},
        {"event": "start", "num_samples": 3},
    ]
    log = read(*odd, train(7, 0.5))
    assert log.losses == {7: 0.5}
    assert log.validations == {}
    assert log.num_samples is None


def test_a_folder_without_a_log_has_none(tmp_path, caplog):
    assert read_train_log(tmp_path) is None
    assert not caplog.records


@pytest.mark.parametrize(("limit", "value"), [("MAX_LOG_BYTES", 20), ("MAX_LOG_LINES", 1)])
def test_a_log_that_is_too_large_is_left_out_with_a_warning(read, monkeypatch, caplog, limit, value):
    monkeypatch.setattr(train_log, limit, value)
    assert read(train(0, 1), train(1, 1)) is None
    assert LOG_FILE in caplog.text


def test_a_pipe_in_place_of_a_log_is_left_out_with_a_warning(tmp_path, caplog):
    os.mkfifo(tmp_path / LOG_FILE)
    assert read_train_log(tmp_path) is None
    assert "a pipe" in caplog.text
