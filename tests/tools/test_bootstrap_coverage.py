"""The benchmark of the bootstrap of a fit: its simulated sets and its table."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import bootstrap_coverage


def test_a_row_per_kind_of_set_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap_coverage, "NUM_EXPECTED", 10)
    monkeypatch.setattr(bootstrap_coverage, "NUM_SAMPLES", 10)
    assert bootstrap_coverage.main(["--sets=2"]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(bootstrap_coverage.SETS)
    for row, (num_videos, num_rare) in zip(rows, bootstrap_coverage.SETS, strict=True):
        cells = rf"\| {num_videos} \| {num_rare} of 8 \| (0|50|100) % \| [+-]\d\.\d+ \| (0|50|100) % \|"
        assert re.fullmatch(cells, row)


def test_rare_classes_have_one_to_three_positives_and_scores_know_the_labels():
    rng = np.random.default_rng(0)
    sets = [bootstrap_coverage.simulate(60, 4, rng) for _ in range(30)]
    counts = np.array([y.sum(axis=0) for _, _, y in sets])  # (30, C)
    assert set(counts[:, :4].ravel()) == {1, 2, 3}
    assert set(counts[:, 4:].ravel()) == {15}
    first, second, y = (np.concatenate(arrays) for arrays in zip(*sets, strict=True))
    for scores in (first, second):
        assert abs(scores[y == 1].mean() - scores[y == 0].mean() - 1.5) < 0.1
        assert abs(scores[y == 0].std() - 1) < 0.05
    shared = np.corrcoef(first[y == 0], second[y == 0])[0, 1]
    assert abs(shared - 0.5) < 0.05
