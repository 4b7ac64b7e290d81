"""Typed sections over VideoTag's YAML files: MODEL, TRAIN, VALID, TEST, INFER.

Section and key names are VideoTag's; its old spellings are read through one table (_ALIASES). The class of
the MODEL section comes from the registry, so the model's file must have been imported before a config is
read. Values are taken in this order: default < YAML < --set < flags. All problems of a file are reported
together, each with its dotted path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from videotag.errors import ConfigError, one_error
from videotag.registry import ModelEntry, Task, get_model, unknown
from videotag.resources import find_resource, list_configs

SECTIONS = ("MODEL", "TRAIN", "VALID", "TEST", "INFER")

#: Old spelling -> today's, in any section.
_ALIASES = {
    "bone_nework": "bone_network",
    "learning_rate_decay": "decay_gamma",
    "l2_weight_decay": "weight_decay",
    "total_videos": "num_samples",
    "pretrain_base": "pretrain",
}

DEFAULT_MOMENTUM = 0.9
Positive = Annotated[int, Field(ge=1)]
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
    label_file: str | None = None


class TaggerModel(ModelSection):
    """MODEL section of a tagger, which reads one sequence of features per modality.

    Attributes:
        feature_names: the modalities, in the order of feature_dims.
        feature_dims: width of each modality's features.
        feature_num: number of modalities, only checked (YAMLs of older systems state it).
    """

    feature_names: list[str] = Field(default=["rgb"], min_length=1)
    feature_dims: list[Positive] = Field(default=[2048], min_length=1)
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
                f"feature_names {self.feature_names}, feature_dims {self.feature_dims} and feature_num "
                f"{self.feature_num} disagree; give each modality one name and one width"
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
                f"MODEL.{key}: {value} has {len(values)} values, but feature_names {self.feature_names} has "
                f"{len(self.feature_names)}; give one number, or one for each"
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
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)


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
    filelist: str | None = None


class VideoSplitSection(SplitSection):
    """VALID, TEST or INFER of an extractor.

    Attributes:
        batch_size: videos decoded at once, as far as buf_size holds their frames.
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
    seg_num: Positive = 300
    sampling: Literal["uniform", "videotag"] = "uniform"
    short_size: Positive = 256
    resize: Literal["keep", "videotag"] = "keep"
    target_size: Positive = 224
    num_reader_threads: Annotated[int, Field(ge=0)] = 0
    buf_size: Positive = 1024
    stall_limit_sec: Annotated[float, Field(ge=0)] = 300.0

    @property
    def videos_ahead(self) -> int:
        """Videos whose frames may wait for the network: those that fit into buf_size, one at least."""
        return max(1, self.buf_size // self.seg_num)

    @property
    def videos_at_once(self) -> int:
        """Videos decoded at the same time."""
        return min(self.batch_size, self.videos_ahead)

    @model_validator(mode="after")
    def _crop_fits(self) -> VideoSplitSection:
        if self.target_size > self.short_size:
            raise ValueError(f"target_size {self.target_size} is larger than short_size {self.short_size}")
        return self


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
            Pickles and packed files are held in memory that far (350 KB a record of YouTube-8M).
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
    old_label_file: str | None = None
    num_samples: int | None = None
    pretrain: str | None = None
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
    distill_from: list[str] = []
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
    seg_num: Positive = 3
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


@dataclass(frozen=True)
class Config:
    """A config file, read and checked."""

    entry: ModelEntry
    model: Any
    train: Any
    valid: Any
    test: Any
    infer: Any

    @property
    def task(self) -> Task:
        """What chooses loss and metrics: the MODEL section's, else the model's own."""
        return self.model.task or self.entry.task

    def to_yaml(self) -> str:
        """The resolved config, every value written out; load_config reads it back to an equal one."""
        sections = (self.model, self.train, self.valid, self.test, self.infer)
        raw = {name: s.model_dump(mode="json") for name, s in zip(SECTIONS, sections, strict=True)}
        return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def load_config(
    path: str | Path, *, model_name: str | None = None, overrides: list[tuple[str, Any]] | None = None
) -> Config:
    """The config in the file `path`.

    Args:
        path: a YAML file; a shipped one ("configs/tsn.yaml") is found from any folder.
        model_name: must name the file's model, upper and lower case being the same.
        overrides: dotted path and value ("TRAIN.batch_size", 32), later ones win; a text value is
            read as YAML.

    Raises:
        ConfigError: the file is missing or wrong; all problems, a line each.
        UnknownNameError: no such model.
    """
    raw, where = _read_yaml(path), str(path)
    problems = [
        f"{where}: {key}: unknown section; there are: {', '.join(SECTIONS)}"
        for key in raw
        if key not in SECTIONS
    ]
    raw = {key: value for key, value in raw.items() if key in SECTIONS}
    for key, value in raw.items():
        if not isinstance(value, dict):
            problems.append(f"{where}: {key}: {value!r} is not a section of key: value lines")
    if problems:
        raise one_error(ConfigError, problems)
    raw = {section: _old_spellings(values, f"{where}: {section}") for section, values in raw.items()}
    for dotted, value in overrides or []:
        _override(raw, dotted, value)
    entry = _entry(raw, where, model_name)
    video = entry.kind == "extractor"
    split: type[Section] = VideoSplitSection if video else SplitSection
    train: type[Section] = VideoTrainSection if video else TrainSection
    classes = dict(zip(SECTIONS, (entry.config, train, split, split, split), strict=True))
    sections: dict[str, Section] = {}
    for name, cls in classes.items():
        try:
            sections[name.lower()] = cls.model_validate(raw.get(name, {}))
        except ValidationError as error:
            problems += [f"{where}: {text}" for text in _describe(error, name, cls)]
    if len(sections) == len(classes):
        problems += [f"{where}: {text}" for text in _disagreements(entry, **sections)]
    if problems:
        raise one_error(ConfigError, problems)
    return Config(entry=entry, **sections)


def _disagreements(entry: ModelEntry, *, model: Any, train: Any, **_: Section) -> list[str]:
    """What two sections say against each other, a text each."""
    texts = []
    if train.modality_dropout and len(model.feature_names) == 1:
        texts.append(
            f"TRAIN.modality_dropout: {train.modality_dropout}, but MODEL.feature_names "
            f"{model.feature_names} is one modality, which always stays; leave it out"
        )
    if train.loss == "asymmetric" and (model.task or entry.task) == "single_label":
        texts.append(
            "TRAIN.loss: asymmetric, which is for any number of tags, but the task is single_label; "
            "set MODEL.task=multi_label, or leave it out"
        )
    return texts


def parse_overrides(texts: list[str]) -> list[tuple[str, Any]]:
    """KEY=VALUE texts of --set as pairs for load_config.

    Raises:
        ConfigError: a text has no "=" or no dot in its key.
    """
    pairs = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or "." not in key:
            raise ConfigError(f"--set {text}: expected SECTION.key=value, such as TRAIN.batch_size=32")
        pairs.append((key.strip(), value))
    return pairs


def _read_yaml(path: str | Path) -> dict[str, Any]:
    found = find_resource(path)
    if found is None:
        if Path(path).is_dir():
            raise ConfigError(f"{path}: a folder, expected a config file; name a YAML file in it")
        names = ", ".join(f"configs/{p.name}" for p in list_configs())
        raise ConfigError(f"{path}: no such config file; write one or take a shipped one: {names}")
    try:
        raw = yaml.safe_load(found.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no sections; expected MODEL:, TRAIN: ... with key: value lines below")
    return raw


def _old_spellings(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The section with today's key names; VideoTag's text "None" becomes no value."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = _ALIASES.get(key, key)
        if name in result:
            raise ConfigError(f"{where}.{key}: the same as {name}, which is given too; keep one of them")
        result[name] = None if value == "None" else value
    return result


def _override(raw: dict[str, dict[str, Any]], dotted: str, value: Any) -> None:
    section, _, key = dotted.partition(".")
    if section.upper() not in SECTIONS:
        raise ConfigError(f"--set {dotted}: {unknown(section, SECTIONS, 'section')}")
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {dotted}: cannot read the value {value!r} as YAML") from error
    raw.setdefault(section.upper(), {}).update(_old_spellings({key: value}, "--set"))


def _entry(raw: dict[str, dict[str, Any]], where: str, model_name: str | None) -> ModelEntry:
    name = raw.get("MODEL", {}).get("name") or model_name
    if not isinstance(name, str):
        raise ConfigError(f"{where}: MODEL.name is missing; name a model of `videotag models`")
    entry = get_model(name)
    if model_name is not None and get_model(model_name) is not entry:
        raise ConfigError(
            f"{where}: is a config of {name}, not of {model_name}; give the one that belongs to it"
        )
    if entry.kind == "backbone":
        raise ConfigError(f"{where}: MODEL.name: {name} is a backbone; use it as MODEL.backbone of a TSN")
    raw.setdefault("MODEL", {})["name"] = entry.name
    return entry


def _describe(error: ValidationError, section: str, cls: type[BaseModel]) -> list[str]:
    """A line for each problem that pydantic found in a section."""
    lines = []
    for problem in error.errors():
        # The names of union members in a location mean nothing to a user: keep keys and list indices.
        path = [p for i, p in enumerate(problem["loc"]) if i == 0 or isinstance(p, int)]
        dotted = ".".join([section, *map(str, path)])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{section}.{unknown(str(path[0]), cls.model_fields, 'key')}")
        elif problem["type"] == "missing":
            lines.append(f"{dotted}: missing; it has no default")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            seen = "" if isinstance(problem["input"], dict) else f"{problem['input']!r}: "
            lines.append(f"{dotted}: {seen}{text[0].lower()}{text[1:]}")
    return list(dict.fromkeys(lines))
