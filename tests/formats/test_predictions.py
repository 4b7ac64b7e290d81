"""Predictions as files: the challenge's form by hand, and what every format has in common."""

from __future__ import annotations

import csv
import json
import tracemalloc
import typing

import pytest

from videotag.errors import ConfigError
from videotag.formats.predictions import Format, prediction_writer, predictions_file, read_predictions

FORMATS = typing.get_args(Format)


def prediction(video_id, *pairs):
    tags = [{"class_id": i, "class_name": f"name, {i}", "probability": p} for i, p in pairs]
    return {"video_id": video_id, "tags": tags}


def written(path, file_format, predictions):
    with prediction_writer(path, file_format) as write:
        for one in predictions:
            write(one)
    return path.read_bytes().decode("utf-8")


def test_kaggle_is_a_row_per_video_with_six_decimals(tmp_path):
    predictions = [prediction("aB-_", (3861, 1.0), (0, 0.25), (7, 1e-06)), prediction("c", (5, 0.123456))]
    assert written(tmp_path / "p.csv", "kaggle", predictions) == (
        "VideoId,LabelConfidencePairs\naB-_,3861 1.000000 0 0.250000 7 0.000001\nc,5 0.123456\n"
    )


def test_kaggle_of_a_video_without_tags_has_its_id_alone(tmp_path):
    assert written(tmp_path / "p.csv", "kaggle", [prediction("a")]).splitlines()[1:] == ["a,"]


@pytest.mark.parametrize("video_id", ['dir, one/a "b".npy', "鲸/a b.npy", "-a", "line\nbreak", "a\rb"])
def test_kaggle_ids_are_quoted_where_csv_needs_it_and_read_back(tmp_path, video_id):
    written(tmp_path / "p.csv", "kaggle", [prediction(video_id, (1, 0.5))])
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[video_id, "1 0.500000"]]


@pytest.mark.parametrize(
    "text", ['a, "b"', "line\nbreak", "line\r\nbreak", "a\rb", "\x1b[2J", " a ", "'", "鲸"]
)
def test_ids_and_class_names_come_back_through_python_s_csv_reader(tmp_path, text):
    tags = [{"class_id": 1, "class_name": text, "probability": 0.5}]
    written(tmp_path / "p.csv", "csv", [{"video_id": text, "tags": tags}])
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[text, "1", "1", text, "0.5"]]


@pytest.mark.parametrize(
    "value",
    [
        [1] * 200_000,
        [{"video_id": "a", "tags": [1] * 200_000}],
        [{"video_id": "a", "tags": [], "segments": [1] * 200_000}],
        [{"video_id": "a", "tags": [], "segments": [{"start_sec": 0, "end_sec": 1, "tags": [1] * 200_000}]}],
        [{"video_id": "a", "tags": [], "duration_sec": 1, "attention": {"rgb": ["b"] * 200_000}}],
        [
            {
                "video_id": "a",
                "tags": [],
                "duration_sec": 1,
                "attention": dict.fromkeys(map(str, range(200_000))),
            }
        ],
    ],
    ids=["predictions", "tags", "segments", "tags of a segment", "attention", "modalities"],
)
def test_many_wrong_values_cost_no_more_than_one(tmp_path, value):
    (tmp_path / "p.json").write_text(json.dumps(value))
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"p\.json: not predictions; give the JSON") as caught:
        read_predictions(tmp_path / "p.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    assert peak < 100 * 2**20


@pytest.mark.parametrize("class_id", ["NaN", "1.5", "-1", "true", '"1"'])
def test_a_class_id_that_is_none_is_refused(tmp_path, class_id):
    text = '[{"video_id": "a", "tags": [{"class_id": %s, "class_name": "b", "probability": 1}]}]'
    (tmp_path / "p.json").write_text(text % class_id)
    with pytest.raises(ConfigError, match=r"p\.json: not predictions; .* \(0\.tags\.0\.class_id: "):
        read_predictions(tmp_path / "p.json")
    (tmp_path / "p.json").write_text(text % 3)
    assert read_predictions(tmp_path / "p.json")[0]["tags"][0]["class_id"] == 3


@pytest.mark.parametrize("file_format", FORMATS)
def test_no_file_appears_before_all_predictions_are_there(tmp_path, file_format):
    path = tmp_path / "p"

    def predictions():
        yield prediction("a", (1, 0.5))
        assert not path.exists()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        written(path, file_format, predictions())
    assert not list(tmp_path.iterdir())


def test_no_two_formats_share_a_file():
    names = {file_format: predictions_file(file_format) for file_format in FORMATS}
    assert names == {
        "json": "predictions.json",
        "jsonl": "predictions.jsonl",
        "csv": "predictions.csv",
        "kaggle": "predictions_kaggle.csv",
    }
