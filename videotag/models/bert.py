"""BERT: token ids of a text -> one vector, and the states of all tokens.

The encoder of arXiv:1810.04805: post-norm, learned positions, exact GELU. Without the heads of pretraining.
Shapes: N texts, S tokens, D width, A heads.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from videotag.models.layouts import Layout
from videotag.models.sequence import masked_mean
from videotag.registry import FEATURES, MASK, ArraySpec
from videotag.sections import MAX_COUNT, NumLayers, Positive, Section

TOKENS = "tokens"
_EPSILON = 1e-12  # of BERT's layer norms; Paddle's default is 1e-5
_MASKED = -1e9  # added to the score of padding


class BertConfig(Section):
    """Sizes of a BERT encoder; the defaults are those of bert-base-chinese.

    Attributes:
        vocab_size: Number of tokens.
        hidden_size: Width D, a multiple of num_heads.
        num_layers: Number of layers.
        num_heads: Number of attention heads A.
        intermediate_size: Width of the hidden layer of each MLP.
        max_positions: Maximum number of tokens of a text.
        num_types: Number of token types.
        pooling: "cls" for the state of the first token; "mean" for the mean over the real tokens, scaled to
            length 1, as sentence encoders use it.
    """

    vocab_size: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 21_128
    hidden_size: Positive = 768
    num_layers: NumLayers = 12
    num_heads: Positive = 12
    intermediate_size: Positive = 3072
    max_positions: Positive = 512
    num_types: Positive = 2
    pooling: Literal["cls", "mean"] = "cls"

    @model_validator(mode="after")
    def _heads_fit(self) -> BertConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}")
        return self


class BertLayer(nn.Layer):
    """Self-attention and an MLP, each followed by a layer norm of the sum with its input."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.scale = math.sqrt(width // config.num_heads)
        self.query, self.key, self.value, self.attended = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(width, epsilon=_EPSILON)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.norm = nn.LayerNorm(width, epsilon=_EPSILON)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """States (N, S, D) -> (N, S, D); bias (N, 1, 1, S) is added to the attention scores."""
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = paddle.matmul(query, key, transpose_y=True) / self.scale  # (N, A, S, S)
        read = paddle.matmul(F.softmax(scores + bias), value)  # (N, A, S, D / A)
        x = self.attention_norm(x + self.attended(read.transpose([0, 2, 1, 3]).flatten(2)))
        return self.norm(x + self.fc2(F.gelu(self.fc1(x))))

    def _heads(self, x: Tensor) -> Tensor:
        """(N, S, D) -> (N, A, S, D / A)."""
        return x.reshape([0, 0, self.num_heads, -1]).transpose([0, 2, 1, 3])


class Bert(nn.Layer):
    """Token ids (N, S) with their mask -> FEATURES (N, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.feature_dim = width
        self.pooling = config.pooling
        self.inputs = (
            ArraySpec(TOKENS, (None, None), "int64", below=config.vocab_size),
            ArraySpec(TOKENS + MASK, (None, None), "bool"),
        )
        self.outputs = (FEATURES,)
        self.words = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.max_positions, width)
        self.types = nn.Embedding(config.num_types, width)
        self.embedding_norm = nn.LayerNorm(width, epsilon=_EPSILON)
        self.layers = nn.LayerList([BertLayer(config) for _ in range(config.num_layers)])

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pooled states (N, D) of tokens (N, S), by name."""
        mask = inputs[TOKENS + MASK]
        states = self.states(inputs[TOKENS], mask)
        if self.pooling == "cls":
            return {FEATURES: states[:, 0]}
        return {FEATURES: F.normalize(masked_mean(states, mask), axis=-1)}

    def embed(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        """Embeddings (N, S, D) of token ids (N, S); types (N, S) int64, 0 if not given."""
        positions = paddle.cumsum(paddle.ones_like(ids[:1]), axis=1) - 1  # (1, S), for any S once exported
        types = paddle.zeros_like(ids) if types is None else types
        return self.embedding_norm(self.words(ids) + self.types(types) + self.positions(positions))

    def states(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """States (N, S, D) after the last layer.

        Args:
            ids: Token ids (N, S) int64.
            mask: (N, S) bool, True on real tokens.
            types: Token types (N, S) int64; 0 if not given.
        """
        x = self.embed(ids, types)
        bias = ((1 - mask.astype(x.dtype)) * _MASKED).unsqueeze([1, 2])  # (N, 1, 1, S)
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def layouts(self) -> list[Layout]:
        """The published layouts: Hugging Face's, its older one, and PaddleNLP's."""
        names = list(self.state_dict())
        # Heads of pretraining and of sentence pairs, and numbers that are no weights.
        ignored = r"(bert\.)?(pooler\..*|embeddings\.position_ids)|cls\..*"
        transposed = frozenset(n for n in names if n.endswith("weight") and _is_linear(n))
        hugging_face = {name: _hugging_face_name(name) for name in names}
        older = {
            ours: theirs.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            for ours, theirs in hugging_face.items()
        }
        return [
            Layout("transformers", hugging_face, "bert.", transposed=transposed, ignored=ignored),
            Layout("transformers, older", older, "bert.", transposed=transposed, ignored=ignored),
            Layout("paddlenlp", {name: _paddlenlp_name(name) for name in names}, "bert.", ignored=ignored),
        ]


_HUGGING_FACE = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm": "output.LayerNorm",
}
_PADDLENLP = {
    **_HUGGING_FACE,
    "embedding_norm": "embeddings.layer_norm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attended": "self_attn.out_proj",
    "attention_norm": "norm1",
    "fc1": "linear1",
    "fc2": "linear2",
    "norm": "norm2",
}


def _is_linear(name: str) -> bool:
    return name.rpartition(".")[0].rpartition(".")[2] in ("query", "key", "value", "attended", "fc1", "fc2")


def _hugging_face_name(name: str) -> str:
    """`layers.3.fc1.weight` -> `encoder.layer.3.intermediate.dense.weight`."""
    return _renamed(name, _HUGGING_FACE, "encoder.layer")


def _paddlenlp_name(name: str) -> str:
    """`layers.3.fc1.weight` -> `encoder.layers.3.linear1.weight`."""
    return _renamed(name, _PADDLENLP, "encoder.layers")


def _renamed(name: str, layers: dict[str, str], stack: str) -> str:
    *place, layer, value = name.split(".")
    return ".".join([*([f"{stack}.{place[1]}"] if place else []), layers[layer], value])
