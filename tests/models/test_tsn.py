"""The TSN's first stage: bytes to the backbone's input, and frames to logits."""

from __future__ import annotations

import numpy as np

from videotag.media.transforms import normalize
from videotag.models import load_models, paddle
from videotag.models.tsn import FrameEncoder
from videotag.registry import get_model

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def tsn(**options):
    load_models()
    paddle.seed(0)
    entry = get_model("TSN")
    model = entry.cls(entry.config(name="TSN", num_classes=5, backbone="resnet18", **options))
    model.eval()
    return model


def test_the_encoder_normalizes_every_byte_of_every_colour_as_transforms_do_to_the_last_bit():
    frames = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in (0, 7, 99)], axis=-1)
    frames = frames.reshape(2, 8, 16, 3)
    encoder = FrameEncoder(paddle.nn.Identity(), MEAN, STD)
    found = encoder({"frames": paddle.to_tensor(frames)})["features"].numpy()
    np.testing.assert_array_equal(found, normalize(frames, MEAN, STD))


def test_logits_are_the_mean_over_frames_of_the_classifier_over_normalized_frames():
    model = tsn(image_mean=(0.5, 0.4, 0.3), image_std=(0.2, 0.3, 0.4))
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 40, 3)).astype(np.uint8)
    logits = model({"frames": paddle.to_tensor(clips)})["logits"].numpy()
    for clip, found in zip(clips, logits, strict=True):
        x = (clip / 255.0 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
        features = model.backbone(paddle.to_tensor(x.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
        expected = (features @ model.fc.weight.numpy() + model.fc.bias.numpy()).mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert [spec.shape for spec in model.encoder(32).inputs] == [(None, 32, 32, 3)]
