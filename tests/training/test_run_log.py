"""What a run says while it trains, and train_log.jsonl on a disk that is full."""

from __future__ import annotations

import json
import logging
import re
import resource

import pytest

from videotag.cli.main import main
from videotag.errors import OutputError
from videotag.formats.train_log import LOG_FILE
from videotag.system import progress
from videotag.training.run_log import RunLog


def test_a_full_disk_names_the_log_and_leaves_whole_lines(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog(tmp_path) as log:
        log.write("start", "begins", step=0)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            with pytest.raises(OutputError, match=rf"{LOG_FILE}: cannot write \(File too large\); free"):
                log.write("step", "goes on", step=1, loss=0.25, filename="x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.write("step", "goes on", step=2)
    lines = (tmp_path / LOG_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2]


def test_a_line_of_training_says_how_far_it_is_and_how_long_it_takes(tagger_dir, capsys):
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck"]) == 0
    lines = capsys.readouterr().err.splitlines()
    steps = [line for line in lines if ", step " in line]
    assert [line.split(", loss")[0] for line in steps] == [
        f"epoch {epoch} of 2, step {step} of 3" for epoch in (1, 2) for step in (1, 2, 3)
    ]
    form = r".*, loss \d\S*, learning rate 0\.01, \d+ (s|min) left"
    assert all(re.fullmatch(form, line) for line in steps)
    assert steps[-1].endswith(", 0 s left")
    assert [line.split(":")[0] for line in lines if "gap" in line] == [
        "epoch 1 of 2, validation",
        "epoch 2 of 2, validation",
    ]


def test_validation_without_a_terminal_logs_progress(tagger_dir, monkeypatch, caplog):
    monkeypatch.setattr(progress, "HEARTBEAT_SEC", 0.0005)
    caplog.set_level(logging.INFO, logger="videotag")
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck", "--set=VALID.batch_size=1"]) == 0
    assert re.search(r"epoch 1 of 2, validation: \d of 5", caplog.text)
