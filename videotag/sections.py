"""What stands in the sections of a config: keys, values, defaults, and what is wrong with them.

Section and key names are VideoTag's. The class of the MODEL section comes from the model's own file.
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

DEFAULT_MOMENTUM = 0.9
_CORES_PER_VIDEO = 4  # one decoder hardly keeps more busy
#: Largest count, width or size: no data set has as many classes, no network such layers, and larger numbers
#: overflow what libraries compute with them.
MAX_COUNT = 10_000_000
MAX_FRAMES = 1_000_000  # taken from a video; ten hours at 30 frames a second have 1,080,000
MAX_LAYERS = 1000  # of a stack, which is built layer by layer; the deepest that are known have some hundreds
MAX_MODALITIES = 100  # each gets layers of its own
MAX_SIDE_PX = 8192  # of a scaled frame; 8K video has a width of 7,680
MAX_THREADS = 256  # of one decoder; FFmpeg opens nothing with 512
MAX_PATH = 4095  # characters; Linux takes as many bytes
MAX_SECONDS = 1e6  # of a time-out, 11 days; the system's clock takes up to 9e9
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
NumFrames = Annotated[int, Field(ge=1, le=MAX_FRAMES)]
NumLayers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
FilePath = Annotated[str, Field(max_length=MAX_PATH)]
SidePx = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
# Wider than 0..255 by far; what is divided by less, or by 0, overflows in float16 and float32.
ColourMean = Annotated[float, Field(ge=-1e6, le=1e6)]
ColourStd = Annotated[float, Field(ge=1e-6, le=1e6)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Key(Enum):
    """What holds of a key; written at the key, as Annotated metadata."""

    RESUMABLE = auto()  # may change when a run is resumed, as it does not decide the weights
    FILE = auto()  # names a file other than a list, or means nothing without a key that does
    LOCAL = auto()  # holds on this machine alone
    OUTSIDE = auto()  # has no part in the network, so that an export may be run with another value


@dataclass(frozen=True)
class Needs:
    """Metadata of a key that means nothing unless another key is set.

    Attributes:
        key: The other key, of the same section.
        value: The value that it needs; None for any but the empty ones.
    """

    key: str
    value: str | None = None

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={self.value}"


class Section(BaseModel):
    """Base of all sections: an unknown key is an error, and so is a key without what it needs."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def keys(cls, kind: Key) -> set[str]:
        """The keys of which this holds."""
        return {name for name, field in cls.model_fields.items() if kind in field.metadata}

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> Section:
        for name, field in type(self).model_fields.items():
            for needs in (each for each in field.metadata if isinstance(each, Needs)):
                found = getattr(self, needs.key)
                is_set = found == needs.value if needs.value else bool(found)
                if not is_set and getattr(self, name) != field.default:
                    raise ValueError(
                        f"{name}: nothing looks at it without {needs}; set that too, or leave it out"
                    )
        return self


# ---------------------------------------------------------------- MODEL


class ModelSection(Section):
    """What every MODEL section has.

    Attributes:
        name: the registered model.
        dataset: what it was trained on; shown, not used.
        num_classes: width of the logits.
        topk: tags kept per video in predictions.
        task: "multi_label" (any number of tags, sigmoid) or "single_label" (one class, softmax); the
            registered one of the model if not given.
        label_file: class names, line = class id, or YouTube-8M's vocabulary.csv; beside every checkpoint lies
            a labels.txt of them.
    """

    name: str
    dataset: Annotated[str | None, Key.RESUMABLE] = None
    num_classes: Positive
    topk: Annotated[Positive, Key.RESUMABLE, Key.OUTSIDE] = 20
    task: Literal["multi_label", "single_label"] | None = None
    # A resumed run compares the names, not where they stand.
    label_file: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE, Key.OUTSIDE] = None

    #: Names of the readers where a config has no INPUTS section; none if it must have one.
    default_readers: ClassVar[tuple[str, ...]] = ()

    def default_inputs(self) -> dict[str, dict[str, Any]]:
        """The INPUTS section where a config has none."""
        return {}


class TaggerModel(ModelSection):
    """MODEL section of a tagger, which reads one sequence of features per modality.

    Attributes:
        feature_names: the modalities, in the order of feature_dims.
        feature_dims: width of each modality's features.
        feature_num: number of modalities, only checked (YAMLs of older systems state it).
    """

    feature_names: list[str] = Field(default=["rgb"], min_length=1, max_length=MAX_MODALITIES)
    feature_dims: list[Positive] = Field(default=[2048], min_length=1, max_length=MAX_MODALITIES)
    feature_num: int | None = None

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
        """Every modality by the reader of features."""
        return {name: {"reader": "features", "width": width} for name, width in self.dims.items()}

    @property
    def dims(self) -> dict[str, int]:
        """Width of the features of each modality."""
        return dict(zip(self.feature_names, self.feature_dims, strict=True))

    def per_modality(self, key: str) -> dict[str, int]:
        """A setting by modality: one number stands for all of them, a list for each in turn.

        Raises:
            ConfigError: a list of another length than feature_names.
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
    """MODEL section of an extractor, which reads frames.

    Attributes:
        format: "video": lists name media files; "frames": folders of img_%05d.jpg, and their number.
        seglen: frames per segment; only 1, as in VideoTag.
        image_mean, image_std: of RGB in 0..1; a frame becomes (frame / 255 - mean) / std.
    """

    format: Annotated[Literal["video", "frames"], Key.OUTSIDE] = "video"
    seglen: Literal[1] = 1
    image_mean: tuple[ColourMean, ColourMean, ColourMean] = (0.485, 0.456, 0.406)
    image_std: tuple[ColourStd, ColourStd, ColourStd] = (0.229, 0.224, 0.225)

    default_readers: ClassVar[tuple[str, ...]] = ("frames",)

    def default_inputs(self) -> dict[str, dict[str, Any]]:
        """Frames, of videos or of folders."""
        return {FRAMES: {"reader": "frames", "format": self.format}}


# ---------------------------------------------------------------- INPUTS


class InputOptions(Section):
    """An entry of INPUTS: how one input of the model is read.

    Attributes:
        reader: Name of the reader.
        field: Field of a sample that the reader is given; that of the input's own name, or the one path of a
            list of paths, if not given.
    """

    reader: str
    field: str | None = None


# ---------------------------------------------------------------- TRAIN, VALID, TEST, INFER


def _auto_or_bool(value: Any) -> Any:
    """Lets use_gpu be written as auto, True, False, yes, 0 ..."""
    return value.strip().lower() if isinstance(value, str) else value


UseGpu = Annotated[bool | Literal["auto"], BeforeValidator(_auto_or_bool)]


class SplitSection(Section):
    """VALID, TEST or INFER.

    Attributes:
        batch_size: Samples per step, over all devices.
        filelist: List of the samples, `path label label ...`, or JSON lines (.jsonl).
    """

    batch_size: Positive = 128
    filelist: Annotated[FilePath | None, Key.RESUMABLE, Key.LOCAL] = None


class VideoSplitSection(SplitSection):
    """VALID, TEST or INFER of a model over frames.

    Attributes:
        batch_size: videos decoded at once, as far as buf_size holds their frames; where there are more than
            four cores for each, more.
        seg_num: frames sampled from each video.
        sampling: "uniform" covers the whole video evenly in time; "videotag" is the rule that old weights
            were trained with: it leaves out the end of most videos (up to half) and starts short ones again.
        short_size: pixels; the frame's short side after scaling, the long one follows.
        resize: "keep" keeps the aspect ratio; "videotag" forces 4:3, as old weights were trained: it squashes
            wide and tall pictures.
        target_size: pixels; side of the square cut from the middle.
        num_reader_threads: threads that decode, over all videos in work; 0 takes one per core.
        buf_size: decoded frames that may wait for the network (147 KiB each at 224 x 224).
        stall_limit_sec: seconds that an extraction waits for a frame before it gives a video up; 0 waits on.
    """

    batch_size: Positive = 1
    seg_num: NumFrames = 300
    sampling: Literal["uniform", "videotag"] = "uniform"
    short_size: SidePx = 256
    resize: Literal["keep", "videotag"] = "keep"
    target_size: SidePx = 224
    num_reader_threads: Annotated[int, Field(ge=0, le=MAX_THREADS), Key.RESUMABLE] = 0
    buf_size: Annotated[Positive, Key.RESUMABLE] = 1024
    stall_limit_sec: Annotated[float, Field(ge=0, le=MAX_SECONDS), Key.RESUMABLE] = 300.0

    @property
    def videos_ahead(self) -> int:
        """Videos whose frames may wait for the network: those that fit into buf_size, one at least."""
        return max(1, self.buf_size // self.seg_num)

    @property
    def videos_at_once(self) -> int:
        """Videos decoded at the same time: batch_size, or more where there are cores for it."""
        return min(max(self.batch_size, num_cores() // _CORES_PER_VIDEO), self.videos_ahead)

    @model_validator(mode="after")
    def _crop_fits(self) -> VideoSplitSection:
        if self.target_size > self.short_size:
            raise ValueError(f"target_size {self.target_size} is larger than short_size {self.short_size}")
        return self


class Runtime(Section):
    """Where and how exactly a trained network runs: keys of INFER.

    Attributes:
        backend: Name of a backend, checked where backends are known (videotag.runtime.backends); "auto" takes
            the fastest that is installed and gives the same answers as the network's own layers.
        precision: "f32", "bf16", or "f16" on a GPU; "auto" takes bf16 where the CPU has instructions for it
            and the results on the first data are close to those of f32.
    """

    backend: str = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"


class InferSection(SplitSection, Runtime):
    """INFER: the keys of both."""


class VideoInferSection(VideoSplitSection, InferSection):
    """INFER of a model over frames: the keys of both."""


class TrainSection(SplitSection):
    """TRAIN.

    Attributes:
        epoch: passes over the list.
        optimizer: "rmsprop" (centred, as VideoTag), "adam" or "momentum".
        learning_rate: at the start, for the whole batch.
        decay_epochs: epochs after which the rate is multiplied by decay_gamma.
        decay_gamma: see decay_epochs.
        warmup_epochs: the rate rises from 0 over this many epochs (may be a fraction).
        weight_decay: L2 on every weight but the biases of fully connected layers, as VideoTag.
        momentum: of the optimizer "momentum".
        clip_norm: gradients are scaled down to this global norm.
        loss_reduction: "mean" sums over classes and averages over the batch; "sum" sums over both, as
            VideoTag does: its weight_decay 8e-4 belongs to that sum.
        drop_last: leaves out the last batch of an epoch if it is not full.
        seed: of weights, order, augmentation and dropout; a random one is drawn and logged if not given.
        accumulate_steps: a batch is computed in so many parts, one after the other: less memory, the same
            step (batch norm sees the parts).
        ema_decay: the weights saved and evaluated are a running mean; 0.999 keeps that share per step.
        freeze: patterns of parameter names that stay as they are, such as "backbone.layer1.*".
        lr_factors: pattern of parameter names -> factor on their learning rate; the first that fits.
        precision: "fp32", or "fp16" or "bf16" on a GPU.
        early_stop: ends after so many validations without a better one.
        keep: checkpoints that stay, with what --resume needs; all weights and the last two states if not
            given.
        extend_labels: with pretrain: the classes whose names old and new label file share keep their weights.
        old_label_file: class names of pretrain, for extend_labels; labels.txt beside it if not given.
        num_samples: only checked against the list, which is counted.
        pretrain: weights to start from.
        use_gpu: True, False or "auto".
        num_gpus: only checked; there are as many as processes were started.
        checkpoint_minutes: the time between checkpoints in the middle of an epoch, which --resume goes on
            from; looked at when a log line is written; 0 for none.
        shuffle_buffer: of files of records: so many records are mixed with each other, 8,192 if not given.
            Pickles and packed files are held in memory that far, and 16 batches further (350 KB a record of
            YouTube-8M).
        loss: "bce", binary cross-entropy (cross-entropy of a single-label task); "asymmetric"
            (arXiv:2009.14119) weighs down what is learned already, absent tags most of all.
        asymmetric_gamma: by how much, for tags that are there and for those that are not.
        asymmetric_clip: an absent tag's probability up to which it costs nothing.
        distill_from: weights of teachers, whose mean probabilities are learned besides the labels.
        distill_weight: their share of the loss.
        distill_temperature: logits of teachers and learner are divided by it.
    """

    batch_size: Positive = 128
    epoch: Annotated[Positive, Key.RESUMABLE] = 10
    optimizer: Literal["rmsprop", "adam", "momentum"] = "rmsprop"
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    decay_epochs: list[Positive] = [5]
    decay_gamma: Annotated[float, Field(gt=0)] = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    momentum: Annotated[Fraction, Needs("optimizer", "momentum")] = DEFAULT_MOMENTUM
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    loss_reduction: Literal["mean", "sum"] = "mean"
    drop_last: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    accumulate_steps: Positive = 1
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    freeze: list[str] = []
    lr_factors: dict[str, Annotated[float, Field(ge=0)]] = {}
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    early_stop: Annotated[Positive | None, Key.RESUMABLE] = None
    keep: Annotated[Positive | None, Key.RESUMABLE] = None
    extend_labels: Annotated[bool, Key.RESUMABLE, Key.FILE, Needs("pretrain")] = False
    old_label_file: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE, Needs("extend_labels")] = None
    num_samples: Annotated[int | None, Key.RESUMABLE] = None
    pretrain: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE] = None
    use_gpu: Annotated[UseGpu, Key.RESUMABLE, Key.LOCAL] = "auto"
    num_gpus: Annotated[int | None, Key.RESUMABLE, Key.LOCAL] = None
    checkpoint_minutes: Annotated[float, Field(ge=0), Key.RESUMABLE] = 15.0
    shuffle_buffer: Positive | None = None
    loss: Literal["bce", "asymmetric"] = "bce"
    asymmetric_gamma: Annotated[tuple[NotNegative, NotNegative], Needs("loss", "asymmetric")] = (0.0, 4.0)
    asymmetric_clip: Annotated[float, Field(ge=0, lt=1), Needs("loss", "asymmetric")] = 0.05
    distill_from: Annotated[list[FilePath], Key.FILE] = []
    distill_weight: Annotated[float, Field(gt=0, le=1), Key.FILE, Needs("distill_from")] = 0.5
    distill_temperature: Annotated[float, Field(gt=0), Key.FILE, Needs("distill_from")] = 1.0

    @model_validator(mode="after")
    def _parts_are_not_empty(self) -> TrainSection:
        if self.accumulate_steps > self.batch_size:
            raise ValueError(
                f"accumulate_steps: {self.accumulate_steps} parts of a batch of {self.batch_size}; give fewer"
            )
        return self


class FeatureTrainSection(TrainSection):
    """TRAIN of a model over features, and how these vary from step to step.

    Attributes:
        sample_steps: learns from so many random steps of each video; a shorter one stays whole.
        mixup_alpha: mixes every video and its labels with another one's, by shares of Beta(alpha, alpha).
        modality_dropout: probability that a modality of a video is blanked; one of them always stays.
    """

    sample_steps: Positive | None = None
    mixup_alpha: Annotated[float, Field(gt=0)] | None = None
    modality_dropout: Fraction = 0.0


class VideoTrainSection(TrainSection, VideoSplitSection):
    """TRAIN of a model over frames: the keys of both, and how frames vary from epoch to epoch.

    Attributes:
        segment_offset: "random": a frame anywhere in its segment; "middle".
        crop: "multiscale": a corner or the middle of the frame, in a random size and shape, as TSN's paper;
            "random": a square of target_size anywhere; "center".
        flip: mirrors every other video; False where tags depend on left and right.
    """

    batch_size: Positive = 32
    seg_num: NumFrames = 3
    optimizer: Literal["rmsprop", "adam", "momentum"] = "momentum"
    learning_rate: Annotated[float, Field(gt=0)] = 0.00125
    decay_epochs: list[Positive] = [15, 30]
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    epoch: Annotated[Positive, Key.RESUMABLE] = 45
    segment_offset: Literal["random", "middle"] = "random"
    crop: Literal["multiscale", "random", "center"] = "multiscale"
    flip: bool = True
