"""Part of the benchmark of the senses: VGGish and BERT in OpenVINO against Paddle's layers.

VGGish and BERT of the size of bert-base-chinese have random weights, MiniLM its published ones.
Shapes: N texts, S tokens, B patches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from videotag.system.quiet_paddle import paddle

import numpy as np

from videotag.encoders.bert_text import TOKENS, read_bert_folder
from videotag.inference.load_weights import load_weights
from videotag.models.bert import Bert, BertConfig
from videotag.models.vggish import PATCHES, VGGish, VGGishConfig
from videotag.registry import FEATURES, MASK
from videotag.runtime.backends import compile_network
from videotag.runtime.trained import Arrays, TrainedNetwork
from videotag.weights import find_weights

NUM_ROUNDS = 3
NUM_PATCHES, NUM_TEXTS, NUM_TOKENS = 32, 16, 64


def run(backend: str = "openvino") -> dict[str, Any]:
    """Largest difference of the features, and the time of a batch, of each network.

    Args:
        backend: Backend that is held against Paddle's layers.
    """
    paddle.seed(0)
    rng = np.random.default_rng(0)
    folder = read_bert_folder(find_weights("minilm_l6").path.parent)
    small, large = BertConfig(**folder.sizes), BertConfig()
    mini = Bert(small)
    load_weights(mini, folder.weights, config_name="BERT")
    patches = rng.normal(-3, 2, (NUM_PATCHES, 96, 64)).astype(np.float32)  # as log-mel patches are scaled
    networks: list[tuple[str, Any, Arrays]] = [
        (f"VGGish, {NUM_PATCHES} patches", VGGish(VGGishConfig()), {PATCHES: patches}),
        (_bert_name("MiniLM-L6"), mini, _texts(small, rng)),
        (_bert_name("BERT base"), Bert(large), _texts(large, rng)),
    ]
    rows = []
    for name, model, inputs in networks:
        trained = TrainedNetwork.from_model(model, weights=[name], config=[], name=name)
        compiled = compile_network(trained, backend=backend)
        expected, got = trained.run_layers(inputs)[FEATURES], compiled(inputs)[FEATURES]
        rows.append(
            {
                "network": name,
                "largest_difference": float(np.abs(got - expected).max()),
                "largest_value": float(np.abs(expected).max()),
                "layers_sec": _median_sec(partial(trained.run_layers, inputs)),
                "backend_sec": _median_sec(partial(compiled, inputs)),
            }
        )
    return {"backend": backend, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The Markdown table of `run`."""
    name = result["backend"]
    lines = [
        f"| network | largest difference | largest value | layers, ms | {name}, ms | times as fast |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        layers, backend = row["layers_sec"], row["backend_sec"]
        lines.append(
            f"| {row['network']} | {row['largest_difference']:.1e} | {row['largest_value']:.2f} | "
            f"{1000 * layers:.0f} | {1000 * backend:.0f} | {layers / backend:.2f} |"
        )
    return "\n".join(lines)


def _bert_name(name: str) -> str:
    return f"{name}, {NUM_TEXTS} texts of up to {NUM_TOKENS} tokens"


def _texts(config: BertConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random tokens (N, S) of texts of different lengths, with their mask."""
    lengths = rng.integers(4, NUM_TOKENS, NUM_TEXTS, endpoint=True)
    mask = np.arange(NUM_TOKENS) < lengths[:, None]  # (N, S)
    ids = rng.integers(0, config.vocab_size, mask.shape) * mask
    return {TOKENS: ids, TOKENS + MASK: mask}


def _median_sec(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(NUM_ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
