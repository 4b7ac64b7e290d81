"""What `videotag features` computes and with which networks: the INPUTS of its config, with defaults.

INPUTS:
video: {weights: weights/tsn, config: configs/tsn.yaml, fps: 3, max_frames: 180}
audio: {extractor: vggish, weights: vggish.pth, pca: vggish_pca_params.npz, quantize: true}
text: {extractor: bert, weights: models/bert-base-chinese}
speech: {language: zh, on_error: missing}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, ValidationError

from videotag.config import error_lines
from videotag.config_file import apply_override, read_sections
from videotag.errors import ConfigError, one_error
from videotag.registry import unknown
from videotag.safe_text import safe_repr
from videotag.sections import AboveZero, FilePath, Needs, NumFrames, Section

#: Kinds of input, in the order in which they are computed.
Input: TypeAlias = Literal["video", "embedding", "image", "audio", "text", "ocr", "speech"]
INPUTS: tuple[Input, ...] = get_args(Input)
_MAX_TOKENS = 512  # positions of most BERT models


class FeatureOptions(Section):
    """Keys of every input.

    Attributes:
        on_error: What happens if an input of a sample cannot be read: "fail" lists the sample as failed;
            "missing" lists the failure, and lists the sample without this input.
    """

    on_error: Literal["fail", "missing"] = "fail"


class VideoFeatures(FeatureOptions):
    """Frames of videos; pictures are encoded by the same network.

    Attributes:
        weights: Weights of the first stage: a file, a folder, an export, or a name; None for weights/tsn if
            it exists, else EfficientNet-Lite0.
        config: Config of the first stage; None for the one beside the weights.
        fps: Frames per second; None for the number of frames of the config.
        max_frames: Maximum number of frames of a video; None for INFER.seg_num of the config.
    """

    weights: FilePath | None = None
    config: FilePath | None = None
    fps: AboveZero | None = None
    max_frames: NumFrames | None = None


class EmbeddingFeatures(FeatureOptions):
    """A single row per video: the embedding that a tagger computes from the features of `video`.

    Attributes:
        weights: Weights or an export of an AttentionLSTM; they have no default.
    """

    weights: FilePath | None = None


class ImageFeatures(FeatureOptions):
    """Covers and other pictures.

    Attributes:
        max_images: Maximum number of pictures of a sample; further ones are not read.
    """

    max_images: Annotated[int, Field(ge=1, le=1000)] = 30


class AudioFeatures(FeatureOptions):
    """Sound.

    Attributes:
        extractor: "speech_embedding", whose weights come with `videotag[sound]`, or "vggish".
        weights: Weights of VGGish: a file, or a name.
        pca: File of AudioSet's PCA for VGGish (.npz, .pth), or a name; None for the network's own output.
        quantize: Whether values after the PCA become uint8, as in YouTube-8M.
    """

    extractor: Literal["speech_embedding", "vggish"] = "speech_embedding"
    weights: Annotated[FilePath | None, Needs("extractor", "vggish")] = None
    pca: Annotated[FilePath | None, Needs("extractor", "vggish")] = None
    quantize: Annotated[bool, Needs("pca")] = False


class TextFeatures(FeatureOptions):
    """Texts; recognized text and speech are encoded by the same network.

    Attributes:
        extractor: "use", Universal Sentence Encoder, whose weights come with `videotag[text]`, or "bert".
        weights: Folder of a BERT model, or a name.
        max_tokens: Maximum number of tokens of a text, [CLS] and [SEP] included.
    """

    extractor: Literal["use", "bert"] = "use"
    weights: Annotated[FilePath | None, Needs("extractor", "bert")] = None
    max_tokens: Annotated[int, Field(ge=2, le=_MAX_TOKENS), Needs("extractor", "bert")] = 128


class OcrFeatures(FeatureOptions):
    """Text that is shown in videos."""


class SpeechFeatures(FeatureOptions):
    """Speech.

    Attributes:
        model: CTranslate2 folder of Whisper; None for the base model of `videotag[speech]`.
        language: Code of the language, such as "zh"; None lets the network decide.
    """

    model: FilePath | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None


_SECTIONS: dict[str, type[FeatureOptions]] = {
    "video": VideoFeatures,
    "embedding": EmbeddingFeatures,
    "image": ImageFeatures,
    "audio": AudioFeatures,
    "text": TextFeatures,
    "ocr": OcrFeatures,
    "speech": SpeechFeatures,
}


class AllOptions(Section):
    """Options of every kind of input."""

    video: VideoFeatures = VideoFeatures()
    embedding: EmbeddingFeatures = EmbeddingFeatures()
    image: ImageFeatures = ImageFeatures()
    audio: AudioFeatures = AudioFeatures()
    text: TextFeatures = TextFeatures()
    ocr: OcrFeatures = OcrFeatures()
    speech: SpeechFeatures = SpeechFeatures()

    def of(self, name: Input) -> FeatureOptions:
        """The options of an input."""
        options: FeatureOptions = getattr(self, name)
        return options


def read_options(config: str | Path | None, overrides: Sequence[tuple[str, Any]] = ()) -> AllOptions:
    """The options of all inputs.

    Args:
        config: YAML with a section INPUTS; None for defaults.
        overrides: Pairs of dotted key and value, such as INPUTS.audio.extractor; see apply_override.

    Raises:
        ConfigError: The file or an override is invalid; one line per problem.
    """
    raw = read_sections(config)[0] if config else {}
    for dotted, value in overrides:
        apply_override(raw, dotted, value)
    if others := [name for name in raw if name != "INPUTS"]:
        raise ConfigError(f"{config or '--set'}: {others[0]}: `videotag features` takes INPUTS alone")
    read: dict[str, FeatureOptions] = {}
    problems = []
    for name, values in raw.get("INPUTS", {}).items():
        section = _SECTIONS.get(name)
        if section is None:
            problems.append(f"INPUTS.{unknown(str(name), INPUTS, 'input')}")
        elif not isinstance(values, Mapping):
            problems.append(f"INPUTS.{name}: {safe_repr(values)} is not a section of key: value lines")
        else:
            try:
                read[name] = section.model_validate(values)
            except ValidationError as error:
                problems += error_lines(error, f"INPUTS.{name}", section)
    if problems:
        raise one_error(ConfigError, [f"{config}: {text}" for text in problems] if config else problems)
    return AllOptions.model_validate(read)


def check_inputs(names: Sequence[str]) -> tuple[Input, ...]:
    """The kinds of input by name, in the order of INPUTS.

    Raises:
        ConfigError: A name is unknown, or there is none.
    """
    for name in names:
        if name not in INPUTS:
            raise ConfigError(f"--inputs: {unknown(name, INPUTS, 'input')}")
    if not names:
        raise ConfigError(f"--inputs: expected some of {', '.join(INPUTS)}")
    return tuple(name for name in INPUTS if name in names)
