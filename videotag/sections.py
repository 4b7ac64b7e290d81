"""What stands in the sections of a config: keys, values, defaults, and what is wrong with them.

Section and key names are VideoTag's. The class of the MODEL section comes from the model's own file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from videotag.errors import ConfigError
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
#: Keys of TRAIN that no extractor has.
FEATURE_AIDS = ("sample_steps", "mixup_alpha", "modality_dropout", "loss", "distill_from")


class Section(BaseModel):
    """Base of all sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


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
    dataset: str | None = None
    num_classes: Positive
    topk: Positive = 20
    task: Literal["multi_label", "single_label"] | None = None
    label_file: FilePath | None = None


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

    format: Literal["video", "frames"] = "video"
    seglen: Literal[1] = 1
    image_mean: tuple[ColourMean, ColourMean, ColourMean] = (0.485, 0.456, 0.406)
    image_std: tuple[ColourStd, ColourStd, ColourStd] = (0.229, 0.224, 0.225)


# ---------------------------------------------------------------- TRAIN, VALID, TEST, INFER


def _auto_or_bool(value: Any) -> Any:
    """Lets use_gpu be written as auto, True, False, yes, 0 ..."""
    return value.strip().lower() if isinstance(value, str) else value


UseGpu = Annotated[bool | Literal["auto"], BeforeValidator(_auto_or_bool)]


class SplitSection(Section):
    """VALID, TEST or INFER of a tagger.

    Attributes:
        batch_size: videos per step, over all devices.
        filelist: the list of features, `path.npy label label ...`.
    """

    batch_size: Positive = 128
    filelist: FilePath | None = None


class VideoSplitSection(SplitSection):
    """VALID, TEST or INFER of an extractor.

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
    num_reader_threads: Annotated[int, Field(ge=0, le=MAX_THREADS)] = 0
    buf_size: Positive = 1024
    stall_limit_sec: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 300.0

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
    """INFER of a tagger: the keys of both."""


class VideoInferSection(VideoSplitSection, Runtime):
    """INFER of an extractor: the keys of both."""


class TrainSection(SplitSection):
    """TRAIN of a tagger.

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
        sample_steps: learns from so many random steps of each video; a shorter one stays whole.
        mixup_alpha: mixes every video and its labels with another one's, by shares of Beta(alpha, alpha).
        modality_dropout: probability that a modality of a video is blanked; one of them always stays.
        loss: "bce", binary cross-entropy (cross-entropy of a single-label task); "asymmetric"
            (arXiv:2009.14119) weighs down what is learned already, absent tags most of all.
        asymmetric_gamma: by how much, for tags that are there and for those that are not.
        asymmetric_clip: an absent tag's probability up to which it costs nothing.
        distill_from: weights of teachers, whose mean probabilities are learned besides the labels.
        distill_weight: their share of the loss.
        distill_temperature: logits of teachers and learner are divided by it.
    """

    batch_size: Positive = 128
    epoch: Positive = 10
    optimizer: Literal["rmsprop", "adam", "momentum"] = "rmsprop"
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    decay_epochs: list[Positive] = [5]
    decay_gamma: Annotated[float, Field(gt=0)] = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    momentum: Fraction = DEFAULT_MOMENTUM
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    loss_reduction: Literal["mean", "sum"] = "mean"
    drop_last: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    accumulate_steps: Positive = 1
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    freeze: list[str] = []
    lr_factors: dict[str, Annotated[float, Field(ge=0)]] = {}
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    early_stop: Positive | None = None
    keep: Positive | None = None
    extend_labels: bool = False
    old_label_file: FilePath | None = None
    num_samples: int | None = None
    pretrain: FilePath | None = None
    use_gpu: UseGpu = "auto"
    num_gpus: int | None = None
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 15.0
    shuffle_buffer: Positive | None = None
    # What only taggers learn with: see FEATURE_AIDS.
    sample_steps: Positive | None = None
    mixup_alpha: Annotated[float, Field(gt=0)] | None = None
    modality_dropout: Fraction = 0.0
    loss: Literal["bce", "asymmetric"] = "bce"
    asymmetric_gamma: tuple[NotNegative, NotNegative] = (0.0, 4.0)
    asymmetric_clip: Annotated[float, Field(ge=0, lt=1)] = 0.05
    distill_from: list[FilePath] = []
    distill_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    distill_temperature: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> TrainSection:
        if self.extend_labels and not self.pretrain:
            raise ValueError("extend_labels: without pretrain there is nothing to keep; give --pretrain")
        if self.old_label_file and not self.extend_labels:
            raise ValueError("old_label_file: only extend_labels looks at it; set that too")
        if self.accumulate_steps > self.batch_size:
            raise ValueError(
                f"accumulate_steps: {self.accumulate_steps} parts of a batch of {self.batch_size}; give fewer"
            )
        if self.momentum != DEFAULT_MOMENTUM and self.optimizer != "momentum":
            raise ValueError(f"momentum: {self.optimizer} has none; set optimizer=momentum, or leave it out")
        if self.loss == "bce" and (idle := self._changed("asymmetric_gamma", "asymmetric_clip")):
            raise ValueError(f"{idle}: belong to loss=asymmetric; set that too, or leave them out")
        if not self.distill_from and (idle := self._changed("distill_weight", "distill_temperature")):
            raise ValueError(f"{idle}: without distill_from there is no teacher; set that too")
        return self

    def _changed(self, *keys: str) -> str:
        """Those of the keys whose values are not the defaults."""
        return ", ".join(k for k in keys if getattr(self, k) != type(self).model_fields[k].default)


class VideoTrainSection(TrainSection, VideoSplitSection):
    """TRAIN of an extractor: the keys of both, and how frames vary from epoch to epoch.

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
    epoch: Positive = 45
    segment_offset: Literal["random", "middle"] = "random"
    crop: Literal["multiscale", "random", "center"] = "multiscale"
    flip: bool = True

    @model_validator(mode="after")
    def _taggers_aids_are_off(self) -> VideoTrainSection:
        if found := self._changed(*FEATURE_AIDS):
            raise ValueError(
                f"{found}: for taggers, which read features, and a TSN reads frames; leave it out"
            )
        return self
