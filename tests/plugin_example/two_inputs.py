"""A tagger of samples with a picture and a text, from a JSON list: {"id", "image", "text", "labels"}.

    videotag train --plugin two_inputs.py --config=two_inputs.yaml --set TRAIN.filelist=train.jsonl

The picture is optional; a missing one is masked.
Shapes: N samples, S side of a picture in pixels, L tokens, H hidden width, C classes.
"""

from __future__ import annotations

import zlib

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import nn
from PIL import Image

from videotag.errors import MediaError
from videotag.inputs.reader import Reader
from videotag.models.sequence import masked_mean
from videotag.registry import LOGITS, MASK, ArraySpec, register_model, register_reader
from videotag.sections import InputOptions, ModelSection, Positive


class PictureOptions(InputOptions):
    """An entry of INPUTS with `reader: picture`: the side of the scaled picture in pixels."""

    size: Positive = 16


@register_reader("picture", options=PictureOptions)
class PictureReader(Reader):
    """Reads picture files and scales them to squares."""

    is_optional = True

    @property
    def _sides(self):
        return {name: options.size for name, options in self.inputs.items()}

    def specs(self):
        """NAME (N, 1, S, S, 3) uint8, and its mask (N, 1), False for missing pictures."""
        pictures = [ArraySpec(name, (None, 1, side, side, 3), "uint8") for name, side in self._sides.items()]
        return pictures + [ArraySpec(name + MASK, (None, 1), "bool") for name in self._sides]

    def read(self, field, rng):
        """The picture in its original size."""
        try:
            return Image.open(field).convert("RGB")
        except OSError as error:
            raise MediaError(f"{field}: not a readable picture; check the list") from error

    def collate(self, samples):
        """The scaled pictures, zeros for missing ones, and their mask."""
        arrays = {}
        for name, side in self._sides.items():
            empty = np.zeros((side, side, 3), np.uint8)
            pictures = [empty if p is None else np.asarray(p.resize((side, side))) for p in samples]
            arrays[name] = np.stack(pictures)[:, None]
            arrays[name + MASK] = np.array([[p is not None] for p in samples])
        return arrays


class TokenOptions(InputOptions):
    """An entry of INPUTS with `reader: tokens`: the size of the vocabulary."""

    vocabulary: Positive = 100


@register_reader("tokens", options=TokenOptions)
class TokenReader(Reader):
    """Maps the words of a text to token ids by their checksums; id 0 is padding."""

    def specs(self):
        """NAME (N, L) int64, and its mask (N, L)."""
        specs = [
            ArraySpec(name, (None, None), "int64", below=options.vocabulary)
            for name, options in self.inputs.items()
        ]
        return specs + [ArraySpec(name + MASK, (None, None), "bool") for name in self.inputs]

    def read(self, field, rng):
        """The words of the text."""
        return field.lower().split() or [""]

    def collate(self, samples):
        """Token ids, zero-padded, and their mask."""
        arrays = {}
        for name, options in self.inputs.items():
            mask = np.arange(max(map(len, samples))) < np.array([len(words) for words in samples])[:, None]
            ids = np.zeros(mask.shape, np.int64)
            ids[mask] = [1 + zlib.crc32(w.encode()) % (options.vocabulary - 1) for t in samples for w in t]
            arrays |= {name: ids, name + MASK: mask}
        return arrays


class TwoInputsConfig(ModelSection):
    """MODEL section of TwoInputs.

    Attributes:
        size: Side S of the pictures in pixels.
        vocabulary: Number of token ids.
        hidden_size: Hidden width H.
    """

    size: Positive = 16
    vocabulary: Positive = 100
    hidden_size: Positive = 16

    default_readers = ("picture", "tokens")

    def default_inputs(self):
        """The inputs "image" and "text", read from the fields of the same names."""
        return {
            "image": {"reader": "picture", "size": self.size},
            "text": {"reader": "tokens", "vocabulary": self.vocabulary},
        }


@register_model("TwoInputs", config=TwoInputsConfig, task="multi_label")
class TwoInputs(nn.Layer):
    """Picture (N, 1, S, S, 3) and text (N, L), each embedded to width H -> logits (N, C)."""

    def __init__(self, config):
        super().__init__()
        side, width = config.size, config.hidden_size
        self.inputs = (
            ArraySpec("image", (None, 1, side, side, 3), "uint8"),
            ArraySpec("image" + MASK, (None, 1), "bool"),
            ArraySpec("text", (None, None), "int64", below=config.vocabulary),
            ArraySpec("text" + MASK, (None, None), "bool"),
        )
        self.outputs = (LOGITS,)
        self.picture = nn.Linear(side * side * 3, width)
        self.words = nn.Embedding(config.vocabulary, width)
        self.output = nn.Linear(2 * width, config.num_classes)

    def forward(self, inputs):
        """Logits (N, C) of pictures (N, 1, S, S, 3) uint8, token ids (N, L) and their masks."""
        pixels = inputs["image"].flatten(2).astype("float32") / 127.5 - 1  # (N, 1, S * S * 3)
        picture = masked_mean(self.picture(pixels), inputs["image" + MASK])  # (N, H)
        text = masked_mean(self.words(inputs["text"]), inputs["text" + MASK])  # (N, H)
        return {LOGITS: self.output(paddle.concat([picture, text], axis=-1))}
