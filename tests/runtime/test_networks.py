"""Every registered network in every backend against its own layers, on padded batches of mixed lengths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from named_layers import network_of

from videotag.errors import ConfigError
from videotag.inference.ensemble import Ensemble
from videotag.media.transforms import normalize
from videotag.models import load_models, paddle
from videotag.models.bert import TOKENS, Bert, BertConfig
from videotag.models.sequence import PeepholeLSTM
from videotag.models.tsn import FrameEncoder
from videotag.models.vggish import PATCHES, VGGish, VGGishConfig
from videotag.registry import (
    FEATURES,
    FRAMES,
    LOGITS,
    MASK,
    get_backbone,
    get_model,
    list_backbones,
    list_models,
)
from videotag.runtime import backends, onnx_export, paddle_backend, peephole_scan, program
from videotag.runtime.agreement import MAX_PROBABILITY_ERROR, relative_error, scores_of
from videotag.runtime.backends import (
    Backend,
    ExportError,
    backend_names,
    compile_network,
    get_backend,
    list_backends,
)
from videotag.runtime.paddle_backend import PaddleNetwork
from videotag.runtime.peephole_scan import stand_ins
from videotag.runtime.trained import TrainedNetwork, attention_of, network_digest

load_models()
#: Without the larger ones of a family, which have the layers of the smallest, and up to 1.2 GB of weights.
LARGER = ("vit_base", "vit_large", "efficientnet_lite2")
BACKBONES = [e.name for e in list_backbones() if not e.name.startswith(LARGER)]
TAGGERS = [entry.name for entry in list_models() if not entry.two_stage]
DIMS = {"rgb": 6, "audio": 3}
#: Settings that make a model small.
TINY = {
    "AttentionLSTM": {"embedding_size": 7, "lstm_size": 5, "fc_sizes": (9, 8)},
    "AttentionCluster": {"cluster_nums": [3, 2], "fc_sizes": (9, 8)},
    "BiGRU": {"hidden_size": 5},
    "BiLSTM": {"hidden_size": 5},
    "LatentTransformer": {"num_queries": 3, "hidden_size": 8, "num_heads": 2},
    "NetVLAD": {"cluster_size": [4, 3], "hidden_size": 7, "context_gating": True, "class_gating": True},
    "NeXtVLAD": {"groups": [3, 2], "cluster_size": [4, 3], "hidden_size": 8, "gating_reduction": 2},
}
needs_bf16 = pytest.mark.skipif(backends.bf16_instructions() is None, reason="the CPU has no bf16")


def make_tagger(name, **options):
    entry = get_model(name)
    paddle.seed(1)
    widths = {"feature_names": list(DIMS), "feature_dims": list(DIMS.values())}
    model = entry.cls(entry.config(name=name, num_classes=4, **widths, **TINY.get(name, {}), **options))
    model.eval()
    return model


def trained(model, name):
    return TrainedNetwork.from_model(model, weights=[f"seed 1 of {name}"], config=name, name=name)


def batch(lengths, *, padding=0.0, steps=None, seed=0):
    """Arrays of videos of these lengths; what stands in the padding must not matter."""
    rng = np.random.default_rng(seed)
    mask = np.arange(steps or max(lengths)) < np.array(lengths)[:, None]
    arrays = {}
    for name, dim in DIMS.items():
        x = np.full((*mask.shape, dim), padding, np.float32)
        for row, length in zip(x, lengths, strict=True):
            row[:length] = rng.standard_normal((length, dim))
        arrays[name] = x
    return arrays | {f"{name}.mask": mask for name in DIMS}


@pytest.mark.parametrize("name", TAGGERS)
def test_every_tagger_gives_the_same_probabilities_in_every_backend(name):
    network = trained(make_tagger(name), name)
    for backend in backend_names():
        compiled = compile_network(network, backend=backend)
        if backend == "paddle":
            assert isinstance(compiled, PaddleNetwork), "not layer by layer"
        for lengths in ([5, 3, 1], [1], [9, 2]):
            arrays = batch(lengths)
            expected, found = network.run_layers(arrays), compiled(arrays)
            assert found.keys() == expected.keys()
            for output, x in expected.items():
                np.testing.assert_allclose(
                    found[output], x, atol=1e-5, err_msg=f"{backend} {output} {lengths}"
                )
        padded = compiled(batch([5, 3, 1], padding=99.0, steps=12))
        alone = network.run_layers(batch([5, 3, 1]))
        np.testing.assert_allclose(padded[LOGITS], alone[LOGITS], atol=1e-5, err_msg=f"{backend} padding")
        for modality, weights in attention_of(padded).items():
            assert np.all(weights[:, 5:] == 0), f"{backend}: {modality} attends to padding"


@needs_bf16
@pytest.mark.parametrize("backend", ["openvino", "paddle"])
def test_bf16_is_near_f32_and_not_the_same(backend):
    network = trained(make_tagger("AttentionLSTM"), "AttentionLSTM")
    arrays = batch([9, 2, 4])
    expected = network.run_layers(arrays)
    found = compile_network(network, backend=backend, precision="bf16")(arrays)
    error = np.abs(scores_of("multi_label", found[LOGITS]) - scores_of("multi_label", expected[LOGITS])).max()
    assert 1e-7 < error < 3 * MAX_PROBABILITY_ERROR


# Deeper ones of the same blocks take long to convert.
SLOW = {"resnet34", "resnet101"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BACKBONES]
)
def test_every_backbone_gives_the_same_features_in_every_backend(name):
    entry = get_backbone(name)
    paddle.seed(0)
    model = entry.cls(entry.config())
    model.eval()
    normal = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    encoder = FrameEncoder(model, **normal, size_px=32)
    network = TrainedNetwork.from_model(encoder, weights=["seed 0"], config=name, name=name)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    x = {FRAMES: frames}
    with paddle.no_grad():
        normalized = model(paddle.to_tensor(normalize(frames, **normal))).numpy()
    assert relative_error({FEATURES: normalized}, network.run_layers(x)) < 1e-5
    expected, one = network.run_layers(x), {FRAMES: frames[:1]}
    for backend in backend_names():
        compiled = compile_network(network, backend=backend)
        assert relative_error(expected, compiled(x)) < 1e-5, backend
        assert relative_error({FEATURES: expected[FEATURES][:1]}, compiled(one)) < 1e-5, backend


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_bert_gives_the_same_features_in_every_backend(pooling):
    paddle.seed(2)
    sizes = {"vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 12}
    config = BertConfig(**sizes, max_positions=9, pooling=pooling)
    network = TrainedNetwork.from_model(Bert(config), weights=["seed 2"], config=[pooling], name="BERT")
    rng = np.random.default_rng(0)
    for backend in backend_names():
        compiled = compile_network(network, backend=backend)
        if backend == "paddle":
            assert isinstance(compiled, PaddleNetwork), "not layer by layer"
        for lengths in ([7, 3], [2], [9, 1, 5]):
            mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
            arrays = {TOKENS: rng.integers(0, 11, mask.shape) * mask, TOKENS + MASK: mask}
            assert relative_error(network.run_layers(arrays), compiled(arrays)) < 1e-5, (backend, lengths)


@pytest.mark.slow
def test_vggish_gives_the_same_features_in_every_backend():
    paddle.seed(3)
    network = TrainedNetwork.from_model(VGGish(VGGishConfig()), weights=["seed 3"], config=[], name="VGGish")
    patches = {PATCHES: np.random.default_rng(0).normal(-3, 2, (2, 96, 64)).astype(np.float32)}
    for backend in backend_names():
        compiled = compile_network(network, backend=backend)
        assert relative_error(network.run_layers(patches), compiled(patches)) < 1e-5, backend


@pytest.fixture
def gpu(monkeypatch):
    """What is copied to the GPU, and what is asked of it; Paddle's CPU build runs the same calls."""
    copied, asked = [], []

    def to_gpu(array):
        copied.append((array.dtype.name, array.shape))
        return paddle.to_tensor(array)

    class Config(paddle.inference.Config):
        def enable_use_gpu(self, _, device_id, kind):
            asked.append((device_id, kind.name))

    monkeypatch.setattr(backends, "gpu_capability", lambda: (8, 0))
    monkeypatch.setattr(paddle_backend, "_on_gpu", to_gpu)
    monkeypatch.setattr(paddle.inference, "Config", Config)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:3")
    return copied, asked


@pytest.mark.parametrize(("precision", "wanted"), [("f32", "Float32"), ("bf16", "Bfloat16"), ("f16", "Half")])
def test_on_a_gpu_inputs_are_copied_to_it_and_shared(gpu, precision, wanted):
    copied, asked = gpu
    network = trained(make_tagger("AttentionLSTM"), "AttentionLSTM")
    compiled = compile_network(network, backend="paddle", precision=precision, device="gpu")
    for lengths in ([5, 3, 1], [2]):
        arrays = batch(lengths)
        np.testing.assert_allclose(compiled(arrays)[LOGITS], network.run_layers(arrays)[LOGITS], atol=1e-5)
    assert asked == [(3, wanted)], "the GPU that its tensors are on"
    expected = [("float32", (3, 5, 6)), ("float32", (3, 5, 3)), ("bool", (3, 5)), ("bool", (3, 5))]
    assert copied[:4] == expected


def test_frames_go_to_a_gpu_as_bytes(gpu):
    copied, _ = gpu
    entry = get_backbone("resnet18")
    model = entry.cls(entry.config())
    model.eval()
    encoder = FrameEncoder(model, [0.5] * 3, [0.2] * 3, size_px=32)
    network = TrainedNetwork.from_model(encoder, weights=["any"], config=None, name="resnet18")
    x = {FRAMES: np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)}
    compiled = compile_network(network, backend="paddle", device="gpu")
    assert relative_error(network.run_layers(x), compiled(x)) < 1e-5
    assert copied == [("uint8", (3, 32, 32, 3))]


def test_what_goes_to_a_gpu_goes_there_from_pinned_memory(monkeypatch):
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
    tensors = {"pinned": SimpleNamespace(cuda=lambda: "on the GPU")}
    monkeypatch.setattr(paddle, "to_tensor", lambda array, place: tensors[place])
    assert paddle_backend._on_gpu(np.zeros(2)) == "on the GPU"


@pytest.mark.parametrize("name", ["AttentionCluster", "LatentTransformer"])
def test_paddle_prints_nothing_between_the_results(name, capfd):
    network = trained(make_tagger(name), name)
    compile_network(network, backend="paddle")(batch([5, 3, 1]))
    assert capfd.readouterr().out == ""


def test_an_ensemble_runs_in_every_backend():
    models = [make_tagger("MeanPool"), make_tagger("MaxPool")]
    network = trained(Ensemble(models, "multi_label"), "an ensemble")
    expected = network.run_layers(batch([5, 3]))[LOGITS]
    for backend in backend_names():
        found = compile_network(network, backend=backend)(batch([5, 3]))[LOGITS]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=backend)


@pytest.fixture(params=["videotag", "fluid_yt8m"])
def with_peepholes(request):
    """A network of old weights, its biases and peepholes being no zeros."""
    model = make_tagger("AttentionLSTM", variant=request.param)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            parameter.set_value(paddle.randn(parameter.shape) / 2)
    return trained(model, request.param)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_peepholes_give_the_same_probabilities_by_way_of_onnx(with_peepholes, backend):
    """OpenVINO is known to leave out the peepholes of ONNX's LSTM without a word."""
    compiled = compile_network(with_peepholes, backend=backend)
    for lengths in ([5, 3, 1], [1], [9, 2]):
        arrays = batch(lengths)
        for output, x in with_peepholes.run_layers(arrays).items():
            np.testing.assert_allclose(compiled(arrays)[output], x, atol=1e-6, err_msg=f"{output} {lengths}")
    padded = compiled(batch([5, 3, 1], padding=99.0, steps=12))[LOGITS]
    np.testing.assert_allclose(padded, with_peepholes.run_layers(batch([5, 3, 1]))[LOGITS], atol=1e-6)


@needs_bf16
def test_peepholes_may_run_in_bf16(with_peepholes):
    arrays = batch([9, 2, 4])
    expected = with_peepholes.run_layers(arrays)[LOGITS]
    found = compile_network(with_peepholes, backend="openvino", precision="bf16")(arrays)[LOGITS]
    error = np.abs(scores_of("multi_label", found) - scores_of("multi_label", expected)).max()
    assert 1e-7 < error < 5 * MAX_PROBABILITY_ERROR


def test_an_ensemble_may_hold_lstms_with_and_without_peepholes():
    variants = ("standard", "videotag")
    models = [make_tagger("AttentionLSTM", variant=variant) for variant in variants]
    network = trained(Ensemble(models, "multi_label"), "an ensemble with peepholes")
    expected = network.run_layers(batch([5, 3]))[LOGITS]
    for backend in ("openvino", "onnx"):
        found = compile_network(network, backend=backend)(batch([5, 3]))[LOGITS]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=backend)


def test_an_export_leaves_the_layers_as_they_were(with_peepholes):
    before = list(with_peepholes.layer.named_sublayers())
    with stand_ins(with_peepholes.layer) as replaced:
        assert len(replaced) == 2 * len(DIMS), "both directions of every modality"
        assert not any(isinstance(part, PeepholeLSTM) for part in with_peepholes.layer.sublayers())
    assert list(with_peepholes.layer.named_sublayers()) == before


def test_an_export_that_loses_an_lstm_is_an_error(monkeypatch):
    monkeypatch.setattr(peephole_scan, "stand_ins", lambda layer: nullcontext(foreign))
    foreign = {paddle.nn.LSTM(3, 2): PeepholeLSTM(3, 2)}
    network = network_of(paddle.nn.Linear(2, 2), 2, digest=os.urandom(4).hex())
    with pytest.raises(ExportError, match=r"^the LSTM in place of a PeepholeLSTM is not in the ONNX"):
        onnx_export.onnx_model(network)


def test_what_cannot_be_traced_runs_layer_by_layer_in_paddle(with_peepholes):
    arrays = batch([5, 3, 1])
    found = compile_network(with_peepholes, backend="paddle")(arrays)
    assert relative_error(with_peepholes.run_layers(arrays), found) == 0
    if backends.bf16_instructions():
        with pytest.raises(ExportError, match=r"^PeepholeLSTM: .*; it runs in f32 only$"):
            compile_network(with_peepholes, backend="paddle", precision="bf16")


def test_what_the_table_lists_would_end_the_process():
    """Or else the table is out of date."""
    code = (
        "from videotag.models import paddle\n"
        "from videotag.models.sequence import PeepholeLSTM\n"
        "spec = paddle.static.InputSpec([None, None, 3], 'float32', 'x')\n"
        "paddle.jit.save(PeepholeLSTM(3, 2), 'network', input_spec=[spec])\n"
    )
    assert set(get_backend("paddle").unsupported_layers) == {"PeepholeLSTM"}
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(filter(None, sys.path))
        env = os.environ | {"PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True)
    assert done.returncode == -signal.SIGABRT, done.stderr.decode()


def test_a_layer_may_say_itself_that_it_cannot_be_exported():
    layer = paddle.nn.Linear(2, 2)
    assert {backend.unsupported_reason(layer) for backend in list_backends()} == {None}
    layer.not_exportable = "it is mine"
    found = {backend.unsupported_reason(paddle.nn.Sequential(layer)) for backend in list_backends()}
    assert found == {"Linear: it is mine"}
    network = network_of(layer, 2, digest="mine")
    for backend in ("openvino", "onnx"):
        with pytest.raises(ExportError, match=r"^Linear: it is mine$"):
            compile_network(network, backend=backend)


def test_a_network_that_cannot_be_traced_runs_layer_by_layer():
    class Untraceable(paddle.nn.Layer):
        def forward(self, x):
            if not paddle.in_dynamic_mode():
                raise TypeError("not in a graph")
            return x * x.sum()

    network = network_of(Untraceable(), 2, digest="untraceable")
    x = {"x": np.ones((3, 2), np.float32)}
    assert compile_network(network, backend="paddle")(x)["y"].tolist() == [[6.0, 6.0]] * 3
    with pytest.raises(ExportError, match=r"^cannot be traced .*not in a graph"):
        compile_network(network, backend="onnx")


def test_the_converter_installs_nothing_and_prints_nothing(monkeypatch, capfd):
    """paddle2onnx's Python part asks pip for packages; only its compiled part may be used."""
    commands = []
    run = subprocess.run

    def watched(command, **options):
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    monkeypatch.setenv("PATH", "")  # no pip to be found
    network = network_of(paddle.nn.Linear(2, 2), 2, digest=os.urandom(4).hex())
    assert onnx_export.onnx_model(network)
    (command,) = commands
    assert "import paddle2onnx" not in command[2]
    assert capfd.readouterr().out == ""


def test_a_digest_differs_by_weights_config_and_code(tmp_path, monkeypatch):
    layer = paddle.nn.Linear(2, 2)
    digests = {
        network_digest(layer, weights=["a"], config={"x": 1}),
        network_digest(layer, weights=["b"], config={"x": 1}),
        network_digest(layer, weights=["a"], config={"x": 2}),
    }
    assert len(digests) == 3
    (tmp_path / "mymodel.py").write_text(
        "import paddle\n\nclass Mine(paddle.nn.Layer):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import mymodel

    before = network_digest(mymodel.Mine(), weights=[], config=None)
    (tmp_path / "mymodel.py").write_text("# changed", encoding="utf-8")
    assert network_digest(mymodel.Mine(), weights=[], config=None) != before


def test_a_digest_holds_the_modules_that_a_plugin_imports_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "net_with_helper.py").write_text(
        "import paddle\nimport helper_of_net\n\nclass Mine(paddle.nn.Layer):\n    pass\n", encoding="utf-8"
    )
    (tmp_path / "helper_of_net.py").write_text("FACTOR = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import net_with_helper

    before = network_digest(net_with_helper.Mine(), weights=[], config=None)
    (tmp_path / "helper_of_net.py").write_text("FACTOR = 2\n", encoding="utf-8")
    assert network_digest(net_with_helper.Mine(), weights=[], config=None) != before


def test_a_backend_that_is_not_installed_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(Backend, "version", lambda backend: None)
    network = trained(make_tagger("MeanPool"), "MeanPool")
    for backend in ("openvino", "onnx"):
        with pytest.raises(
            ConfigError, match=rf"must be installed; run: pip install 'videotag\[{backend}\]'"
        ):
            compile_network(network, backend=backend)


def test_a_network_whose_tracing_takes_long_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(program, "_SLOW_SEC", 0.01)

    class Slow(paddle.nn.Layer):
        def forward(self, x):
            for _ in range(1000):
                if caplog.records:
                    break
                time.sleep(0.05)
            return x

    program.save_program(network_of(Slow(), 2, digest="slow", name="Slow"), tmp_path)
    assert "Slow: still tracing the network; a loop in its forward is unrolled" in caplog.text
