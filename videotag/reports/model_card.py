"""README.md of an export: what the network is, what goes in and out, and how to run it, for people."""

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
    """The card's text; it names no path of the machine that it was made on.

    Args:
        manifest: of the export.
        config: of the network.
        labels: C names, if known.
        parity: its numbers in words.
        origins: of every one of the manifest's source weights.
    """
    weights = "\n".join(map(_source, manifest.source_weights, origins))
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    backend = get_backend(manifest.backend)
    no_paddle = "" if backend.needs_paddle else ", no Paddle"
    names = "labels.txt" if labels is not None else "none came with the weights"
    return f"""# {manifest.name}, exported for {manifest.backend} in {manifest.precision}
{_kind(manifest, config)} Task: {manifest.task}, {_TASKS[manifest.task]}.
{config.model.num_classes} classes; names: {names}.

Made of these weights:
{weights}

by {versions}.

## Run it
```
{_commands(manifest)}
```
This needs `videotag` and `{backend.runtime_package}`{no_paddle}; neither the training code
nor the weights it was made of. The sha256 of every other file is in `export.json` and compared before use.

## Contract
The network is `{"`, `".join(backend.files)}`. `?` is a size that may differ by call.

| | name | shape | dtype |
|---|---|---|---|
{_rows("in", manifest.inputs)}
{_rows("out", manifest.outputs)}

{_meaning(manifest, config)}

## Thresholds
{manifest.thresholds.top_k} tags a video at most (`--infer_topk`), of a probability of at least
{manifest.thresholds.decision} (`--threshold`).

## Parity with the network it was made of
{parity[0].upper()}{parity[1:]}
({manifest.parity["rows"]} rows in {manifest.parity["batches"]} batches of mixed sizes and lengths).
"""


def _kind(manifest: Manifest, config: Config) -> str:
    if manifest.two_stage:
        return f"First stage, {manifest.model} over {config.model.backbone}: frames of a video to features."
    return f"Second stage, {manifest.model}: features of a video to tags."


def _source(weights: SourceWeights, origin: Origin) -> str:
    """A line of the list of weights."""
    trained_on = f"; trained on {origin.dataset}" if origin.dataset else ""
    licence = origin.licence or "not known to videotag, ask whoever trained them"
    return f"- `{weights.file}`, sha256 `{weights.sha256}`{trained_on}; licence: {licence}"


def _commands(manifest: Manifest) -> str:
    if not manifest.two_stage:
        lines = ["videotag predict --weights=. --filelist=features.list"]
        return "\n".join([*lines, "videotag tag any.mp4 --predictor_weights=."])
    lines = ["videotag extract --weights=. --filelist=videos.list --save_dir=features"]
    if CLASSIFIER_FILE in manifest.files:
        lines.append("videotag tag any.mp4 --extractor_weights=.")
    return "\n".join([*lines, "videotag tag any.mp4 --extractor_weights=. --predictor_weights=SECOND_STAGE"])


def _rows(way: str, arrays: Sequence[ArrayInfo]) -> str:
    return "\n".join(
        f"| {way} | `{a.name}` | {' x '.join('?' if s is None else str(s) for s in a.shape)} | {a.dtype} |"
        for a in arrays
    )


def _meaning(manifest: Manifest, config: Config) -> str:
    if not manifest.two_stage:
        return (
            "Features are videos x steps x width, zeros after a video's end; a mask is true on real steps. "
            "Logits are videos x classes; attention, where there is any, is the weight of every step."
        )
    text = f"Frames are decoded RGB bytes, a row of features each, {config.infer.target_size} pixels a side. "
    if CLASSIFIER_FILE in manifest.files:
        text += f"Class scores are features @ weight + bias of `{CLASSIFIER_FILE}`, averaged over frames."
    return text.strip()
