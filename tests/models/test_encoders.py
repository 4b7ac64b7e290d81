"""VGGish, BERT and Vision Transformer against the answers of the published networks (tests/golden)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import ConfigError
from videotag.formats.weight_files import read_weights, write_safetensors
from videotag.inference.load_weights import load_weights, network_state, set_state
from videotag.media.log_mel import MIN_SAMPLES, log_mel_patches, mel_matrix
from videotag.models import paddle
from videotag.models.bert import TOKENS, Bert, BertConfig
from videotag.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite2, EfficientNetLiteConfig
from videotag.models.transnet_v2 import (
    CUT,
    HISTOGRAMS,
    TRANSITION,
    TransNetV2,
    TransNetV2Config,
    color_histograms,
)
from videotag.models.vggish import PATCHES, VGGish, VGGishConfig, quantize, whiten
from videotag.models.vit import VisionTransformer, VisionTransformerConfig
from videotag.registry import FEATURES, FRAMES, get_backbone

GOLDEN = Path(__file__).parents[1] / "golden"


def cases(name):
    return sorted(path.stem for path in GOLDEN.glob(f"{name}_[0-9]*.json"))


def read(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")), np.load(GOLDEN / f"{name}.npz")


def by_rule(seed, name, shape, scale):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return (rng.standard_normal(shape) * scale).astype(np.float32)


# ---------------------------------------------------------------- sound


@pytest.mark.parametrize("name", cases("vggish_frontend"))
def test_log_mel_patches_are_those_of_the_reference(name):
    case, arrays = read(name)
    np.testing.assert_allclose(mel_matrix(), arrays["mel_matrix"], atol=1e-12)
    for key in case["cases"]:
        wave = arrays[f"wave_{key}"]
        samples = wave if wave.ndim == 1 else wave.mean(axis=1) / 32768
        expected = arrays[f"examples_{key}"]
        assert log_mel_patches(samples).shape == expected.shape
        np.testing.assert_allclose(log_mel_patches(samples), expected, atol=case["tolerance"])


def test_a_patch_takes_15600_samples_and_a_second_one_15360_more():
    assert MIN_SAMPLES == 15_600
    for count, patches in ((0, 0), (239, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2)):
        assert log_mel_patches(np.zeros(count, np.float32)).shape == (patches, 96, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases("vggish_network"))
def test_vggish_gives_the_embeddings_of_the_reference_from_both_layouts(name, tmp_path):
    case, arrays = read(name)
    frontend = np.load(GOLDEN / name.replace("network", "frontend").__add__(".npz"))
    keys = read(name.replace("network", "frontend"))[0]["cases"]
    patches = np.concatenate([frontend[f"examples_{key}"] for key in keys])
    state = {}
    for layer in case["layers"]:
        shape = tuple(layer["shape"])
        scale = layer["scale"] if isinstance(layer["scale"], float) else (2 / np.prod(shape[1:])) ** 0.5
        state[layer["name"]] = by_rule(case["seed"], layer["name"], shape, scale)
        assert state[layer["name"]].ravel()[:3] == pytest.approx(layer["first_values"], abs=1e-6)
    tensorflow = {}
    for ours, theirs in case["tensorflow_names"].items():
        stem = theirs.partition("{")[0]
        weight = state[f"{ours}.weight"]
        weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        tensorflow |= {f"{stem}weights": weight, f"{stem}biases": state[f"{ours}.bias"]}
    expected = arrays["pre_activation"][: len(patches)]
    model = VGGish(VGGishConfig())
    model.eval()
    for number, weights in enumerate((state, tensorflow)):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, {key: np.ascontiguousarray(x) for key, x in weights.items()})
        load_weights(model, path)
        found = model({PATCHES: paddle.to_tensor(patches)})[FEATURES].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * case["largest"])


@pytest.mark.parametrize("name", cases("vggish_postprocess"))
def test_whitening_and_quantization_are_those_of_youtube_8m(name):
    case, arrays = read(name)
    eigen_vectors = by_rule(case["seed"], "pca_eigen_vectors", (128, 128), 0.08)
    means = by_rule(case["seed"], "pca_means", (128,), 1)
    whitened = whiten(arrays["embeddings"], eigen_vectors=eigen_vectors, means=means)
    np.testing.assert_allclose(whitened, arrays["pca"], atol=1e-4)
    np.testing.assert_array_equal(quantize(whitened), arrays["uint8_tensorflow"])


# ---------------------------------------------------------------- text


def bert_config(case, **changes):
    sizes = case["config"]
    return BertConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        intermediate_size=sizes["intermediate_size"],
        max_positions=sizes["max_position_embeddings"],
        num_types=sizes["type_vocab_size"],
        **changes,
    )


def bert(case, name, **changes):
    model = Bert(bert_config(case, **changes))
    model.eval()
    load_weights(model, GOLDEN / f"{name}.safetensors")
    return model


@pytest.mark.parametrize("name", cases("bert"))
def test_bert_gives_the_states_of_the_reference(name):
    case, arrays = read(name)
    model = bert(case, name)
    ids, mask, types = (
        paddle.to_tensor(arrays[key]) for key in ("input_ids", "attention_mask", "token_type_ids")
    )
    np.testing.assert_allclose(model.embed(ids, types).numpy(), arrays["embeddings"], atol=case["tolerance"])
    states = model.states(ids, mask.astype("bool"), types).numpy()
    real = arrays["attention_mask"].astype(bool)
    np.testing.assert_allclose(states[real], arrays["last_hidden_state"][real], atol=case["tolerance"])
    everything = paddle.ones_like(ids).astype("bool")
    pooled = model({TOKENS: ids, f"{TOKENS}.mask": everything})[FEATURES].numpy()
    np.testing.assert_allclose(pooled, arrays["last_hidden_state_ids_only"][:, 0], atol=case["tolerance"])


def test_padding_does_not_change_the_mean_of_a_text():
    case, arrays = read("bert_0")
    model = bert(case, "bert_0", pooling="mean")
    row = int(np.argmin(arrays["attention_mask"].sum(axis=1)))
    length = int(arrays["attention_mask"][row].sum())
    ids, mask = arrays["input_ids"][row : row + 1], arrays["attention_mask"][row : row + 1].astype(bool)
    vectors = [
        model({TOKENS: paddle.to_tensor(ids[:, :n]), f"{TOKENS}.mask": paddle.to_tensor(mask[:, :n])})[
            FEATURES
        ]
        for n in (length, ids.shape[1])
    ]
    np.testing.assert_allclose(vectors[0].numpy(), vectors[1].numpy(), atol=1e-5)
    assert np.linalg.norm(vectors[0].numpy()) == pytest.approx(1)


def test_bert_reads_older_names_and_paddlenlp(tmp_path):
    case, _ = read("bert_0")
    model = bert(case, "bert_0")
    expected = {name: value.numpy() for name, value in network_state(model).items()}
    _, older, paddlenlp = model.layouts()
    for layout in (older, paddlenlp):
        state = layout.publish(expected)
        assert "bert.embeddings.word_embeddings.weight" in state
        path = tmp_path / "weights.safetensors"
        extra = {"bert.pooler.dense.bias": np.zeros(3, np.float32), "cls.predictions.bias": np.zeros(2)}
        write_safetensors(
            path, {key: np.ascontiguousarray(x, np.float32) for key, x in {**state, **extra}.items()}
        )
        other = Bert(bert_config(case))
        load_weights(other, path)
        for name, value in network_state(other).items():
            np.testing.assert_array_equal(value.numpy(), expected[name])
    assert older.publish(expected)["bert.embeddings.LayerNorm.gamma"].shape == (32,)
    assert paddlenlp.names["layers.1.fc1.weight"] == "encoder.layers.1.linear1.weight"


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", [*cases("vit_cls"), *cases("vit_avg")])
def test_the_vision_transformer_gives_the_features_of_the_reference(name):
    case, arrays = read(name)
    sizes = case["config"]
    model = VisionTransformer(
        VisionTransformerConfig(
            width=sizes["embed_dim"],
            depth=sizes["depth"],
            num_heads=sizes["num_heads"],
            image_px=sizes["img_size"],
            patch_px=sizes["patch_size"],
            pooling="mean" if sizes.get("global_pool") == "avg" else "cls",
        )
    )
    model.eval()
    timm = model.layouts()[0]
    state = timm.adapt(read_weights(GOLDEN / f"{name}.safetensors"))
    own = network_state(model)
    assert set(own) == set(state) - {"fc.weight", "fc.bias"}
    set_state(own, {key: state[key] for key in own})
    x = (arrays["images"].astype(np.float32) / 255 - 0.5) / 0.5
    images = paddle.to_tensor(x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(model.embed(images).numpy(), arrays["embedded"], atol=case["tolerance"])
    np.testing.assert_allclose(model(images).numpy(), arrays["pooled"], atol=case["tolerance"])


def test_the_vision_transformer_takes_whole_patches():
    model = VisionTransformer(
        VisionTransformerConfig(width=8, depth=1, num_heads=2, image_px=32, patch_px=16)
    )
    with pytest.raises(ConfigError, match=r"frames of 40 x 64 pixels, .* set target_size to 32"):
        model(paddle.zeros([1, 3, 64, 40]))
    assert model(paddle.zeros([1, 3, 64, 48])).shape == [1, 8]


def test_positions_are_interpolated_for_larger_frames():
    """A constant grid stays constant; a linear one stays linear inside."""
    model = VisionTransformer(
        VisionTransformerConfig(width=2, depth=1, num_heads=1, image_px=128, patch_px=16)
    )
    grid = np.stack([np.full((8, 8), 3.0), np.tile(np.arange(8.0), (8, 1))], axis=-1)
    own = np.concatenate([[[7.0, 7.0]], grid.reshape(64, 2)])[None].astype(np.float32)
    model.positions.set_value(paddle.to_tensor(own))
    found = model._positions(256, 128).numpy()[0]
    np.testing.assert_allclose(found[0], [7, 7])
    wide = found[1:].reshape(16, 8, 2)
    np.testing.assert_allclose(wide[..., 0], 3, atol=1e-5)
    np.testing.assert_allclose(wide[8, 2:6, 1], np.arange(2.0, 6.0), atol=1e-5)
    np.testing.assert_array_equal(model._positions(128, 128).numpy(), own)


def test_files_of_vision_transformers_are_recognized_by_their_depth():
    model = get_backbone("vit_tiny_patch16_224").cls(get_backbone("vit_tiny_patch16_224").config())
    timm, torchvision = (list(layout.names.values()) for layout in model.layouts())
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_bias" in torchvision
    base, large = (get_backbone(f"vit_{size}_patch16_224").cls for size in ("base", "large"))
    for names in (timm, torchvision):
        assert base.owns(names)
        assert not large.owns(names)


def test_efficientnet_lite2_is_told_from_lite0_by_its_blocks():
    model = EfficientNetLite2(EfficientNetLiteConfig())
    for names in (list(model.state_dict()), list(model.layouts()[0].names.values())):
        assert EfficientNetLite2.owns(names)
        assert not EfficientNetLite0.owns(names)
    assert model(paddle.zeros([1, 3, 64, 64])).shape == [1, 1280]


# ---------------------------------------------------------------- shots


@pytest.mark.parametrize("name", cases("transnet_v2"))
def test_transnet_v2_gives_the_logits_of_the_reference(name, tmp_path):
    case, arrays = read(name)
    state = {}
    for key, shape in case["shapes"].items():
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        scale = 0.5 if key.endswith("running_var") else scale
        values = by_rule(case["seed"], key, shape, scale)
        if key.endswith("running_var"):
            values = np.abs(values) + np.float32(0.5)
        state[key] = 1 + values if key.endswith("bn.weight") else values
    write_safetensors(tmp_path / "weights.safetensors", state)
    model = TransNetV2(TransNetV2Config())
    model.eval()
    load_weights(model, tmp_path / "weights.safetensors")
    frames = arrays["frames"]
    histograms = np.stack([color_histograms(one) for one in frames])
    found = model({FRAMES: paddle.to_tensor(frames), HISTOGRAMS: paddle.to_tensor(histograms)})
    for key in (CUT, TRANSITION):
        np.testing.assert_allclose(found[key].numpy(), arrays[key], atol=1e-4 * case["largest"])


def test_colors_of_a_frame_are_counted_in_8_levels_per_channel():
    frames = np.array([[[[0, 0, 0], [31, 31, 31]]], [[[255, 255, 255], [32, 0, 0]]]], np.uint8)
    counts = color_histograms(frames)
    assert counts.shape == (2, 512)
    assert counts[0, 0] == 2
    assert counts[1, 511] == counts[1, 64] == 1
