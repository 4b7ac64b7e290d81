"""One harness over every registered model at a tiny size, and every shipped YAML at its full size.

Arrays are made from what a model declares in `inputs`, so that models over anything join, those of
tests/plugin_example among them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from videotag.config import load_config
from videotag.inference.load_weights import load_weights
from videotag.models import load_models, paddle
from videotag.plugins import load_plugin
from videotag.registry import EMBEDDING, LOGITS, MASK, get_backbone, get_model, list_backbones, list_models
from videotag.runtime.flat_layers import Flat
from videotag.sections import TaggerModel
from videotag.system.resources import list_configs
from videotag.training.checkpoint import save_weights

load_models()
#: Without the larger ones of a family, which have the layers of the smallest, and up to 1.2 GB of weights.
LARGER = ("vit_base", "vit_large", "efficientnet_lite2")
BACKBONES = [e.name for e in list_backbones() if not e.name.startswith(LARGER)]
EXTRACTORS = [e.name for e in list_models() if e.two_stage]
TAGGERS = [e.name for e in list_models() if not e.two_stage]
PLUGINS = ["RawGRU", "TwoInputs"]
MASKED = [*TAGGERS, *PLUGINS]  # models whose inputs have masks
MODELS = [*MASKED, *EXTRACTORS]

#: Settings that make a model small; a model without an entry is built with its defaults.
TINY = {
    "AttentionLSTM": {"embedding_size": 7, "lstm_size": 5, "fc_sizes": (9, 8)},
    "AttentionCluster": {"cluster_nums": [3, 2], "fc_sizes": (9, 8)},
    "BiGRU": {"hidden_size": 5},
    "BiLSTM": {"hidden_size": 5},
    "LatentTransformer": {"num_queries": 3, "hidden_size": 8, "num_heads": 2},
    "NetVLAD": {"cluster_size": [4, 3], "hidden_size": 7, "context_gating": True, "class_gating": True},
    "NeXtVLAD": {"groups": [3, 2], "cluster_size": [4, 3], "hidden_size": 8, "gating_reduction": 2},
    "RawGRU": {"width": 4, "height": 3, "hidden_size": 5},
    "StatisticsPool": {"statistics": ["mean", "std", "max", "difference"], "fc_sizes": [5]},
    "TSN": {"backbone": "resnet18"},
    "TwoInputs": {"size": 4, "hidden_size": 5},
}
#: Taggers whose logits depend on the order of the frames.
SEE_ORDER = {"AttentionLSTM", "BiGRU", "BiLSTM", "LatentTransformer"}
DIMS = {"rgb": 6, "audio": 3}
NUM_CLASSES = 4
SIZE = 32  # of an axis that may vary, besides batch and steps


@pytest.fixture(autouse=True)
def plugins(own_registry):
    for path in (Path(__file__).parents[1] / "plugin_example").glob("*.py"):
        load_plugin(path)
    assert [entry.name for entry in list_models() if entry.plugin] == PLUGINS


def options_of(name):
    """The MODEL section of a tiny model."""
    widths = {"feature_names": list(DIMS), "feature_dims": list(DIMS.values())}
    is_tagger = issubclass(get_model(name).config, TaggerModel)
    return {"name": name, "num_classes": NUM_CLASSES, **(widths if is_tagger else {}), **TINY.get(name, {})}


def make_model(name):
    paddle.seed(1)
    entry = get_model(name)
    return entry.cls(entry.config(**options_of(name)))


def masks_of(model):
    return [spec.name for spec in model.inputs if spec.name.endswith(MASK)]


def inputs_of(model, lengths, *, steps=None, dirty=False):
    """Random tensors of samples of these lengths, which are the same however long and dirty their padding is.

    Without a mask, or with a fixed number of steps, lengths are equal.
    """
    rng = np.random.default_rng(0)
    inputs = {}
    for spec in model.inputs:
        if spec.name.endswith(MASK):
            continue
        is_masked = spec.name + MASK in masks_of(model)
        num_steps = spec.shape[1] or (steps if is_masked and steps else max(lengths))
        counts = [min(length, num_steps) if is_masked else num_steps for length in lengths]
        shape = [len(lengths), num_steps, *(size or SIZE for size in spec.shape[2:])]
        x = np.full(shape, spec.below - 1 if dirty else 0, spec.dtype)
        for row, count in zip(x, counts, strict=True):
            row[:count] = random_steps(rng, spec, [count, *shape[2:]])
        inputs[spec.name] = paddle.to_tensor(x)
        if is_masked:
            inputs[spec.name + MASK] = paddle.to_tensor(np.arange(num_steps) < np.array(counts)[:, None])
    return inputs


def random_steps(rng, spec, shape):
    if spec.dtype == "float32":
        return rng.standard_normal(shape)
    return rng.integers(0, spec.below, shape)


def loss_of(logits):
    return (logits * paddle.arange(logits.shape[1], dtype="float32")).sum()


def assert_every_parameter_learns(model, loss):
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:  # running means of batch norm
            continue
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert float(parameter.grad.abs().sum().item()) > 0, f"the gradient of {name} is zero"


@pytest.mark.parametrize("name", MODELS)
def test_model_gives_logits_and_every_parameter_a_gradient(name):
    model = make_model(name)
    model.train()
    logits = model(inputs_of(model, [5, 3, 1]))[LOGITS]
    assert logits.shape == [3, NUM_CLASSES]
    assert_every_parameter_learns(model, loss_of(logits))


@pytest.mark.parametrize("name", MODELS)
def test_model_gives_the_outputs_that_it_declares(name):
    model = make_model(name)
    model.eval()
    assert tuple(model(inputs_of(model, [5, 3, 1]))) == model.outputs
    assert model.outputs[0] == LOGITS


@pytest.mark.parametrize("name", MODELS)
def test_model_declares_what_the_readers_of_its_inputs_make(name, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"MODEL": options_of(name)}), encoding="utf-8")
    config = load_config(path)
    made = {spec.name: spec for _, reader in config.readers(config.test) for spec in reader.specs()}
    for spec in make_model(name).inputs:
        own = made.pop(spec.name)
        assert (own.dtype, own.below) == (spec.dtype, spec.below)
        assert all(size in (None, s) for size, s in zip(spec.shape, own.shape, strict=True)), spec.name
    assert not made


@pytest.mark.parametrize("name", TAGGERS)
def test_tagger_declares_sequences_of_features_then_their_masks(name):
    assert [(spec.name, spec.shape, spec.dtype) for spec in make_model(name).inputs] == [
        ("rgb", (None, None, 6), "float32"),
        ("audio", (None, None, 3), "float32"),
        ("rgb.mask", (None, None), "bool"),
        ("audio.mask", (None, None), "bool"),
    ]


@pytest.mark.parametrize("name", MASKED)
def test_padding_changes_no_logit(name):
    model = make_model(name)
    model.eval()
    expected = model(inputs_of(model, [5, 3, 1]))[LOGITS]
    logits = model(inputs_of(model, [5, 3, 1], steps=11, dirty=True))[LOGITS]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_padding_changes_nothing_in_training(name):
    short, long = make_model(name), make_model(name)
    for model in (short, long):
        model.train()
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.Dropout):
                layer.eval()
    expected = short(inputs_of(short, [5, 3, 1]))[LOGITS]
    logits = long(inputs_of(long, [5, 3, 1], steps=11, dirty=True))[LOGITS]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-4)
    for (key, a), b in zip(short.state_dict().items(), long.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=f"running mean {key}")


@pytest.mark.parametrize("name", MASKED)
def test_a_sample_without_one_input_gives_finite_logits_and_gradients(name):
    for mask in masks_of(make_model(name)):
        model = make_model(name)
        model.train()
        inputs = inputs_of(model, [5, 3, 1])
        inputs[mask][1] = False
        logits = model(inputs)[LOGITS]
        assert np.isfinite(logits.numpy()).all(), mask
        loss_of(logits).backward()
        assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if not p.stop_gradient), mask


@pytest.mark.parametrize("name", MASKED)
def test_an_input_that_is_masked_out_changes_no_logit(name):
    model = make_model(name)
    model.eval()
    for mask in masks_of(model):
        inputs = inputs_of(model, [5, 3, 1])
        inputs[mask][1] = False
        expected = model(inputs)[LOGITS].numpy()
        inputs[mask.removesuffix(MASK)][1] = 99
        np.testing.assert_allclose(model(inputs)[LOGITS].numpy(), expected, atol=1e-6, err_msg=mask)


@pytest.mark.parametrize("name", TAGGERS)
def test_only_taggers_that_see_order_tell_a_video_from_its_reverse(name):
    model = make_model(name)
    model.eval()
    inputs = inputs_of(model, [6, 6])  # without padding
    forward = model(inputs)[LOGITS].numpy()
    backward = model({name: x.flip([1]) for name, x in inputs.items()})[LOGITS].numpy()
    if name in SEE_ORDER:
        assert np.abs(forward - backward).max() > 1e-4
    else:
        np.testing.assert_allclose(backward, forward, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_two_equals_two_batches_of_one(name):
    model = make_model(name)
    model.eval()
    inputs = inputs_of(model, [6, 2])
    both = model(inputs)[LOGITS].numpy()
    steps = [6, 2] if masks_of(model) else [6, 6]
    for row in (0, 1):
        alone = model({name: x[row : row + 1, : steps[row]] for name, x in inputs.items()})[LOGITS]
        np.testing.assert_allclose(alone.numpy()[0], both[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["AttentionLSTM", "LatentTransformer"])
def test_attention_sums_to_one_over_real_steps_and_is_zero_elsewhere(name):
    model = make_model(name)
    model.eval()
    inputs = inputs_of(model, [5, 3, 1])
    outputs = model(inputs)
    assert set(outputs) - {EMBEDDING} == {LOGITS, *(f"{modality}.attention" for modality in DIMS)}
    for modality in DIMS:
        weights = outputs[f"{modality}.attention"].numpy()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
        assert np.all(weights[~inputs[f"{modality}.mask"].numpy()] == 0.0)


@pytest.mark.parametrize("name", MODELS)
def test_saved_weights_give_the_same_logits(name, tmp_path):
    model, other = make_model(name), make_model(name)
    for parameter in other.parameters():
        parameter.set_value(parameter + 1.0)
    save_weights(model, tmp_path / "m.pdparams")
    load_weights(other, tmp_path / "m.pdparams")
    model.eval(), other.eval()
    inputs = inputs_of(model, [4, 2])
    np.testing.assert_array_equal(model(inputs)[LOGITS].numpy(), other(inputs)[LOGITS].numpy())


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place':UserWarning")  # of Paddle's own full_like
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_model_gives_the_same_logits_at_any_number_of_samples_and_steps(name):
    model = make_model(name)
    model.eval()
    names = [spec.name for spec in model.inputs]
    specs = [paddle.static.InputSpec(list(s.shape), s.dtype, s.name) for s in model.inputs]
    flat = Flat(model, names, [LOGITS])
    traced = paddle.jit.to_static(flat, input_spec=[specs], full_graph=True)
    traced.eval()
    for lengths in ([5, 3, 1], [1], [9, 2]):
        inputs = inputs_of(model, lengths)
        (logits,) = traced([inputs[name] for name in names])
        np.testing.assert_allclose(logits.numpy(), model(inputs)[LOGITS].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_gives_pooled_features_and_every_parameter_a_gradient(name):
    entry = get_backbone(name)
    paddle.seed(0)
    model = entry.cls(entry.config())
    frames = paddle.randn([2, 3, 64, 64])
    features = model(frames)
    assert features.shape == [2, model.feature_dim]
    assert_every_parameter_learns(model, (features * paddle.randn(features.shape)).sum())


@pytest.mark.parametrize("name", EXTRACTORS)
def test_extractor_gives_features_of_every_frame(name):
    model = make_model(name)
    model.eval()
    clips = paddle.randint(0, 256, [2, 3, 32, 32, 3]).astype("uint8")
    features = model.encoder()({"frames": clips.flatten(0, 1)})["features"]
    assert features.shape == [2 * 3, model.feature_dim]


@pytest.mark.parametrize("path", list_configs(), ids=lambda p: p.name)
def test_every_shipped_config_builds_its_network_at_full_size(path):
    config = load_config(path)
    model = config.entry.cls(config.model)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) > 100_000
    head = path.read_text(encoding="utf-8").split("MODEL:")[0]
    assert all(f"# {word}:" in head for word in ("Source", "Command", "Score")), (
        "the head says where it comes from"
    )
