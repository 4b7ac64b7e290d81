"""Exports that are not as they were written, or that a machine cannot run."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from videotag.config import load_config
from videotag.errors import ConfigError, DeviceError, WeightsError
from videotag.inference.export import export_model
from videotag.inference.trained_model import ModelSource
from videotag.models import load_models
from videotag.registry import LOGITS
from videotag.reports.model_card import model_card
from videotag.runtime import backends, device
from videotag.runtime.backends import Backend, ExportError, get_backend
from videotag.runtime.exported import export_config, load_exported, read_export
from videotag.system.download import file_digest
from videotag.system.quiet_runtimes import import_openvino
from videotag.training.checkpoint import save_weights
from videotag.weights import FoundWeights, find_weights

load_models()
CONFIG = """
MODEL: {name: MeanPool, num_classes: 4, feature_names: [rgb], feature_dims: [6]}
TRAIN: {use_gpu: false}
INFER: {backend: paddle, precision: f32}
"""
#: Keys of the export.json of an extractor.
EXTRACTOR = {"kind": "extractor", "outputs": [{"name": "features", "shape": [None, 4], "dtype": "float32"}]}
FRAMES_INPUT = [{"name": "frames", "shape": [None, 32, 32, 3], "dtype": "uint8"}]


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Exports of a tiny tagger by backend, which tests only read."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    config = load_config(folder / "config.yaml")
    save_weights(config.entry.cls(config.model), folder / "tiny.pdparams")
    sources = [ModelSource(FoundWeights(folder / "tiny.pdparams"), config)]
    for backend in ("onnx", "paddle"):
        export_model(sources, folder / backend, card=model_card, backend=backend, labels=["a", "b", "c", "d"])
    return folder


@pytest.fixture
def damaged(exports, tmp_path):
    """A copy of the one for ONNX, to be damaged."""
    return Path(shutil.copytree(exports / "onnx", tmp_path / "copy"))


@pytest.mark.parametrize("name", ["config.yaml", "labels.txt", "network.onnx"])
def test_a_file_that_was_edited_is_told(damaged, name):
    with (damaged / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(WeightsError, match=rf"{name}: damaged or edited: .* expected .*; export it again"):
        load_exported(damaged / "export.json")
    (damaged / name).unlink()
    with pytest.raises(WeightsError, match=rf"{name}: missing, and export.json names it; export it again"):
        load_exported(damaged / "export.json")


def test_the_card_may_be_edited(damaged):
    arrays = {"rgb": np.ones((2, 3, 6), np.float32), "rgb.mask": np.ones((2, 3), bool)}
    before = load_exported(damaged / "export.json")(arrays)
    (damaged / "README.md").write_text("mine", encoding="utf-8")
    assert np.array_equal(load_exported(damaged / "export.json")(arrays)[LOGITS], before[LOGITS])


def edited(folder, change):
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    change(told)
    (folder / "export.json").write_text(json.dumps(told), encoding="utf-8")
    return folder / "export.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(format_version=2), "format_version: Input should be 1"),
        (lambda told: told["files"].update({"../labels.txt": "0" * 64}), "pattern"),
        (lambda told: told["files"].update({"/etc/passwd": "0" * 64}), "pattern"),
        (lambda told: told["files"].pop("network.onnx"), "network.onnx missing"),
        (lambda told: told.pop("files"), "files: Field required"),
        (lambda told: told.update(source_weights=[]), "source_weights: List should have at least 1 item"),
        (lambda told: told.update(inputs=[]), "inputs: List should have at least 1 item"),
        (lambda told: told.update(outputs=[]), "outputs: List should have at least 1 item"),
        (lambda told: told.update(kind="extractor"), "kind: extractor, but its outputs are others"),
        (lambda told: told.update(EXTRACTOR), r"inputs: an extractor's is of frames"),
        (
            lambda told: told.update(EXTRACTOR, inputs=FRAMES_INPUT),
            "feature_dim: missing, and an extractor has one",
        ),
        (lambda told: told.update(precision="bf16"), "precision: onnx does not compute in bf16"),
        (
            lambda told: told.update(backend="onxx"),
            r"backend: .*did you mean 'onnx'\? there are: onnx, openv",
        ),
        (lambda told: told.update(run="rm"), "run: Extra inputs are not permitted"),
    ],
)
def test_an_export_json_that_is_not_right_is_one_line(damaged, change, message):
    path = edited(damaged, change)
    with pytest.raises(WeightsError, match=f"no export that this videotag reads .*{message}") as caught:
        read_export(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff{", "not UTF-8"),
        (b"{", "not JSON: .*; export it again"),
        (b"[" * 10**5, "not JSON: lists and objects nested deeper than 64 levels; export it again"),
        (b'{"inputs": [' + b"{}," * 10**5 + b"{}]}", "300016 bytes or more, expected at most 262144; export"),
        (b"3", "no export that this videotag reads"),
        (None, "no such file; export it again"),
    ],
    ids=["not UTF-8", "cut", "deep", "large", "a number", "missing"],
)
def test_an_export_json_that_is_no_json_or_beyond_a_bound_is_one_line(damaged, content, message):
    path = damaged / "export.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"^\S+export\.json.*: {message}") as caught:
        read_export(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "Mean\x1bPool", r"model: Value error, holds a character that no name may have"),
        ("model", "Mean\ud800Pool", r"\(model: Input should be a valid string"),
        ("model", "n" * 10_000, r"model: String should have at most 200 characters"),
        ("files", {"labels" + "s" * 300: "0" * 64}, r"\(files\.labelss"),
    ],
)
def test_names_in_an_export_json_are_short_and_printable(damaged, key, value, message):
    path = damaged / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(WeightsError, match=message) as caught:
        read_export(path)
    assert len(str(caught.value)) < 600


def test_an_export_json_that_is_a_pipe_is_refused_at_once(damaged):
    (damaged / "export.json").unlink()
    os.mkfifo(damaged / "export.json")
    with pytest.raises(WeightsError, match=r"export\.json: cannot read: a pipe, expected a regular file"):
        read_export(damaged / "export.json")


def test_an_export_without_its_export_json_is_told(damaged):
    (damaged / "export.json").unlink()
    with pytest.raises(WeightsError, match=r"copy: an export without its export\.json; copy the whole"):
        find_weights(damaged)


def test_the_network_of_an_export_stands_for_it(exports):
    for place in (
        exports / "onnx",
        exports / "onnx" / "network.onnx",
        exports / "paddle" / "network.pdiparams",
    ):
        assert find_weights(place).path.name == "export.json"
    with pytest.raises(WeightsError, match=r"none\.onnx: no weights"):
        find_weights(exports / "onnx" / "none.onnx")


def test_an_export_in_a_folder_that_is_named_as_a_file_is_found(exports, tmp_path):
    folder = shutil.copytree(exports / "onnx", tmp_path / "tagger.onnx")
    assert find_weights(folder).path == Path(folder) / "export.json"


def test_several_weights_where_one_is_taken_are_told(exports):
    several = f"{exports / 'onnx'},{exports / 'paddle'}"
    with pytest.raises(WeightsError, match="expected one, not several; `videotag export` combines"):
        find_weights(several)


def test_a_config_of_another_model_and_labels_that_were_put_there_are_told(damaged):
    path = edited(damaged, lambda told: told.update(model="MaxPool"))
    with pytest.raises(ConfigError, match=r"MODEL\.name: MeanPool, expected MaxPool; export it again"):
        export_config(path)
    path = edited(damaged, lambda told: told["files"].pop("labels.txt"))
    with pytest.raises(WeightsError, match=r"labels\.txt: is no part of the export; give it as --label_file"):
        read_export(path)


def test_an_export_that_its_backend_cannot_load_names_what_it_was_made_with(damaged):
    (damaged / "network.onnx").write_bytes(b"no network")
    digest = file_digest(damaged / "network.onnx")
    path = edited(damaged, lambda told: told["files"].update({"network.onnx": digest}))
    with pytest.raises(
        ExportError, match=r"cannot load it \(.*install onnxruntime [0-9.]+, which it was made with"
    ):
        load_exported(path)


def test_a_machine_that_cannot_run_an_export_is_told(exports, tmp_path, monkeypatch):
    path = exports / "onnx" / "export.json"
    with pytest.raises(DeviceError, match="runs on a CPU only; give --use_gpu=False"):
        load_exported(path, use_gpu=True)
    with monkeypatch.context() as patched:
        patched.setattr(Backend, "runtime_version", lambda backend: None)
        with pytest.raises(ConfigError, match="which is not installed; run: pip install onnxruntime"):
            load_exported(path)
    copy = shutil.copytree(exports / "paddle", tmp_path / "out")
    path = edited(copy, lambda told: told.update(precision="bf16"))
    monkeypatch.setattr(backends, "bf16_instructions", lambda: None)
    with pytest.raises(
        DeviceError, match=r"an export in bf16, and this CPU has neither .*; export with --precision=f32"
    ):
        load_exported(path)


def test_bf16_of_an_export_needs_a_gpu_that_has_it(exports, tmp_path, monkeypatch):
    copy = shutil.copytree(exports / "paddle", tmp_path / "out")
    path = edited(copy, lambda told: told.update(precision="bf16"))
    monkeypatch.setattr(device, "select_device", lambda use_gpu: "gpu")
    monkeypatch.setattr(backends, "gpu_capability", lambda: (7, 5))
    with pytest.raises(
        DeviceError, match=r"out: an export in bf16, .*7\.5, bf16 needs 8\.0; export with --precision=f32"
    ):
        load_exported(path)


def message(number, content):
    """A field of a protobuf message: a number, or bytes of less than 128."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def onnx_of_another_file(key):
    """An ONNX network, y = x + w of two numbers, whose w lies in the file x.bin.

    Args:
        key: "location", as a field of protobuf.
    """

    def array(name):
        shape = message(1, message(1, 2))
        return message(1, name) + message(2, message(1, message(1, 1) + message(2, shape)))

    external = message(13, key + message(2, b"x.bin"))
    w = message(1, 2) + message(2, 1) + message(8, b"w") + external + message(14, 1)
    node = message(1, b"x") + message(1, b"w") + message(2, b"y") + message(4, b"Add")
    graph = message(1, node) + message(2, b"g") + message(5, w)
    graph += message(11, array(b"x")) + message(12, array(b"y"))
    parts = bytes([7 << 3 | 2, 0x80 | len(graph) % 128, len(graph) // 128]) + graph
    return message(1, 8) + parts + message(8, message(1, b"") + message(2, 18))


KEYS = {"short": b"\x0a\x08location", "long": b"\x0a\x88\x80\x00location"}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_network_that_names_files_outside_of_its_export_is_refused(key, damaged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.array([3, 4], np.float32).tofile(tmp_path / "x.bin")
    network = onnx_of_another_file(key)
    core = import_openvino().Core()
    read = core.compile_model(core.read_model(io.BytesIO(network)), "CPU")
    assert read({"x": np.ones(2, np.float32)})[0].tolist() == [4, 5], "or else there is nothing to refuse"
    (damaged / "network.onnx").write_bytes(network)
    digest = file_digest(damaged / "network.onnx")
    path = edited(damaged, lambda told: told["files"].update({"network.onnx": digest}))
    with pytest.raises(WeightsError, match=r"network\.onnx: holds the text 'location', by which ONNX names"):
        load_exported(path)

    (damaged / "network.xml").write_bytes(network)
    (damaged / "network.bin").write_bytes(b"")
    digests = {name: file_digest(damaged / name) for name in get_backend("openvino").files}

    def for_openvino(told):
        told["files"].pop("network.onnx")
        told["files"].update(digests)
        told.update(backend="openvino")

    path = edited(damaged, for_openvino)
    with pytest.raises(WeightsError, match=r"network\.xml: not OpenVINO's XML; export it again"):
        load_exported(path)
