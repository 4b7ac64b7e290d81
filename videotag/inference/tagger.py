"""Both stages loaded once: a media file in, tags out, no files in between.

    tagger = Tagger.load()                       # ImageNet's 1,000 names, no second stage
    tagger = Tagger.load(extractor_config="configs/tsn.yaml", extractor_weights="weights/tsn",
                         predictor_weights="data/checkpoints", label_file="label_3396.txt")
    result = tagger.tag("any.mp4")
Shapes: T frames of a video, D feature width, C classes, S segments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from videotag.errors import ConfigError, MediaError
from videotag.formats.filelist import ListEntry
from videotag.inference.exported_extractor import load_extractor
from videotag.inference.frame_tagging import (
    SEGMENT_SEC,
    FrameTagger,
    ModelTagger,
    StagesTagger,
    TagOptions,
    clip_reader,
)
from videotag.inference.list_sample import sample_frames
from videotag.inference.predictor import Predictor, Source
from videotag.inference.tag_result import TagResult as TagResult
from videotag.inference.trained_model import ModelSource, TrainedModel, read_source
from videotag.registry import MASK
from videotag.weights import DEFAULT_EXTRACTOR, find_weights

_ROLES = {"extractor": "extractor", "predictor": "tagger"}


class Tagger:
    """Tags videos; made by Tagger.load. It may be used from several threads.

    Media files are decoded in child processes, which start with the first one and end with the Tagger: a file
    that crashes FFmpeg, hangs, or takes too much memory is a MediaError.

    Args:
        tagger: Its networks.
    """

    def __init__(self, tagger: FrameTagger) -> None:
        self._tagger = tagger
        self._predictor = Predictor(tagger)

    @classmethod
    def load(
        cls,
        *,
        extractor_config: str | Path | None = None,
        extractor_weights: str | Path | None = None,
        predictor_config: str | Path | None = None,
        predictor_weights: str | Path | None = None,
        label_file: str | Path | None = None,
        use_gpu: bool | str | None = None,
        backend: str | None = None,
        precision: str | None = None,
        overrides: list[tuple[str, Any]] | None = None,
        top_k: int | None = None,
        threshold: float = 0.0,
        segment_sec: float = SEGMENT_SEC,
    ) -> Tagger:
        """A tagger with its weights loaded.

        Args:
            extractor_config: Config of the first stage; the embedded ImageNet classifier if neither it nor
                its weights are given, unless the second stage reads frames itself.
            extractor_weights: A file, a prefix, a folder, an export, or named weights.
            predictor_config: Config of the second stage; if not given, the config beside its weights.
            predictor_weights: Weights of the second stage; without them the first stage's classifier tags.
            label_file: Class names; if not given, labels.txt beside the weights in use.
            use_gpu: True, False or "auto"; the extractor config's value if not given.
            backend: Backend of both stages, "auto", "paddle", "openvino" or "onnx"; INFER.backend of each
                config if not given.
            precision: Precision of both stages, "f32", "bf16" or "f16"; or "auto", which is f32 unless
                `settle` decides otherwise; INFER.precision of each config if not given.
            overrides: Overrides of the extractor's config, as load_config takes them.
            top_k: Tags kept; the config's topk if not given.
            threshold: Least probability of a tag.
            segment_sec: Wanted length of a segment in seconds.

        Raises:
            ConfigError, WeightsError, LabelFileError, DeviceError: What is wrong with an argument.
        """
        flags = {"TRAIN.use_gpu": use_gpu, "INFER.backend": backend, "INFER.precision": precision}
        both = [(key, value) for key, value in flags.items() if value is not None]
        first_overrides = [*(overrides or []), *both]
        second = None
        if predictor_weights is not None or predictor_config is not None:
            second = _stage("predictor", predictor_config, predictor_weights, both)

        def options(source: ModelSource) -> TagOptions:
            model = source.config.model
            labels = source.weights.labels(label_file, model)
            return TagOptions(labels, top_k or model.topk, threshold, segment_sec)

        if second is not None and clip_reader(TrainedModel([second])):
            if extractor_weights is not None or extractor_config is not None:
                raise ConfigError(
                    f"--predictor_weights {predictor_weights}: {second.config.entry.name} reads frames "
                    "itself; give no extractor with it"
                )
            second = _stage("predictor", predictor_config, predictor_weights, first_overrides)
            model = TrainedModel([second])
            tag_options = options(second)
            model.load_network()
            return cls(ModelTagger(model, tag_options))
        if extractor_weights is None and extractor_config is None:
            extractor_weights = DEFAULT_EXTRACTOR
        first = _stage("extractor", extractor_config, extractor_weights, first_overrides)
        if second is None:
            tag_options = options(first)
            extractor = load_extractor(first.config, first.weights, with_classifier=True)
            return cls(StagesTagger(extractor, None, tag_options))
        tag_options = options(second)
        extractor = load_extractor(first.config, first.weights)
        readers = [reader for _, reader in second.config.readers(second.config.infer)]
        specs = [spec for reader in readers for spec in reader.specs() if not spec.name.endswith(MASK)]
        widths = {spec.name: spec.shape[-1] for spec in specs}
        if list(widths.values()) != [extractor.feature_dim]:
            raise ConfigError(
                f"the extractor makes features of width {extractor.feature_dim}, the predictor wants "
                f"{widths}; name the extractor it was trained with"
            )
        predictor = TrainedModel([second])
        predictor.load_network()
        return cls(StagesTagger(extractor, predictor, tag_options))

    def tag(
        self, source: Source, *, fps: float | Fraction | None = None, name: str | None = None
    ) -> TagResult:
        """The tags of one video.

        Args:
            source: Path of a media file; or its bytes, or a binary file open for reading, which is read from
                where it stands; or frames (T, height, width, 3) uint8 RGB.
            fps: Frames per second of an array of frames.
            name: TagResult.path; if not given, the path, the open file's name, "bytes" or "frames".

        Raises:
            MediaError: The video cannot be decoded.
            ShapeError: An array is not as said above, or fps is missing.
            ConfigError: fps is given for a media file, which has its own frame rate.
            OutputError: The temporary folder has no room for a copy of bytes or of an open file.
        """
        return _result(self._predictor.submit(source, fps=fps, name=name))

    def submit(
        self, source: Source, *, fps: float | Fraction | None = None, name: str | None = None
    ) -> Future[TagResult]:
        """As tag, without waiting for the result; see Predictor.submit."""
        return self._predictor.submit(source, fps=fps, name=name)

    def close(self) -> None:
        """Ends threads and child processes; what is not done yet is cancelled."""
        self._predictor.close(cancel=True)

    def features(self, source: Source, *, fps: float | Fraction | None = None) -> np.ndarray:
        """The features of one video, as `videotag extract` writes them: (T, D) float32, T = seg_num.

        Args:
            source: As of tag.
            fps: As of tag.

        Raises:
            MediaError, ShapeError, ConfigError, OutputError: As of tag.
        """
        if not isinstance(self._tagger, StagesTagger):
            raise ConfigError("the model reads frames itself: there are no features")
        return _result(self._predictor.submit_features(source, fps=fps))

    def settle(self, videos: Sequence[str | ListEntry]) -> None:
        """Lets a sample of a list decide whether the first stage computes in bfloat16; before any other call.

        Without it the first stage computes in float32, unless another precision was asked for: what precedes
        a video has no say in its tags.

        Args:
            videos: The list.
        """
        if isinstance(self._tagger, StagesTagger) and self._tagger.extractor.needs_sample:
            entries = [video if isinstance(video, ListEntry) else ListEntry(video) for video in videos]
            images, _ = sample_frames(entries, self._tagger.section)
            if images is not None:
                self._tagger.extractor.settle(images)

    def tag_many(self, videos: Iterable[str | ListEntry]) -> Iterator[TagResult | MediaError]:
        """The result of every video in order, or why it has none; the next ones are decoded meanwhile."""
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


def _result(future: Future[Any]) -> Any:
    """The result, unless waiting for it is broken off, which cancels it."""
    try:
        return future.result()
    finally:
        future.cancel()


def _result_or_error(future: Future[TagResult]) -> TagResult | MediaError:
    try:
        result: TagResult = _result(future)
        return result
    except MediaError as error:
        return error


def _stage(
    stage: str, config_file: str | Path | None, weights: str | Path | None, overrides: list[tuple[str, Any]]
) -> ModelSource:
    """A stage's weights and config, found by what the user named of them."""
    if weights is None:
        raise ConfigError(f"--{stage}_weights: missing; they belong to --{stage}_config {config_file}")
    found = find_weights(weights)
    if config_file is None and found.config is None:
        raise ConfigError(f"{found.path}: no config.yaml beside the weights; give --{stage}_config")
    source = read_source(found, config_file, overrides=overrides)
    entry = source.config.entry
    if entry.two_stage != (stage == "extractor"):
        named = f"--{stage}_config {config_file}" if config_file else f"--{stage}_weights {weights}"
        raise ConfigError(f"{named}: {entry.name} is no {_ROLES[stage]}")
    return source
