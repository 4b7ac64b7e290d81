"""Compiled networks on the disk: kept, whole or made anew, bounded, and never in the way."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from named_layers import network_of

from videotag.models import paddle
from videotag.models.tsn import FrameEncoder
from videotag.runtime import network_cache, onnx_export, openvino_backend
from videotag.runtime.backends import compile_network
from videotag.runtime.network_cache import (
    cached_file,
    compiled_dir,
    evict_least_recently_used,
    load_entry,
    store_entry,
)
from videotag.runtime.trained import TrainedNetwork, network_digest

PARTS = {"network": "abc", "precision": "f32", "version": "1.0"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOTAG_CACHE", str(tmp_path))
    return tmp_path


def content(make):
    with cached_file(PARTS, "a", make) as path:
        return path.read_bytes()


def test_an_entry_comes_back_and_any_other_part_is_another_entry():
    store_entry(PARTS, {"a": b"one", "b": b""})
    found = load_entry(PARTS)
    assert {name: path.read_bytes() for name, path in found.items()} == {"a": b"one", "b": b""}
    for key in PARTS:
        assert load_entry(PARTS | {key: "other"}) is None


@pytest.mark.parametrize(
    "damage", ["cut", "changed", "no manifest", "bad manifest", "deep", "list", "no file", "outside"]
)
def test_a_damaged_entry_is_made_anew(damage, cache):
    calls = []

    def make():
        calls.append(1)
        return b"content"

    assert content(make) == content(make) == b"content"
    assert len(calls) == 1
    (folder,) = compiled_dir().iterdir()
    if damage == "cut":
        (folder / "a").write_bytes(b"cont")
    elif damage == "changed":
        (folder / "a").write_bytes(b"CONTENT")
    elif damage == "no manifest":
        (folder / "manifest.json").unlink()
    elif damage == "bad manifest":
        (folder / "manifest.json").write_bytes(pickle.dumps(os.getcwd))
    elif damage == "deep":
        (folder / "manifest.json").write_text("[" * 100_000, encoding="utf-8")
    elif damage == "list":
        (folder / "manifest.json").write_text('["a"]', encoding="utf-8")
    elif damage == "no file":
        (folder / "a").unlink()
    else:
        (folder / "manifest.json").write_text('{"../../a": "00"}', encoding="utf-8")
    assert content(make) == b"content"
    assert len(calls) == 2
    assert content(make) == b"content"
    assert len(calls) == 2


def test_a_cache_that_cannot_be_used_costs_time_alone(monkeypatch, cache):
    (cache / "file").write_bytes(b"")
    monkeypatch.setenv("VIDEOTAG_CACHE", str(cache / "file"))
    assert content(lambda: b"content") == b"content"


def test_the_least_recently_used_entry_is_evicted_first():
    for age, name in enumerate("cab"):
        store_entry({"network": name}, {"x": b"0" * 1000})
        entry = compiled_dir() / network_cache.digest_of({"network": name})
        os.utime(entry, (1000 - age, 1000 - age))
    load_entry({"network": "b"})  # in use again
    size = sum(f.stat().st_size for f in next(compiled_dir().iterdir()).iterdir())
    evict_least_recently_used(keep=network_cache.digest_of({"network": "a"}), max_bytes=2 * size)
    assert load_entry({"network": "c"}) is None
    assert load_entry({"network": "a"})
    assert load_entry({"network": "b"})


@pytest.mark.parametrize("backend", ["paddle", "openvino", "onnx"])
def test_a_second_start_converts_nothing_and_damage_does_no_harm(backend, monkeypatch):
    paddle.seed(0)
    network = network_of(paddle.nn.Linear(3, 2), 3, digest=f"linear {backend}")
    x = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}
    expected = network.run_layers(x)["y"]
    traced = []
    save = paddle.jit.save
    monkeypatch.setattr(paddle.jit, "save", lambda *a, **k: (traced.append(1), save(*a, **k)))
    for _ in range(2):
        np.testing.assert_allclose(compile_network(network, backend=backend)(x)["y"], expected, atol=1e-6)
    assert len(traced) == 1
    for file in compiled_dir().glob("*/network.*"):
        file.write_bytes(file.read_bytes()[:-7] + b"garbage")
    np.testing.assert_allclose(compile_network(network, backend=backend)(x)["y"], expected, atol=1e-6)
    assert len(traced) == 2


def test_a_second_start_in_openvino_compiles_nothing_either(monkeypatch):
    network = network_of(paddle.nn.Linear(3, 2), 3, digest="linear")
    x = {"x": np.ones((2, 3), np.float32)}
    found = [compile_network(network, backend="openvino")(x)["y"]]
    monkeypatch.setattr(openvino_backend, "_compile", None)
    found.append(compile_network(network, backend="openvino")(x)["y"])
    assert np.array_equal(*found)


def test_no_unpickler_is_used():
    for module in (network_cache, onnx_export):
        assert "pickle" not in Path(module.__file__).read_text(encoding="utf-8").replace("unpickled", "")


@pytest.mark.parametrize("file", ["tsn.py", "flat_layers.py"])
def test_the_digest_of_a_network_holds_the_code_around_it(monkeypatch, file):
    """The normalisation of frames and the form in which a model is traced decide what is compiled, too."""
    layer = paddle.nn.Linear(2, 2)
    encoder = FrameEncoder(layer, [0.5] * 3, [0.5] * 3, size_px=8)

    def digests():
        own = network_digest(layer, weights=[], config=[])
        return {own, TrainedNetwork.from_model(encoder, weights=[], config=[], name="Net").digest}

    before, real = digests(), Path.read_bytes

    def changed(path):
        return real(path) + (b"# mended" if path.name == file else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    assert not before & digests()


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDEOTAG_CACHE", str(tmp_path / "file"))
    network_cache._warn_once.cache_clear()
    for name in "ab":
        store_entry(PARTS, {name: b"content"})
        assert content(lambda: b"content") == b"content"
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    place = tmp_path / "file" / "compiled"
    assert message.startswith(f"compiled networks are not kept in {place} (Not a directory), so each start")
    network_cache._warn_once.cache_clear()
