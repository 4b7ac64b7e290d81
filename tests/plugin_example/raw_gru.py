"""A GRU over raw frames: every frame is scaled to a few pixels and flattened; no features are extracted.

    videotag train --plugin raw_gru.py --config=raw_gru.yaml --set TRAIN.filelist=train.list

Shapes: N videos, T frames, P = height * width * 3 values of a frame, H width of the GRU, C classes.
"""

from __future__ import annotations

import numpy as np
from paddle import nn
from PIL import Image

from videotag.inputs.frames import ClipReader, FrameOptions
from videotag.models.sequence import last_step, zero_padding
from videotag.registry import FRAMES, LOGITS, MASK, ArraySpec, register_model, register_reader
from videotag.sections import ModelSection, Positive


class TinyFrameOptions(FrameOptions):
    """An entry of INPUTS with `reader: tiny_frames`: the size of a frame in pixels."""

    width: Positive = 32
    height: Positive = 24


@register_reader("tiny_frames", options=TinyFrameOptions)
class TinyFrameReader(ClipReader):
    """Frames of a few pixels. Frames of short videos are not repeated, so clips differ in length."""

    def specs(self):
        """NAME (N, T, height, width, 3) uint8, and its mask (N, T)."""
        specs = []
        for name, options in self.inputs.items():
            specs.append(ArraySpec(name, (None, None, options.height, options.width, 3), "uint8"))
            specs.append(ArraySpec(name + MASK, (None, None), "bool"))
        return specs

    def collate(self, samples):
        """The distinct frames of every clip, scaled and zero-padded, and their mask."""
        arrays = {}
        for name, options in self.inputs.items():
            size = (options.width, options.height)
            clips = [_scaled(frames.images[np.unique(frames.rows)], size) for frames in samples]
            lengths = np.array([len(clip) for clip in clips])
            mask = np.arange(lengths.max()) < lengths[:, None]  # (N, T)
            padded = np.zeros((*mask.shape, options.height, options.width, 3), np.uint8)
            padded[mask] = np.concatenate(clips)
            arrays |= {name: padded, name + MASK: mask}
        return arrays


def _scaled(images, size):
    """Scales frames (K, H, W, 3) to (K, height, width, 3), given size (width, height)."""
    return np.stack([np.asarray(Image.fromarray(image).resize(size)) for image in images])


class RawGRUConfig(ModelSection):
    """MODEL section of RawGRU.

    Attributes:
        width, height: Size of a frame in pixels.
        hidden_size: Width H of the GRU.
    """

    width: Positive = 32
    height: Positive = 24
    hidden_size: Positive = 32

    default_readers = ("tiny_frames",)

    def default_inputs(self):
        """One input of frames, scaled to the size in MODEL."""
        return {FRAMES: {"reader": "tiny_frames", "width": self.width, "height": self.height}}


@register_model("RawGRU", config=RawGRUConfig, task="multi_label")
class RawGRU(nn.Layer):
    """Frames (N, T, height, width, 3) and mask (N, T) -> logits (N, C) from the last real state."""

    def __init__(self, config):
        super().__init__()
        height, width = config.height, config.width
        self.inputs = (
            ArraySpec(FRAMES, (None, None, height, width, 3), "uint8"),
            ArraySpec(FRAMES + MASK, (None, None), "bool"),
        )
        self.outputs = (LOGITS,)
        self.gru = nn.GRU(height * width * 3, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.num_classes)

    def forward(self, inputs):
        """Logits (N, C) of frames (N, T, height, width, 3) uint8 and their mask (N, T)."""
        frames, mask = inputs[FRAMES], inputs[FRAMES + MASK]
        x = frames.flatten(2).astype("float32") / 127.5 - 1  # (N, T, P)
        states, _ = self.gru(zero_padding(x, mask))  # (N, T, H)
        return {LOGITS: self.output(last_step(states, mask))}
