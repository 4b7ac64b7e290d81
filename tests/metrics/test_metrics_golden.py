"""Against the YouTube-8M starter code (tests/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videotag.metrics import Gap, HitAtOne, MeanAp, Perr, TaggingMetrics, gap, hit_at_one, mean_ap, perr

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("hit_at_one", "perr", "gap", "mean_ap")


@pytest.fixture(params=range(4))
def case(request):
    """(scores, labels, expected) of one golden case; cases 0 to 2 hold no video without labels."""
    arrays = np.load(GOLDEN / f"metrics_{request.param}.npz")
    expected = json.loads((GOLDEN / f"metrics_{request.param}.json").read_text(encoding="utf-8"))
    return arrays["scores"], arrays["labels"], expected


def batches(case):
    scores, labels, expected = case
    for start in range(0, len(scores), expected["batch"]):
        yield scores[start : start + expected["batch"]], labels[start : start + expected["batch"]]


def close(expected):
    return pytest.approx(expected, abs=1e-9, rel=0)


def test_functions_on_whole_arrays_equal_the_starter_code(case):
    scores, labels, expected = case
    assert hit_at_one(scores, labels, empty="zero") == close(expected["hit_at_one"])
    assert perr(scores, labels, empty="zero") == close(expected["perr"])
    assert gap(scores, labels) == close(expected["gap"])
    assert mean_ap(scores, labels) == close(expected["mean_ap"])


def test_tagging_metrics_over_batches_equal_the_starter_code(case):
    metrics = TaggingMetrics(empty="zero")
    for scores, labels in batches(case):
        metrics.update(scores, labels)
    expected = case[2]
    result = metrics.compute()
    assert {name: result[name] for name in NAMES} == close({name: expected[name] for name in NAMES})
    assert result["num_videos"] == expected["n"]
    assert result["num_without_labels"] == expected["num_without_labels"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("hit_at_one", lambda: HitAtOne(empty="zero")),
        ("perr", lambda: Perr(empty="zero")),
        ("gap", Gap),
        ("mean_ap", MeanAp),
    ],
)
def test_single_accumulators_over_batches_equal_the_starter_code(case, name, make):
    metric = make()
    for scores, labels in batches(case):
        metric.update(scores, labels)
    assert metric.compute() == close(case[2][name])


def test_skipping_videos_without_labels_rescales_the_starter_codes_means(case):
    # The starter code divides the same sum by all n videos; leaving them out divides by the others.
    scores, labels, expected = case
    scale = expected["n"] / (expected["n"] - expected["num_without_labels"])
    assert hit_at_one(scores, labels) == close(expected["hit_at_one"] * scale)
    assert perr(scores, labels) == close(expected["perr"] * scale)
