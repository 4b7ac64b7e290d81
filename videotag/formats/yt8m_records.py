"""YouTube-8M records: frame-level features as uint8, video-level means, the segment labels of 2019.

The record fields and constants of google/youtube-8m. Differs: modalities go by the record's own names, so
that features of any extractor can be written and read; names and widths are checked only where asked for.
Shapes: T steps (one a second in YouTube-8M), D feature width (rgb 1024, audio 128), L labels, S segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videotag.errors import RecordError, ShapeError
from videotag.formats.tf_example import Example, Feature, FeatureList, encode_example, parse_example
from videotag.formats.tfrecord import Compression, OnError, handled, read_records, write_records
from videotag.safe_text import escaped

#: feature = byte * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS. The bias is off by half a byte's step from the exact
#: inverse of `quantize`; the published networks were trained so.
DEQUANTIZE_SCALE = 4 / 255
DEQUANTIZE_BIAS = 4 / 512 - 2
_LOW, _HIGH = -2.0, 2.0  # what a byte's range stands for
_DEQUANTIZED = (np.arange(256) * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS).astype(np.float32)

#: Widths of the published features.
YT8M_DIMS = {"rgb": 1024, "audio": 128, "mean_rgb": 1024, "mean_audio": 128}
SEGMENT_FIELDS = ("segment_labels", "segment_start_times", "segment_scores")
_ID_NAMES = ("id", "video_id")  # of 2017 and on, of 2016
_NO_INTS, _NO_FLOATS = np.empty(0, np.int64), np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)  # arrays have no one truth value
class Segments:
    """Parts of a video, 5 seconds each, that people looked at; (S,) each."""

    labels: np.ndarray  # int64, the class that was asked for
    start_times: np.ndarray  # int64, seconds
    scores: np.ndarray  # float32, the share of people who saw the class there


@dataclass(frozen=True, eq=False)  # arrays have no one truth value
class YT8MRecord:
    """What a record says of one video."""

    video_id: str
    labels: np.ndarray  # (L,) int64; none in the test set
    features: dict[str, np.ndarray] = field(default_factory=dict)  # frame level: modality -> (T, D) uint8
    means: dict[str, np.ndarray] = field(default_factory=dict)  # video level: modality -> (D,) float32
    segments: Segments | None = None


def read_yt8m(
    path: str | Path, *, dims: Mapping[str, int | None] | None = None, on_error: OnError = "raise"
) -> Iterator[YT8MRecord]:
    """The records of a TFRecord file of YouTube-8M, of any of its kinds.

    Args:
        path: the file; plain, gzip or zlib.
        dims: as of `parse_yt8m`.
        on_error: as of `read_records`.

    Raises:
        RecordError: as `read_records` and `parse_yt8m`.
    """
    with handled(on_error):
        for data, place in read_records(path):
            yield parse_yt8m(data, dims=dims, place=place)


def parse_yt8m(
    data: bytes, *, dims: Mapping[str, int | None] | None = None, place: str = "record"
) -> YT8MRecord:
    """One record from the data of it.

    Args:
        data: a serialised SequenceExample (frame level) or Example (video level).
        dims: width D of every modality that must be there, by its name (rgb, audio, mean_rgb ...), None for
            any width; others are left out. By default all are taken that the record has, of any width.
        place: begins the error's text.

    Returns:
        The record. Without steps, a modality has shape (0, D), D from `dims` or the published width.

    Raises:
        RecordError: not such a message, no id, steps of unequal length, a modality of `dims` is missing or of
            another width, or segments do not fit together.
    """
    return make_record(parse_example(data, place=place), dims=dims, place=place)


def make_record(
    example: Example, *, dims: Mapping[str, int | None] | None = None, place: str = "record"
) -> YT8MRecord:
    """The record that the content of a SequenceExample or Example is.

    Args:
        example: context and feature lists by YouTube-8M's names.
        dims: as of `parse_yt8m`.
        place: begins the error's text.

    Raises:
        RecordError: as `parse_yt8m`.
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
    """Writes records as YouTube-8M's own tools read them, whole or not at all; how many there were.

    Args:
        path: of the finished file.
        records: taken one at a time.
        compression: None writes a plain file, as YouTube-8M's are.

    Raises:
        ShapeError: as `encode_yt8m`.
        OutputError: the place cannot be written.
    """
    return write_records(path, map(encode_yt8m, records), compression=compression)


def encode_yt8m(record: YT8MRecord) -> bytes:
    """The data of a record: a SequenceExample, or an Example if it has no frame-level features.

    Raises:
        ShapeError: as `checked`.
    """
    record = checked(record)
    context: dict[str, Feature] = {"labels": record.labels, "id": (encode_id(record.video_id),)}
    context |= record.means
    if record.segments is not None:
        context |= segment_fields(record.segments)
    return encode_example(Example(context, dict(record.features)))


def checked(record: YT8MRecord) -> YT8MRecord:
    """The record with the dtypes that `YT8MRecord` states, for a writer.

    Raises:
        ShapeError: features are not (T, D) uint8, means not (D,) floats, labels not (L,) whole numbers, or
            arrays of segments differ in length.
    """
    labels = np.asarray(record.labels, np.int64 if len(record.labels) == 0 else None)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"{record.video_id}: labels {labels.dtype} {labels.shape}, expected (L,) whole numbers"
        )
    for name, mean in record.means.items():
        if mean.ndim != 1 or mean.dtype.kind != "f":
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
    """The arrays of segments under the names that records have for them."""
    values = (segments.labels, segments.start_times, segments.scores)
    return dict(zip(SEGMENT_FIELDS, values, strict=True))


def encode_id(video_id: str) -> bytes:
    """The bytes of an id; those that are not UTF-8 come back by `decode_id`."""
    return video_id.encode("utf-8", "surrogateescape")


def decode_id(video_id: bytes) -> str:
    """The id of these bytes."""
    return video_id.decode("utf-8", "surrogateescape")


def quantize(features: np.ndarray) -> np.ndarray:
    """Features as bytes: -2 and less become 0, 2 and more 255; the same shape, uint8.

    Raises:
        RecordError: NaN in the features.
    """
    if np.isnan(features).any():
        raise RecordError("features to be quantized hold NaN; extract them again")
    clipped = np.clip(np.asarray(features, np.float64), _LOW, _HIGH)
    return np.rint((clipped - _LOW) * 255 / (_HIGH - _LOW)).astype(np.uint8)


def dequantize(quantized: np.ndarray) -> np.ndarray:
    """byte * 4/255 + (4/512 - 2), rounded once to float32: -1.9921875 to 2.0078125; the same shape.

    Args:
        quantized: uint8.

    Raises:
        ShapeError: not uint8.
    """
    if quantized.dtype != np.uint8:
        raise ShapeError(f"{quantized.dtype} to be dequantized, expected uint8; these are features already")
    return _DEQUANTIZED[quantized]


def _found(context: Mapping[str, Feature], lists: Mapping[str, FeatureList]) -> dict[str, int | None]:
    """All modalities of a record, of any width."""
    means = [
        name
        for name, value in context.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not name.startswith("segment_")
    ]
    return dict.fromkeys([*lists, *means])


def _frames(steps: FeatureList, name: str, dim: int | None, place: str) -> np.ndarray:
    """(T, D) uint8 of a feature list."""
    expected = "D" if dim is None else dim
    if not isinstance(steps, np.ndarray) or steps.dtype != np.uint8:
        what = f"{steps.dtype} values" if isinstance(steps, np.ndarray) else "steps of unequal length or kind"
        raise RecordError(
            f"{place}: {name} has {what}, expected (T, {expected}) bytes; write the record again"
        )
    if not len(steps) and not steps.shape[1]:  # of no steps, a TFRecord does not know the width
        return steps.reshape(0, YT8M_DIMS.get(name, 0) if dim is None else dim)
    if dim is not None and steps.shape[1] != dim:
        raise RecordError(
            f"{place}: {name} of shape {steps.shape}, expected (T, {dim}); correct the model's feature_dims,"
            " or extract it with the backbone that they are for"
        )
    return steps


def _mean(
    context: Mapping[str, Feature], lists: Mapping[str, FeatureList], name: str, dim: int | None, place: str
) -> np.ndarray:
    """(D,) float32 of a video-level feature."""
    value = context.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        there = escaped(", ".join(_found(context, lists)), limit=200) or "nothing"
        raise RecordError(f"{place}: no features {name}; there is {there}; correct the model's feature_names")
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
    raise RecordError(f"{place}: no video id; there is {there}; is it a file of YouTube-8M?")


def _numbers(context: Mapping[str, Feature], name: str, empty: np.ndarray, place: str) -> np.ndarray:
    """Numbers of the context, of the dtype of `empty`, which stands for numbers that are not there."""
    value = context.get(name, ())
    if isinstance(value, tuple) and not value:
        return empty
    if not isinstance(value, np.ndarray) or value.dtype != empty.dtype:
        raise RecordError(f"{place}: {name} is not a list of {empty.dtype}; write the record again")
    return value


def _segments(context: Mapping[str, Feature], place: str) -> Segments | None:
    """The segments of a record of 2019; None if there is nothing of them."""
    names = SEGMENT_FIELDS
    if not any(name in context for name in names):
        return None
    empty: tuple[np.ndarray, ...] = (_NO_INTS, _NO_INTS, _NO_FLOATS)
    values = [_numbers(context, name, none, place) for name, none in zip(names, empty, strict=True)]
    if len({len(value) for value in values}) != 1:
        counts = ", ".join(f"{len(value)} {name}" for name, value in zip(names, values, strict=True))
        raise RecordError(f"{place}: {counts}, expected equally many; download the file again")
    return Segments(*values)


def _checked_segments(segments: Segments, video_id: str) -> Segments:
    counts = [len(segments.labels), len(segments.start_times), len(segments.scores)]
    if len(set(counts)) != 1:
        raise ShapeError(
            f"{video_id}: {counts} segment labels, start times and scores, expected equally many"
        )
    return Segments(
        np.asarray(segments.labels, np.int64),
        np.asarray(segments.start_times, np.int64),
        np.asarray(segments.scores, np.float32),
    )
