"""One harness over every registered model at a tiny size, and every shipped YAML at its full size."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.config import load_config
from videotag.inference.load_weights import load_weights
from videotag.models import load_models, paddle
from videotag.registry import get_backbone, get_model, list_backbones, list_models
from videotag.system.resources import list_configs
from videotag.training.checkpoint import save_weights

load_models()
BACKBONES = [e.name for e in list_backbones()]
EXTRACTORS = [e.name for e in list_models() if e.two_stage]
TAGGERS = [e.name for e in list_models() if not e.two_stage]

#: Settings that make a model small; a model without an entry is built with these dims only.
TINY = {
    "AttentionLSTM": {"embedding_size": 7, "lstm_size": 5, "fc_sizes": (9, 8)},
    "AttentionCluster": {"cluster_nums": [3, 2], "fc_sizes": (9, 8)},
    "BiGRU": {"hidden_size": 5},
    "BiLSTM": {"hidden_size": 5},
    "LatentTransformer": {"num_queries": 3, "hidden_size": 8, "num_heads": 2},
    "NetVLAD": {"cluster_size": [4, 3], "hidden_size": 7, "context_gating": True, "class_gating": True},
    "NeXtVLAD": {"groups": [3, 2], "cluster_size": [4, 3], "hidden_size": 8, "gating_reduction": 2},
}
#: Taggers whose logits depend on the order of the frames.
SEE_ORDER = {"AttentionLSTM", "BiGRU", "BiLSTM", "LatentTransformer"}
DIMS = {"rgb": 6, "audio": 3}
NUM_CLASSES = 4


def make_tagger(name, **options):
    entry = get_model(name)
    paddle.seed(1)
    config = entry.config(
        name=name,
        num_classes=NUM_CLASSES,
        feature_names=list(DIMS),
        feature_dims=list(DIMS.values()),
        **TINY.get(name, {}),
        **options,
    )
    return entry.cls(config)


def tagger_inputs(lengths, *, steps=None, seed=0):
    """Features and masks of videos of these lengths, zeros after their ends."""
    rng = np.random.default_rng(seed)
    steps = steps or max(lengths)
    mask = np.arange(steps) < np.array(lengths)[:, None]
    inputs = {}
    for name, dim in DIMS.items():
        x = np.zeros((len(lengths), steps, dim), np.float32)
        for row, length in zip(x, lengths, strict=True):
            row[:length] = rng.standard_normal((length, dim))
        inputs[name], inputs[f"{name}.mask"] = paddle.to_tensor(x), paddle.to_tensor(mask)
    return inputs


def dirty_padding(lengths, *, steps):
    """The same videos, padded to `steps`, with numbers in the padding that must not matter."""
    inputs = tagger_inputs(lengths, steps=steps)
    for name in DIMS:
        x, real = inputs[name], inputs[f"{name}.mask"].unsqueeze(-1)
        inputs[name] = paddle.where(real, x, paddle.full_like(x, 99.0))
    return inputs


def assert_every_parameter_learns(model, loss):
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:  # running means of batch norm
            continue
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert float(parameter.grad.abs().sum().item()) > 0, f"the gradient of {name} is zero"


@pytest.mark.parametrize("name", TAGGERS)
def test_tagger_gives_logits_and_every_parameter_a_gradient(name):
    model = make_tagger(name)
    model.train()
    logits = model(tagger_inputs([5, 3, 1]))["logits"]
    assert logits.shape == [3, NUM_CLASSES]
    assert_every_parameter_learns(model, (logits * paddle.arange(NUM_CLASSES, dtype="float32")).sum())


@pytest.mark.parametrize("name", TAGGERS)
def test_tagger_takes_and_gives_what_it_declares(name):
    model = make_tagger(name)
    model.eval()
    inputs = tagger_inputs([5, 3, 1])
    dtypes = {"float32": paddle.float32, "bool": paddle.bool}
    assert [spec.name for spec in model.inputs] == ["rgb", "audio", "rgb.mask", "audio.mask"]
    for spec in model.inputs:
        x = inputs[spec.name]
        assert x.dtype == dtypes[spec.dtype]
        assert all(size in (None, own) for size, own in zip(spec.shape, x.shape, strict=True))
    assert tuple(model(inputs)) == model.outputs
    assert model.outputs[0] == "logits"


@pytest.mark.parametrize("name", TAGGERS)
def test_padding_changes_no_logit(name):
    model = make_tagger(name)
    model.eval()
    expected = model(tagger_inputs([5, 3, 1]))["logits"]
    logits = model(dirty_padding([5, 3, 1], steps=11))["logits"]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", TAGGERS)
def test_padding_changes_nothing_in_training(name):
    short, long = make_tagger(name), make_tagger(name)
    for model in (short, long):
        model.train()
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.Dropout):
                layer.eval()
    expected = short(tagger_inputs([5, 3, 1]))["logits"]
    logits = long(dirty_padding([5, 3, 1], steps=11))["logits"]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-4)
    for (key, a), b in zip(short.state_dict().items(), long.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=f"running mean {key}")


@pytest.mark.parametrize("name", TAGGERS)
def test_a_video_without_one_modality_gives_finite_logits_and_gradients(name):
    model = make_tagger(name)
    model.train()
    inputs = tagger_inputs([5, 3, 1])
    inputs["audio.mask"][1] = False
    logits = model(inputs)["logits"]
    assert np.isfinite(logits.numpy()).all()
    (logits * paddle.arange(NUM_CLASSES, dtype="float32")).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if not p.stop_gradient)


@pytest.mark.parametrize("name", TAGGERS)
def test_only_taggers_that_see_order_tell_a_video_from_its_reverse(name):
    model = make_tagger(name)
    model.eval()
    inputs = tagger_inputs([6, 6])  # without padding
    forward = model(inputs)["logits"].numpy()
    backward = model({name: x.flip([1]) for name, x in inputs.items()})["logits"].numpy()
    if name in SEE_ORDER:
        assert np.abs(forward - backward).max() > 1e-4
    else:
        np.testing.assert_allclose(backward, forward, atol=1e-5)


@pytest.mark.parametrize("name", TAGGERS)
def test_a_batch_of_two_equals_two_batches_of_one(name):
    model = make_tagger(name)
    model.eval()
    inputs = tagger_inputs([6, 2])
    both = model(inputs)["logits"].numpy()
    for row, length in enumerate((6, 2)):
        alone = model({name: x[row : row + 1, :length] for name, x in inputs.items()})["logits"]
        np.testing.assert_allclose(alone.numpy()[0], both[row], atol=1e-6)


@pytest.mark.parametrize("name", ["AttentionLSTM", "LatentTransformer"])
def test_attention_sums_to_one_over_real_steps_and_is_zero_elsewhere(name):
    model = make_tagger(name)
    model.eval()
    inputs = tagger_inputs([5, 3, 1])
    outputs = model(inputs)
    assert set(outputs) == {"logits", *(f"{modality}.attention" for modality in DIMS)}
    for modality in DIMS:
        weights = outputs[f"{modality}.attention"].numpy()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
        assert np.all(weights[~inputs[f"{modality}.mask"].numpy()] == 0.0)


@pytest.mark.parametrize("name", TAGGERS)
def test_saved_weights_give_the_same_logits(name, tmp_path):
    model, other = make_tagger(name), make_tagger(name)
    for parameter in other.parameters():
        parameter.set_value(parameter + 1.0)
    save_weights(model, tmp_path / "m.pdparams")
    load_weights(other, tmp_path / "m.pdparams")
    model.eval(), other.eval()
    inputs = tagger_inputs([4, 2])
    np.testing.assert_array_equal(model(inputs)["logits"].numpy(), other(inputs)["logits"].numpy())


class OnTensors(paddle.nn.Layer):
    """A tagger on plain tensors, as a traced network needs it: all features, then all masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, rgb, audio, rgb_mask, audio_mask):
        inputs = {"rgb": rgb, "audio": audio, "rgb.mask": rgb_mask, "audio.mask": audio_mask}
        return self.model(inputs)["logits"]


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place':UserWarning")  # of Paddle's own full_like
@pytest.mark.parametrize("name", TAGGERS)
def test_a_traced_tagger_gives_the_same_logits_at_any_number_of_videos_and_steps(name):
    model = make_tagger(name)
    model.eval()
    spec = paddle.static.InputSpec
    features = [spec([None, None, dim]) for dim in DIMS.values()]
    masks = [spec([None, None], "bool") for _ in DIMS]
    traced = paddle.jit.to_static(OnTensors(model), input_spec=features + masks, full_graph=True)
    traced.eval()
    for lengths in ([5, 3, 1], [1], [9, 2]):
        inputs = tagger_inputs(lengths)
        logits = traced(*(inputs[name] for name in ("rgb", "audio", "rgb.mask", "audio.mask")))
        np.testing.assert_allclose(logits.numpy(), model(inputs)["logits"].numpy(), atol=1e-5)


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
def test_extractor_gives_logits_and_features_of_every_frame(name):
    entry = get_model(name)
    paddle.seed(0)
    model = entry.cls(entry.config(name=name, num_classes=5, backbone="resnet18"))
    model.eval()
    clips = paddle.randint(0, 256, [2, 3, 32, 32, 3]).astype("uint8")
    features = model.encoder()({"frames": clips.flatten(0, 1)})["features"]
    logits = model({"frames": clips})["logits"]
    assert features.shape == [2 * 3, model.feature_dim]
    assert logits.shape == [2, 5]
    alone = model({"frames": clips[1:]})["logits"]
    np.testing.assert_allclose(alone.numpy()[0], logits.numpy()[1], atol=1e-5)
    model.train()
    assert_every_parameter_learns(
        model, (model({"frames": clips})["logits"] * paddle.arange(5, dtype="float32")).sum()
    )


@pytest.mark.parametrize("path", list_configs(), ids=lambda p: p.name)
def test_every_shipped_config_builds_its_network_at_full_size(path):
    config = load_config(path)
    model = config.entry.cls(config.model)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) > 100_000
    head = path.read_text(encoding="utf-8").split("MODEL:")[0]
    assert all(f"# {word}:" in head for word in ("Source", "Command", "Score")), (
        "the head says where it comes from"
    )
