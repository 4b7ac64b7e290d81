"""Which backend and precision a network gets: what was requested, else the fastest that is right."""

from __future__ import annotations

import dataclasses
import logging
import pickle

import numpy as np
import pytest
from named_layers import network_of

from videotag.errors import ConfigError, DeviceError
from videotag.models import paddle
from videotag.runtime import backends, choice
from videotag.runtime.agreement import FEATURES, MAX_PROBABILITY_ERROR, tags_tolerances
from videotag.runtime.backends import Backend, ExportError
from videotag.runtime.choice import (
    RecordedRuntime,
    RuntimeChoice,
    RuntimeNetwork,
    RuntimeRequest,
    evenly_spaced_rows,
    open_network,
)
from videotag.runtime.trained import TrainedNetwork

X = {"x": np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)}
BF16 = RecordedRuntime("auto", "bf16")
IMAGES, SEQUENCES = (None, 3, 1, 1), (None, 3, 1)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine({"openvino": 0.0, ...}): error of each backend in f32; of "openvino bf16" in bf16.

    An error of None cannot be exported, an exception is raised while it runs. The backends are stood in for:
    what they say is the layers' output times 1 + error.
    """
    monkeypatch.setenv("VIDEOTAG_CACHE", str(tmp_path))

    def make(errors, bf16="avx512_bf16"):
        compiled = []

        def compile_network(trained, *, backend, precision, device):
            error = errors[backend if precision == "f32" else f"{backend} {precision}"]
            compiled.append((backend, precision))
            if error is None:
                raise ExportError("no such layer there")

            def run(inputs):
                if isinstance(error, Exception):
                    raise error
                y = trained.run_layers(inputs)["y"]
                noise = np.resize([1.0, -1.0], y.shape)
                return {"y": y + error * np.abs(y).max() * noise.astype(np.float32)}

            return run

        installed = {name.split()[0] for name in errors}
        monkeypatch.setattr(choice, "compile_network", compile_network)
        monkeypatch.setattr(Backend, "version", lambda backend: "1.0" if backend.name in installed else None)
        monkeypatch.setattr(backends, "bf16_instructions", lambda: bf16)
        monkeypatch.setattr(backends, "gpu_capability", lambda: (8, 0))
        return compiled

    return make


def linear(*shape):
    paddle.seed(0)
    layer = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3, 4))
    return network_of(layer, *(shape or IMAGES[1:]), digest="digest")


def network(*, shape=IMAGES, **request):
    return RuntimeNetwork(linear(*shape[1:]), RuntimeRequest(**request), tolerances=FEATURES)


def settled(caplog, **request):
    """What is chosen, and the line that says so."""
    caplog.set_level(logging.INFO, logger="videotag.runtime.choice")
    caplog.clear()
    chosen = network(**request)
    chosen.select_runtime(X)
    chosen.select_runtime(X)  # says it once
    (line,) = [r.getMessage() for r in caplog.records if " runs in " in r.getMessage()]
    return (chosen.backend, chosen.precision), line


ALL = {"openvino": 0.0, "onnx": 0.0, "paddle": 0.0}


def test_auto_takes_the_fastest_that_is_installed(machine, caplog):
    machine(ALL | {"openvino bf16": 1e-4, "paddle bf16": 1e-4}, bf16=None)
    chosen, line = settled(caplog)
    assert chosen == ("openvino", "f32")
    assert line.startswith("Net runs in openvino 1.0, f32: the fastest that is installed and agrees")
    assert line.endswith("f32, as this CPU has no instructions for bf16")
    machine({"onnx": 0.0, "paddle": 0.0, "paddle bf16": 0.0}, bf16=None)
    assert settled(caplog)[0] == ("onnx", "f32")


def test_auto_leaves_out_a_backend_that_answers_otherwise_and_says_so(machine, caplog):
    machine({"openvino": 0.01, "onnx": None, "paddle": 1e-7}, bf16=None)
    chosen, line = settled(caplog)
    assert chosen == ("paddle", "f32")
    assert "not in openvino: error 2e-02; not in onnx: no such layer there" in line


def test_auto_leaves_out_a_backend_that_fails_while_it_runs_whatever_it_raises(machine, caplog):
    long = "C++ Traceback " + 300 * "0x1 " + "Error Message Summary: ---- (External) no\nkernel"
    machine({"openvino": OSError(long), "onnx": AssertionError(), "paddle": 0.0}, bf16=None)
    chosen, line = settled(caplog)
    assert chosen == ("paddle", "f32")
    assert "not in openvino: OSError: (External) no kernel; not in onnx: AssertionError;" in line
    machine(ALL | {"openvino bf16": ValueError("no kernel"), "paddle bf16": 0.0})
    assert settled(caplog)[0] == ("paddle", "bf16")
    assert "; not in openvino: ValueError: no kernel" in caplog.text
    chosen, line = settled(caplog, precision="bf16")
    assert chosen == ("paddle", "bf16")
    assert line.endswith("; not in openvino: ValueError: no kernel")


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("a signal"), RuntimeError("(ResourceExhausted) no memory")]
)
def test_a_want_of_memory_and_a_broken_import_are_told_as_they_are(machine, error):
    machine({"openvino": error, "paddle": 0.0}, bf16=None)
    for backend in ("auto", "openvino"):
        with pytest.raises(type(error)):
            network(backend=backend).select_runtime(X)


def test_the_preferred_backend_goes_first_but_not_if_it_answers_otherwise(machine, caplog):
    machine(ALL, bf16=None)
    chosen, line = settled(caplog, precision="f32", previous=RecordedRuntime("paddle", "f32"))
    assert chosen == ("paddle", "f32")
    assert line == "Net runs in paddle 1.0, f32: as in the folder's first run (error 0e+00)"
    assert settled(caplog, precision="f32", previous=RecordedRuntime("onnx", "f32"), backend="paddle")[0] == (
        "paddle",
        "f32",
    )
    assert settled(caplog, precision="f32", previous=RecordedRuntime("gone", "f32"))[0] == ("openvino", "f32")


def test_a_preferred_backend_that_answers_otherwise_is_passed_over(machine, caplog):
    machine(ALL | {"onnx": 0.5}, bf16=None)
    chosen, line = settled(caplog, precision="f32", previous=RecordedRuntime("onnx", "f32"))
    assert chosen == ("openvino", "f32")
    assert "not in onnx: error" in line


def test_16_bits_of_a_folders_first_run_are_not_told_as_asked_for(machine, caplog):
    machine({"onnx": 0.0, "paddle": 0.0, "paddle bf16": 0.0})
    request = {"previous": BF16}
    assert ", bf16: as in the folder's first run (" in settled(caplog, **request)[1]
    machine({"paddle": 0.0, "paddle bf16": None})
    with pytest.raises(
        ExportError, match="Net in bf16: not in paddle: no such layer there; choose another --save_dir"
    ):
        network(**request).select_runtime(X)
    with pytest.raises(ExportError, match="not in paddle: no such layer there; leave --backend out"):
        network(backend="paddle", **request).select_runtime(X)


def test_16_bits_of_a_folders_first_run_that_are_far_off_here_are_an_error_unless_asked_for(machine, caplog):
    machine(ALL | {"openvino bf16": 0.9})
    message = r"expected at least 0\.99\); give --precision=bf16 to insist, or choose another --save_dir$"
    with pytest.raises(ConfigError, match=message):
        network(previous=BF16).select_runtime(X)
    assert ", bf16: as requested (" in settled(caplog, previous=BF16, precision="bf16")[1]
    assert any("Net in bf16 is far from f32" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (ALL | {"openvino bf16": 1e-3, "paddle bf16": 0.0}, RuntimeChoice("openvino", "bf16", "cpu")),
        ({"openvino": 0.5, "paddle": 0.5}, RuntimeChoice("paddle", "f32", "cpu", by_layers=True)),
    ],
)
def test_a_choice_opens_the_same_network_in_another_process(machine, errors, expected):
    compiled = machine(errors)
    selected = network()
    selected.select_runtime(X)
    choice = selected.choice
    assert dataclasses.replace(choice, max_error=None) == expected
    compiled.clear()
    opened = open_network(linear(), pickle.loads(pickle.dumps(choice)))
    np.testing.assert_array_equal(opened(X)["y"], selected(X)["y"])
    assert len(compiled) <= 1, "nothing is chosen again"


@pytest.mark.parametrize(
    ("request_", "with_instructions", "without"),
    [
        ({}, True, False),
        ({"device": "gpu"}, False, False),
        ({"precision": "f32"}, False, False),
        ({"precision": "bf16"}, True, True),
        ({"previous": RecordedRuntime("auto", "f32")}, False, False),
        ({"previous": BF16}, True, True),
    ],
)
def test_data_are_needed_where_16_bits_may_be_taken(machine, request_, with_instructions, without):
    machine(ALL)
    assert RuntimeRequest(**request_).needs_sample == with_instructions
    machine(ALL, bf16=None)
    assert RuntimeRequest(**request_).needs_sample == without


def test_where_every_backend_is_wrong_the_layers_run_one_by_one(machine, caplog):
    machine({"openvino": 0.5, "paddle": 0.5}, bf16=None)
    chosen, line = settled(caplog)
    assert chosen == ("paddle", "f32")
    assert "layer by layer; not in openvino: error" in line


def test_bf16_is_taken_where_the_cpu_has_it_and_results_stay_close(machine, caplog):
    machine(ALL | {"openvino bf16": 1e-3, "paddle bf16": 0.0})
    chosen, line = settled(caplog)
    assert chosen == ("openvino", "bf16")
    assert "bf16, as it agrees with f32 (mean-removed cosine 1.0000)" in line


def test_bf16_that_is_far_off_leaves_f32_and_says_so(machine, caplog):
    machine(ALL | {"openvino bf16": 0.9, "paddle bf16": 0.0})
    chosen, line = settled(caplog)
    assert chosen == ("openvino", "f32")
    assert "f32, as bf16 is too far from it (mean-removed cosine 0." in line


def test_f32_asked_for_is_not_compared_with_bf16(machine, caplog):
    compiled = machine(ALL | {"openvino bf16": 0.0})
    assert settled(caplog, precision="f32")[0] == ("openvino", "f32")
    assert compiled == [("openvino", "f32")]


def test_paddles_bf16_goes_before_another_ones_f32_where_it_is_fast(machine, caplog):
    errors = {"onnx": 0.0, "paddle": 0.0, "paddle bf16": 1e-4}
    machine(errors)
    assert settled(caplog)[0] == ("paddle", "bf16")
    chosen, line = settled(caplog, shape=SEQUENCES)
    assert chosen == ("onnx", "f32")
    assert line.endswith("f32, as no backend here is faster in bf16")


def test_what_is_asked_for_is_taken(machine, caplog):
    machine(ALL | {"openvino bf16": 0.0, "paddle bf16": 0.0})
    chosen, line = settled(caplog, backend="onnx", precision="f32")
    assert chosen == ("onnx", "f32")
    assert "as requested" in line
    assert settled(caplog, backend="paddle", precision="bf16")[0] == ("paddle", "bf16")
    assert settled(caplog, precision="bf16")[0] == ("openvino", "bf16")


def test_a_named_backend_that_answers_otherwise_is_taken_with_a_warning(machine, caplog):
    machine(ALL | {"onnx": 0.5})
    assert settled(caplog, backend="onnx", precision="f32")[0] == ("onnx", "f32")
    assert any("Net in onnx is far from its layers" in r.getMessage() for r in caplog.records)


def test_bf16_asked_for_is_taken_with_a_warning_where_it_is_far_off(machine, caplog):
    machine(ALL | {"openvino bf16": 0.9})
    assert settled(caplog, precision="bf16")[0] == ("openvino", "bf16")
    assert any("Net in bf16 is far from f32" in r.getMessage() for r in caplog.records)


def test_a_named_backend_that_cannot_run_the_network_is_an_error(machine):
    machine({"openvino": None, "paddle": 0.0, "openvino bf16": None}, bf16="amx_bf16")
    message = r"^Net in f32: not in openvino: no such layer there; give --backend=paddle$"
    for request in ({"precision": "f32"}, {"precision": "bf16"}):
        with pytest.raises(ExportError, match=message):
            network(backend="openvino", **request).select_runtime(X)
    machine({"onnx": RuntimeError("no kernel"), "paddle": 0.0})
    with pytest.raises(ExportError, match=r"^Net in f32: not in onnx: RuntimeError: no kernel; give --back"):
        network(backend="onnx", precision="f32").select_runtime(X)
    machine({"paddle": None})
    with pytest.raises(
        ExportError, match=r"^Net in f32: not in paddle: no such layer there; leave --backend out$"
    ):
        network(backend="paddle", precision="f32").select_runtime(X)
    machine({"paddle": 0.0, "paddle bf16": None}, bf16="amx_bf16")
    for backend, message in (
        ("paddle", r"^Net in bf16: not in paddle: no such layer there; give --precision=f32$"),
        ("auto", r"^Net in bf16: not in paddle: no such layer there; give --precision=f32$"),
    ):
        with pytest.raises(ExportError, match=message):
            network(backend=backend, precision="bf16").select_runtime(X)


def test_a_request_that_cannot_be_had_is_found_at_once(machine):
    machine(ALL, bf16=None)
    with pytest.raises(DeviceError, match="give --precision=f32"):
        network(precision="bf16")


def test_on_a_gpu_paddle_runs_in_f32_unless_asked(machine, caplog):
    errors = {"paddle": 1e-3, "paddle bf16": 0.0, "paddle f16": 0.0}  # the first as of TF32
    compiled = machine(ALL | errors)
    assert settled(caplog, device="gpu")[0] == ("paddle", "f32")
    assert settled(caplog, device="gpu", precision="bf16")[0] == ("paddle", "bf16")
    assert settled(caplog, device="gpu", precision="f16")[0] == ("paddle", "f16")
    assert {backend for backend, _ in compiled} == {"paddle"}
    assert "layer by layer" not in caplog.text
    assert tags_tolerances("multi_label").max_gpu_error == MAX_PROBABILITY_ERROR < FEATURES.max_gpu_error


def test_the_error_is_measured_once_for_a_network(machine, caplog, monkeypatch):
    machine(ALL, bf16=None)
    settled(caplog)
    monkeypatch.setattr(TrainedNetwork, "run_layers", None)  # may not be asked again
    machine(ALL, bf16=None)
    chosen = network(precision="f32")
    chosen.select_runtime(X)
    assert chosen.backend == "openvino"


def test_rows_are_spread_from_the_first_to_the_last():
    arrays = {"a": np.arange(10), "b": np.arange(10) * 2}
    assert evenly_spaced_rows(arrays, 4)["b"].tolist() == [0, 6, 12, 18]
    assert evenly_spaced_rows(arrays, 99)["a"].tolist() == list(range(10))
    assert evenly_spaced_rows({"a": np.empty((0, 3))}, 4)["a"].shape == (0, 3)


def test_an_error_of_the_layers_is_raised_before_any_backend_traces_them(machine, monkeypatch):
    compiled = machine(ALL, bf16=None)

    def broken(trained, inputs):
        raise KeyError("of a plugin")

    monkeypatch.setattr(TrainedNetwork, "run_layers", broken)
    with pytest.raises(KeyError, match="of a plugin"):
        network().select_runtime(X)
    assert compiled == []
