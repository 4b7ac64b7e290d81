"""AttentionLSTM against its formula in NumPy, and its settings."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import paddle
from videotag.models.attention_lstm import AttentionLSTM, AttentionLSTMConfig


def build(**options):
    paddle.seed(2)
    settings = {
        "feature_dims": [5],
        "embedding_size": 4,
        "lstm_size": 3,
        "fc_sizes": (6, 5),
        "num_classes": 2,
    }
    return AttentionLSTM(AttentionLSTMConfig(name="AttentionLSTM", **settings | options))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, weights):
    """States (T, H) of a forward LSTM over x (T, D); gates in Paddle's order i, f, g, o."""
    w_in, w_hidden, b_in, b_hidden = (
        weights[f"{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden, cell, states = np.zeros(w_hidden.shape[1]), np.zeros(w_hidden.shape[1]), []
    for step in x:
        i, f, g, o = np.split(w_in @ step + b_in + w_hidden @ hidden + b_hidden, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        states.append(hidden)
    return np.array(states)


def oracle(model, x):
    """Logits and attention of one video (T, D), step by step as the model's docstring describes it."""
    p = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}

    def part(prefix):
        return {name.removeprefix(prefix): value for name, value in p.items() if name.startswith(prefix)}

    embedded = np.tanh(x @ p["pools.rgb.embed.weight"] + p["pools.rgb.embed.bias"])
    ahead = lstm(embedded, part("pools.rgb.lstm.forward_lstm."))
    behind = lstm(embedded[::-1], part("pools.rgb.lstm.backward_lstm."))[::-1]
    states = np.concatenate([ahead, behind], axis=1)
    scores = (states @ p["pools.rgb.score.weight"])[:, 0]
    attention = np.exp(scores) / np.exp(scores).sum()
    hidden = np.maximum(0, attention @ states @ p["fc1.weight"] + p["fc1.bias"])
    hidden = np.tanh(hidden @ p["fc2.weight"] + p["fc2.bias"])
    return hidden @ p["output.weight"] + p["output.bias"], attention


@pytest.mark.parametrize("length", [1, 2, 7])
def test_logits_and_attention_follow_the_formula(length):
    model = build()
    for parameter in model.parameters():  # zero biases would hide mistakes
        parameter.set_value(paddle.randn(parameter.shape) * 0.5)
    model.eval()
    x = np.random.default_rng(length).standard_normal((length, 5)).astype(np.float32)
    padded = np.concatenate([x, np.full((3, 5), 9.0, np.float32)])[None]
    mask = np.arange(length + 3)[None] < length
    outputs = model({"rgb": paddle.to_tensor(padded), "rgb.mask": paddle.to_tensor(mask)})
    expected_logits, expected_attention = oracle(model, x.astype(np.float64))
    np.testing.assert_allclose(outputs["logits"].numpy()[0], expected_logits, atol=1e-5)
    np.testing.assert_allclose(outputs["rgb.attention"].numpy()[0, :length], expected_attention, atol=1e-6)


@pytest.mark.parametrize(("prior", "probability"), [(None, 0.5), (0.01, 0.01)])
def test_a_network_without_evidence_answers_with_the_class_prior(prior, probability):
    model = build(class_prior=prior)
    model.eval()
    model.output.weight.set_value(paddle.zeros_like(model.output.weight))
    logits = model({"rgb": paddle.randn([1, 4, 5]), "rgb.mask": paddle.ones([1, 4], dtype="bool")})["logits"]
    np.testing.assert_allclose(sigmoid(logits.numpy()), probability, rtol=1e-5)


def test_drop_rate_acts_in_training_alone():
    inputs = {"rgb": paddle.ones([1, 4, 5]), "rgb.mask": paddle.ones([1, 4], dtype="bool")}

    def answers_alike(model):
        return np.array_equal(model(inputs)["logits"].numpy(), model(inputs)["logits"].numpy())

    model = build(drop_rate=0.5)
    model.train()
    assert not answers_alike(model)
    model.eval()
    assert answers_alike(model)
    model = build(drop_rate=0.0)
    model.train()
    assert answers_alike(model)
