"""Config sections as pydantic models: keys, types, defaults and validation.

Section and key names are VideoTag's. Each model's file defines the class of its MODEL section, and
train_section.py that of TRAIN.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from videotag.errors import ConfigError
from videotag.registry import FRAMES
from videotag.safe_text import safe_repr
from videotag.system.cores import num_cores

_CORES_PER_VIDEO = 4  # one decoder rarely uses more
#: Largest count, width or size: more than any dataset or network has; larger values overflow in libraries.
MAX_COUNT = 10_000_000
MAX_FRAMES = 1_000_000  # frames per video; ten hours at 30 fps have 1,080,000
MAX_LAYERS = 1000  # layers of a stack; the deepest known networks have some hundreds
MAX_MODALITIES = 100  # each has its own layers
MAX_SIDE_PX = 8192  # side of a scaled frame; 8K video is 7,680 wide
MAX_THREADS = 256  # threads of one decoder; FFmpeg fails with 512
MAX_PATH = 4095  # characters; Linux allows as many bytes
MAX_SECONDS = 1e6  # timeout, 11 days; the system clock allows up to 9e9
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
NumFrames = Annotated[int, Field(ge=1, le=MAX_FRAMES)]
NumLayers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
FilePath = Annotated[str, Field(max_length=MAX_PATH)]
SidePx = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
# Far wider than 0..255; division by a smaller number overflows in float16 and float32.
ColorMean = Annotated[float, Field(ge=-1e6, le=1e6)]
ColorStd = Annotated[float, Field(ge=1e-6, le=1e6)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
AboveZero = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Key(Enum):
    """Property of a config key, given as Annotated metadata at the key."""

    RESUMABLE = auto()  # may change when a run is resumed, because it does not affect the weights
    FILE = auto()  # names a file other than a list, or depends on a key that does
    LOCAL = auto()  # valid only on this machine
    OUTSIDE = auto()  # not part of the network, so an export can run with another value
    STEPS = auto()  # has no effect without gradient steps, which TRAIN.optimizer "lbfgs" does not take


@dataclass(frozen=True)
class Needs:
    """Metadata of a key that has no effect unless another key is set.

    Attributes:
        key: Name of the other key, in the same section.
        value: Required value of the other key; None for any non-empty value.
    """

    key: str
    value: str | None = None

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={self.value}"


@dataclass(frozen=True)
class FollowsTrain:
    """Metadata of a key that, if VALID does not set it, has TRAIN's value there instead of its default.

    Attributes:
        unless: Name of a key of the same section; if VALID sets that one, this one keeps its default. None
            for no such key.
    """

    unless: str | None = None


class Section(BaseModel):
    """Base class of all sections: unknown keys are errors, and so are keys without effect, see Needs."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def keys(cls, kind: Key) -> set[str]:
        """The names of the keys with this property."""
        return {name for name, field in cls.model_fields.items() if kind in field.metadata}

    @model_validator(mode="after")
    def _reject_unused_keys(self) -> Section:
        for name, field in type(self).model_fields.items():
            for needs in (each for each in field.metadata if isinstance(each, Needs)):
                value = getattr(self, needs.key)
                is_set = value == needs.value if needs.value else bool(value)
                if not is_set and getattr(self, name) != field.default:
                    raise ValueError(f"{name}: has no effect without {needs}; set that too, or leave it out")
        return self


# ---------------------------------------------------------------- MODEL


class ModelSection(Section):
    """Keys of every MODEL section.

    Attributes:
        name: Name of the registered model.
        dataset: Name of the dataset of the config's published weights, for the model card of their exports
            only.
        num_classes: Number of classes, the width of the logits.
        topk: Maximum number of tags per video in predictions.
        task: "multi_label" (any number of tags, sigmoid) or "single_label" (one class, softmax); None for the
            model's registered task.
        label_file: File of class names, one per line in the order of class ids, or YouTube-8M's
            vocabulary.csv. A copy, labels.txt, is written beside every checkpoint.
    """

    name: str
    dataset: Annotated[str | None, Key.RESUMABLE] = None
    num_classes: Positive
    topk: Annotated[Positive, Key.RESUMABLE, Key.OUTSIDE] = 20
    task: Literal["multi_label", "single_label"] | None = None
    # Resuming compares the class names, not the path.
    label_file: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE, Key.OUTSIDE] = None

    #: Names of the readers if a config has no INPUTS section; empty if it must have one.
    default_readers: ClassVar[tuple[str, ...]] = ()

    def default_inputs(self) -> dict[str, dict[str, Any]]:
        """The INPUTS section of a config without one."""
        return {}

    def plugins(self) -> list[str | None]:
        """Per registered part that the section names, the plugin that registered it; None if built-in."""
        return []


class TaggerModel(ModelSection):
    """MODEL section of a tagger, whose inputs are one feature sequence per modality.

    Attributes:
        feature_names: Names of the modalities, in the order of feature_dims.
        feature_dims: Feature width of each modality.
        feature_num: Number of modalities, a key of older systems that is only checked.
        standardize: Whether the mean of each feature in the training set is subtracted, and all are divided
            by their common standard deviation, inside the network.
    """

    feature_names: list[str] = Field(default=["rgb"], min_length=1, max_length=MAX_MODALITIES)
    feature_dims: list[Positive] = Field(default=[2048], min_length=1, max_length=MAX_MODALITIES)
    feature_num: int | None = None
    standardize: bool = False

    @model_validator(mode="after")
    def _modalities_agree(self) -> TaggerModel:
        counts = {
            len(self.feature_names),
            len(self.feature_dims),
            self.feature_num or len(self.feature_names),
        }
        if len(counts) > 1 or len(set(self.feature_names)) < len(self.feature_names):
            raise ValueError(
                f"feature_names {safe_repr(self.feature_names)}, feature_dims {safe_repr(self.feature_dims)} "
                f"and feature_num {self.feature_num} disagree; give each modality one name and one width"
            )
        return self

    default_readers: ClassVar[tuple[str, ...]] = ("features",)

    def default_inputs(self) -> dict[str, dict[str, Any]]:
        """One input per modality, all with the "features" reader."""
        return {name: {"reader": "features", "width": width} for name, width in self.dims.items()}

    @property
    def dims(self) -> dict[str, int]:
        """Feature width by modality."""
        return dict(zip(self.feature_names, self.feature_dims, strict=True))

    def per_modality(self, key: str) -> dict[str, int]:
        """The values of a key by modality; a single number applies to all of them.

        Raises:
            ConfigError: The value is a list that differs in length from feature_names.
        """
        value = getattr(self, key)
        values = value if isinstance(value, list) else [value] * len(self.feature_names)
        if len(values) != len(self.feature_names):
            raise ConfigError(
                f"MODEL.{key}: {safe_repr(value)} has {len(values)} values, but feature_names "
                f"{safe_repr(self.feature_names)} has {len(self.feature_names)}; give one number, or "
                "one for each"
            )
        return dict(zip(self.feature_names, values, strict=True))


class ExtractorModel(ModelSection):
    """MODEL section of an extractor, whose input is frames.

    Attributes:
        format: "video" for lists of media files; "frames" for lists of folders of img_%05d.jpg with their
            number of frames.
        seglen: Number of frames per segment; only 1 is supported, as in VideoTag.
        image_mean, image_std: Mean and standard deviation per RGB channel, in units of 0..1; a frame is
            normalized as (frame / 255 - mean) / std.
    """

    format: Annotated[Literal["video", "frames"], Key.OUTSIDE] = "video"
    seglen: Literal[1] = 1
    image_mean: tuple[ColorMean, ColorMean, ColorMean] = (0.485, 0.456, 0.406)
    image_std: tuple[ColorStd, ColorStd, ColorStd] = (0.229, 0.224, 0.225)

    default_readers: ClassVar[tuple[str, ...]] = ("frames",)

    def default_inputs(self) -> dict[str, dict[str, Any]]:
        """The input of frames, from videos or folders."""
        return {FRAMES: {"reader": "frames", "format": self.format}}


# ---------------------------------------------------------------- INPUTS


class InputOptions(Section):
    """An entry of INPUTS, which configures how one input of the model is read.

    Attributes:
        reader: Name of the reader.
        field: Name of the sample's field that is passed to the reader; None for the field with the input's
            own name, or for the path in a list of paths.
    """

    reader: str
    field: str | None = None


# ---------------------------------------------------------------- VALID, TEST, INFER


def _auto_or_bool(value: Any) -> Any:
    """Normalizes a text value of use_gpu, such as Auto or TRUE."""
    return value.strip().lower() if isinstance(value, str) else value


UseGpu = Annotated[bool | Literal["auto"], BeforeValidator(_auto_or_bool)]


class SplitSection(Section):
    """VALID, TEST or INFER.

    Attributes:
        batch_size: Number of samples per step, over all devices; that of TRAIN if VALID does not set it.
        filelist: Path of the list of samples, with lines `path label label ...`, or JSON lines (.jsonl).
    """

    batch_size: Annotated[Positive, FollowsTrain()] = 128
    filelist: Annotated[FilePath | None, Key.RESUMABLE, Key.LOCAL] = None


class VideoSplitSection(SplitSection):
    """VALID, TEST or INFER of a model of frames. VALID takes the values that it does not set from TRAIN.

    Attributes:
        batch_size: Number of videos decoded concurrently, limited by buf_size; more if there are over four
            cores per video. A VALID that sets seg_num but not batch_size has 1, because TRAIN's may be too
            large for that many frames.
        seg_num: Number of frames sampled per video.
        sampling: "uniform" samples the whole video evenly in time; "videotag" reproduces the sampling that
            old weights were trained with, which skips the end of most videos (up to half) and repeats short
            ones.
        short_size: Short side of the scaled frame in pixels.
        resize: "keep" keeps the aspect ratio; "videotag" distorts every frame to 4:3, as in the training of
            old weights.
        target_size: Side of the square center crop in pixels.
        num_reader_threads: Number of decoding threads, over all concurrent videos; 0 for one per core.
        buf_size: Maximum number of decoded frames that wait for the network (147 KiB each at 224 x 224).
        stall_limit_sec: Time in seconds that an extraction waits for a frame before the video fails; 0 for no
            limit.
    """

    batch_size: Annotated[Positive, FollowsTrain(unless="seg_num")] = 1
    seg_num: Annotated[NumFrames, FollowsTrain()] = 300
    sampling: Annotated[Literal["uniform", "videotag"], FollowsTrain()] = "uniform"
    short_size: Annotated[SidePx, FollowsTrain()] = 256
    resize: Annotated[Literal["keep", "videotag"], FollowsTrain()] = "keep"
    target_size: Annotated[SidePx, FollowsTrain()] = 224
    num_reader_threads: Annotated[int, Field(ge=0, le=MAX_THREADS), Key.RESUMABLE, FollowsTrain()] = 0
    buf_size: Annotated[Positive, Key.RESUMABLE, FollowsTrain()] = 1024
    stall_limit_sec: Annotated[float, Field(ge=0, le=MAX_SECONDS), Key.RESUMABLE, FollowsTrain()] = 300.0

    @property
    def videos_ahead(self) -> int:
        """The number of videos whose frames fit into buf_size, at least 1."""
        return max(1, self.buf_size // self.seg_num)

    @property
    def videos_at_once(self) -> int:
        """The number of videos decoded concurrently: batch_size, or more if there are enough cores."""
        return min(max(self.batch_size, num_cores() // _CORES_PER_VIDEO), self.videos_ahead)

    @model_validator(mode="after")
    def _crop_fits(self) -> VideoSplitSection:
        if self.target_size > self.short_size:
            raise ValueError(f"target_size {self.target_size} is larger than short_size {self.short_size}")
        return self


class Runtime(Section):
    """Backend and precision of a trained network: keys of INFER.

    Attributes:
        backend: Name of a backend, checked by videotag.runtime.backends; "auto" selects the fastest installed
            one whose outputs agree with the network's own layers.
        precision: "f32", "bf16", or "f16" on a GPU; "auto" selects bf16 if the CPU has instructions for it
            and the outputs on a sample of the data are close to f32.
    """

    backend: str = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"


class InferSection(SplitSection, Runtime):
    """INFER, with the keys of both bases."""


class VideoInferSection(VideoSplitSection, InferSection):
    """INFER of a model of frames, with the keys of both bases.

    Attributes:
        fps: Frames per second to sample, spread evenly over the video, for `extract`, `features` and `tag`;
            seg_num is then the maximum number of frames. None samples seg_num frames of every video.
    """

    fps: Annotated[AboveZero | None, Needs("sampling", "uniform")] = None
