"""Predictions on disk: JSON, JSON lines or CSV, written one video at a time and renamed when complete.

There are two kinds of CSV: a row per tag, and a row per video as the YouTube-8M challenge on Kaggle took it.

A prediction is a dict: {"video_id", "tags": [{"class_id", "class_name", "probability"}], ...}.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from videotag.errors import ConfigError
from videotag.safe_text import escaped
from videotag.system.atomic import open_atomic
from videotag.system.json_text import read_json

Format = Literal["json", "jsonl", "csv", "kaggle"]
CSV_COLUMNS = ("video_id", "rank", "class_id", "class_name", "probability")
KAGGLE_COLUMNS = ("VideoId", "LabelConfidencePairs")
_PREDICTION = r'\{\s*"video_id": "(?:[^"\\]|\\.)*",\s*"(?:tags|duration_sec)": '
#: What a file of predictions begins with, by format.
HEADS: dict[Format, re.Pattern[str]] = {
    "json": re.compile(rf"\[\s*(?:\]\s*\Z|{_PREDICTION})"),
    "jsonl": re.compile(_PREDICTION),
    "csv": re.compile(",".join(CSV_COLUMNS) + "\n"),
    "kaggle": re.compile(",".join(KAGGLE_COLUMNS) + "\n"),
}

_MAX_MODALITIES = 100
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# FailFast: pydantic takes 3 KB of memory for every wrong element, and one is shown.


class _Tag(BaseModel):
    class_name: str
    class_id: Annotated[int, Field(ge=0)] | None = None  # not shown, so it may be missing
    probability: Annotated[float, Field(ge=0, le=1)]


class _Segment(BaseModel):
    start_sec: _NotNegative
    end_sec: _NotNegative
    tags: Annotated[list[_Tag], FailFast()]


class _Prediction(BaseModel):
    """What a page shows of a video; other keys are left out."""

    video_id: str
    tags: Annotated[list[_Tag], FailFast()]
    duration_sec: _NotNegative | None = None
    segments: Annotated[list[_Segment], FailFast()] = []
    attention: dict[str, Annotated[list[_NotNegative], FailFast()]] = {}
    warning: str | None = None

    @field_validator("attention", mode="before")
    @classmethod
    def _modalities_are_few(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MAX_MODALITIES:
            raise ValueError(f"{len(value)} modalities, expected at most {_MAX_MODALITIES}")
        return value

    @model_validator(mode="after")
    def _time_is_known(self) -> _Prediction:
        if self.attention and "duration_sec" not in self.model_fields_set:
            raise ValueError("attention over time without duration_sec; null stands for one not known")
        return self


_PREDICTIONS = TypeAdapter(Annotated[list[_Prediction], FailFast()])


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """The predictions in a JSON file, with the keys that pages show; those that were left out are empty.

    Raises:
        ConfigError: The file is missing, not JSON, or its values are not predictions.
    """
    found = read_json(path, error=ConfigError, remedy="make it with `videotag tag --json`")
    try:
        predictions = _PREDICTIONS.validate_python(found, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = escaped(".".join(map(str, first["loc"])) or "the file")
        raise ConfigError(
            f"{path}: not predictions; give the JSON that `videotag tag --json` prints "
            f"({where}: {escaped(first['msg'])})"
        ) from None
    return [prediction.model_dump() for prediction in predictions]


def read_metrics(path: str | Path) -> dict[str, Any]:
    """The metrics in a JSON file by name; their values are not looked at.

    Raises:
        ConfigError: The file is missing, not JSON, or no object.
    """
    remedy = "give the metrics.json of `videotag eval`"
    metrics = read_json(path, error=ConfigError, remedy=remedy)
    if not isinstance(metrics, dict):
        raise ConfigError(f"{path}: not metrics; {remedy}")
    return metrics


def predictions_file(file_format: Format) -> str:
    """The name of the file, another one for each format: predictions.csv, or predictions_kaggle.csv."""
    return "predictions_kaggle.csv" if file_format == "kaggle" else f"predictions.{file_format}"


@contextlib.contextmanager
def prediction_writer(path: str | Path, file_format: Format) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one prediction; the file at `path` appears when the block ends well.

    However many videos there are, one at a time is held in memory.

    Args:
        path: of the finished file.
        file_format: "json", one array; "jsonl", an object a line; "csv", a row per tag, rank from 1;
            "kaggle", a row per video, its class ids each with its probability behind it, parted by blanks.

    Raises:
        OutputError: the place cannot be written.
    """
    with open_atomic(path, "w") as file:
        if file_format == "csv":
            rows = csv.writer(_Lines(file))
            rows.writerow(CSV_COLUMNS)
            yield lambda prediction: rows.writerows(_csv_rows(prediction))
        elif file_format == "kaggle":
            rows = csv.writer(_Lines(file))
            rows.writerow(KAGGLE_COLUMNS)
            yield lambda prediction: rows.writerows(_kaggle_rows(prediction))
        elif file_format == "jsonl":
            yield lambda prediction: _print(file, json.dumps(prediction, ensure_ascii=False), "\n")
        else:
            file.write("[")
            separators = itertools.chain(["\n"], itertools.repeat(",\n"))
            yield lambda prediction: _print(
                file, next(separators), json.dumps(prediction, ensure_ascii=False)
            )
            file.write("\n]\n")


class _Lines:
    r"""A text file to which csv.writer's rows go with "\n" at their ends.

    Asked for "\n" itself, csv.writer leaves a "\r" in a field unquoted, which readers take for a line end.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def _print(file: IO[str], *texts: str) -> None:
    for text in texts:
        file.write(text)


def _csv_rows(prediction: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for rank, tag in enumerate(prediction["tags"], start=1):
        yield prediction["video_id"], rank, tag["class_id"], tag["class_name"], tag["probability"]


def _kaggle_rows(prediction: dict[str, Any]) -> Iterator[tuple[str, str]]:
    pairs = (f"{tag['class_id']} {tag['probability']:.6f}" for tag in prediction["tags"])
    yield prediction["video_id"], " ".join(pairs)
