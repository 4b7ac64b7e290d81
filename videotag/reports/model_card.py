"""The model card of an export (README.md): what the network is, its inputs and outputs, and how to run it."""

from __future__ import annotations

from collections.abc import Sequence

from videotag.config import Config
from videotag.inference.export import Origin
from videotag.runtime.backends import get_backend
from videotag.runtime.exported import CLASSIFIER_FILE, ArrayInfo, Manifest, SourceWeights

_TASKS = {
    "multi_label": "any number of tags per video; probability = sigmoid(logit)",
    "single_label": "one class per video; probability = softmax(logits)",
}


def model_card(
    manifest: Manifest,
    config: Config,
    labels: Sequence[str] | None,
    *,
    parity: str,
    origins: Sequence[Origin],
) -> str:
    """The Markdown text of the card, which contains no local path.

    Args:
        manifest: Manifest of the export.
        config: Config of the network.
        labels: The C class names; None if unknown.
        parity: Result of the parity check, as a sentence.
        origins: Origin of each of the manifest's source weights, in order.
    """
    weights = "\n".join(map(_source, manifest.source_weights, origins))
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    backend = get_backend(manifest.backend)
    no_paddle = "" if backend.needs_paddle else ", no Paddle"
    names = "labels.txt" if labels is not None else "none beside the weights"
    return f"""# {manifest.name}, exported for {manifest.backend} in {manifest.precision}
{_kind(manifest, config)} Task: {manifest.task}, {_TASKS[manifest.task]}.
{config.model.num_classes} classes; names: {names}.

Exported from these weights:
{weights}

with {versions}.

## Run it
```
{_commands(manifest)}
```
This needs `videotag` and `{backend.runtime_package}`{no_paddle}, but neither the training code
nor the original weights. The sha256 of every other file is in `export.json` and verified before use.

## Contract
The network is `{"`, `".join(backend.files)}`. `?` is a size that may vary from call to call.

| | name | shape | dtype |
|---|---|---|---|
{_rows("in", manifest.inputs)}
{_rows("out", manifest.outputs)}

{_meaning(manifest, config)}

## Thresholds
At most {manifest.thresholds.top_k} tags per video (`--infer_topk`), each with a probability of at least
{manifest.thresholds.decision} (`--threshold`).

## Parity with the original network
{parity[0].upper()}{parity[1:]}
({manifest.parity["rows"]} rows in {manifest.parity["batches"]} batches of mixed sizes and lengths).
"""


def _kind(manifest: Manifest, config: Config) -> str:
    if manifest.two_stage:
        return f"First stage, {manifest.model} over {config.model.backbone}: frames of a video to features."
    return f"Second stage, {manifest.model}: features of a video to tags."


def _source(weights: SourceWeights, origin: Origin) -> str:
    """One line of the list of weights."""
    trained_on = f"; trained on {origin.training_data}" if origin.training_data else ""
    terms = origin.licence or "unknown to videotag; ask whoever trained them"
    return f"- `{weights.file}`, sha256 `{weights.sha256}`{trained_on}; license: {terms}"


def _commands(manifest: Manifest) -> str:
    if not manifest.two_stage:
        lines = ["videotag predict --weights=. --filelist=features.list"]
        return "\n".join([*lines, "videotag tag any.mp4 --weights=."])
    lines = ["videotag extract --weights=. --filelist=videos.list --save_dir=features"]
    if CLASSIFIER_FILE in manifest.files:
        lines.append("videotag tag any.mp4 --weights=.")
    return "\n".join([*lines, "videotag tag any.mp4 --weights=. --predictor_weights=SECOND_STAGE"])


def _rows(way: str, arrays: Sequence[ArrayInfo]) -> str:
    return "\n".join(
        f"| {way} | `{a.name}` | {' x '.join('?' if s is None else str(s) for s in a.shape)} | {a.dtype} |"
        for a in arrays
    )


def _meaning(manifest: Manifest, config: Config) -> str:
    if not manifest.two_stage:
        return (
            "Features are videos x steps x width, zero after a video's end; a mask is true on real steps. "
            "Logits are videos x classes; attention, if present, is the weight of every step."
        )
    side = config.infer.target_size
    text = f"Frames are decoded RGB bytes of {side} x {side} pixels; each gives one row of features. "
    if CLASSIFIER_FILE in manifest.files:
        text += f"Class scores are features @ weight + bias of `{CLASSIFIER_FILE}`, averaged over frames."
    return text.strip()
