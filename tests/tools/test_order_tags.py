"""Both stages end to end in small: what needs order is learned by the tagger over time, and by no mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import order_tags


@pytest.mark.slow
def test_the_two_stages_learn_tags_of_order_and_the_mean_over_time_does_not(work_dir, capsys):
    words = ["--backbone=resnet18", "--num_clips=120", "--size=32", "--frames=8", "--tsn_epochs=4"]
    assert order_tags.main([*words, "--out_dir=out", "--tagger_epochs=40"]) == 0
    results = json.loads(Path("out/results.json").read_text(encoding="utf-8"))["taggers"]
    told_apart = {name: results[name]["told_apart"] for name in order_tags.TAGGERS}
    assert all(share == 0.5 for share in told_apart["MeanPool"].values())
    assert told_apart["AttentionLSTM"]["colour"] >= 0.9
    assert sum(told_apart["AttentionLSTM"].values()) / 3 >= 0.7
    assert "| red then blue / blue then red: twins told apart |" in capsys.readouterr().out


def test_equal_scores_of_twins_count_half(work_dir):
    Path("features").mkdir()
    Path("net").mkdir()
    ids = [order_tags.TAGS.index(tag) for tag in ("grows", "shrinks")]
    lines = [f"features/{i}.npy {ids[i % 2]}" for i in range(4)]
    for i in range(4):
        Path(f"features/{i}.npy").touch()
    Path("features/test.list").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def prediction(index, grows, shrinks):
        scores = {"grows": grows, "shrinks": shrinks}
        shown = [{"class_name": tag, "probability": scores.get(tag, 0.0)} for tag in order_tags.TAGS]
        return {"video_id": f"features/{index}.npy", "tags": shown}

    # The first twins: "grows" right, "shrinks" equal; the second ones: both wrong.
    scores = [(0.9, 0.5), (0.2, 0.5), (0.1, 0.8), (0.3, 0.2)]
    predictions = [prediction(index, *pair) for index, pair in enumerate(scores)]
    Path("net/predictions.json").write_text(json.dumps(predictions), encoding="utf-8")
    assert order_tags.told_apart(Path(), "net") == {"size": pytest.approx((1 + 0.5 + 0 + 0) / 4)}
