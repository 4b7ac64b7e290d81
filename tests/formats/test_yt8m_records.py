"""YouTube-8M records as TensorFlow wrote them, as users write their own, and what is wrong with others."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videotag.errors import RecordError, ShapeError
from videotag.formats.tf_example import Example, encode_example
from videotag.formats.tfrecord import write_records
from videotag.formats.yt8m_records import (
    DEQUANTIZE_BIAS,
    DEQUANTIZE_SCALE,
    Segments,
    YT8MRecord,
    dequantize,
    encode_yt8m,
    parse_yt8m,
    quantize,
    read_yt8m,
    write_yt8m,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "train0000.tfrecord"
DIMS = {"rgb": 1024, "audio": 128}


def ints(*values):
    return np.array(values, np.int64)


def frames(num_steps, dim):
    return (np.arange(num_steps * dim) % 251).astype(np.uint8).reshape(num_steps, dim)


def record(**changes):
    plain = YT8MRecord("abcd", ints(3, 1), {"rgb": frames(4, 1024), "audio": frames(4, 128)})
    return replace(plain, **changes)


def content(one):
    """A record as plain values, with the types and shapes of its arrays; dicts as lists, for their order."""
    parts = vars(one) | {"segments": one.segments and vars(one.segments)}
    return [(name, _plain(value)) for name, value in parts.items()]


def _plain(value):
    if isinstance(value, dict):
        return [(name, _plain(inner)) for name, inner in value.items()]
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def same(left, right):
    return content(left) == content(right)


def test_records_of_tensorflow_are_read_exactly():
    expected = np.load(GOLDEN.with_suffix(".npz"), allow_pickle=False)
    found = list(read_yt8m(GOLDEN, dims=DIMS))
    assert [len(r.features["rgb"]) for r in found] == [300, 1, 127, 128, 300, 17, 302, 64]
    for index, one in enumerate(found):
        features = {name: expected[f"{name}_{index}"] for name in ("rgb", "audio")}
        video_id = expected[f"id_{index}"].tobytes().decode()
        assert same(one, YT8MRecord(video_id, expected[f"labels_{index}"], features))


def test_records_are_written_byte_for_byte_as_tensorflow_wrote_them(tmp_path):
    assert write_yt8m(tmp_path / "new", read_yt8m(GOLDEN)) == 8
    assert (tmp_path / "new").read_bytes() == GOLDEN.read_bytes()


def test_features_can_be_changed_in_place_and_hold_no_more_than_themselves():
    for array in next(read_yt8m(GOLDEN)).features.values():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.base is None


def test_the_example_of_the_docs_works_as_written(work_dir, capsys):
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "write_yt8m" in block)
    exec(example, {})  # noqa: S102 - our own documentation
    assert capsys.readouterr().out == "my_id [ 3 14] (300, 1024)\n"
    shard = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "write_shard" in block)
    exec(shard, {})  # noqa: S102
    assert capsys.readouterr().out == "1 [300] my_id\n"


@pytest.mark.parametrize("compression", [None, "gzip", "zlib"])
def test_own_features_come_back(tmp_path, compression):
    records = [
        record(),
        record(labels=ints(), features={"rgb": frames(1, 7)}),
        record(video_id="名\udcff", features={"clip": frames(300, 512), "rgb": frames(2, 1024)}),
        record(segments=Segments(ints(5, 5), ints(0, 35), np.array([1, 0.5], np.float32))),
        record(features={}, means={"mean_rgb": np.linspace(-2, 2, 1024, dtype=np.float32)}),
        record(features={"rgb": frames(0, 1024), "audio": frames(0, 128)}),
    ]
    write_yt8m(tmp_path / "own", records, compression=compression)
    found = list(read_yt8m(tmp_path / "own"))
    assert len(found) == len(records)
    assert all(map(same, found, records))


@given(
    num_steps=st.integers(0, 5),
    dim=st.integers(0, 300),
    labels=st.lists(st.integers(0, 2**40)),
    video_id=st.text(),
)
@settings(deadline=None)
def test_any_record_comes_back(num_steps, dim, labels, video_id):
    one = YT8MRecord(video_id, ints(*labels), {"rgb": frames(num_steps, dim)})
    assert same(parse_yt8m(encode_yt8m(one), dims={"rgb": dim}), one)


def test_labels_may_be_a_list_but_not_fractions():
    assert parse_yt8m(encode_yt8m(record(labels=[2, 1]))).labels.tolist() == [2, 1]
    with pytest.raises(ShapeError, match=r"abcd: labels float64 \(1,\), expected \(L,\) integers"):
        encode_yt8m(record(labels=np.array([0.5])))


def test_without_labels_there_are_none():
    data = encode_example(Example({"id": (b"abcd",)}, {"rgb": frames(2, 3)}))
    assert same(parse_yt8m(data), YT8MRecord("abcd", ints(), {"rgb": frames(2, 3)}))
    data = encode_example(Example({"id": (b"abcd",), "labels": ints()}, {}))
    assert same(parse_yt8m(data), YT8MRecord("abcd", ints()))


def test_the_id_of_2016_is_read():
    assert parse_yt8m(encode_example(Example({"video_id": (b"abcd",)}, {}))).video_id == "abcd"


def test_only_the_modalities_asked_for_are_returned_in_that_order():
    data = encode_yt8m(record())
    assert list(parse_yt8m(data, dims={"audio": None}).features) == ["audio"]
    assert list(parse_yt8m(data, dims={"audio": 128, "rgb": 1024}).features) == ["audio", "rgb"]


def test_without_steps_the_width_is_the_one_asked_for_or_published():
    data = encode_yt8m(record(features={"rgb": frames(0, 9), "own": frames(0, 9)}))
    shapes = {name: value.shape for name, value in parse_yt8m(data).features.items()}
    assert shapes == {"rgb": (0, 1024), "own": (0, 0)}
    assert parse_yt8m(data, dims={"own": 9}).features["own"].shape == (0, 9)


def segment_record(labels, start_times, scores):
    context = {"id": (b"abcd",), "segment_labels": labels, "segment_start_times": start_times}
    return encode_example(Example(context | {"segment_scores": scores, "segment_end_times": start_times}, {}))


def test_segments_of_2019_are_read():
    scores = np.array([0, 1], np.float32)
    found = parse_yt8m(segment_record(ints(7, 7), ints(5, 60), scores))
    assert same(found, YT8MRecord("abcd", ints(), segments=Segments(ints(7, 7), ints(5, 60), scores)))
    assert parse_yt8m(segment_record((), (), ())).segments.scores.dtype == np.float32


NAMES = st.sampled_from(["id", "video_id", "labels", "rgb", "mean_rgb", "segment_labels", "segment_scores"])
VALUES = (
    st.lists(st.binary(max_size=3), max_size=2).map(tuple)
    | st.lists(st.floats(width=32), max_size=2).map(lambda values: np.array(values, np.float32))
    | st.lists(st.integers(0, 9), max_size=2).map(lambda values: ints(*values))
)


@given(
    context=st.dictionaries(NAMES, VALUES),
    lists=st.dictionaries(NAMES, st.lists(VALUES, max_size=3)),
    dims=st.none() | st.dictionaries(NAMES, st.none() | st.integers(0, 3)),
)
@settings(deadline=None)
def test_no_fields_make_anything_but_a_record_error(context, lists, dims):
    try:
        found = parse_yt8m(encode_example(Example(context, lists)), dims=dims)
    except RecordError:
        return
    assert isinstance(found.video_id, str)
    assert (found.labels.ndim, found.labels.dtype) == (1, np.int64)
    assert {(x.ndim, x.dtype) for x in found.features.values()} <= {(2, np.dtype(np.uint8))}
    assert {(x.ndim, x.dtype) for x in found.means.values()} <= {(1, np.dtype(np.float32))}


RGB = {"id": (b"abcd",)}
BAD = {
    "no id": (Example({"labels": ints(1)}, {}), None, "no video id; found labels; is it a YouTube-8M"),
    "no context": (Example({}, {"rgb": frames(2, 3)}), None, "no video id; found nothing"),
    "number as id": (Example({"id": ints(1)}, {}), None, "no video id; found id"),
    "width": (
        Example(RGB, {"rgb": frames(2, 3)}),
        {"rgb": 4},
        r"rgb of shape \(2, 3\), expected \(T, 4\); corr",
    ),
    "missing": (
        Example(RGB, {"rgb": frames(2, 3)}),
        {"audio": 3},
        "no features audio; found rgb; correct",
    ),
    "nothing": (Example(RGB, {}), {"audio": 3}, "no features audio; found nothing"),
    "ragged": (
        Example(RGB, {"rgb": [(b"abc",), (b"ab",)]}),
        None,
        r"rgb has steps of unequal length or kind, expected \(T, D\) bytes; write the record again",
    ),
    "floats": (
        Example(RGB, {"rgb": np.ones((2, 3), np.float32)}),
        {"rgb": 3},
        r"rgb has float32 values, expected \(T, 3\)",
    ),
    "mean": (
        Example(RGB | {"mean_rgb": np.ones(3, np.float32)}, {}),
        {"mean_rgb": 4},
        r"mean_rgb of shape \(3,\), expected \(4,\); correct the model's feature_dims",
    ),
    "labels": (Example(RGB | {"labels": (b"cat",)}, {}), None, "labels is not a list of int64; write"),
    "segments": (
        Example(RGB | {"segment_labels": ints(1, 2), "segment_start_times": ints(1)}, {}),
        None,
        "2 segment_labels, 1 segment_start_times, 0 segment_scores, expected equal counts; download",
    ),
}


@pytest.mark.parametrize(("example", "dims", "message"), BAD.values(), ids=BAD)
def test_the_message_names_file_record_offset_and_remedy(tmp_path, example, dims, message):
    whole = RGB | {name: np.ones(dim, np.float32) for name, dim in (dims or {}).items()}
    good = encode_example(Example(whole, {}))
    write_records(tmp_path / "some", [good, encode_example(example)])
    found = read_yt8m(tmp_path / "some", dims=dims)
    assert next(found).video_id == "abcd"
    with pytest.raises(RecordError, match=f"some: record 1 at byte {len(good) + 16}: {message}"):
        next(found)


def test_stop_ends_at_a_record_that_cannot_be_parsed(tmp_path, caplog):
    write_records(tmp_path / "some", [encode_yt8m(record()), b"rubbish", encode_yt8m(record())])
    assert [one.video_id for one in read_yt8m(tmp_path / "some", on_error="stop")] == ["abcd"]
    assert "some: record 1 at byte" in caplog.text
    assert "not a tf.Example or SequenceExample" in caplog.text


def test_what_cannot_be_a_record_is_not_written(tmp_path):
    cases = {
        r"rgb float64 \(2, 3\), expected \(T, D\) uint8; quantize it": record(
            features={"rgb": np.ones((2, 3))}
        ),
        r"rgb uint8 \(3,\)": record(features={"rgb": np.ones(3, np.uint8)}),
        r"mean_rgb int64 \(1,\), expected \(D,\) float32": record(means={"mean_rgb": ints(1)}),
        r"\[1, 2, 0\] segment labels, start times and scores": record(
            segments=Segments(ints(1), ints(1, 2), np.empty(0, np.float32))
        ),
    }
    for message, bad in cases.items():
        with pytest.raises(ShapeError, match=f"abcd: {message}"):
            write_yt8m(tmp_path / "new", [record(), bad])
    assert not list(tmp_path.iterdir())


def test_dequantize_is_the_published_formula():
    every = np.arange(256, dtype=np.uint8)
    found = dequantize(every.reshape(16, 16))
    assert (found.shape, found.dtype) == ((16, 16), np.float32)
    assert (found[0, 0], found[15, 15]) == (-1.9921875, 2.0078125)
    assert found.ravel().tolist() == [np.float32(q * (4 / 255) + (4 / 512 - 2)) for q in range(256)]
    assert (DEQUANTIZE_SCALE, DEQUANTIZE_BIAS) == (4 / 255, -1.9921875)
    with pytest.raises(ShapeError, match="dequantize got float32, expected uint8; pass quantized features"):
        dequantize(found)


@given(value=st.floats(width=32, allow_nan=False))
def test_quantize_is_the_published_formula(value):
    expected = round((min(max(value, -2.0), 2.0) + 2) * 255 / 4)
    assert quantize(np.array([[value]], np.float32)).tolist() == [[expected]]


def test_quantize_clips_and_refuses_nan():
    assert quantize(np.array([-math.inf, -2, 0, 2, math.inf])).tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(RecordError, match="features with NaN; extract them again"):
        quantize(np.array([math.nan]))


def test_bytes_come_back_through_dequantize_and_quantize_within_one():
    every = np.arange(256, dtype=np.uint8)
    there_and_back = quantize(dequantize(every)).astype(int)
    assert np.abs(there_and_back - every).max() <= 1  # the published bias is half a step off
