"""The networks of `videotag features`, loaded for the inputs that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from videotag.config import error_lines
from videotag.encoders.encoder import SoundEncoder, TextEncoder
from videotag.errors import ConfigError, FeatureFileError, WeightsError, one_error
from videotag.formats.feature_files import read_modalities, read_vectors
from videotag.formats.weight_files import read_weights, resolve_weights
from videotag.inference.extractor import Extractor, load_extractor
from videotag.inference.feature_options import (
    AllOptions,
    AudioFeatures,
    EmbeddingFeatures,
    Input,
    TextFeatures,
    VideoFeatures,
)
from videotag.inference.load_senses import load_senses
from videotag.inference.trained_model import TrainedModel, read_source
from videotag.registry import EMBEDDING, MASK
from videotag.runtime import agreement
from videotag.runtime.backends import AUTO
from videotag.runtime.choice import RuntimeChoice, RuntimeNetwork, RuntimeRequest
from videotag.runtime.trained import TrainedNetwork
from videotag.senses.finding import Sense
from videotag.system.download import file_digest
from videotag.weights import DEFAULT_EXTRACTOR, FoundWeights, find_weights

_OF_FRAMES = {"video", "embedding", "image"}  # inputs that the first stage computes
_OWN_WEIGHTS = "weights/tsn"
_VGGISH_DIM = 128  # of VGGish
_PCA_KEYS = ("pca_eigen_vectors", "pca_means")


class FeatureNetworks:
    """The networks for some kinds of input; picklable, as a worker loads them again.

    Args:
        inputs: Kinds of input.
        options: Options of all kinds.
        use_gpu: True, False or "auto", for the first stage and the tagger; by default TRAIN.use_gpu of their
            configs.
        backend: Backend of the networks; by default INFER.backend of that config, and "auto" for the others.
        precision: Precision of the first stage; by default INFER.precision of its config.

    Attributes:
        extractor: Network for frames and pictures; None if there are neither.
        tagger: Network for the embedding of a video; None if it is not wanted.
        sound_encoder: Network for sound; None if it is not wanted.
        text_encoder: Network for texts, recognized text and speech; None if there is none of them.
        text_sense: Reads text in frames; None if it is not wanted.
        speech_sense: Transcribes speech; None if it is not wanted.

    Raises:
        ConfigError: Packages are missing, options are invalid, or a GPU or 16 bits are requested but no input
            needs the first stage.
        WeightsError: Weights are missing or damaged.
        DeviceError: The device does not exist.
    """

    extractor: Extractor | None = None
    tagger: TrainedModel | None = None
    sound_encoder: SoundEncoder | None = None
    text_encoder: TextEncoder | None = None
    text_sense: Sense | None = None
    speech_sense: Sense | None = None

    def __init__(
        self,
        inputs: Sequence[Input],
        options: AllOptions,
        *,
        use_gpu: bool | str | None = None,
        backend: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.inputs, self.options = tuple(inputs), options
        self._settings: dict[str, Any] = {"use_gpu": use_gpu, "backend": backend, "precision": precision}
        if not _OF_FRAMES & set(inputs):
            _check_has_no_effect(use_gpu=use_gpu, precision=precision)
        # What may be missing comes first; Paddle takes seconds to import.
        if "ocr" in inputs:
            (self.text_sense,) = load_senses(["text"])
        if "speech" in inputs:
            model, language = options.speech.model, options.speech.language
            (self.speech_sense,) = load_senses(["speech"], speech_model=model, language=language)
        if {"text", "ocr", "speech"} & set(inputs):
            self.text_encoder = _load_text_encoder(options.text, backend or AUTO)
        if "audio" in inputs:
            self.sound_encoder = _load_sound_encoder(options.audio, backend or AUTO)
        if _OF_FRAMES & set(inputs):
            self.extractor = _extractor(options.video, **self._settings)
        if "embedding" in inputs:
            assert self.extractor is not None
            self.tagger = _tagger(options.embedding, self.extractor.feature_dim, backend or AUTO, use_gpu)
            self._tagger_sha256 = file_digest(self.tagger.sources[0].weights.path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the options and the selected runtime of the extractor."""
        choice = self.extractor.network.choice if self.extractor else None
        return _reopened, (self.inputs, self.options, self._settings, choice)

    def stamp(self, name: Input) -> dict[str, Any]:
        """What determines the features of an input besides the sample; equal stamps may be mixed."""
        if name in ("video", "image"):
            assert self.extractor is not None
            stamp = self.extractor.stamp()
            if name == "image":  # it has no sampling
                stamp = {k: v for k, v in stamp.items() if k not in ("seg_num", "sampling", "fps")}
            return stamp
        if name == "embedding":
            assert self.tagger is not None
            assert self.extractor is not None
            network, features = self.tagger.config.entry.name, self.extractor.stamp()
            return {"extractor": network, "weights_sha256": self._tagger_sha256, "features": features}
        if name == "audio":
            assert self.sound_encoder is not None
            return self.sound_encoder.stamp()
        assert self.text_encoder is not None
        return self.text_encoder.stamp()

    def source(self, name: Input) -> str | None:
        """The network that reads the words of an input, and its language if that is set; None for neither."""
        sense = {"ocr": self.text_sense, "speech": self.speech_sense}.get(name)
        if sense is None:
            return None
        language = self.options.speech.language if name == "speech" else None
        return sense.source if language is None else f"{sense.source}, {language}"


def _check_has_no_effect(*, use_gpu: bool | str | None, precision: str | None) -> None:
    """Refuses flags of the first stage where there is none."""
    given = {"use_gpu": use_gpu is True, "precision": precision not in (None, "auto", "f32")}
    for flag, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"--{flag}: networks of sound and texts run on the CPU in f32; leave it out, or add video or "
                "image to --inputs"
            )


def _extractor(
    options: VideoFeatures, *, use_gpu: bool | str | None, backend: str | None, precision: str | None
) -> Extractor:
    named = {
        "INFER.fps": options.fps,
        "INFER.seg_num": options.max_frames,
        "INFER.backend": backend,
        "INFER.precision": precision,
        "TRAIN.use_gpu": use_gpu,
    }
    overrides = [(key, value) for key, value in named.items() if value is not None]
    source = read_source(_extractor_weights(options.weights), options.config, overrides=overrides)
    if not source.config.entry.two_stage:
        raise ConfigError(
            f"INPUTS.video.weights: {source.weights.path} is not a first stage; give one of `videotag models`"
        )
    if source.config.model.format != "video":
        raise ConfigError("INPUTS.video.config: MODEL.format is frames; set it to video")
    return load_extractor(source.config, source.weights)


def _tagger(
    options: EmbeddingFeatures, feature_dim: int, backend: str, use_gpu: bool | str | None
) -> TrainedModel:
    if options.weights is None:
        raise ConfigError("INPUTS.embedding: has no weights of its own; give INPUTS.embedding.weights")
    overrides: list[tuple[str, Any]] = [("INFER.backend", backend), ("INFER.precision", "f32")]
    if use_gpu is not None:
        overrides.append(("TRAIN.use_gpu", use_gpu))
    model = TrainedModel.load(options.weights, overrides=overrides)
    if EMBEDDING not in model.outputs:
        name = model.config.entry.name
        raise ConfigError(
            f"INPUTS.embedding.weights: {options.weights}: {name} returns no embedding; give an "
            "AttentionLSTM, and if it is an export of an older version, export it again"
        )
    names = [spec for spec in model.inputs if not spec.name.endswith(MASK)]
    if len(names) > 1 or names[0].shape[-1] != feature_dim:
        widths = ", ".join(f"{spec.name} ({spec.shape[-1]} wide)" for spec in names)
        raise ConfigError(
            f"INPUTS.embedding.weights: {options.weights}: takes {widths}, but INPUTS.video gives features "
            f"{feature_dim} wide; name the first stage it was trained on as INPUTS.video.weights"
        )
    return model


def _extractor_weights(weights: str | None) -> FoundWeights:
    if weights is not None:
        return find_weights(weights)
    try:
        resolve_weights(_OWN_WEIGHTS)
    except WeightsError:
        return find_weights(DEFAULT_EXTRACTOR)
    return find_weights(_OWN_WEIGHTS)


def _load_sound_encoder(options: AudioFeatures, backend: str) -> SoundEncoder:
    if options.extractor == "speech_embedding":
        from videotag.encoders.speech_embedding import SpeechEmbedding

        return SpeechEmbedding()
    if options.weights is None:
        raise ConfigError(
            "INPUTS.audio.extractor: vggish has no weights of its own; give INPUTS.audio.weights"
        )
    path = find_weights(options.weights).path
    from videotag.encoders.vggish_sound import VggishSound, Whitening
    from videotag.models.vggish import VGGish, VGGishConfig

    whitening = None
    if options.pca is not None:
        file = find_weights(options.pca).path
        eigen_vectors, means = _read_pca(file)
        whitening = Whitening(eigen_vectors, means, file_digest(file), options.quantize)
    network = _network(VGGish(VGGishConfig()), path, "VGGish", backend, config=[])
    return VggishSound(network, weights_sha256=file_digest(path), whitening=whitening)


def _read_pca(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Components (128, 128) and means (128,) of a .npz as published, or of torchvggish's .pth."""
    vectors, means = _PCA_KEYS
    try:
        if path.suffix == ".npz":
            arrays = read_modalities(path, {vectors: _VGGISH_DIM}) | read_vectors(path, [means])
        else:
            arrays = read_weights(path)
    except FeatureFileError as error:
        what = str(error).partition(";")[0]  # without the remedy for features
        raise WeightsError(f"{what}; expected VGGish's PCA as published, so download it again") from error
    found = [arrays[key].astype(np.float32) for key in _PCA_KEYS if key in arrays]
    if [array.size for array in found] != [_VGGISH_DIM**2, _VGGISH_DIM]:
        raise WeightsError(f"{path}: not VGGish's PCA; expected {vectors} (128, 128) and {means} (128,)")
    if not all(np.isfinite(array).all() for array in found):
        raise WeightsError(f"{path}: NaN or infinite values; download it again")
    return found[0].reshape(_VGGISH_DIM, _VGGISH_DIM), found[1].reshape(-1)


def _load_text_encoder(options: TextFeatures, backend: str) -> TextEncoder:
    if options.extractor == "use":
        from videotag.encoders.sentence_encoder import UniversalSentenceEncoder

        return UniversalSentenceEncoder()
    if options.weights is None:
        raise ConfigError("INPUTS.text.extractor: bert has no weights of its own; give INPUTS.text.weights")
    from videotag.encoders.bert_text import BertText, read_bert_folder
    from videotag.encoders.wordpiece import WordPiece

    path = Path(options.weights)
    folder = read_bert_folder(path if path.is_dir() else find_weights(options.weights).path.parent)
    tokenizer = WordPiece(folder.path, max_tokens=options.max_tokens)
    from videotag.models.bert import Bert, BertConfig

    try:
        config = BertConfig(**folder.sizes)
    except ValidationError as error:
        lines = error_lines(error, f"{folder.path / 'config.json'}: BERT", BertConfig)
        raise one_error(WeightsError, lines) from error
    if tokenizer.size > config.vocab_size or options.max_tokens > config.max_positions:
        raise WeightsError(
            f"{folder.path}: {tokenizer.size} tokens and texts of {options.max_tokens}, but the network has "
            f"{config.vocab_size} and {config.max_positions}; lower INPUTS.text.max_tokens, or "
            "correct vocab.txt"
        )
    network = _network(Bert(config), folder.weights, "BERT", backend, config=folder.sizes)
    stamp = {
        "extractor": "BERT",
        "weights_sha256": file_digest(folder.weights),
        "vocabulary_sha256": file_digest(folder.path / "vocab.txt"),
        "pooling": config.pooling,
        "max_tokens": options.max_tokens,
    }
    return BertText(network, tokenizer, stamp)


def _network(model: Any, path: Path, name: str, backend: str, *, config: Any) -> RuntimeNetwork:
    """A model with the weights of a file, in a runtime; f32."""
    from videotag.inference.load_weights import load_weights

    load_weights(model, path, config_name=name)
    trained = TrainedNetwork.from_model(model, weights=[file_digest(path)], config=config, name=name)
    return RuntimeNetwork(trained, RuntimeRequest(backend, "f32"), tolerances=agreement.FEATURES)


def _reopened(
    inputs: Sequence[Input], options: AllOptions, settings: dict[str, Any], choice: RuntimeChoice | None
) -> FeatureNetworks:
    networks = FeatureNetworks(inputs, options, **settings)
    if choice is not None and networks.extractor is not None:
        networks.extractor.network.set_choice(choice)
    return networks
