"""The logistic regression beside the score in eval's page."""

from __future__ import annotations

import re

import pytest

from videotag.cli.main import main

EVAL = ["eval", "--weights=ck", "--save_dir=results", "--report=page.html"]


def test_the_page_has_the_scores_of_a_logistic_regression_on_the_same_list(trained):
    """They are those of the same probe trained by `videotag train`."""
    assert main(EVAL) == 0
    page = (trained / "page.html").read_text(encoding="utf-8")
    row = re.search(r"<td>gap</td><td>([\d.]+)</td><td>([\d.]+)</td>", page)
    text = """
MODEL: {name: StatisticsPool, feature_dims: [6], num_classes: 4}
TRAIN: {optimizer: lbfgs, weight_decay: auto, filelist: features/train.list, use_gpu: false}
TEST: {filelist: features/test.list}
INFER: {backend: paddle, precision: f32}
"""
    (trained / "probe.yaml").write_text(text, encoding="utf-8")
    assert main(["train", "--config=probe.yaml", "--save_dir=probe"]) == 0
    assert main(["eval", "--weights=probe", "--save_dir=probe_results", "--json"]) == 0
    expected = (trained / "probe_results/metrics.json").read_text(encoding="utf-8")
    gap = float(re.search(r'"gap": ([\d.]+)', expected)[1])
    assert float(row[2]) == pytest.approx(gap, abs=1e-4)


def test_without_the_training_list_the_page_has_no_baseline(trained, capsys):
    (trained / "features/train.list").unlink()
    assert main(EVAL) == 0
    assert "logistic regression" not in (trained / "page.html").read_text(encoding="utf-8")
    assert "no baseline in the report" in capsys.readouterr().err
