"""The networks of VideoTag and PaddleVideo against the answers of the original systems (tests/golden)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import WeightsError
from videotag.formats.weight_files import write_pdparams, write_safetensors
from videotag.inference.load_weights import load_weights, network_state
from videotag.inference.tasks import task_loss
from videotag.models import paddle
from videotag.models.attention_lstm import AttentionLSTM, AttentionLSTMConfig

PUBLISHED_FC = (8192, 4096)
GOLDEN = Path(__file__).parents[1] / "golden"


class Golden:
    """One reference case: the weights and inputs by the rule its JSON states, and what was answered."""

    def __init__(self, name):
        self.case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        self.answers = np.load(GOLDEN / f"{name}.npz")
        self.state = {key: self.values(key, tuple(shape)) for key, shape in self.case["shapes"].items()}

    def values(self, key, shape, scale=None):
        if scale is None:
            is_vector = len(shape) == 1 or shape[0] == 1
            vector = 0.3 if "videotag" in self.case["source"].lower() else 0.1
            scale = vector if is_vector else 1 / np.sqrt(shape[0])
        rng = np.random.default_rng([self.case["seed"], zlib.crc32(key.encode())])
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def inputs(self, dims):
        """Padded features and masks of the case's videos."""
        lengths = self.case["lengths"]
        inputs = {}
        for index, (name, dim) in enumerate(dims.items()):
            x = np.full((len(lengths), max(lengths), dim), 7.0, np.float32)  # padding must not matter
            for row, length in enumerate(lengths):
                x[row, :length] = self.values(f"x{index}.{row}", (length, dim), scale=1.0)
            inputs[name] = paddle.to_tensor(x)
            inputs[f"{name}.mask"] = paddle.to_tensor(np.arange(max(lengths)) < np.array(lengths)[:, None])
        return inputs


def build(variant, dims, embedding=4, hidden=3, num_classes=2, fc_sizes=(6, 5)):
    config = AttentionLSTMConfig(
        name="AttentionLSTM",
        variant=variant,
        feature_names=list(dims),
        feature_dims=list(dims.values()),
        embedding_size=embedding,
        lstm_size=hidden,
        num_classes=num_classes,
        fc_sizes=fc_sizes,
    )
    model = AttentionLSTM(config)
    model.eval()
    return model


@pytest.mark.parametrize("case", [0, 1])
def test_videotags_network_answers_as_the_original(case, tmp_path):
    golden = Golden(f"attention_lstm_videotag_{case}")
    write_pdparams(tmp_path / "attention_lstm.pdparams", golden.state)
    model = build("videotag", {"rgb": 24}, 16, 8, 11, PUBLISHED_FC)
    load_weights(model, tmp_path / "attention_lstm.pdparams")
    outputs = model(golden.inputs({"rgb": 24}))
    np.testing.assert_allclose(outputs["logits"].numpy(), golden.answers["logits"], atol=1e-5)
    for row, length in enumerate(golden.case["lengths"]):
        np.testing.assert_allclose(
            outputs["rgb.attention"].numpy()[row, :length], golden.answers[f"attention_{row}"], atol=1e-6
        )


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("prefix", ["", "head."])
def test_paddlevideos_network_answers_as_the_original(case, prefix, tmp_path):
    golden = Golden(f"attention_lstm_paddlevideo_{case}")
    dims = dict(zip(("rgb", "audio"), golden.case["feature_dims"], strict=True))
    state = {prefix + name: array for name, array in golden.state.items()}
    again = {  # Paddle lists an LSTM's weights a second time
        f"{prefix}bi_lstm0.0.cell_fw.weight_ih": state[f"{prefix}bi_lstm0.weight_ih_l0"],
        f"{prefix}bi_lstm0.0.cell_bw.bias_hh": state[f"{prefix}bi_lstm0.bias_hh_l0_reverse"],
    }
    write_pdparams(tmp_path / "AttentionLSTM_yt8.pdparams", state | again)
    num_classes = golden.case["shapes"]["fc_logit.bias"][0]
    sizes = golden.case["embedding_size"], golden.case["lstm_size"]
    model = build("paddlevideo", dims, *sizes, num_classes, PUBLISHED_FC)
    load_weights(model, tmp_path / "AttentionLSTM_yt8.pdparams")
    logits = model(golden.inputs(dims))["logits"]
    np.testing.assert_allclose(logits.numpy(), golden.answers["logits"], atol=1e-5)
    labels = paddle.to_tensor(golden.answers["labels"].astype(np.float32))
    loss = task_loss("multi_label", logits, labels, "sum")
    assert loss.item() == pytest.approx(golden.case["bce_sum_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("variant", "dims"),
    [
        ("videotag", {"rgb": 5}),
        ("paddlevideo", {"rgb": 5, "audio": 3}),
        ("fluid_yt8m", {"rgb": 5, "audio": 3}),
    ],
)
def test_old_names_and_ours_are_the_same_network(variant, dims, tmp_path):
    model, other = (build(variant, dims) for _ in range(2))
    (layout,) = model.layouts()
    state = {name: value.numpy() for name, value in network_state(model).items()}
    published = layout.publish(state)
    assert len(published) == len(state)
    write_safetensors(tmp_path / "old.safetensors", published)
    load_weights(other, tmp_path / "old.safetensors")
    for name, value in network_state(other).items():
        np.testing.assert_array_equal(value.numpy(), state[name])


def test_the_published_networks_have_the_published_number_of_weights():
    videotag = AttentionLSTM(AttentionLSTMConfig(name="AttentionLSTM", variant="videotag", num_classes=3396))
    assert sum(p.size for p in videotag.parameters()) == 64_266_564
    for variant, count in (("paddlevideo", 108_737_304), ("fluid_yt8m", 108_749_592)):
        model = build(variant, {"rgb": 1024, "audio": 128}, 512, 1024, 3862, PUBLISHED_FC)
        assert sum(p.size for p in model.parameters()) == count


@pytest.mark.parametrize("variant", ["standard", "videotag", "paddlevideo", "fluid_yt8m"])
@pytest.mark.parametrize("other", ["standard", "videotag", "paddlevideo", "fluid_yt8m"])
def test_weights_of_another_variant_name_its_config(variant, other, tmp_path):
    model, source = build(variant, {"rgb": 5}), build(other, {"rgb": 5})
    own = {name: value.numpy() for name, value in network_state(source).items()}
    files = [own, *(layout.publish(own) for layout in source.layouts())]
    for index, state in enumerate(files):
        write_pdparams(tmp_path / f"{index}.pdparams", state)
        if other == variant:
            load_weights(model, tmp_path / f"{index}.pdparams")
            continue
        config = "attention_lstm" + ("" if other == "standard" else f"_{other}")
        with pytest.raises(
            WeightsError, match=rf"belong to MODEL.variant {other}; give --config=configs/{config}.yaml"
        ):
            load_weights(model, tmp_path / f"{index}.pdparams")


def test_names_and_shapes_of_the_static_graph_on_youtube_8m():
    model = build("fluid_yt8m", {"rgb": 1024, "audio": 128}, 512, 1024, 3862, PUBLISHED_FC)
    (layout,) = model.layouts()
    state = {name: value.numpy() for name, value in network_state(model).items()}
    shapes = {name: array.shape for name, array in layout.publish(state).items()}
    assert shapes["fc_0.w_0"] == (1024, 512)  # rgb's embedding; audio's follows its four layers
    assert shapes["fc_4.w_0"] == (128, 512)
    assert shapes["fc_3.w_0"] == (2048, 1)
    assert shapes["lstm_3.w_0"] == (1024, 4096)
    assert shapes["lstm_3.b_0"] == (1, 7168)
    assert shapes["fc_10.w_0"] == (4096, 3862)
    assert len(shapes) == 30


def test_videotags_dropout_scales_while_predicting_and_ours_while_training():
    x, mask = paddle.ones([1, 4, 5]), paddle.ones([1, 4], dtype="bool")
    for variant, factor in (("standard", 1.0), ("videotag", 0.5)):
        model = build(variant, {"rgb": 5})
        pool = model.pools["rgb"]
        states = pool.lstm(paddle.tanh(pool.embed(x)), mask)
        pooled, attention = pool(x, mask)
        expected = factor * (attention.unsqueeze(-1) * states).sum(axis=1)
        np.testing.assert_allclose(pooled.numpy(), expected.numpy(), rtol=1e-5)
