"""A backend in one file outside of the package: everything finds it, and nothing else knows its name."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from named_layers import network_of

from videotag.cli.main import main
from videotag.errors import ConfigError, UnknownNameError
from videotag.inference.tagger import Tagger
from videotag.models import paddle
from videotag.runtime import backends
from videotag.runtime.backends import backend_names, compile_network, get_backend, register_backend

#: It runs the layers, and saves them as Paddle's program in a zip file.
OWN_BACKEND = """
import zipfile
import numpy
import paddle
from videotag.runtime.backends import Backend, register_backend
from videotag.runtime.program import PROGRAM_FILES, save_program
from videotag.system.atomic import temporary_folder

@register_backend
class OwnBackend(Backend):
    name = "own"
    runtime_package = "numpy"
    speed = 99.0
    files = ("network.own",)
    needs_paddle = True

    def convert(self, trained, *, precision, device):
        return trained.run_layers

    def save(self, trained, folder):
        with temporary_folder() as aside, zipfile.ZipFile(folder / "network.own", "w") as archive:
            save_program(trained, aside)
            for name in PROGRAM_FILES:
                archive.write(aside / name, name)

    def load(self, network, folder, *, digests, precision, device):
        with temporary_folder() as aside, zipfile.ZipFile(folder / "network.own") as archive:
            archive.extractall(aside)
            layer = paddle.jit.load(str(aside / "network"))

        def run(inputs):
            outputs = layer(*(paddle.to_tensor(inputs[i.name]) for i in network.inputs))
            outputs = outputs if isinstance(outputs, list) else [outputs]
            return {name: x.numpy() for name, x in zip(network.outputs, outputs)}

        return run
"""


@pytest.fixture
def own_backend(tmp_path, monkeypatch):
    """Registers the backend of OWN_BACKEND, until the test has ended."""
    backend_names()  # what the package brings is there
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    path = tmp_path / "own_backend.py"
    path.write_text(OWN_BACKEND, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("own_backend", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def predicted(*flags):
    assert main(["predict", "--save_dir=out", "--infer_topk=4", "--precision=f32", *flags]) == 0
    videos = json.loads(Path("out/predictions.json").read_text(encoding="utf-8"))
    return [sorted((tag["class_id"], tag["probability"]) for tag in video["tags"]) for video in videos]


def test_a_backend_in_one_file_compiles_networks(own_backend):
    assert backend_names()[0] == "own", "the fastest, as it says"
    layer = paddle.nn.Linear(3, 2)
    network = network_of(layer, 3, digest="digest")
    x = {"x": np.ones((2, 3), np.float32)}
    expected = x["x"] @ layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(compile_network(network, backend="own")(x)["y"], expected, atol=1e-6)


def test_a_backend_in_one_file_predicts_and_exports(own_backend, trained, capsys):
    expected = predicted("--weights=ck", "--backend=paddle")
    for flags in (["--backend=own"], ["--backend=auto"], ["--set=INFER.backend=own"]):
        np.testing.assert_allclose(predicted("--weights=ck", *flags), expected, atol=1e-5)
        assert "AttentionLSTM runs in own " in capsys.readouterr().err
    assert main(["export", "--weights=ck", "--to=own"]) == 0
    folder = Path("ck/export_own_f32")
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert told["backend"] == "own"
    assert set(told["versions"]) == {"videotag", "paddlepaddle", "numpy"}
    assert "This needs `videotag` and `numpy`," in (folder / "README.md").read_text(encoding="utf-8")
    for weights in (folder, folder / "network.own"):
        found = predicted(f"--weights={weights}", "--filelist=features/test.list")
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "AttentionLSTM runs in own " in capsys.readouterr().err
    (folder / "network.own").write_bytes(b"PK")
    assert main(["predict", f"--weights={folder}", "--filelist=features/test.list"]) == 2
    assert "network.own: damaged or edited" in capsys.readouterr().err


def test_a_layer_that_a_backend_does_not_support_is_refused(own_backend, trained, capsys, monkeypatch):
    monkeypatch.setattr(type(get_backend("own")), "unsupported_layers", {"LSTM": "it has none"})
    assert main(["export", "--weights=ck", "--to=own"]) == 2
    assert "cannot be exported to own: LSTM: it has none; give another --to" in capsys.readouterr().err
    assert not Path("ck/export_own_f32").exists()


def test_flags_list_every_backend(own_backend, capsys):
    for words in (["predict", "--help"], ["export", "--help"]):
        assert main(words) == 0
        assert "own, openvino, onnx, paddle" in " ".join(capsys.readouterr().out.split())
    assert main(["export", "--weights=ck", "--to=gone"]) == 2
    assert "'gone' (choose from 'own', 'openvino', 'onnx', 'paddle')" in capsys.readouterr().err


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match=r"backend 'onnx' is registered twice: .*OnnxBackend"):
        register_backend(type(get_backend("onnx")))


@pytest.mark.parametrize("command", ["train", "predict", "eval"])
def test_an_unknown_backend_in_a_config_is_found_before_work(command, tagger_dir, capsys):
    words = ["--config=tagger.yaml", "--set=INFER.backend=openvin", "--save_dir=no"]
    words += [] if command == "train" else ["--weights=tagger.yaml"]
    assert main([command, *words]) == 2
    assert (
        "tagger.yaml: INFER.backend: openvin: unknown backend; did you mean 'openvino'? there are: auto, "
        "onnx, openvino, paddle" in capsys.readouterr().err
    )
    assert not any(Path("no").glob("*"))


def test_an_unknown_backend_in_python_is_an_error_of_one_line():
    with pytest.raises(ConfigError, match=r"INFER.backend: onxx: unknown backend; did you mean 'onnx'\?"):
        Tagger.load(backend="onxx")
    with pytest.raises(UnknownNameError, match=r"^auto: unknown backend; there are: onnx, openvino, paddle$"):
        get_backend("auto")


def test_neither_help_nor_a_list_of_backends_loads_what_runs_networks():
    code = (
        "import sys; from videotag.cli.main import main; main(['--help'])\n"
        "assert 'videotag.runtime' not in sys.modules\n"
        "from videotag.runtime.backends import list_backends; list_backends()\n"
        "assert not {'paddle', 'openvino', 'onnxruntime'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
