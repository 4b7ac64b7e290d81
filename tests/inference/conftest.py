"""A tiny extractor that tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.config import load_config
from videotag.media.writer import write_video
from videotag.models import load_models
from videotag.training.checkpoint import save_weights

TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3}
TRAIN: {use_gpu: false}
INFER: {seg_num: 6, short_size: 40, target_size: 32, batch_size: 2, backend: paddle, precision: f32}
"""


@pytest.fixture(scope="module")
def tsn_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tsn.yaml and the weights of a ResNet-18 TSN, tsn.pdparams."""
    load_models()
    folder = tmp_path_factory.mktemp("tsn")
    (folder / "tsn.yaml").write_text(TSN_YAML, encoding="utf-8")
    config = load_config(folder / "tsn.yaml")
    paddle.seed(0)
    save_weights(config.entry.cls(config.model), folder / "tsn.pdparams")
    return folder


@pytest.fixture
def noise_video(work_dir: Path) -> Callable[..., str]:
    """noise_video("a.mp4"): a video of 64 x 48 pixels in the working folder; returns its name."""

    def make(name: str, num_frames: int = 8, seed: int = 0) -> str:
        rng = np.random.default_rng(seed)
        write_video(name, rng.integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8), fps=8)
        return name

    return make
