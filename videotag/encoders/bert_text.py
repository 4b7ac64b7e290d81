"""BERT as a text encoder, from the folder of a published model such as bert-base-chinese or MiniLM.

Shapes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videotag.encoders.encoder import TextEncoder
from videotag.encoders.wordpiece import VOCABULARY_FILE, WordPiece
from videotag.errors import WeightsError
from videotag.registry import FEATURES, MASK
from videotag.runtime.trained import Network
from videotag.safe_text import safe_repr
from videotag.system.json_text import read_json

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "model_state.pdparams")
TOKENS = "tokens"  # the input of videotag.models.bert
_BATCH_SIZE = 32
_POOLING = "pooling_mode_"  # before the modes of sentence-transformers
_REMEDY = "give the folder of a BERT model as Hugging Face or PaddleNLP write it"
#: Key of config.json -> key of BertConfig.
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "num_types",
}
#: Keys of config.json for which the network supports a single value.
_FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
}


@dataclass(frozen=True)
class BertFolder:
    """A folder of a published BERT model.

    Attributes:
        path: Path of the folder.
        weights: Its weight file.
        sizes: Keys of videotag.models.bert.BertConfig.
    """

    path: Path
    weights: Path
    sizes: dict[str, Any]


class BertText(TextEncoder):
    """Encodes each text as the state of [CLS], or as the mean over its tokens, scaled to length 1.

    Args:
        network: BERT, see videotag.models.bert.
        tokenizer: Tokenizer with its vocabulary.
        stamp: See Encoder.stamp.
    """

    def __init__(self, network: Network, tokenizer: WordPiece, stamp: dict[str, Any]) -> None:
        super().__init__()
        self._network = network
        self._tokenizer = tokenizer
        self._stamp = stamp

    def stamp(self) -> dict[str, Any]:
        """See Encoder."""
        return self._stamp

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See TextEncoder."""
        parts = []
        for start in range(0, len(texts), _BATCH_SIZE):
            ids, mask = self._tokenizer.tokens(texts[start : start + _BATCH_SIZE])
            parts.append(self._network({TOKENS: ids, TOKENS + MASK: mask})[FEATURES])
        return np.concatenate(parts)


def read_bert_folder(path: Path) -> BertFolder:
    """The files and sizes of a published BERT model.

    The mean over tokens is used if the folder says so (1_Pooling/config.json of sentence-transformers). It is
    scaled to length 1 in any case.

    Raises:
        WeightsError: Files are missing, or the network differs from BERT.
    """
    weights = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
    missing = next((n for n in ("config.json", VOCABULARY_FILE) if not (path / n).is_file()), None)
    if weights is None or missing:
        raise WeightsError(f"{path}: no {missing or WEIGHT_FILES[0]}; {_REMEDY}")
    config = read_json(path / "config.json", error=WeightsError, remedy=_REMEDY)
    if not isinstance(config, dict):
        raise WeightsError(f"{path / 'config.json'}: not the config of a model; {_REMEDY}")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise WeightsError(
                f"{path / 'config.json'}: {key} {safe_repr(config[key])}, expected {value}; give a BERT model"
            )
    sizes = {ours: config[theirs] for theirs, ours in _SIZES.items() if theirs in config}
    wrong = [key for key, value in sizes.items() if type(value) is not int or value < 1]
    if wrong or sizes.get("vocab_size", 0) * sizes.get("hidden_size", 0) > weights.stat().st_size:
        raise WeightsError(f"{path / 'config.json'}: its sizes are not those of {weights.name}; {_REMEDY}")
    return BertFolder(path, weights, {**sizes, "pooling": _pooling(path)})


def _pooling(path: Path) -> Literal["cls", "mean"]:
    file = path / "1_Pooling" / "config.json"
    if not file.is_file():
        return "cls"
    content = read_json(file, error=WeightsError, remedy=_REMEDY)
    modes = content if isinstance(content, dict) else {}
    used = sorted(key for key, value in modes.items() if key.startswith(_POOLING) and value is True)
    if used == [f"{_POOLING}mean_tokens"]:
        return "mean"
    if used == [f"{_POOLING}cls_token"]:
        return "cls"
    raise WeightsError(
        f"{file}: {', '.join(used) or 'no pooling mode'}, expected the mean or [CLS]; give another model"
    )
