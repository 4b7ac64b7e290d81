"""LatentTransformer: its attention against NumPy, step encodings, and settings."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from videotag.models import paddle
from videotag.models.latent_transformer import (
    Attention,
    LatentTransformer,
    LatentTransformerConfig,
    step_encoding,
)


def build(**options):
    paddle.seed(6)
    settings = {"feature_dims": [5], "num_queries": 3, "hidden_size": 8, "num_heads": 2, "num_classes": 3}
    return LatentTransformer(LatentTransformerConfig(name="LatentTransformer", **settings | options))


def test_attention_is_softmax_of_scaled_products_head_by_head():
    paddle.seed(0)
    layer = Attention(6, 2)
    queries, steps = paddle.randn([1, 3, 6]), paddle.randn([1, 5, 6])
    mask = np.array([[True, True, True, False, False]])
    p = {name: value.numpy().astype(np.float64) for name, value in layer.state_dict().items()}
    query = queries.numpy()[0] @ p["query.weight"] + p["query.bias"]
    key = steps.numpy()[0, :3] @ p["key.weight"]
    value = steps.numpy()[0, :3] @ p["value.weight"] + p["value.bias"]
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        weights = np.exp(query[:, head] @ key[:, head].T / np.sqrt(3))
        heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, head])
    expected = np.concatenate(heads, axis=1) @ p["out.weight"] + p["out.bias"]
    read, weights = layer(queries, steps, paddle.to_tensor(mask))
    np.testing.assert_allclose(read.numpy()[0], expected, atol=1e-5)
    assert weights.shape == [1, 5, 2, 3]


def test_step_encodings_are_sines_and_cosines_and_do_not_depend_on_the_length():
    encoding = step_encoding(paddle.zeros([1, 7, 6])).numpy()
    step, rates = np.arange(7)[:, None], np.array([1.0, 0.01, 0.0001])
    expected = np.concatenate([np.sin(step * rates), np.cos(step * rates)], axis=1)
    np.testing.assert_allclose(encoding, expected, atol=1e-6)
    np.testing.assert_array_equal(step_encoding(paddle.zeros([1, 3, 6])).numpy(), encoding[:3])


@pytest.mark.parametrize("length", [1, 400])
def test_any_number_of_steps_works(length):
    model = build()
    x, mask = paddle.randn([1, length, 5]), paddle.ones([1, length], dtype="bool")
    outputs = model({"rgb": x, "rgb.mask": mask})
    assert outputs["logits"].shape == [1, 3]
    assert outputs["rgb.attention"].shape == [1, length]


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValidationError, match="num_heads 3 does not divide hidden_size 8"):
        build(num_heads=3)
