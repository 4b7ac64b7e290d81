"""YouTube-8M records: frame-level features as uint8, video-level means, and the segment labels of 2019.

Uses the record fields and constants of google/youtube-8m. Differs: modalities have the names found in the
record, so features of any extractor can be stored; names and widths are checked only on request.
Shapes: T steps (one per second in YouTube-8M), D feature width (rgb 1024, audio 128), L labels, S segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videotag.errors import RecordError, ShapeError
from videotag.formats.tf_example import Example, Feature, FeatureList, encode_example, parse_example
from videotag.formats.tfrecord import Compression, OnError, handle_errors, read_records, write_records
from videotag.safe_text import escaped

#: feature = byte * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS. The bias is half a quantization step off the exact
#: inverse of `quantize`; the published networks were trained with it.
DEQUANTIZE_SCALE = 4 / 255
DEQUANTIZE_BIAS = 4 / 512 - 2
_LOW, _HIGH = -2.0, 2.0  # feature values of the bytes 0 and 255
_DEQUANTIZED = (np.arange(256) * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS).astype(np.float32)

#: Widths of the published features.
YT8M_DIMS = {"rgb": 1024, "audio": 128, "mean_rgb": 1024, "mean_audio": 128}
SEGMENT_FIELDS = ("segment_labels", "segment_start_times", "segment_scores")
_ID_NAMES = ("id", "video_id")  # names since 2017 and in 2016
_NO_INTS, _NO_FLOATS = np.empty(0, np.int64), np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class Segments:
    """The S five-second segments of a video that people rated."""

    labels: np.ndarray  # (S,) int64, the rated class
    start_times: np.ndarray  # (S,) int64, seconds
    scores: np.ndarray  # (S,) float32, the fraction of raters who saw the class


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class YT8MRecord:
    """The labels and features of one video."""

    video_id: str
    labels: np.ndarray  # (L,) int64; empty in the test set
    features: dict[str, np.ndarray] = field(default_factory=dict)  # frame level: modality -> (T, D) uint8
    means: dict[str, np.ndarray] = field(default_factory=dict)  # video level: modality -> (D,) float32
    segments: Segments | None = None


def read_yt8m(
    path: str | Path, *, dims: Mapping[str, int | None] | None = None, on_error: OnError = "raise"
) -> Iterator[YT8MRecord]:
    """Yields the records of a YouTube-8M TFRecord file, frame-level or video-level.

    Args:
        path: TFRecord file; plain, gzip or zlib.
        dims: Modality -> width D (None: any), for the modalities to read; None reads all.
        on_error: What to do at the first bad record: "raise", or "stop" to log a warning and end.

    Raises:
        RecordError: `read_records` or `parse_yt8m` refuses the file or a record.
    """
    with handle_errors(on_error):
        for data, place in read_records(path):
            yield parse_yt8m(data, dims=dims, place=place)


def parse_yt8m(
    data: bytes, *, dims: Mapping[str, int | None] | None = None, place: str = "record"
) -> YT8MRecord:
    """Parses one record.

    Args:
        data: A serialized SequenceExample (frame level) or Example (video level).
        dims: Modality (rgb, audio, mean_rgb ...) -> width D, None for any. The record must have these
            modalities; others are dropped. By default, all modalities are read, in any width.
        place: Name of the record, which begins every error message.

    Returns:
        The record. A modality without steps has shape (0, D), with D from `dims` or the published width.

    Raises:
        RecordError: The bytes are not such a message, there is no id, steps differ in length, a modality of
            `dims` is missing or has another width, or the segment arrays differ in length.
    """
    return make_record(parse_example(data, place=place), dims=dims, place=place)


def make_record(
    example: Example, *, dims: Mapping[str, int | None] | None = None, place: str = "record"
) -> YT8MRecord:
    """Turns a parsed SequenceExample or Example into a record.

    Args:
        example: Context and feature lists under YouTube-8M's names.
        dims: Modality -> width D (None: any), for the modalities to read; None reads all.
        place: Name of the record, which begins every error message.

    Raises:
        RecordError: `parse_yt8m` lists the reasons.
    """
    context, lists = example
    wanted = _found(context, lists) if dims is None else dims
    features, means = {}, {}
    for name, dim in wanted.items():
        if name in lists:
            features[name] = _frames(lists[name], name, dim, place)
        else:
            means[name] = _mean(context, lists, name, dim, place)
    labels = _numbers(context, "labels", _NO_INTS, place)
    return YT8MRecord(_video_id(context, place), labels, features, means, _segments(context, place))


def write_yt8m(
    path: str | Path, records: Iterable[YT8MRecord], *, compression: Compression | None = None
) -> int:
    """Writes records as a TFRecord file for YouTube-8M's tools, atomically.

    Args:
        path: The file to write.
        records: Records, consumed one at a time.
        compression: "gzip", "zlib", or None for a plain file, as YouTube-8M's are.

    Returns:
        Number of records written.

    Raises:
        ShapeError: `validated` refuses a record.
        OutputError: The file cannot be written.
    """
    return write_records(path, map(encode_yt8m, records), compression=compression)


def encode_yt8m(record: YT8MRecord) -> bytes:
    """The serialized record: a SequenceExample, or an Example if it has no frame-level features.

    Raises:
        ShapeError: `validated` refuses the record.
    """
    record = validated(record)
    context: dict[str, Feature] = {"labels": record.labels, "id": (encode_id(record.video_id),)}
    context |= record.means
    if record.segments is not None:
        context |= segment_fields(record.segments)
    return encode_example(Example(context, dict(record.features)))


def validated(record: YT8MRecord) -> YT8MRecord:
    """The record, validated and cast to the dtypes that `YT8MRecord` states.

    Raises:
        ShapeError: Features are not (T, D) uint8, means not (D,) floats, labels not (L,) integers, or segment
            arrays differ in length.
    """
    labels = np.asarray(record.labels, np.int64 if len(record.labels) == 0 else None)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ShapeError(f"{record.video_id}: labels {labels.dtype} {labels.shape}, expected (L,) integers")
    for name, mean in record.means.items():
        if mean.ndim != 1 or not np.issubdtype(mean.dtype, np.floating):
            raise ShapeError(f"{record.video_id}: {name} {mean.dtype} {mean.shape}, expected (D,) float32")
    for name, frames in record.features.items():
        if frames.ndim != 2 or frames.dtype != np.uint8:
            raise ShapeError(
                f"{record.video_id}: {name} {frames.dtype} {frames.shape}, expected (T, D) uint8; quantize it"
            )
    return YT8MRecord(
        record.video_id,
        labels.astype(np.int64, copy=False),
        record.features,
        {name: mean.astype(np.float32, copy=False) for name, mean in record.means.items()},
        None if record.segments is None else _checked_segments(record.segments, record.video_id),
    )


def segment_fields(segments: Segments) -> dict[str, np.ndarray]:
    """The arrays of segments, (S,) each, under their names in records."""
    values = (segments.labels, segments.start_times, segments.scores)
    return dict(zip(SEGMENT_FIELDS, values, strict=True))


def encode_id(video_id: str) -> bytes:
    """The bytes of an id; round-trips with `decode_id` even if they are not UTF-8."""
    return video_id.encode("utf-8", "surrogateescape")


def decode_id(video_id: bytes) -> str:
    """The id for these bytes, see `encode_id`."""
    return video_id.decode("utf-8", "surrogateescape")


def quantize(features: np.ndarray) -> np.ndarray:
    """Features quantized linearly from [-2, 2] to 0..255; values outside are clipped.

    Args:
        features: (...) floats, usually (T, D).

    Returns:
        (...) uint8, of the same shape.

    Raises:
        RecordError: The features hold NaN.
    """
    if np.isnan(features).any():
        raise RecordError("cannot quantize features with NaN; extract them again")
    clipped = np.clip(np.asarray(features, np.float64), _LOW, _HIGH)
    return np.rint((clipped - _LOW) * 255 / (_HIGH - _LOW)).astype(np.uint8)


def dequantize(quantized: np.ndarray) -> np.ndarray:
    """Features from bytes: byte * 4/255 + (4/512 - 2), rounded once to float32.

    Args:
        quantized: (...) uint8, usually (T, D).

    Returns:
        (...) float32, of the same shape, from -1.9921875 to 2.0078125.

    Raises:
        ShapeError: The dtype is not uint8.
    """
    if quantized.dtype != np.uint8:
        raise ShapeError(f"dequantize got {quantized.dtype}, expected uint8; pass quantized features")
    return _DEQUANTIZED[quantized]


def _found(context: Mapping[str, Feature], lists: Mapping[str, FeatureList]) -> dict[str, int | None]:
    """All modalities of a record, in any width."""
    means = [
        name
        for name, value in context.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and not name.startswith("segment_")
    ]
    return dict.fromkeys([*lists, *means])


def _frames(steps: FeatureList, name: str, dim: int | None, place: str) -> np.ndarray:
    """(T, D) uint8 from a feature list."""
    expected = "D" if dim is None else dim
    if not isinstance(steps, np.ndarray) or steps.dtype != np.uint8:
        what = f"{steps.dtype} values" if isinstance(steps, np.ndarray) else "steps of unequal length or kind"
        raise RecordError(
            f"{place}: {name} has {what}, expected (T, {expected}) bytes; write the record again"
        )
    if not len(steps) and not steps.shape[1]:  # a TFRecord without steps does not store the width
        return steps.reshape(0, YT8M_DIMS.get(name, 0) if dim is None else dim)
    if dim is not None and steps.shape[1] != dim:
        raise RecordError(
            f"{place}: {name} of shape {steps.shape}, expected (T, {dim}); correct the model's feature_dims,"
            " or extract it with the matching backbone"
        )
    return steps


def _mean(
    context: Mapping[str, Feature], lists: Mapping[str, FeatureList], name: str, dim: int | None, place: str
) -> np.ndarray:
    """(D,) float32 from a video-level feature."""
    value = context.get(name)
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        there = escaped(", ".join(_found(context, lists)), limit=200) or "nothing"
        raise RecordError(f"{place}: no features {name}; found {there}; correct the model's feature_names")
    if dim is not None and len(value) != dim:
        raise RecordError(
            f"{place}: {name} of shape {value.shape}, expected ({dim},); correct the model's feature_dims"
        )
    if not np.isfinite(value).all():
        raise RecordError(f"{place}: {name} holds NaN or infinite values; write the record again")
    return value


def _video_id(context: Mapping[str, Feature], place: str) -> str:
    for name in _ID_NAMES:
        value = context.get(name)
        if isinstance(value, tuple) and len(value) == 1:
            return decode_id(value[0])
    there = escaped(", ".join(context), limit=200) or "nothing"
    raise RecordError(f"{place}: no video id; found {there}; is it a YouTube-8M file?")


def _numbers(context: Mapping[str, Feature], name: str, empty: np.ndarray, place: str) -> np.ndarray:
    """(n,) numbers from the context, in the dtype of `empty` (0,), which is returned if they are missing."""
    value = context.get(name, ())
    if isinstance(value, tuple) and not value:
        return empty
    if not isinstance(value, np.ndarray) or value.dtype != empty.dtype:
        raise RecordError(f"{place}: {name} is not a list of {empty.dtype}; write the record again")
    return value


def _segments(context: Mapping[str, Feature], place: str) -> Segments | None:
    """The segments of a 2019 record; None if it has no segment fields."""
    names = SEGMENT_FIELDS
    if not any(name in context for name in names):
        return None
    empty: tuple[np.ndarray, ...] = (_NO_INTS, _NO_INTS, _NO_FLOATS)
    values = [_numbers(context, name, none, place) for name, none in zip(names, empty, strict=True)]
    if len({len(value) for value in values}) != 1:
        counts = ", ".join(f"{len(value)} {name}" for name, value in zip(names, values, strict=True))
        raise RecordError(f"{place}: {counts}, expected equal counts; download the file again")
    return Segments(*values)


def _checked_segments(segments: Segments, video_id: str) -> Segments:
    counts = [len(segments.labels), len(segments.start_times), len(segments.scores)]
    if len(set(counts)) != 1:
        raise ShapeError(
            f"{video_id}: {counts} segment labels, start times and scores, expected equal counts"
        )
    return Segments(
        np.asarray(segments.labels, np.int64),
        np.asarray(segments.start_times, np.int64),
        np.asarray(segments.scores, np.float32),
    )
