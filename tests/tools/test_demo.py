"""The demo's cutting: split by time, tags by what is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import demo


@pytest.mark.parametrize("num_frames", [120, 132, 250])
def test_no_frame_is_in_two_splits(num_frames):
    frames: dict[str, set[int]] = {"train": set(), "val": set(), "test": set()}
    for window in demo.windows("bikes.mp4", num_frames, fps=25.0):
        frames[window.split] |= set(range(window.first, window.first + demo.FRAMES_PER_CLIP))
    assert all(frames.values()), "every split has clips"
    assert not frames["train"] & frames["val"]
    assert not frames["val"] & frames["test"]
    assert max(frames["train"]) < min(frames["val"])
    assert max(frames["val"]) < min(frames["test"]) < num_frames


def test_a_window_carries_what_is_seen_in_half_of_it():
    # bikes.mp4 shows a person from 1.0 to 2.1 s; 20 frames at 25 fps last 0.8 s.
    def tags(first):
        return demo.Window("bikes.mp4", "train", first, 25.0).tags

    assert tags(0) == ["street", "car"]
    assert tags(16) == ["street", "car", "suit", "person"]  # 0.64 to 1.44 s: 0.44 s of person
    assert tags(14) == ["street", "car"]  # 0.56 to 1.36 s: 0.36 s


def test_a_drawn_shape_is_tagged_and_seen_in_half_of_the_frames():
    clip = np.zeros((20, 64, 64, 3), np.uint8)
    tags = demo.draw_random_shape(clip, np.random.default_rng(3))
    assert len(tags) == 2
    assert set(tags) <= set(demo.LABELS)
    assert clip.any(axis=(1, 2, 3)).sum() == 10


def test_the_demos_config_has_a_class_for_every_label():
    from videotag.config import load_config
    from videotag.models import load_models

    load_models()
    assert load_config("configs/attention_lstm_demo.yaml").model.num_classes == len(demo.LABELS)
    assert len(set(demo.LABELS)) == len(demo.LABELS)
