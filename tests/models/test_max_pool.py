"""Max pooling: the largest real step counts, padding never."""

from __future__ import annotations

import numpy as np

from videotag.models import paddle
from videotag.models.max_pool import MaxPool
from videotag.sections import TaggerModel


def test_logits_are_one_layer_over_the_maximum_of_real_steps_even_where_all_are_negative():
    model = MaxPool(TaggerModel(name="MaxPool", feature_dims=[2], num_classes=3))
    x = paddle.to_tensor([[[-1.0, -5.0], [-3.0, -2.0], [0.0, float("nan")]]])
    logits = model({"rgb": x, "rgb.mask": paddle.to_tensor([[True, True, False]])})["logits"]
    expected = np.array([-1.0, -2.0]) @ model.output.weight.numpy() + model.output.bias.numpy()
    np.testing.assert_allclose(logits.numpy()[0], expected, rtol=1e-5)
