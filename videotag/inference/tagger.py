"""Tags media files with both stages in memory, without intermediate files.

    tagger = Tagger.load()                       # ImageNet's 1,000 names, no second stage
    tagger = Tagger.load(weights="data/checkpoints")
    tagger = Tagger.load(extractor_config="configs/tsn.yaml", extractor_weights="weights/tsn",
                         predictor_weights="data/checkpoints", label_file="label_3396.txt")
    result = tagger.tag("any.mp4")
Shapes: T sampled frames of a video, D feature width.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from videotag.config import Config
from videotag.errors import ClosedError, ConfigError, MediaError
from videotag.formats.filelist import ListEntry
from videotag.inference.extractor import load_extractor
from videotag.inference.fit_folder import FitFolder, is_fit_folder
from videotag.inference.frame_tagging import (
    SEGMENT_SEC,
    SEGMENTS,
    SURE_FROM,
    FrameTagger,
    ModelTagger,
    StagesTagger,
    TagOptions,
    clip_reader,
)
from videotag.inference.list_sample import sample_frames
from videotag.inference.load_senses import load_senses
from videotag.inference.predictor import CLOSED_MESSAGE, Predictor, Source
from videotag.inference.tag_result import TagResult as TagResult
from videotag.inference.trained_model import ModelSource, TrainedModel
from videotag.inference.weights_stage import read_stage, weights_by_stage
from videotag.labels import LANGUAGES, load_imagenet_names
from videotag.registry import FRAMES, MASK
from videotag.runtime.backends import AUTO
from videotag.runtime.choice import RuntimeNetwork
from videotag.safe_text import safe_repr
from videotag.senses.finding import Sense
from videotag.weights import DEFAULT_EXTRACTOR


class Tagger:
    """Tags videos; created by Tagger.load; thread-safe; usable as a context manager, which closes it.

    Child processes decode media files; they start with the first file and end with the Tagger. A file that
    crashes FFmpeg, hangs, or takes too much memory raises MediaError.

    Args:
        tagger: Networks to run.
        senses: What to find besides tags.
    """

    def __init__(self, tagger: FrameTagger, senses: Sequence[Sense] = ()) -> None:
        self._tagger = tagger
        self._predictor = Predictor(tagger, senses=senses)

    @classmethod
    def load(
        cls,
        *,
        weights: str | Path | None = None,
        extractor_config: str | Path | None = None,
        extractor_weights: str | Path | None = None,
        predictor_config: str | Path | None = None,
        predictor_weights: str | Path | None = None,
        label_file: str | Path | None = None,
        language: str | None = None,
        use_gpu: bool | str | None = None,
        backend: str | None = None,
        precision: str | None = None,
        overrides: list[tuple[str, Any]] | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        segment_sec: float = SEGMENT_SEC,
        segments: str = SEGMENTS[0],
        find: Sequence[str] = (),
        speech_model: str | Path | None = None,
    ) -> Tagger:
        """Loads a tagger with its weights.

        Args:
            weights: Folder of `videotag fit`; or weights of either stage, or of a model that reads frames
                itself, whose config says which. They stand for extractor_weights or predictor_weights.
            extractor_config: Config of the first stage; by default the config beside its weights. Without
                config and weights, the first stage is the built-in ImageNet classifier, or none if the second
                stage reads frames itself.
            extractor_weights: Weights of the first stage: a file, a prefix, a folder, an export, or a name.
            predictor_config: Config of the second stage; by default the config beside its weights.
            predictor_weights: Weights of the second stage; None uses the first stage's classifier.
            label_file: File of class names; by default labels.txt beside the weights.
            language: Language of the built-in classifier's class names, one of LANGUAGES; by default English.
            use_gpu: True, False or "auto"; by default TRAIN.use_gpu of each config.
            backend: Backend of both stages, "auto", "paddle", "openvino" or "onnx"; by default INFER.backend
                of each config.
            precision: Precision of both stages, "f32", "bf16" or "f16"; or "auto", which is f32 unless
                `select_runtime` selects another; by default INFER.precision of each config.
            overrides: Overrides of the first stage's config (or of the model's that reads frames itself), as
                load_config takes them.
            top_k: Maximum number of tags; by default the config's topk.
            threshold: Minimum probability of a tag.
            segment_sec: Target length of a segment in seconds.
            segments: "equal" for segments of equal length, or "shots", which are then found too.
            find: What to find besides tags in media files, with times: "shots", "text", "speech", "sound".
            speech_model: CTranslate2 folder of Whisper; by default the base model of videotag[speech].

        Raises:
            ConfigError, WeightsError, LabelFileError, DeviceError: An argument is invalid.
        """
        predictors: list[str | Path | None] = []
        if weights is not None and is_fit_folder(weights):
            fitted = FitFolder(weights)
            _check_fit_flags(weights, extractor_config, predictor_weights, predictor_config)
            predictors += fitted.models
            extractor_weights = extractor_weights or fitted.extractor_weights
            if fitted.seg_num is not None:
                overrides = [("INFER.seg_num", fitted.seg_num), *(overrides or [])]
        elif weights is not None:
            extractor_weights, predictor_weights = weights_by_stage(
                weights, extractor_weights, predictor_weights
            )
        if segments not in SEGMENTS:
            raise ConfigError(f"segments: {safe_repr(segments)}, expected one of {', '.join(SEGMENTS)}")
        find = list(dict.fromkeys([*find, *(["shots"] if segments == "shots" else [])]))
        senses = load_senses(find, backend=backend or AUTO, speech_model=speech_model)
        flags = {"TRAIN.use_gpu": use_gpu, "INFER.backend": backend, "INFER.precision": precision}
        both = [(key, value) for key, value in flags.items() if value is not None]
        first_overrides = [*(overrides or []), *both]
        if predictor_weights is not None or predictor_config is not None:
            predictors.append(predictor_weights)
        seconds = [read_stage("predictor", predictor_config, path, both) for path in predictors]
        second = seconds[0] if seconds else None

        options_of = functools.partial(
            _tag_options,
            label_file=label_file,
            language=language,
            top_k=top_k,
            threshold=threshold,
            segment_sec=segment_sec,
            by_shots=segments == "shots",
        )
        if second is not None and clip_reader(TrainedModel([second])):
            if extractor_weights is not None or extractor_config is not None:
                raise ConfigError(
                    f"{predictor_weights}: {second.config.entry.name} reads frames itself; give no extractor "
                    "with it"
                )
            second = read_stage("predictor", predictor_config, predictor_weights, first_overrides)
            options, model = options_of(second), TrainedModel([second])
            model.load_network()
            return cls(ModelTagger(model, options), senses)
        if second is not None:
            _check_reads_features(second)
        if extractor_weights is None and extractor_config is None:
            extractor_weights = DEFAULT_EXTRACTOR
        first = read_stage("extractor", extractor_config, extractor_weights, first_overrides)
        options = options_of(second or first)  # before the networks are loaded, which takes seconds
        return cls(_load_stages(first, seconds, options), senses)

    @property
    def is_default(self) -> bool:
        """Whether this is the built-in ImageNet classifier with its own class names."""
        return self._tagger.options.sure_from > 0

    def tag(
        self, source: Source, *, fps: float | Fraction | None = None, name: str | None = None
    ) -> TagResult:
        """The tags of one video.

        Args:
            source: Path of a media file; its bytes; a binary file open for reading, read from its current
                position; or frames (num_frames, height, width, 3) uint8 RGB.
            fps: Frame rate in frames per second; required for an array, an error for anything else.
            name: Value of TagResult.path; by default the path, the open file's name, "bytes" or "frames".

        Raises:
            MediaError: The video cannot be decoded.
            ShapeError: An array has another shape or dtype, or fps is missing.
            ConfigError: fps is given for a media file, which has its own frame rate.
            OutputError: The temporary folder has no space for a copy of bytes or an open file.
            ClosedError: The tagger is closed.
        """
        return _result(self._predictor.submit(source, fps=fps, name=name))

    def submit(
        self,
        source: Source,
        *,
        fps: float | Fraction | None = None,
        name: str | None = None,
        wait: bool = True,
    ) -> Future[TagResult]:
        """Like `tag`, but returns a future at once; `cancel` of the future works even during decoding.

        Args:
            source: Source as for `tag`.
            fps: Frame rate of an array in frames per second.
            name: Value of TagResult.path.
            wait: Whether to block while 64 requests wait for decoding.

        Raises:
            BusyError: The queue is full, and `wait` is False.
            ClosedError: The tagger is closed, or belongs to the process before a fork.
        """
        return self._predictor.submit(source, fps=fps, name=name, wait=wait)

    def close(self, *, cancel: bool = False) -> None:
        """Waits for unfinished requests, then ends the threads and child processes.

        Args:
            cancel: Whether to cancel unfinished requests instead of waiting for them.
        """
        self._predictor.close(cancel=cancel)

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(cancel=kind is not None)

    def features(self, source: Source, *, fps: float | Fraction | None = None) -> np.ndarray:
        """The features (T, D) float32 of one video, as `videotag extract` writes them; T is seg_num.

        Args:
            source: Source as for `tag`.
            fps: Frame rate in frames per second; required for an array, an error for anything else.

        Raises:
            ConfigError: The model reads frames itself, or fps is given for a media file.
            MediaError, ShapeError, OutputError, ClosedError: Same as for `tag`.
        """
        if not isinstance(self._tagger, StagesTagger):
            raise ConfigError(
                "the model reads frames itself and has no features; load a tagger with an extractor"
            )
        return _result(self._predictor.submit_features(source, fps=fps))

    def select_runtime(self, videos: Sequence[str | ListEntry]) -> None:
        """Selects the first stage's precision on a sample of a list, before the first video is tagged.

        Without it, precision "auto" is float32, so that the tags of a video never depend on earlier videos.
        Does nothing if the precision is fixed, or if no video is readable.

        Args:
            videos: Videos of the list, at least one.

        Raises:
            ConfigError: `videos` is a single path, or empty; or videos have been tagged already.
            ClosedError: The tagger is closed.
        """
        _check_several(videos)
        self._predictor.check_open()
        if not videos:
            raise ConfigError("select_runtime: no videos; pass at least one path")
        network = self._tagger.extractor.network if isinstance(self._tagger, StagesTagger) else None
        if isinstance(network, RuntimeNetwork) and network.needs_sample:
            entries = [video if isinstance(video, ListEntry) else ListEntry(video) for video in videos]
            images, _ = sample_frames(entries, self._tagger.section)
            if images is not None and not network.select_runtime({FRAMES: images}):
                raise ConfigError("select_runtime: the precision is already selected; call it before `tag`")

    def tag_many(self, videos: Iterable[str | ListEntry]) -> Iterator[TagResult | MediaError]:
        """Yields the result or the error of every video in order, while the next videos are decoded.

        Args:
            videos: Paths of media files, or entries of a list.

        Raises:
            ConfigError: `videos` is a single path.
        """
        _check_several(videos)
        section = self._tagger.section
        ahead = section.videos_at_once + section.videos_ahead
        futures: deque[Future[TagResult]] = deque()
        try:
            for video in videos:
                futures.append(self._predictor.submit(video))
                if len(futures) >= ahead:
                    yield _result_or_error(futures.popleft())
            while futures:
                yield _result_or_error(futures.popleft())
        finally:
            for future in futures:
                future.cancel()


def _tag_options(
    source: ModelSource,
    *,
    label_file: str | Path | None,
    language: str | None,
    top_k: int | None,
    threshold: float,
    segment_sec: float,
    by_shots: bool,
) -> TagOptions:
    """The options of a model that outputs tags, with its class names; see Tagger.load."""
    model, is_default = source.config.model, _is_default(source, label_file)
    _check_language(language, is_default=is_default)
    if is_default:
        labels = load_imagenet_names(language or LANGUAGES[0])
    else:
        labels = source.weights.labels(label_file, model)
    limit = model.topk if top_k is None else top_k
    sure_from = SURE_FROM if is_default else 0.0
    return TagOptions(labels, limit, threshold, segment_sec, sure_from=sure_from, by_shots=by_shots)


def _load_stages(first: ModelSource, seconds: list[ModelSource], options: TagOptions) -> StagesTagger:
    """Loads the networks of both stages; without a second one, the first stage's classifier."""
    extractor = load_extractor(first.config, first.weights, with_classifier=not seconds)
    if not seconds:
        return StagesTagger(extractor, None, options)
    _check_width(seconds[0].config, extractor.feature_dim)
    predictor = TrainedModel(seconds)
    predictor.load_network()
    return StagesTagger(extractor, predictor, options)


def _check_several(videos: object) -> None:
    """Rejects a single path, whose characters would be taken for paths."""
    if isinstance(videos, str | Path):
        raise ConfigError(f"{safe_repr(str(videos))}: expected several paths; pass [path]")


def _check_reads_features(second: ModelSource) -> None:
    """Checks that a second stage takes what a first stage returns."""
    others = [name for name, options in second.config.inputs.items() if options.reader != "features"]
    if others:
        raise ConfigError(
            f"{second.weights.path}: {second.config.entry.name} reads {', '.join(others)}, which no "
            "extractor returns; list its samples in a .jsonl file and run `videotag predict`"
        )


def _check_width(config: Config, feature_dim: int) -> None:
    """Checks that a second stage has one input, of the extractor's width."""
    specs = [spec for _, reader in config.readers(config.infer) for spec in reader.specs()]
    widths = {spec.name: spec.shape[-1] for spec in specs if not spec.name.endswith(MASK)}
    if list(widths.values()) != [feature_dim]:
        raise ConfigError(
            f"the extractor returns features of width {feature_dim}, but the predictor expects {widths}; "
            "give the extractor that it was trained with by --extractor_weights"
        )


def _result(future: Future[Any]) -> Any:
    """The result of a future; interrupting the wait cancels the future."""
    try:
        return future.result()
    except CancelledError:
        raise ClosedError(CLOSED_MESSAGE) from None
    finally:
        future.cancel()


def _result_or_error(future: Future[TagResult]) -> TagResult | MediaError:
    try:
        result: TagResult = _result(future)
        return result
    except MediaError as error:
        return error


def _check_fit_flags(
    weights: str | Path,
    extractor_config: str | Path | None,
    predictor_weights: str | Path | None,
    predictor_config: str | Path | None,
) -> None:
    """Rejects what a folder of `videotag fit` has itself."""
    others = {
        "extractor_config": extractor_config,
        "predictor_weights": predictor_weights,
        "predictor_config": predictor_config,
    }
    for name, value in others.items():
        if value is not None:
            raise ConfigError(
                f"--weights {weights} and --{name} {value}: the folder of `videotag fit` has its own; leave "
                f"--{name} out"
            )


def _is_default(source: ModelSource, label_file: str | Path | None) -> bool:
    """Whether a model is the built-in ImageNet classifier with its own config and class names."""
    named = source.weights.named
    is_own = source.config_file or label_file or source.config.model.label_file
    return named is not None and named.name == DEFAULT_EXTRACTOR and not is_own


def _check_language(language: str | None, *, is_default: bool) -> None:
    """Checks that class names in a language exist, and that the model has these classes."""
    if language is None:
        return
    if language not in LANGUAGES:
        raise ConfigError(f"language: {safe_repr(language)}, expected one of {', '.join(LANGUAGES)}")
    if not is_default:
        raise ConfigError(
            f"language: {language} names only the classes of the built-in ImageNet classifier; leave it out, "
            "or give no weights, config or label file of your own"
        )
