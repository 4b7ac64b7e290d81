"""Loads what finds shots, text, speech and sounds, with the weights of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from videotag.errors import ConfigError
from videotag.registry import unknown
from videotag.runtime import agreement
from videotag.runtime.choice import RuntimeNetwork, RuntimeRequest
from videotag.runtime.trained import TrainedNetwork
from videotag.senses.finding import KINDS, Kind, Sense
from videotag.system.download import file_digest
from videotag.weights import cache_dir, find_weights

SHOT_WEIGHTS = "transnet_v2"


def load_senses(
    kinds: Sequence[str],
    *,
    backend: str = "auto",
    speech_model: str | Path | None = None,
    language: str | None = None,
) -> list[Sense]:
    """The senses for some kinds of findings.

    Args:
        kinds: Kinds, see videotag.senses.finding.KINDS; each once.
        backend: Backend of networks that run on this project's runtimes.
        speech_model: CTranslate2 folder of Whisper; None for the base model of the installed packages.
        language: Code of the language of speech; None lets the network decide.

    Raises:
        ConfigError: A kind is unknown, or its packages are not installed; the message names the command.
        WeightsError: Weights are missing or damaged.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(unknown(kind, KINDS, "kind of finding"))
    makers: dict[Kind, Callable[[], Sense]] = {
        "shots": lambda: _shots(backend),
        "text": _text,
        "speech": lambda: _speech(speech_model, language),
        "sound": _sound,
    }
    return [make() for kind, make in makers.items() if kind in kinds]


def _shots(backend: str) -> Sense:
    path = find_weights(SHOT_WEIGHTS).path  # first, as it may be missing, and Paddle takes seconds to import
    from videotag.inference.load_weights import load_weights
    from videotag.models.transnet_v2 import TransNetV2, TransNetV2Config
    from videotag.senses.shots import Shots

    model = TransNetV2(TransNetV2Config())
    load_weights(model, path, config_name="TransNetV2")
    network = TrainedNetwork.from_model(model, weights=[file_digest(path)], config=[], name="TransNetV2")
    request = RuntimeRequest(backend, "f32")
    return Shots(RuntimeNetwork(network, request, tolerances=agreement.FEATURES))


def _text() -> Sense:
    from videotag.senses.rapid_ocr import RapidOcr
    from videotag.senses.text import Text

    return Text(RapidOcr())


def _speech(folder: str | Path | None, language: str | None) -> Sense:
    from videotag.senses.speech import Speech, default_model

    return Speech(default_model(cache_dir()) if folder is None else folder, language=language)


def _sound() -> Sense:
    from videotag.senses.sounds import Sounds

    return Sounds()
