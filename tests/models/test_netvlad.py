"""NetVLAD and its gates against their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import paddle
from videotag.models.netvlad import GatedMixtureOfExperts, NetVLAD, NetVLADConfig


def build(**options):
    paddle.seed(4)
    settings = {
        "feature_names": ["rgb", "audio"],
        "feature_dims": [5, 3],
        "cluster_size": [4, 2],
        "hidden_size": 6,
        "num_classes": 3,
    }
    model = NetVLAD(NetVLADConfig(name="NetVLAD", **settings | options))
    for name, value in model.state_dict().items():  # norms must not be what they are at the start
        if "norm" in name:
            value.set_value(paddle.rand(value.shape) + 0.5)
    model.eval()
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def norm(x, p, name):
    scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}._variance"] + 1e-5)
    return (x - p[f"{name}._mean"]) * scale + p[f"{name}.bias"]


def vlad(x, p, pool):
    """Residuals (D * K) of one video (T, D), step by step and centre by centre."""
    centers = p[f"{pool}.centers"]  # (D, K)
    residuals = np.zeros_like(centers)
    for step in norm(x, p, f"{pool}.input_norm"):
        weights = softmax(norm(step @ p[f"{pool}.assign.weight"], p, f"{pool}.assign_norm"))
        for k, weight in enumerate(weights):
            residuals[:, k] += weight * (step - centers[:, k])
    residuals /= np.linalg.norm(residuals, axis=0)
    return (residuals / np.linalg.norm(residuals)).reshape(-1)


def oracle(model, videos, *, context_gating, class_gating):
    """Probabilities of one video {modality: (T, D)}."""
    p = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    pooled = np.concatenate([vlad(x, p, f"pools.{name}") for name, x in videos.items()])
    hidden = norm(pooled @ p["hidden.weight"], p, "hidden_norm")
    if context_gating:
        hidden = hidden * sigmoid(norm(hidden @ p["gating.fc.weight"], p, "gating.norm"))
    gates = np.exp(hidden @ p["output.gates"])  # (M + 1, C)
    gates /= gates.sum(axis=0)
    experts = sigmoid(hidden @ p["output.experts"] + p["output.bias"][:, 0])  # (M, C)
    scores = (gates[:-1] * experts).sum(axis=0)
    if class_gating:
        scores = scores * sigmoid(norm(scores @ p["output.gate.weight"], p, "output.gate_norm"))
    return scores


@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.parametrize("context_gating", [False, True])
@pytest.mark.parametrize("class_gating", [False, True])
def test_the_sigmoid_of_the_logits_follows_the_formula(length, context_gating, class_gating):
    gates = {"context_gating": context_gating, "class_gating": class_gating}
    model = build(**gates)
    rng = np.random.default_rng(length)
    videos = {m: rng.standard_normal((length, d)).astype(np.float32) for m, d in (("rgb", 5), ("audio", 3))}
    features = {m: paddle.to_tensor(x[None]) for m, x in videos.items()}
    masks = {f"{m}.mask": paddle.ones([1, length], dtype="bool") for m in videos}
    scores = sigmoid(model(features | masks)["logits"].numpy()[0])
    np.testing.assert_allclose(scores, oracle(model, videos, **gates), rtol=1e-4)


def test_gated_logits_stay_finite_where_probability_and_gate_round_to_one():
    head = GatedMixtureOfExperts(1, 1, 1)
    head.gates.set_value(paddle.to_tensor([[[0.5]], [[-0.5]]]))
    head.experts.set_value(paddle.to_tensor([[[1.0]]]))
    head.gate.weight.set_value(paddle.to_tensor([[400.0]]))
    head.eval()
    logits = head(paddle.to_tensor([[500.0]]))
    # 1 - p * g is about exp(-400), of the gate: the experts' doubt, exp(-500), is far less.
    np.testing.assert_allclose(logits.numpy(), [[400.0]], rtol=1e-4)


def test_parameters_are_those_of_the_paper_layer_by_layer():
    model = build()
    rgb, audio, hidden, classes = (5, 4), (3, 2), 6, 3
    expected = sum(2 * d + d * k + 2 * k + d * k for d, k in (rgb, audio))  # norms, assignment, centres
    expected += (5 * 4 + 3 * 2) * hidden + 2 * hidden
    expected += 3 * hidden * classes + 2 * (hidden + 1) * classes  # gates; two experts
    assert sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient) == expected
