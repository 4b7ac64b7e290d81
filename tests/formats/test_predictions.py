"""Predictions as files: the challenge's form by hand, and what every format has in common."""

from __future__ import annotations

import csv
import typing

import pytest

from videotag.formats.predictions import Format, prediction_writer, predictions_file

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


@pytest.mark.parametrize("video_id", ['dir, one/a "b".npy', "鲸/a b.npy", "-a", "line\nbreak"])
def test_kaggle_ids_are_quoted_where_csv_needs_it_and_read_back(tmp_path, video_id):
    written(tmp_path / "p.csv", "kaggle", [prediction(video_id, (1, 0.5))])
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[video_id, "1 0.500000"]]


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
