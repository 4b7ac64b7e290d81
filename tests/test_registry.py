"""Names of models: any case, no duplicates, helpful when wrong."""

from __future__ import annotations

import pytest

from videotag.errors import UnknownNameError
from videotag.models import load_models
from videotag.registry import get_model, list_backbones, list_models, list_readers, register_model
from videotag.sections import ModelSection

load_models()


def test_names_ignore_case():
    assert get_model("attentionlstm") is get_model("AttentionLSTM")


def test_a_name_registered_twice_is_an_error():
    with pytest.raises(ValueError, match="'tsn' is registered twice"):
        register_model("tsn", config=ModelSection, task="single_label")(get_model("TSN").cls)


def test_an_unknown_name_lists_the_nearest_and_all():
    with pytest.raises(
        UnknownNameError, match=r"AttentionLST: unknown model; did you mean 'AttentionLSTM'\?.*TSN"
    ):
        get_model("AttentionLST")


def test_models_backbones_and_readers_are_listed():
    assert [e.name for e in list_models() if not e.two_stage and not e.plugin] == [
        "AttentionCluster",
        "AttentionLSTM",
        "BiGRU",
        "BiLSTM",
        "LatentTransformer",
        "MaxPool",
        "MeanPool",
        "MoE",
        "NetVLAD",
        "NeXtVLAD",
        "StatisticsPool",
    ]
    assert [entry.name for entry in list_models() if entry.two_stage] == ["TSN"]
    assert [entry.name for entry in list_backbones()] == [
        "efficientnet_lite0",
        "efficientnet_lite2",
        "resnet101",
        "resnet18",
        "resnet34",
        "resnet50",
        "vit_base_patch16_224",
        "vit_large_patch16_224",
        "vit_large_patch32_384",
        "vit_tiny_patch16_224",
    ]
    assert [entry.name for entry in list_readers() if not entry.plugin] == ["features", "frames"]
