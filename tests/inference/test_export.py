"""Every registered model as an export for every backend, and what is refused while one is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from videotag.config import load_config
from videotag.errors import ConfigError, DeviceError, OutputError, WeightsError
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.export import check_output, export_model
from videotag.inference.extractor import load_extractor
from videotag.inference.load_weights import load_weights
from videotag.inference.trained_model import ModelSource, TrainedModel, trained_network
from videotag.inputs.frames import Frames
from videotag.models import load_models, paddle
from videotag.registry import LOGITS, list_backbones, list_models
from videotag.reports.model_card import model_card
from videotag.runtime import backends, onnx_backend, parity
from videotag.runtime.backends import Backend, ExportError, backend_names, get_backend
from videotag.runtime.exported import export_config, load_exported
from videotag.runtime.openvino_backend import save_model
from videotag.runtime.trained import attention_of
from videotag.training.checkpoint import save_weights
from videotag.weights import FoundWeights, find_weights

load_models()
#: Without the larger ones of a family, which have the layers of the smallest, and up to 1.2 GB of weights.
LARGER = ("vit_base", "vit_large", "efficientnet_lite2")
BACKBONES = [e.name for e in list_backbones() if not e.name.startswith(LARGER)]
EXTRACTORS = [entry.name for entry in list_models() if entry.two_stage]
TAGGERS = [entry.name for entry in list_models() if not entry.two_stage]
#: Settings that make a model small.
TINY = {
    "AttentionLSTM": {"embedding_size": 7, "lstm_size": 5, "fc_sizes": [9, 8]},
    "AttentionCluster": {"cluster_nums": [3, 2], "fc_sizes": [9, 8]},
    "BiGRU": {"hidden_size": 5},
    "BiLSTM": {"hidden_size": 5},
    "LatentTransformer": {"num_queries": 3, "hidden_size": 8, "num_heads": 2},
    "NetVLAD": {"cluster_size": [4, 3], "hidden_size": 7, "context_gating": True, "class_gating": True},
    "NeXtVLAD": {"groups": [3, 2], "cluster_size": [4, 3], "hidden_size": 8, "gating_reduction": 2},
}
#: Variants with a layer that some backends do not support, and these backends; in docs/export.md too.
CANNOT = {("AttentionLSTM", "videotag"): ("paddle",), ("AttentionLSTM", "fluid_yt8m"): ("paddle",)}
RUNTIME = {"backend": "paddle", "precision": "f32"}
#: They take long to convert.
SLOW = {"resnet34", "resnet50", "resnet101"}
needs_bf16 = pytest.mark.skipif(backends.bf16_instructions() is None, reason="the CPU has no bf16")


def checkpoint(folder, model, name="tiny", *, infer=None, seed=1):
    """Random weights, with their config beside them."""
    folder.mkdir(exist_ok=True)
    sections = {"MODEL": model, "TRAIN": {"use_gpu": False, "filelist": "/home/me/train.list"}}
    (folder / "config.yaml").write_text(
        yaml.safe_dump({**sections, "INFER": {**RUNTIME, **(infer or {})}}), encoding="utf-8"
    )
    config = load_config(folder / "config.yaml")
    paddle.seed(seed)
    save_weights(config.entry.cls(config.model), folder / f"{name}.pdparams")
    return ModelSource(FoundWeights(folder / f"{name}.pdparams"), config)


def tagger(folder, name="MeanPool", *, seed=1, **options):
    model = {"name": name, "num_classes": 4, "feature_names": ["rgb", "audio"], "feature_dims": [6, 3]}
    return checkpoint(folder, {**model, **TINY.get(name, {}), **options}, seed=seed)


def tsn(folder, backbone):
    infer = {"seg_num": 4, "short_size": 40, "target_size": 32}
    return checkpoint(folder, {"name": "TSN", "backbone": backbone, "num_classes": 3}, infer=infer)


def batch(lengths, steps, seed=5):
    rng = np.random.default_rng(seed)
    mask = np.arange(steps) < np.array(lengths)[:, None]
    arrays = {}
    for name, dim in (("rgb", 6), ("audio", 3)):
        x = rng.standard_normal((*mask.shape, dim)).astype(np.float32)
        arrays |= {name: x * mask[..., None], f"{name}.mask": mask}
    return arrays


@pytest.fixture(scope="module")
def mean_pool(tmp_path_factory):
    """A checkpoint of a tiny tagger, and its export for ONNX, which tests only read."""
    folder = tmp_path_factory.mktemp("mean_pool")
    source = tagger(folder / "ck")
    export_model([source], folder / "export", card=model_card, backend="onnx", labels=["a", "b", "c", "d"])
    return source, folder / "export"


@pytest.fixture
def damaged(mean_pool, tmp_path):
    """A copy of that export, to be damaged."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in mean_pool[1].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize(("name", "variant"), [*((name, None) for name in TAGGERS), *CANNOT])
def test_every_tagger_is_exported_to_every_backend_and_gives_the_same(name, variant, tmp_path):
    source = tagger(tmp_path / "ck", name, **({"variant": variant} if variant else {}))
    trained = trained_network([source])
    for backend in set(backend_names()) - set(CANNOT.get((name, variant), ())):
        done = export_model([source], tmp_path / backend, card=model_card, backend=backend)
        network = load_exported(done.folder / "export.json")
        assert (network.backend, network.precision) == (backend, "f32")
        for arrays in (batch([5, 3, 1], 5), batch([1], 1), batch([2], 9), batch([21, 4], 21)):
            expected, found = trained.run_layers(arrays), network(arrays)
            assert found.keys() == expected.keys()
            for output, x in expected.items():
                np.testing.assert_allclose(found[output], x, atol=1e-5, err_msg=f"{backend} {output}")
        padded, alone = network(batch([5, 3, 1], 30)), trained.run_layers(batch([5, 3, 1], 30))
        np.testing.assert_allclose(padded[LOGITS], alone[LOGITS], atol=1e-5)
        for weights in attention_of(padded).values():
            assert np.all(weights[:, 5:] == 0)


def test_every_kind_of_model_has_a_test_here():
    assert set(EXTRACTORS) == {"TSN"}
    assert {*TAGGERS, *EXTRACTORS} == {entry.name for entry in list_models()}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BACKBONES]
)
def test_a_tsn_of_every_backbone_is_exported_to_every_backend_and_gives_the_same(name, tmp_path):
    source = tsn(tmp_path / "ck", name)
    expected = load_extractor(source.config, FoundWeights(source.weights.path), with_classifier=True)
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    inputs = parity.frame_samples(32)
    for backend in backend_names():
        done = export_model([source], tmp_path / backend, card=model_card, backend=backend)
        found = find_weights(done.folder)
        config = export_config(found.path)
        extractor = load_extractor(config, FoundWeights(found.path), with_classifier=True)
        assert extractor.feature_dim == expected.feature_dim
        for images in (frames, frames[:1], inputs):
            shown = Frames(images, np.arange(len(images)), None, 0.0, None)
            a, b = expected.features(shown), extractor.features(shown)
            assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max(), backend
            np.testing.assert_allclose(
                extractor.logits(b), expected.logits(a), atol=1e-3 * np.abs(a).max(), err_msg=backend
            )
        theirs, ours = expected.stamp(), extractor.stamp()
        assert ours == {**theirs, "precision": "f32"}, "features of both may stand beside each other"


@pytest.mark.parametrize(("model", "cannot"), CANNOT.items())
def test_what_cannot_be_exported_is_refused_with_the_reason(model, cannot, tmp_path):
    name, variant = model
    source = tagger(tmp_path / "ck", name, variant=variant)
    for backend in cannot:
        with pytest.raises(
            ExportError, match=rf"cannot be exported to {backend}: PeepholeLSTM: a loop .*weights"
        ):
            export_model([source], tmp_path / "out", card=model_card, backend=backend)
        assert not (tmp_path / "out").exists()


def test_a_network_that_the_converter_does_not_know_is_refused_with_another_way(tmp_path, monkeypatch):
    def fail(trained):
        raise ExportError("paddle2onnx cannot convert it (no such op)")

    monkeypatch.setattr(onnx_backend, "onnx_model", fail)
    message = (
        r"^MeanPool: cannot be exported to onnx: paddle2onnx cannot convert it \(no such op\); give another "
        r"--to, or run the model from its weights$"
    )
    with pytest.raises(ExportError, match=message):
        export_model([tagger(tmp_path / "ck")], tmp_path / "out", card=model_card, backend="onnx")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match="OpenVINO cannot read it"):
        save_model(b"no network", tmp_path / "network.xml")


def test_the_documented_list_of_what_cannot_be_exported_is_complete():
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for layer in get_backend("paddle").unsupported_layers:
        assert f"| {layer} |" in page
    for name, variant in CANNOT:
        assert name in page
        assert variant in page


@needs_bf16
def test_bf16_is_checked_by_its_own_bounds(tmp_path):
    source = tagger(tmp_path / "ck")
    small = {name: 0.1 * array for name, array in read_weights(source.weights.path).items()}
    write_pdparams(source.weights.path, small)
    done = export_model([source], tmp_path / "out", card=model_card, backend="openvino", precision="bf16")
    assert done.manifest.parity["max_probability_difference_allowed"] == 1e-3
    assert load_exported(tmp_path / "out" / "export.json").precision == "bf16"


def test_several_taggers_become_one(tmp_path):
    first = tagger(tmp_path / "a", dataset="Cooking, 900 videos")
    named = SimpleNamespace(licence="CC-BY-4.0")
    sources = [
        ModelSource(FoundWeights(first.weights.path, named), first.config),
        tagger(tmp_path / "b", "MaxPool", seed=2),
    ]
    done = export_model(sources, tmp_path / "out", card=model_card, backend="onnx")
    assert [w.file for w in done.manifest.source_weights] == ["tiny.pdparams"] * 2
    lines = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").splitlines()
    weights = [line for line in lines if line.startswith("- `tiny.pdparams`, sha256")]
    assert [line.split("`; ")[1] for line in weights] == [
        "trained on Cooking, 900 videos; license: CC-BY-4.0",
        "license: unknown to videotag; ask whoever trained them",
    ]
    arrays = batch([5, 3], 5)
    logits = [trained_network([source]).run_layers(arrays)[LOGITS] for source in sources]
    p = np.mean([1 / (1 + np.exp(-x)) for x in logits], axis=0)
    found = load_exported(tmp_path / "out" / "export.json")(arrays)[LOGITS]
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), p, atol=1e-6)


def test_the_card_says_what_a_checkpoint_was_trained_on(tmp_path):
    source = tagger(tmp_path / "a", dataset="YouTube-8M")
    config = replace(source.config, train=source.config.train.model_copy(update={"filelist": "me/my.list"}))
    source = replace(source, config=config)

    def trained_on(source, out):
        export_model([source], tmp_path / out, card=model_card, backend="onnx")
        card = (tmp_path / out / "README.md").read_text(encoding="utf-8")
        assert "YouTube-8M" not in card
        (line,) = [line for line in card.splitlines() if line.startswith("- `tiny.pdparams`")]
        return line.split("`; ", 1)[1].rpartition("license")[0]

    assert trained_on(source, "no_log") == ""
    log = tmp_path / "a" / "train_log.jsonl"
    log.write_text('{"event": "start", "step": 0, "num_samples": 240}\n', encoding="utf-8")
    assert trained_on(source, "log") == "trained on 240 samples of `my.list`; "
    other_config = replace(source, config_file="other.yaml")  # its list need not be that of the run
    assert trained_on(other_config, "other") == "trained on 240 samples; "
    log.write_text("damaged", encoding="utf-8")
    assert trained_on(source, "damaged") == ""


def test_exports_and_checkpoints_are_averaged(mean_pool, tmp_path):
    source, folder = mean_pool
    path = folder / "export.json"
    exported = ModelSource(FoundWeights(path), export_config(path))
    other = tagger(tmp_path / "b", "MaxPool", seed=2)
    arrays = batch([5, 3], 5)
    p = [1 / (1 + np.exp(-trained_network([m]).run_layers(arrays)[LOGITS])) for m in (source, other)]
    found = TrainedModel([exported, other]).run(arrays)[LOGITS]
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), np.mean(p, axis=0), atol=1e-6)


def test_the_folder_says_what_it_holds_and_names_no_place_of_this_machine(mean_pool):
    _, folder = mean_pool
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert {file.name for file in folder.iterdir()} == {*told["files"], "export.json"}
    assert set(told["files"]) == {"README.md", "config.yaml", "labels.txt", "network.onnx"}
    assert [(i["name"], i["shape"], i["dtype"]) for i in told["inputs"]] == [
        ("rgb", [None, None, 6], "float32"),
        ("audio", [None, None, 3], "float32"),
        ("rgb.mask", [None, None], "bool"),
        ("audio.mask", [None, None], "bool"),
    ]
    assert told["outputs"] == [{"name": "logits", "shape": [None, 4], "dtype": "float32"}]
    assert told["thresholds"] == {"decision": 0.0, "top_k": 20}
    assert (
        told["parity"]["max_probability_difference"] <= told["parity"]["max_probability_difference_allowed"]
    )
    card = (folder / "README.md").read_text(encoding="utf-8")
    for text in (
        "# MeanPool, exported for onnx in f32",
        "4 classes; names: labels.txt",
        "| ? x 4 |",
    ):
        assert text in card, text
    assert told["source_weights"][0]["sha256"] in card
    for file in folder.iterdir():
        content = file.read_bytes()
        assert str(folder.parent).encode() not in content, file
        assert b"/home/me" not in content, file


def test_an_extractor_without_a_classifier_that_fits_makes_features_only(tmp_path):
    source = tsn(tmp_path / "ck", "resnet18")
    config = load_config(tmp_path / "ck" / "config.yaml", overrides=[("MODEL.num_classes", 5)])
    done = export_model(
        [ModelSource(source.weights, config)], tmp_path / "out", card=model_card, backend="onnx"
    )
    assert "classifier.safetensors" not in done.manifest.files
    path = tmp_path / "out" / "export.json"
    assert load_extractor(export_config(path), FoundWeights(path)).feature_dim == 512
    with pytest.raises(WeightsError, match=r"an export without classifier.*give --predictor_weights"):
        load_extractor(export_config(path), FoundWeights(path), with_classifier=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "tagger",
            r"MeanPool: refused, the export to onnx in f32 deviates too much from the network: probability "
            r"differs by up to .*, at most -1e\+00 is allowed; give another --to or --precision",
        ),
        ("extractor", r"resnet18: refused, .*mean-removed cosine 1\.0+, relative error .* at most -1e\+00"),
    ],
)
def test_an_export_that_is_too_far_is_refused_and_leaves_nothing(kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "MAX_F32_PROBABILITY_ERROR", -1.0)
    monkeypatch.setattr(parity, "MAX_F32_ERROR", -1.0)
    (tmp_path / "out").mkdir()
    place = tmp_path / "out" / "export"
    source = tagger(tmp_path / "ck") if kind == "tagger" else tsn(tmp_path / "ck", "resnet18")
    with pytest.raises(ExportError, match=message):
        export_model([source], place, card=model_card, backend="onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_export_is_replaced_whole_and_stays_where_the_new_one_is_refused(tmp_path, monkeypatch):
    source = tagger(tmp_path / "ck")
    export_model([source], tmp_path / "out", card=model_card, backend="onnx", labels=["a", "b", "c", "d"])
    before = (tmp_path / "out" / "export.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(parity, "MAX_F32_PROBABILITY_ERROR", -1.0)
        with pytest.raises(ExportError):
            export_model([source], tmp_path / "out", card=model_card, backend="paddle")
    assert (tmp_path / "out" / "export.json").read_bytes() == before
    export_model([source], tmp_path / "out", card=model_card, backend="paddle")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "config.yaml", "export.json", *get_backend("paddle").files}
    assert {path.name for path in tmp_path.iterdir()} == {"ck", "out"}


def test_what_is_no_export_is_never_overwritten(damaged, tmp_path):
    check_output(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty")
    check_output(damaged)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    for place in ("file", "mine"):
        with pytest.raises(
            OutputError, match=f"{place}: exists and is not an export; choose another --output"
        ):
            check_output(tmp_path / place)
    with pytest.raises(OutputError, match="inside: cannot write there; choose another --output"):
        check_output(tmp_path / "file" / "inside")
    (damaged / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"also holds notes\.txt, which is not part of it; move that file"):
        check_output(damaged)
    (damaged / "export.json").write_text("{", encoding="utf-8")
    with pytest.raises(OutputError, match=r"its export\.json is damaged; remove the folder"):
        check_output(damaged)


def test_a_target_that_cannot_be_had_is_told_before_work(monkeypatch):
    monkeypatch.setattr(backends, "bf16_instructions", lambda: "amx_bf16")
    with pytest.raises(ConfigError, match="--to=onnx --precision=bf16: it computes in f32 only; give --to"):
        backends.check_backend("onnx", "bf16", flag="--to")
    monkeypatch.setattr(backends, "bf16_instructions", lambda: None)
    with pytest.raises(DeviceError, match="--precision=bf16: this CPU has neither"):
        backends.check_backend("openvino", "bf16", flag="--to")
    monkeypatch.setattr(Backend, "version", lambda backend: None)
    with pytest.raises(ConfigError, match=r"--to=onnx: .* installed; run: pip install 'videotag\[onnx\]'"):
        backends.check_backend("onnx", "f32", flag="--to")


def test_an_export_is_no_weights_to_start_from(mean_pool):
    source, folder = mean_pool
    model = source.config.entry.cls(source.config.model)
    with pytest.raises(WeightsError, match="an export, which cannot be trained or changed; give the weights"):
        load_weights(model, find_weights(folder).path)
