"""What the CPU can do, and what users may ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videotag.errors import ConfigError, DeviceError
from videotag.runtime import agreement, backends
from videotag.runtime.agreement import (
    compare_feature_errors,
    compare_features,
    relative_error,
    scores_of,
    tags_tolerances,
)
from videotag.runtime.backends import Backend, bf16_instructions, candidates, check_backend, list_backends

CPUINFO = (
    "processor\t: 0\nmodel name\t: X\nflags\t\t: {}\nbugs\t\t: amx_bf16\n\nprocessor\t: 1\nflags\t: fpu\n"
)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f amx_tile amx_bf16 avx512_bf16", "amx_bf16"),
        ("fpu avx512f avx512_bf16", "avx512_bf16"),
        ("fpu avx2 avx512f avx_vnni", None),
        ("", None),
    ],
)
def test_bf16_is_told_by_the_flags_of_the_first_cpu(flags, expected):
    assert bf16_instructions(CPUINFO.format(flags)) == expected
    assert bf16_instructions("") is None


@pytest.fixture
def machine(monkeypatch):
    """machine(installed, bf16=...): what seems to be there."""

    def make(installed, bf16="amx_bf16"):
        monkeypatch.setattr(Backend, "version", lambda backend: "1.0" if backend.name in installed else None)
        monkeypatch.setattr(backends, "bf16_instructions", lambda: bf16)
        monkeypatch.setattr(backends, "gpu_capability", lambda: (8, 0))

    return make


def test_backends_are_tried_the_fastest_first(machine):
    machine({"paddle", "onnx", "openvino"})
    assert list(candidates("auto", "f32")) == ["openvino", "onnx", "paddle"]
    assert list(candidates("auto", "bf16")) == ["openvino", "paddle"]
    assert list(candidates("onnx", "f32")) == ["onnx"]
    assert list(candidates("auto", "f32", device="gpu")) == ["paddle"]
    machine({"paddle"})
    assert list(candidates("auto", "f32")) == ["paddle"]


@pytest.mark.parametrize(
    ("backend", "precision", "device", "error", "message"),
    [
        (
            "openvino",
            "auto",
            "cpu",
            ConfigError,
            r"=openvino: .* run: pip install 'videotag\[openvino\]'",
        ),
        ("onnx", "bf16", "cpu", ConfigError, r"computes in f32 only; give --backend=openvino or paddle"),
        (
            "onnx",
            "auto",
            "gpu",
            ConfigError,
            r"a CPU only; give --use_gpu=False, or --backend=paddle",
        ),
    ],
)
def test_what_cannot_be_had_is_said_before_work(machine, backend, precision, device, error, message):
    machine({"paddle", "onnx"})
    with pytest.raises(error, match=message):
        check_backend(backend, precision, device=device)


def test_bf16_without_instructions_for_it_is_an_error_on_a_cpu_alone(machine):
    machine({"paddle", "openvino"}, bf16=None)
    with pytest.raises(DeviceError, match=r"neither amx_bf16 nor avx512_bf16; give --precision=f32"):
        check_backend("auto", "bf16")
    check_backend("paddle", "bf16", device="gpu")


def test_16_bits_need_a_gpu_that_has_them(machine, monkeypatch):
    machine({"paddle", "openvino"})
    with pytest.raises(
        DeviceError, match=r"--precision=f16: on a GPU only; give --precision=f32 or bf16, or leave"
    ):
        check_backend("auto", "f16")
    assert list(candidates("auto", "f16", device="gpu")) == ["paddle"]
    monkeypatch.setattr(backends, "gpu_capability", lambda: (7, 5))
    for precision in ("f16", "f32", "auto"):
        check_backend("paddle", precision, device="gpu")
    with pytest.raises(DeviceError, match=r"capability 7\.5, bf16 needs 8\.0; give --precision=f32 or f16"):
        check_backend("auto", "bf16", device="gpu")


def test_features_are_compared_without_their_mean():
    """(9, 0), (9, 2): less their mean they are (0, -1), (0, 1)."""
    a = {"f": np.array([[9.0, 0.0], [9.0, 2.0]])}
    assert compare_features(a, a).text == "mean-removed cosine 1.0000"
    turned = {"f": np.array([[8.0, 1.0], [10.0, 1.0]])}  # as near as can be with the mean
    assert not compare_features(a, turned).ok
    assert compare_features(a, turned).text == "mean-removed cosine 0.0000"
    shifted = {"f": a["f"] + 1}  # (1, 0), (1, 2) against (0, -1), (0, 1): 2 / sqrt(6 * 2)
    assert compare_features(a, shifted).text == f"mean-removed cosine {2 / 12**0.5:.4f}"


def test_frames_that_are_too_alike_are_compared_by_their_error():
    a = {"f": np.array([[100.0, 0.0], [100.0, 1.0]])}
    near, far = {"f": a["f"] * 1.01}, {"f": a["f"] * 1.03}
    assert compare_features(a, near).text == "relative error 0.0100"
    assert compare_features(a, near).ok
    assert not compare_features(a, far).ok
    one = {"f": np.ones((1, 4))}
    assert compare_features(one, one).ok


def test_tags_are_compared_by_probability():
    tolerances = tags_tolerances("multi_label")
    a, b = {"logits": np.zeros((1, 2))}, {"logits": np.array([[0.0, 0.0041]])}  # sigmoid(0.0041) = 0.501025
    assert not tolerances.compare_bf16(a, b).ok
    assert tolerances.f32_error(a, b) == pytest.approx(1.025e-3, rel=1e-3)
    assert tolerances.compare_bf16(a, {"logits": np.array([[0.0, 0.0039]])}).ok
    assert tolerances.f32_error(a, {"logits": np.array([[0.0, np.nan]])}) == np.inf


def test_outputs_that_are_no_numbers_never_agree():
    assert relative_error({"y": np.ones(2)}, {"y": np.array([1.0, np.nan])}) == np.inf
    assert relative_error({"y": np.array([3.0, 4.0])}, {"y": np.array([3.0, 4.5])}) == pytest.approx(0.1)


def test_scores_are_sigmoid_or_softmax_and_never_overflow():
    found = scores_of("multi_label", np.array([[0.0, np.log(3.0), -np.log(3.0), 1e4, -1e4]]))
    np.testing.assert_allclose(found, [[0.5, 0.75, 0.25, 1.0, 0.0]], atol=1e-7)
    np.testing.assert_allclose(
        scores_of("single_label", np.array([[1e4, 1e4 + np.log(3.0)]])), [[0.25, 0.75]]
    )


def test_the_docs_name_what_cannot_be_exported_and_every_bound():
    page = (Path(__file__).resolve().parents[2] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    table = page.split("## What cannot be exported")[1].split("## The cache")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert set(rows[2:]) == set(backends.fallback_backend().unsupported_layers), "behind the table's head"
    for backend in list_backends():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{backend.name}`")]
        assert all(precision in row for precision in backend.precisions)
    for bound in (agreement.LEAST_COSINE, agreement.MAX_ALIKE_ERROR, agreement.MAX_PROBABILITY_ERROR):
        assert str(bound) in page


def test_later_lists_are_compared_by_the_error_that_the_first_one_allows():
    rng = np.random.default_rng(0)
    center = rng.standard_normal(64)
    first = {"x": (center + 5 * rng.standard_normal((16, 64))).astype(np.float32)}  # different videos
    later = {"x": (center + 1.2 * rng.standard_normal((16, 64))).astype(np.float32)}  # similar videos
    noise = rng.standard_normal((16, 64)).astype(np.float32)

    def with_noise(features, factor):
        return {"x": features["x"] + factor * noise}

    allowed = compare_features(first, first).max_error
    for factor in (0.55, 0.65, 0.75, 0.85):  # where the angle of the first list reaches the bound
        by_error = compare_feature_errors(first, with_noise(first, factor), allowed).ok
        assert by_error == compare_features(first, with_noise(first, factor)).ok
    assert not compare_features(later, with_noise(later, 0.5)).ok
    assert compare_feature_errors(later, with_noise(later, 0.5), allowed).ok
    assert not compare_feature_errors(later, with_noise(later, 1.0), allowed).ok
