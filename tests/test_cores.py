"""How many threads are kept busy."""

from __future__ import annotations

import pytest

from videotag.cores import num_cores
from videotag.errors import ConfigError


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("4,2", 4)])
def test_the_variable_says_how_many(monkeypatch, text, number):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert num_cores() == number


@pytest.mark.parametrize("text", ["0", "all", "-1", ""])
def test_a_variable_that_is_no_number_is_named(monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(ConfigError, match=f"OMP_NUM_THREADS={text}: expected a whole number from 1"):
        num_cores()
