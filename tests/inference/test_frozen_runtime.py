"""A folder of features keeps the precision of its first run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from videotag.config import load_config
from videotag.errors import ConfigError, DeviceError
from videotag.formats.feature_files import extractor_of, read_features, read_stamp, write_features
from videotag.formats.filelist import ListEntry
from videotag.inference.extract import ExtractJob
from videotag.inference.extractor import load_extractor
from videotag.inference.jobs import run_job
from videotag.inference.outputs import RUNTIME_FILE, Destination
from videotag.runtime import backends
from videotag.runtime.backends import Backend
from videotag.weights import FoundWeights

needs_bf16 = pytest.mark.skipif(backends.bf16_instructions() is None, reason="the CPU has no bf16")


@pytest.fixture
def extract(tsn_dir):
    """extract("a.mp4", backend="auto", precision="f32"): into the folder out; what became of the video."""

    def run(video, *, save_dir="out", **runtime):
        overrides = [(f"INFER.{key}", value) for key, value in runtime.items()]
        config = load_config(tsn_dir / "tsn.yaml", overrides=overrides)
        extractor = load_extractor(config, FoundWeights(tsn_dir / "tsn.pdparams"))
        return run_job(ExtractJob(extractor), [ListEntry(video)], Destination(Path(save_dir), "out.list"))

    return run


def frozen(folder="out"):
    return json.loads((Path(folder) / RUNTIME_FILE).read_text(encoding="utf-8"))


def test_the_first_run_writes_its_choice_down_and_into_the_stamp(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32", backend="paddle")
    assert frozen() == {"backend": "paddle", "precision": "f32"}
    stamp = read_stamp("out/a.npy")
    assert stamp["precision"] == "f32"
    assert stamp["runtime"] == f"paddle {backends.get_backend('paddle').version()}"


@needs_bf16
def test_a_second_run_keeps_the_first_ones_choice_and_says_so(extract, noise_video, caplog):
    caplog.set_level(logging.INFO, logger="videotag")
    extract(noise_video("a.mp4"), precision="bf16", backend="paddle")
    extract(noise_video("b.mp4", seed=1), precision="auto", backend="auto")
    assert "out: bf16, as in its first run" in caplog.text
    assert read_stamp("out/b.npy")["precision"] == "bf16"
    assert read_stamp("out/b.npy")["runtime"].startswith("paddle ")
    assert extract("a.mp4", precision="auto").kept == 1


@needs_bf16
def test_another_precision_is_an_error_that_says_what_to_do(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32")
    message = r"out: its features are in f32, but --precision=bf16 was given; remove the flag, or choose"
    with pytest.raises(ConfigError, match=message):
        extract("a.mp4", precision="bf16")


def test_another_backend_of_the_same_precision_keeps_what_is_there(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32", backend="paddle")
    assert extract("a.mp4", precision="f32", backend="onnx").kept == 1
    assert extract(noise_video("b.mp4", seed=1), precision="f32", backend="onnx").written == 1
    assert read_stamp("out/b.npy")["runtime"].startswith("onnx ")
    stamps = [read_stamp(f"out/{name}.npy") for name in "ab"]
    assert extractor_of(stamps[0]) == extractor_of(stamps[1]), "they may stand in one list"


def test_a_backend_that_is_gone_is_replaced(extract, noise_video, monkeypatch):
    extract(noise_video("a.mp4"), precision="f32", backend="openvino")
    real = Backend.version
    monkeypatch.setattr(Backend, "version", lambda its: None if its.name == "openvino" else real(its))
    extract(noise_video("b.mp4", seed=1), precision="auto", backend="auto")
    assert read_stamp("out/b.npy")["runtime"].startswith("onnx ")


def test_backends_give_the_same_features_in_f32(extract, noise_video):
    noise_video("a.mp4")
    features = []
    for backend in backends.backend_names():
        extract("a.mp4", precision="f32", backend=backend, save_dir=backend)
        features.append(read_features(f"{backend}/a.npy"))
    for other in features[1:]:
        np.testing.assert_allclose(other, features[0], rtol=1e-3, atol=1e-3)


@needs_bf16
def test_features_without_a_precision_in_their_stamp_count_as_f32(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32")
    stamp = read_stamp("out/a.npy")
    del stamp["precision"], stamp["runtime"]
    write_features("out/a.npy", read_features("out/a.npy"), stamp=stamp)
    (Path("out") / RUNTIME_FILE).unlink()
    assert extract("a.mp4", precision="auto").kept == 1
    assert extractor_of(stamp) == extractor_of({**stamp, "precision": "f32"})
    assert extractor_of(stamp) != extractor_of({**stamp, "precision": "bf16"})
    with pytest.raises(ConfigError, match="its features are in f32"):
        extract("a.mp4", precision="bf16")


@needs_bf16
def test_features_of_another_list_decide_too(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32")
    (Path("out") / RUNTIME_FILE).unlink()
    with pytest.raises(ConfigError, match="out: its features are in f32"):
        extract(noise_video("b.mp4", seed=1), precision="bf16")
    extract("b.mp4", precision="auto")
    assert frozen()["precision"] == "f32", "later runs need not look for it"


def of_precision(path, precision):
    write_features(path, read_features(path), stamp={**read_stamp(path), "precision": precision})


def test_features_of_a_run_into_a_folder_in_it_count(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32", save_dir="out/inner")
    of_precision("out/inner/a.npy", "bf16")
    with pytest.raises(ConfigError, match="out: its features are in bf16"):
        extract("a.mp4", precision="f32")


def test_features_in_a_precision_of_another_version_are_told(extract, noise_video):
    extract(noise_video("a.mp4"), precision="f32")
    of_precision("out/a.npy", "f8")
    (Path("out") / RUNTIME_FILE).unlink()
    with pytest.raises(ConfigError, match=r"out/a\.npy: its precision is 'f8', none of .*; choose another"):
        extract(noise_video("b.mp4", seed=1), precision="auto")


@needs_bf16
def test_a_backend_that_cannot_keep_a_folders_precision_is_told(extract, noise_video):
    extract(noise_video("a.mp4"), precision="bf16", backend="paddle")
    message = "--backend=onnx: cannot compute in bf16, the precision of the folder's features; remove"
    with pytest.raises(ConfigError, match=message):
        extract("a.mp4", precision="auto", backend="onnx")


def test_a_folder_in_bf16_on_a_cpu_without_it_is_an_error(extract, noise_video, monkeypatch):
    Path("out").mkdir()
    Path(f"out/{RUNTIME_FILE}").write_text('{"backend": "paddle", "precision": "bf16"}', encoding="utf-8")
    monkeypatch.setattr(backends, "bf16_instructions", lambda: None)
    with pytest.raises(
        DeviceError, match=r"out: its features are in bf16, which this device cannot .*; choose another"
    ):
        extract(noise_video("a.mp4"), precision="auto")


@pytest.mark.parametrize("text", ["{", "[]", '{"precision": "f8"}'])
def test_a_damaged_choice_is_named(extract, noise_video, text):
    Path("out").mkdir()
    Path(f"out/{RUNTIME_FILE}").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"out/{RUNTIME_FILE}: .*; remove the file"):
        extract(noise_video("a.mp4"))


def test_videos_that_cannot_be_decoded_choose_nothing(extract, work_dir, monkeypatch):
    monkeypatch.setattr(backends, "bf16_instructions", lambda: "avx512_bf16")  # else f32 needs no choice
    Path("a.mp4").write_bytes(b"no video")
    assert list(extract("a.mp4", precision="auto").failed) == ["a.mp4"]
    assert not (Path("out") / RUNTIME_FILE).exists()
