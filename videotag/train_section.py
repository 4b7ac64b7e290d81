"""The TRAIN section: what training starts from, epochs, optimizer, loss and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from videotag.sections import (
    AboveZero,
    FilePath,
    Fraction,
    Key,
    Needs,
    NotNegative,
    NumFrames,
    Positive,
    SplitSection,
    UseGpu,
    VideoSplitSection,
)

MAX_CLASS_WEIGHT = 10.0  # a class with one video would otherwise dominate the loss


class TrainSection(SplitSection):
    """TRAIN.

    Attributes:
        epoch: Number of epochs.
        min_steps: Minimum number of steps of the run; small lists get more epochs than `epoch`, and
            decay_epochs are scaled alike.
        optimizer: "rmsprop" (centered, as in VideoTag), "adam" or "momentum"; or "lbfgs", which solves the
            last layer to the optimum over the whole list, in one epoch. With it, all other layers must be
            frozen or have no parameters, as in StatisticsPool, MeanPool and MaxPool.
        learning_rate: Initial learning rate for the whole batch; "auto" chooses it by a range test of some
            steps before training. "lbfgs" has none.
        schedule: "step" multiplies the learning rate by decay_gamma after each of decay_epochs; "cosine"
            decreases it to 0 along half a cosine.
        decay_epochs: Epochs after which the learning rate is multiplied by decay_gamma.
        decay_gamma: Factor of the learning rate at each of decay_epochs.
        warmup_epochs: Number of epochs, possibly fractional, over which the learning rate increases from 0.
        weight_decay: L2 penalty on all weights except the biases of fully connected layers, as in VideoTag.
            With "lbfgs", "auto" chooses it by cross-validation; it is 1 / (C * samples) for the C of
            scikit-learn.
        momentum: Momentum of the "momentum" optimizer.
        clip_norm: Maximum global norm of the gradients; None for no clipping.
        loss_reduction: "mean" sums the loss over classes and averages it over the batch; "sum" sums over
            both, as in VideoTag, whose weight_decay of 8e-4 is tuned for it.
        drop_last: Whether to skip the last batch of an epoch if it is incomplete.
        seed: Seed of the run; drives initialization, order, augmentation and dropout. If None, a random one
            is drawn and logged.
        accumulate_steps: Number of parts in which each batch is computed, which saves memory; the step is the
            same, except that batch norm sees the parts.
        ema_decay: Decay per step of the exponential moving average of the weights, such as 0.999, which is
            saved and evaluated instead of the raw weights; None for none.
        freeze: Patterns of the names of parameters that are not trained, such as "backbone.layer1.*".
        freeze_epochs: Number of epochs, possibly fractional, after which the parameters of `freeze` are
            trained too; None for never. The optimizer's state starts anew then.
        freeze_norms: Whether batch norms keep their running mean and variance, and normalize with them in
            training too. Their scale and shift are trained, unless `freeze` matches them.
        start_from_probe: Whether the last layer starts as the linear probe: the logistic regression on its
            inputs over the whole list, with its penalty chosen by cross-validation.
        lr_factors: Factor of the learning rate by pattern of parameter names; the first match applies.
        precision: "fp32", or "fp16" or "bf16" on a GPU.
        early_stop: Number of validations without improvement after which training stops; None for no limit.
        keep: Number of checkpoints to keep, all of which can be resumed; None keeps all weights, and the
            training state of the last two.
        extend_labels: Whether classes that pretrain shares by name with the new label file keep their
            weights.
        old_label_file: File of pretrain's class names, for extend_labels; None for the labels.txt beside it.
        num_samples: Number of samples, only checked against the list.
        pretrain: Pretrained weights to start from.
        use_gpu: True, False or "auto".
        num_gpus: Number of GPUs, only checked against the number of processes.
        checkpoint_minutes: Minutes between checkpoints in the middle of an epoch, checked at every log line;
            0 for none.
        shuffle_buffer: Number of records that are shuffled together, for lists of record files; 8,192 if
            None. Pickles and compressed files are kept in memory for as many records plus 16 batches (350 KB
            per YouTube-8M record).
        class_weights: "balanced" weighs the loss of rare classes higher: that of a class's positives in a
            multi-label task, that of its videos in a single-label one. The weights are inversely
            proportional to the number of videos, at most MAX_CLASS_WEIGHT, and 1 for the most frequent class.
        logit_adjustment: Strength of the adjustment for class frequencies in a single-label task: this times
            the logarithm of a class's share is added to its logit in training, so that inference favors no
            class (1), or half as much (0.5). None for none.
        label_smoothing: Share of a label that is spread evenly: over all classes of a single-label task, or
            between present and absent.
        loss: "bce", binary cross-entropy (cross-entropy for single-label tasks); "asymmetric"
            (arXiv:2009.14119) down-weights easy labels, especially negative ones.
        asymmetric_gamma: Focusing exponents of the asymmetric loss for positive and negative labels.
        asymmetric_clip: Probability up to which negative labels have no loss.
        distill_from: Weights of the teachers; the student learns their mean probabilities in addition to the
            labels.
        distill_weight: Weight of the distillation loss; the loss of the labels has the rest.
        distill_temperature: Temperature by which the logits of teachers and student are divided.
        mixup_alpha: Parameter of mixup, whose weights follow Beta(alpha, alpha); None for no mixup.
    """

    batch_size: Positive = 128
    epoch: Annotated[Positive, Key.RESUMABLE] = 10
    min_steps: Annotated[Positive | None, Key.RESUMABLE, Key.STEPS] = None
    optimizer: Literal["rmsprop", "adam", "momentum", "lbfgs"] = "rmsprop"
    learning_rate: Annotated[AboveZero | Literal["auto"], Key.STEPS] = 0.001
    schedule: Annotated[Literal["step", "cosine"], Key.STEPS] = "step"
    decay_epochs: Annotated[list[Positive], Needs("schedule", "step"), Key.STEPS] = Field(default=[5])
    decay_gamma: Annotated[AboveZero, Needs("schedule", "step"), Key.STEPS] = 0.1
    warmup_epochs: Annotated[NotNegative, Key.STEPS] = 0.0
    weight_decay: NotNegative | Literal["auto"] = 1e-6
    momentum: Annotated[Fraction, Needs("optimizer", "momentum")] = 0.9
    clip_norm: Annotated[AboveZero | None, Key.STEPS] = None
    loss_reduction: Annotated[Literal["mean", "sum"], Key.STEPS] = "mean"
    drop_last: Annotated[bool, Key.STEPS] = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    accumulate_steps: Annotated[Positive, Key.STEPS] = 1
    ema_decay: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Key.STEPS] = None
    freeze: list[str] = Field(default=[])
    freeze_epochs: Annotated[AboveZero | None, Needs("freeze"), Key.STEPS] = None
    freeze_norms: Annotated[bool, Key.STEPS] = False
    start_from_probe: Annotated[bool, Key.STEPS] = False
    lr_factors: Annotated[dict[str, NotNegative], Key.STEPS] = Field(default={})
    precision: Annotated[Literal["fp32", "fp16", "bf16"], Key.STEPS] = "fp32"
    early_stop: Annotated[Positive | None, Key.RESUMABLE, Key.STEPS] = None
    keep: Annotated[Positive | None, Key.RESUMABLE] = None
    extend_labels: Annotated[bool, Key.RESUMABLE, Key.FILE, Needs("pretrain")] = False
    old_label_file: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE, Needs("extend_labels")] = None
    num_samples: Annotated[int | None, Key.RESUMABLE] = None
    pretrain: Annotated[FilePath | None, Key.RESUMABLE, Key.FILE] = None
    use_gpu: Annotated[UseGpu, Key.RESUMABLE, Key.LOCAL] = "auto"
    num_gpus: Annotated[int | None, Key.RESUMABLE, Key.LOCAL] = None
    checkpoint_minutes: Annotated[NotNegative, Key.RESUMABLE] = 15.0
    shuffle_buffer: Positive | None = None
    class_weights: Annotated[Literal["balanced"] | None, Needs("loss", "bce")] = None
    logit_adjustment: Annotated[Annotated[float, Field(gt=0, le=10)] | None, Key.STEPS] = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1), Key.STEPS] = 0.0
    loss: Annotated[Literal["bce", "asymmetric"], Key.STEPS] = "bce"
    asymmetric_gamma: Annotated[tuple[NotNegative, NotNegative], Needs("loss", "asymmetric")] = (0.0, 4.0)
    asymmetric_clip: Annotated[float, Field(ge=0, lt=1), Needs("loss", "asymmetric")] = 0.05
    distill_from: Annotated[list[FilePath], Key.FILE, Key.STEPS] = Field(default=[])
    distill_weight: Annotated[float, Field(gt=0, le=1), Key.FILE, Needs("distill_from")] = 0.5
    distill_temperature: Annotated[AboveZero, Key.FILE, Needs("distill_from")] = 1.0
    mixup_alpha: Annotated[AboveZero | None, Key.STEPS] = None

    @model_validator(mode="after")
    def _lbfgs_takes_no_steps(self) -> TrainSection:
        if self.optimizer != "lbfgs":
            if self.weight_decay == "auto":
                raise ValueError("weight_decay: auto needs optimizer=lbfgs; give a number such as 1e-4")
            return self
        fields = type(self).model_fields
        changed = [key for key in self.keys(Key.STEPS) if getattr(self, key) != fields[key].default]
        if self.epoch not in (fields["epoch"].default, 1):
            changed.append("epoch")
        if changed:
            raise ValueError(f"{', '.join(sorted(changed))}: no effect with optimizer=lbfgs; leave it out")
        if self.weight_decay == 0:
            raise ValueError('weight_decay: 0 has no optimum with optimizer=lbfgs; give "auto", or a number')
        return self

    @model_validator(mode="after")
    def _last_layer_has_one_start(self) -> TrainSection:
        if self.start_from_probe and self.extend_labels:
            raise ValueError(
                "start_from_probe: replaces the last layer, whose weights extend_labels keeps; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _parts_are_not_empty(self) -> TrainSection:
        if self.accumulate_steps > self.batch_size:
            raise ValueError(
                f"accumulate_steps: {self.accumulate_steps} parts of a batch of {self.batch_size}; give fewer"
            )
        return self


class FeatureTrainSection(TrainSection):
    """TRAIN of a model of features, with their augmentation.

    Attributes:
        sample_steps: Number of random steps per video; shorter videos keep all of theirs. None for all.
        modality_dropout: Probability of zeroing a modality of a video; at least one is always kept.
    """

    sample_steps: Annotated[Positive | None, Key.STEPS] = None
    modality_dropout: Annotated[Fraction, Key.STEPS] = 0.0


class VideoTrainSection(TrainSection, VideoSplitSection):
    """TRAIN of a model of frames: the keys of both bases, and the augmentation of frames.

    Attributes:
        segment_offset: "random" takes a random frame of each segment; "middle" takes the middle one.
        crop: "multiscale" crops a corner or the center in a random size and aspect ratio, as in the TSN
            paper; "random" crops a square of target_size at a random position; "center" crops the center.
        flip: Whether to mirror each video with probability 0.5; False if tags depend on left and right.
    """

    batch_size: Positive = 32
    seg_num: NumFrames = 3
    optimizer: Literal["rmsprop", "adam", "momentum"] = "momentum"
    learning_rate: Annotated[AboveZero, Key.STEPS] = 0.00125
    decay_epochs: Annotated[list[Positive], Needs("schedule", "step"), Key.STEPS] = Field(default=[15, 30])
    weight_decay: NotNegative = 1e-4
    epoch: Annotated[Positive, Key.RESUMABLE] = 45
    segment_offset: Annotated[Literal["random", "middle"], Key.STEPS] = "random"
    crop: Annotated[Literal["multiscale", "random", "center"], Key.STEPS] = "multiscale"
    flip: Annotated[bool, Key.STEPS] = True
