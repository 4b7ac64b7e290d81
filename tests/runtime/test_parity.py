"""How far an export is from its layers, on numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.registry import ArraySpec
from videotag.runtime.parity import feature_parity, frame_samples, random_samples, tagger_parity

INPUTS = (
    ArraySpec("rgb", (None, None, 3)),
    ArraySpec("audio", (None, None, 2)),
    ArraySpec("rgb.mask", (None, None), "bool"),
    ArraySpec("audio.mask", (None, None), "bool"),
)


class Layers:
    """What stands for a trained network: gives what it was told."""

    def __init__(self, **outputs):
        self.outputs = tuple(outputs)
        self._given = {name: np.array(x, np.float32) for name, x in outputs.items()}

    def run_layers(self, inputs):
        return self._given

    __call__ = run_layers


def named(logits, attention=None):
    outputs = {"logits": logits} | ({"rgb.attention": attention} if attention else {})
    layers = Layers()
    layers.outputs = tuple(outputs)
    layers._given = {name: np.array(x, np.float32) for name, x in outputs.items()}
    return layers


def test_the_largest_difference_in_probability_is_told():
    """sigmoid(0) is 0.5, and sigmoid(log 3) is 0.75."""
    result = tagger_parity(
        named([[0.0, 0.0]]), named([[0.0, np.log(3)]]), [{}], task="multi_label", precision="f32"
    )
    assert not result.ok
    assert result.measurements["max_probability_difference"] == pytest.approx(0.25)
    assert result.measurements["max_probability_difference_allowed"] == 1e-5
    assert result.text == "probability differs by up to 2.5e-01, at most 1e-05 is allowed"


@pytest.mark.parametrize(("precision", "ok"), [("f32", False), ("bf16", True)])
def test_bf16_may_differ_more_than_f32(precision, ok):
    """Near 0 the sigmoid rises by a quarter: 0.002 more in the logit is 0.0005 in the probability."""
    result = tagger_parity(named([[0.0]]), named([[0.002]]), [{}], task="multi_label", precision=precision)
    assert result.measurements["max_probability_difference"] == pytest.approx(0.0005, rel=1e-3)
    assert result.ok is ok


def test_attention_counts_too():
    layers, network = named([[0.0]], [[0.5, 0.5]]), named([[0.0]], [[0.4, 0.6]])
    result = tagger_parity(layers, network, [{}], task="multi_label", precision="f32")
    assert result.measurements["max_probability_difference"] == 0
    assert result.measurements["max_attention_difference"] == pytest.approx(0.1)
    assert not result.ok


@pytest.mark.parametrize(("precision", "ok"), [("f32", False), ("bf16", True)])
def test_other_outputs_count_by_their_relative_error(precision, ok):
    layers, network = (
        Layers(logits=[[0.0]], embedding=[[3.0, 4.0]]),
        Layers(logits=[[0.0]], embedding=[[3.0, 4.05]]),
    )
    result = tagger_parity(layers, network, [{}], task="multi_label", precision=precision)
    assert result.measurements["max_embedding_difference"] == pytest.approx(0.01, rel=1e-5)
    assert result.ok is ok


def test_what_is_no_number_never_passes():
    result = tagger_parity(named([[0.0]]), named([[np.nan]]), [{}], task="multi_label", precision="bf16")
    assert not result.ok


def test_features_are_held_to_their_relative_error_in_f32_and_to_their_cosine_in_bf16():
    layers, network = Layers(features=[[3.0, 0.0], [0.0, 4.0]]), Layers(features=[[3.0, 0.0], [0.0, 4.05]])
    exact = feature_parity(layers, network, [{}], precision="f32")
    assert exact.measurements["relative_error"] == pytest.approx(0.05 / 5, rel=1e-5)
    assert not exact.ok
    assert "at most 1e-04 is allowed" in exact.text
    coarse = feature_parity(layers, network, [{}], precision="bf16")
    # Less the mean (1.5, 2): (1.5, -2), (-1.5, 2) and (1.5, -2), (-1.5, 2.05).
    cosine = (2.25 + 4 + 2.25 + 4.1) / np.sqrt(12.5 * (2.25 + 4 + 2.25 + 2.05**2))
    assert coarse.measurements["mean_removed_cosine"] == pytest.approx(cosine, rel=1e-6)
    assert coarse.ok


def test_features_that_turn_are_refused_in_bf16():
    layers, network = Layers(features=[[1.0, 0.0], [0.0, 1.0]]), Layers(features=[[0.0, 1.0], [1.0, 0.0]])
    result = feature_parity(layers, network, [{}], precision="bf16")
    assert result.measurements["mean_removed_cosine"] == pytest.approx(-1)
    assert not result.ok


def test_samples_are_padded_batches_of_mixed_lengths_from_one_step_on():
    lengths, sizes, steps, shapes = [], set(), set(), []
    for arrays in random_samples(INPUTS):
        assert arrays.keys() == {i.name for i in INPUTS}
        assert arrays["rgb"].shape == (*arrays["rgb.mask"].shape, 3)
        assert arrays["audio"].shape == (*arrays["audio.mask"].shape, 2)
        assert not arrays["rgb"][~arrays["rgb.mask"]].any(), "zeros after the end, as in any batch"
        shapes.append((arrays["rgb"].shape[1], arrays["audio"].shape[1]))
        assert arrays["audio.mask"].any(axis=1).all()
        sizes.add(len(arrays["rgb"]))
        steps.add(arrays["rgb"].shape[1])
        lengths += arrays["rgb.mask"].sum(axis=1).tolist()
    assert shapes == [(1, 1), (40, 40), (70, 35)], "modalities may differ in steps"
    assert 1 in sizes
    assert len(sizes) > 1
    assert len(steps) == 3
    assert {1, 40} <= set(lengths)
    assert max(steps) > max(lengths), "also a batch in which no video is full"


def test_samples_of_other_inputs_are_integers_in_their_range_and_vectors_without_steps():
    specs = (
        ArraySpec("text", (None, None), "int64", below=7),
        ArraySpec("text.mask", (None, None), "bool"),
        ArraySpec("image", (None, 8, 8, 3), "uint8"),
        ArraySpec("vector", (None, 5)),
    )
    for arrays in random_samples(specs):
        rows, steps = arrays["text.mask"].shape
        shapes = {name: x.shape for name, x in arrays.items()}
        assert shapes == {
            "text": (rows, steps),
            "text.mask": (rows, steps),
            "image": (rows, 8, 8, 3),
            "vector": (rows, 5),
        }
        assert {name: x.dtype.name for name, x in arrays.items()} == {spec.name: spec.dtype for spec in specs}
        assert arrays["text"].min() >= 0
        assert arrays["text"].max() < 7
        assert not arrays["text"][~arrays["text.mask"]].any()
        assert arrays["image"].max() > 200


def test_frames_differ_from_each_other():
    frames = frame_samples(33)
    assert frames.shape == (8, 33, 33, 3)
    assert len(np.unique(frames.reshape(8, -1), axis=0)) == 8
