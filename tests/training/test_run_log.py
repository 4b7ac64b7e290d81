"""train_log.jsonl on a disk that is full."""

from __future__ import annotations

import json
import resource

import pytest

from videotag.errors import OutputError
from videotag.formats.train_log import LOG_FILE
from videotag.training.run_log import RunLog


def test_a_full_disk_names_the_log_and_leaves_whole_lines(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog(tmp_path) as log:
        log.write("start", step=0)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            with pytest.raises(OutputError, match=rf"{LOG_FILE}: cannot write \(File too large\); free"):
                log.write("step", step=1, loss=0.25, filename="x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.write("step", step=2)
    lines = (tmp_path / LOG_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2]
