"""AttentionCluster against its formula in NumPy, and its settings."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.errors import ConfigError
from videotag.models import paddle
from videotag.models.attention_cluster import AttentionCluster, AttentionClusterConfig


def build(**options):
    paddle.seed(2)
    settings = {
        "feature_names": ["rgb", "audio"],
        "feature_dims": [5, 3],
        "cluster_nums": [4, 2],
        "fc_sizes": (7, 6),
        "num_classes": 3,
    }
    return AttentionCluster(AttentionClusterConfig(name="AttentionCluster", **settings | options))


def oracle(model, videos):
    """Logits of one video {modality: (T, D)}, unit by unit."""
    p = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    pooled = []
    for name, x in videos.items():
        pool = f"pools.{name}"
        num_units = p[f"{pool}.score.weight"].shape[1]
        for k in range(num_units):
            scores = np.exp(x @ p[f"{pool}.score.weight"][:, k])
            mean = (scores / scores.sum()) @ x
            shifted = p[f"{pool}.scale"][k] * mean + p[f"{pool}.shift"][k]
            pooled.append(shifted / (np.sqrt(num_units) * np.linalg.norm(shifted)))
    hidden = np.tanh(np.concatenate(pooled) @ p["fc1.weight"] + p["fc1.bias"])
    hidden = np.tanh(hidden @ p["fc2.weight"] + p["fc2.bias"])
    return hidden @ p["output.weight"] + p["output.bias"]


@pytest.mark.parametrize("length", [1, 2, 6])
def test_logits_follow_the_formula(length):
    model = build()
    model.eval()
    rng = np.random.default_rng(length)
    videos = {m: rng.standard_normal((length, d)).astype(np.float32) for m, d in (("rgb", 5), ("audio", 3))}
    features = {m: paddle.to_tensor(x[None]) for m, x in videos.items()}
    masks = {f"{m}.mask": paddle.ones([1, length], dtype="bool") for m in videos}
    np.testing.assert_allclose(model(features | masks)["logits"].numpy()[0], oracle(model, videos), atol=1e-5)


def test_one_number_of_units_stands_for_every_modality():
    model = build(cluster_nums=3)
    assert [pool.scale.shape[0] for pool in model.pools.values()] == [3, 3]


def test_a_wrong_number_of_cluster_nums_is_an_error_that_names_both():
    with pytest.raises(
        ConfigError, match=r"MODEL.cluster_nums: \[4, 2, 1\] has 3 values, .* has 2; give one"
    ):
        build(cluster_nums=[4, 2, 1])
