"""A tiny BERT model in a folder as Hugging Face writes it, for tests of several rooms."""

from __future__ import annotations

import json

import numpy as np

from videotag.formats.weight_files import write_safetensors
from videotag.models import paddle
from videotag.models.bert import Bert, BertConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "ball", "dog", "sale", "goal", "球"]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
}


def write_bert(folder, *, pooling=None, **changes):
    """Writes the folder; `pooling` is a mode of sentence-transformers. Returns the network."""
    folder.mkdir(parents=True)
    paddle.seed(0)
    model = Bert(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_layers=1,
            num_heads=2,
            intermediate_size=16,
            max_positions=128,
            pooling="mean" if pooling == "mean_tokens" else "cls",
        )
    )
    model.eval()
    layout = model.layouts()[0]
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    named = {layout.names[name]: x.T if name in layout.transposed else x for name, x in state.items()}
    write_safetensors(folder / "model.safetensors", {k: np.ascontiguousarray(x) for k, x in named.items()})
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES, **changes}))
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return model
