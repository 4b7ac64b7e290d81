"""NeXtVLAD against its formula in NumPy, and the published number of parameters."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.config import load_config
from videotag.errors import ConfigError
from videotag.models import load_models, paddle
from videotag.models.nextvlad import NeXtVLAD, NeXtVLADConfig


def build(**options):
    paddle.seed(5)
    settings = {
        "feature_names": ["rgb", "audio"],
        "feature_dims": [6, 4],
        "groups": [3, 2],
        "cluster_size": [4, 3],
        "hidden_size": 8,
        "gating_reduction": 2,
        "num_classes": 3,
    }
    model = NeXtVLAD(NeXtVLADConfig(name="NeXtVLAD", **settings | options))
    for name, value in model.state_dict().items():  # norms must not be what they are at the start
        if "norm" in name:
            value.set_value(paddle.rand(value.shape) + 0.5)
    model.eval()
    return model


def num_parameters(layer):
    return sum(int(np.prod(p.shape)) for p in layer.parameters() if not p.stop_gradient)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x, p, name):
    scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}._variance"] + 1e-5)
    return (x - p[f"{name}._mean"]) * scale + p[f"{name}.bias"]


def grouped_vlad(x, p, pool, groups):
    """Residuals (K * F) of one video (T, D): the paper's sum over steps, groups and centres."""
    centers = p[f"{pool}.centers"]  # (K, F)
    residuals = np.zeros_like(centers)
    for step in x @ p[f"{pool}.expand.weight"] + p[f"{pool}.expand.bias"]:
        attention = sigmoid(step @ p[f"{pool}.attention.weight"] + p[f"{pool}.attention.bias"])
        logits = norm(step @ p[f"{pool}.assign.weight"], p, f"{pool}.assign_norm").reshape(groups, -1)
        for g, part in enumerate(np.split(step, groups)):
            weights = np.exp(logits[g]) / np.exp(logits[g]).sum()
            for k, weight in enumerate(weights):
                residuals[k] += attention[g] * weight * (part - centers[k])
    residuals /= np.linalg.norm(residuals, axis=1, keepdims=True)
    return norm(residuals.reshape(-1), p, f"{pool}.norm")


def oracle(model, videos, groups):
    """Logits of one video {modality: (T, D)}."""
    p = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    pooled = [grouped_vlad(x, p, f"pools.{name}", groups[name]) for name, x in videos.items()]
    hidden = norm(np.concatenate(pooled) @ p["hidden.weight"], p, "hidden_norm")
    squeezed = np.maximum(0, norm(hidden @ p["gating.squeeze.weight"], p, "gating.norm"))
    hidden = hidden * sigmoid(squeezed @ p["gating.excite.weight"] + p["gating.excite.bias"])
    return hidden @ p["output.weight"] + p["output.bias"]


@pytest.mark.parametrize("length", [1, 2, 6])
def test_logits_follow_the_formula(length):
    model = build()
    rng = np.random.default_rng(length)
    videos = {m: rng.standard_normal((length, d)).astype(np.float32) for m, d in (("rgb", 6), ("audio", 4))}
    features = {m: paddle.to_tensor(x[None]) for m, x in videos.items()}
    masks = {f"{m}.mask": paddle.ones([1, length], dtype="bool") for m in videos}
    expected = oracle(model, videos, {"rgb": 3, "audio": 2})
    np.testing.assert_allclose(model(features | masks)["logits"].numpy()[0], expected, atol=1e-4)


def test_the_shipped_config_has_the_published_88_9_million_parameters():
    load_models()
    config = load_config("configs/nextvlad_yt8m.yaml")
    model = config.entry.cls(config.model)
    assert round(num_parameters(model) / 1e6, 1) == 88.9


def test_weights_up_to_the_hidden_layer_are_as_many_as_the_papers_formula_says():
    n, k, g, h, expansion = 64, 16, 8, 32, 2
    model = build(feature_names=["rgb"], feature_dims=[n], groups=g, cluster_size=k, hidden_size=h)
    pool = model.pools["rgb"]
    weights = [
        pool.expand.weight,
        pool.attention.weight,
        pool.assign.weight,
        pool.centers,
        model.hidden.weight,
    ]
    published = expansion * n * (n + g + k * (g + (h + 1) / g))  # arXiv:1811.05014, section 3
    assert sum(int(np.prod(w.shape)) for w in weights) == published


def test_groups_that_do_not_divide_the_widened_features_are_an_error_that_says_so():
    with pytest.raises(
        ConfigError, match=r"MODEL.groups: 5 does not divide .* 2 \* 6 = 12; choose a divisor"
    ):
        build(groups=5)
