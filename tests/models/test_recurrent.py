"""BiLSTM and BiGRU: Paddle's own bidirectional layers, pooled at their last states or by the mean."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import paddle
from videotag.models.recurrent import BiGRUTagger, BiLSTMTagger, RecurrentConfig

PADDLES = {BiLSTMTagger: paddle.nn.LSTM, BiGRUTagger: paddle.nn.GRU}


def build(cls, **options):
    paddle.seed(3)
    return cls(RecurrentConfig(name="x", feature_dims=[4], hidden_size=3, num_classes=2, **options))


def paddles_states(cls, model, x, num_layers):
    """States and final states of Paddle's bidirectional layers with the tagger's weights."""
    theirs = PADDLES[cls](4, 3, num_layers=num_layers, direction="bidirect")
    pool = model.pools["rgb"]
    for direction, suffix in (("ahead", ""), ("behind", "_reverse")):
        for index, layer in enumerate(pool.layers):
            ours = getattr(layer, direction).state_dict()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                theirs.state_dict()[f"{name}_l{index}{suffix}"].set_value(ours[f"{name}_l0"])
    states, final = theirs(x)
    return states.numpy(), (final[0] if cls is BiLSTMTagger else final).numpy()


@pytest.mark.parametrize("cls", PADDLES)
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_logits_are_those_of_paddles_bidirectional_layers(cls, length, pooling):
    model = build(cls, pooling=pooling)
    model.eval()
    x = paddle.randn([2, length, 4])
    states, final = paddles_states(cls, model, x, num_layers=2)
    pooled = states.mean(axis=1) if pooling == "mean" else np.concatenate([final[-2], final[-1]], axis=-1)
    expected = pooled @ model.output.weight.numpy() + model.output.bias.numpy()
    logits = model({"rgb": x, "rgb.mask": paddle.ones([2, length], dtype="bool")})["logits"]
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("cls", PADDLES)
def test_mean_pooling_sees_order_too(cls):
    model = build(cls, pooling="mean", num_layers=1)
    x = paddle.randn([1, 6, 4])
    mask = paddle.ones([1, 6], dtype="bool")
    ahead, behind = (model({"rgb": each, "rgb.mask": mask})["logits"] for each in (x, x.flip([1])))
    assert float((ahead - behind).abs().max()) > 1e-4
