"""Tiny inputs that tests of several rooms share; every one is made here, none is shipped."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# A busy machine is no bug. HYPOTHESIS_PROFILE=explore draws new examples in every run.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background, and so in all processes of
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests, which are to hear Ctrl-C

NUM_CLASSES = 4
FEATURE_DIM = 6

TINY_TAGGER_YAML = """
MODEL:
  name: AttentionLSTM
  drop_rate: 0.1
  feature_names: [rgb]
  feature_dims: [6]
  embedding_size: 8
  lstm_size: 5
  fc_sizes: [16, 8]
  num_classes: 4
  topk: 3
TRAIN: {epoch: 2, batch_size: 4, learning_rate: 0.01, filelist: features/train.list, seed: 3, use_gpu: false}
VALID: {batch_size: 3, filelist: features/val.list}
TEST: {batch_size: 3, filelist: features/test.list}
INFER: {batch_size: 2, filelist: features/test.list, backend: paddle, precision: f32}
"""


@pytest.fixture(scope="session", autouse=True)
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The environment: only this machine answers, no cache of the user's, no colours wished for."""
    connect = socket.create_connection

    def local_only(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        if address[0] not in ("localhost", "127.0.0.1"):
            raise OSError(f"a test asks for {address[0]}")
        return connect(address, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", local_only)
        patch.setenv("VIDEOTAG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry of videotag's own models, which forgets after the test what plugins add to it."""
    from videotag import registry
    from videotag.models import load_models

    load_models()
    for entries in registry._REGISTRIES:
        monkeypatch.setattr(entries, "entries", dict(entries.entries))
    yield
    for name in [name for name in sys.modules if name.startswith("videotag_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tagger_dir(work_dir: Path) -> Path:
    """A working folder with tiny features, their lists, labels.txt and tagger.yaml.

    Tag c of a video shows as a spike in feature c of one step, so that a few epochs learn something.
    """
    rng = np.random.default_rng(0)
    (work_dir / "features").mkdir()
    for split, count in (("train", 10), ("val", 5), ("test", 5)):
        lines = []
        for index in range(count):
            label_ids = sorted(rng.choice(NUM_CLASSES, size=rng.integers(1, 3), replace=False).tolist())
            features = 0.1 * rng.standard_normal((int(rng.integers(1, 9)), FEATURE_DIM))
            for label in label_ids:
                features[rng.integers(len(features)), label] += 3.0
            path = f"features/{split}{index}.npy"
            np.save(path, features.astype(np.float32))
            lines.append(" ".join([path, *map(str, label_ids)]))
        (work_dir / "features" / f"{split}.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (work_dir / "labels.txt").write_text("cat\ndog\nbird\n鲸\n", encoding="utf-8")
    (work_dir / "tagger.yaml").write_text(TINY_TAGGER_YAML, encoding="utf-8")
    return work_dir


@pytest.fixture
def trained(tagger_dir: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """tagger_dir with a trained checkpoint in ck."""
    from videotag.cli.main import main

    assert main(["train", "--config=tagger.yaml", "--label_file=labels.txt", "--save_dir=ck"]) == 0
    capsys.readouterr()
    return tagger_dir
