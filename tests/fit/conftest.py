"""Features and settings of tests that run a whole fit."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.fit import candidates


@pytest.fixture
def few_steps(monkeypatch):
    """Enough to see every path; what the full number of steps learns is measured by tools/benchmark."""
    monkeypatch.setattr(candidates, "_MIN_STEPS", 6)
    monkeypatch.setattr(candidates, "_MAX_STEPS", 6)


@pytest.fixture
def sets(work_dir):
    """48 videos of two classes in sets/: class 1 has larger features. Names of a pair differ by a letter."""
    rng = np.random.default_rng(0)
    for index in range(24):
        for letter in "ab":
            name = ("low", "high")[index % 2]
            path = work_dir / "sets" / name / f"film{index:02d}{letter}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            x = rng.normal(size=(int(rng.integers(1, 6)), 5)) + index % 2
            np.save(path, x.astype(np.float32))
    return work_dir
