"""The device."""

from __future__ import annotations

import pytest

from videotag.errors import DeviceError
from videotag.models import paddle
from videotag.runtime import device


def test_auto_takes_the_cpu_where_there_is_no_gpu():
    assert device.select_device("auto") == "cpu"
    assert device.select_device(False) == "cpu"


def test_asking_for_a_gpu_without_one_says_what_to_write():
    with pytest.raises(
        DeviceError, match=r"is the CPU build; write --use_gpu=False, or install requirements-gpu"
    ):
        device.select_device(True)


@pytest.mark.parametrize(("use_gpu", "chosen"), [("auto", "gpu"), (True, "gpu"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, use_gpu, chosen):
    """No GPU here: Paddle's answers are replaced."""
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    asked = []
    monkeypatch.setattr(paddle, "set_device", asked.append)
    assert device.select_device(use_gpu) == chosen
    assert asked == [chosen]


def test_a_gpu_build_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="sees no GPU"):
        device.select_device(True)
