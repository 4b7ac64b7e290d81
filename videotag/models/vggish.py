"""VGGish: log-mel patches of sound -> 128-d embeddings.

The VGG-like network of AudioSet (arXiv:1609.09430). Its last layer has no activation; older copies of the
published code, torchvggish among them, apply ReLU to its output.
Shapes: B patches of 96 frames x 64 mel bands.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.layouts import Layout, permuted
from videotag.registry import FEATURES, ArraySpec
from videotag.sections import Section

PATCHES = "patches"
FEATURE_DIM = 128
_STAGES = ((64,), (128,), (256, 256), (512, 512))  # output channels; max pooling follows each stage
_WIDTHS = (4096, 4096, FEATURE_DIM)
_FLAT = 6 * 4 * 512
_TORCH_CONVS = (0, 3, 6, 8, 11, 13)  # numbers of torchvggish's layers
_TENSORFLOW_CONVS = ("conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2")
_TENSORFLOW_FCS = ("fc1/fc1_1", "fc1/fc1_2", "fc2")
#: Axes of TensorFlow's kernels (kh, kw, I, O) in our order (O, I, kh, kw).
_KERNEL = permuted((3, 2, 0, 1))


class VGGishConfig(Section):
    """VGGish has no settings."""


class VGGish(nn.Layer):
    """Patches (B, 96, 64) -> FEATURES (B, 128)."""

    feature_dim = FEATURE_DIM

    def __init__(self, config: VGGishConfig) -> None:
        super().__init__()
        self.inputs = (ArraySpec(PATCHES, (None, 96, 64)),)
        self.outputs = (FEATURES,)
        self.convs = nn.LayerList()
        channels = 1
        for stage in _STAGES:
            for width in stage:
                self.convs.append(nn.Conv2D(channels, width, 3, padding=1))
                channels = width
        sizes = (_FLAT, *_WIDTHS)
        self.fcs = nn.LayerList([nn.Linear(i, o) for i, o in pairwise(sizes)])

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings (B, 128) of patches (B, 96, 64), by name."""
        x = inputs[PATCHES].unsqueeze(1)  # (B, 1, 96, 64)
        convs = iter(self.convs)
        for stage in _STAGES:
            for _ in stage:
                x = F.relu(next(convs)(x))
            x = F.max_pool2d(x, 2)
        x = x.transpose([0, 2, 3, 1]).flatten(1)  # (B, 6 * 4 * 512), in TensorFlow's order
        *hidden, last = self.fcs
        for layer in hidden:
            x = F.relu(layer(x))
        return {FEATURES: last(x)}

    def layouts(self) -> list[Layout]:
        """The published layouts: torchvggish's, and the variables of TensorFlow's checkpoint."""
        torch, tensorflow = {}, {}
        for number, (index, name) in enumerate(zip(_TORCH_CONVS, _TENSORFLOW_CONVS, strict=True)):
            torch[f"convs.{number}"], tensorflow[f"convs.{number}"] = f"features.{index}", name
        for number, name in enumerate(_TENSORFLOW_FCS):
            torch[f"fcs.{number}"], tensorflow[f"fcs.{number}"] = f"embeddings.{2 * number}", name
        values = {"weight": "weights", "bias": "biases"}
        return [
            Layout(
                "torchvggish",
                {f"{ours}.{v}": f"{theirs}.{v}" for ours, theirs in torch.items() for v in values},
                transposed=frozenset(f"fcs.{number}.weight" for number in range(len(self.fcs))),
                ignored=r"pproc\..*",
            ),
            Layout(
                "tensorflow",
                {
                    f"{ours}.{v}": f"{theirs}/{values[v]}"
                    for ours, theirs in tensorflow.items()
                    for v in values
                },
                prefix="vggish/",
                conversions={f"convs.{number}.weight": _KERNEL for number in range(len(self.convs))},
            ),
        ]


def whiten(embeddings: np.ndarray, *, eigen_vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Embeddings after AudioSet's PCA whitening, as YouTube-8M's audio features before quantization.

    Args:
        embeddings: (B, 128) float32.
        eigen_vectors: (128, 128), one component per row.
        means: (128,) or (128, 1).

    Returns:
        (B, 128) float32.
    """
    return ((embeddings - means.reshape(1, -1)) @ eigen_vectors.T).astype(np.float32)


def quantize(whitened: np.ndarray) -> np.ndarray:
    """uint8 of whitened embeddings (B, 128): [-2, 2] -> [0, 255], truncated as in YouTube-8M."""
    return ((np.clip(whitened, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
