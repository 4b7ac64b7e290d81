"""Predictions on disk: JSON, JSON lines or CSV, written one video at a time and renamed when complete.

There are two CSV formats: a row per tag, and a row per video for the YouTube-8M challenge on Kaggle.
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
from typing import IO, Annotated, Any, Literal, TypeAlias

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
#: Format -> pattern that matches the start of a predictions file.
HEADS: dict[Format, re.Pattern[str]] = {
    "json": re.compile(rf"\[\s*(?:\]\s*\Z|{_PREDICTION})"),
    "jsonl": re.compile(_PREDICTION),
    "csv": re.compile(",".join(CSV_COLUMNS) + "\n"),
    "kaggle": re.compile(",".join(KAGGLE_COLUMNS) + "\n"),
}

_MAX_MODALITIES = 100
_MAX_FINDINGS = 1_000_000  # of a kind; a day of film has 100,000 shots
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# FailFast: pydantic uses 3 KB of memory per invalid element, and only one is shown.


class _Tag(BaseModel):
    class_name: str
    class_id: Annotated[int, Field(ge=0)] | None = None  # optional, since pages do not show it
    probability: Annotated[float, Field(ge=0, le=1)]


class _Segment(BaseModel):
    start_sec: _NotNegative
    end_sec: _NotNegative
    tags: Annotated[list[_Tag], FailFast()]
    not_sure: bool = False


class _Finding(BaseModel):
    start_sec: _NotNegative
    end_sec: _NotNegative
    text: str = ""
    class_name: str = ""


_Findings: TypeAlias = list[_Finding] | None  # None: the file lacks the input


class _Prediction(BaseModel):
    """The keys of a prediction that reports show; others are ignored."""

    video_id: str
    tags: Annotated[list[_Tag], FailFast()]
    duration_sec: _NotNegative | None = None
    segments: Annotated[list[_Segment], FailFast()] = []
    attention: dict[str, Annotated[list[_NotNegative], FailFast()]] = {}
    warning: str | None = None
    not_sure: bool = False
    shots: Annotated[_Findings, Field(max_length=_MAX_FINDINGS)] = None
    texts: Annotated[_Findings, Field(max_length=_MAX_FINDINGS)] = None
    speech: Annotated[_Findings, Field(max_length=_MAX_FINDINGS)] = None
    sounds: Annotated[_Findings, Field(max_length=_MAX_FINDINGS)] = None

    @field_validator("attention", mode="before")
    @classmethod
    def _modalities_are_few(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MAX_MODALITIES:
            raise ValueError(f"{len(value)} modalities, expected at most {_MAX_MODALITIES}")
        return value

    @model_validator(mode="after")
    def _time_is_known(self) -> _Prediction:
        if self.attention and "duration_sec" not in self.model_fields_set:
            raise ValueError("attention without duration_sec; write null if the duration is unknown")
        return self


#: Keys that only predictions with findings have.
_FINDINGS = ("shots", "texts", "speech", "sounds")
_PREDICTIONS = TypeAdapter(Annotated[list[_Prediction], FailFast()])


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Predictions from a JSON file, with the keys that reports show; missing optional keys become empty.

    Returns:
        One dict per video; an empty list for an empty array.

    Raises:
        ConfigError: The file is missing, not JSON, or does not hold predictions.
    """
    content = read_json(path, error=ConfigError, remedy="make it with `videotag tag --json`")
    try:
        predictions = _PREDICTIONS.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = escaped(".".join(map(str, first["loc"])) or "the file")
        raise ConfigError(
            f"{path}: not predictions; give the JSON that `videotag tag --json` prints "
            f"({where}: {escaped(first['msg'])})"
        ) from None
    return [
        {
            key: value
            for key, value in prediction.model_dump().items()
            if key not in _FINDINGS or key in prediction.model_fields_set
        }
        for prediction in predictions
    ]


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Metrics by name from a JSON file; the values are not checked.

    Raises:
        ConfigError: The file is missing, not JSON, or not a JSON object.
    """
    remedy = "give the metrics.json of `videotag eval`"
    metrics = read_json(path, error=ConfigError, remedy=remedy)
    if not isinstance(metrics, dict):
        raise ConfigError(f"{path}: not metrics; {remedy}")
    return metrics


def predictions_file(file_format: Format) -> str:
    """The file name for a format, such as predictions.csv or predictions_kaggle.csv."""
    return "predictions_kaggle.csv" if file_format == "kaggle" else f"predictions.{file_format}"


@contextlib.contextmanager
def prediction_writer(path: str | Path, file_format: Format) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields a function that writes one prediction; the file appears when the block ends without an error.

    Memory holds one prediction at a time. A block that writes none leaves an empty array or only the header.

    Args:
        path: The file to write.
        file_format: "json": one array; "jsonl": one object per line; "csv": one row per tag, rank from 1;
            "kaggle": one row per video, with space-separated pairs of class id and probability.

    Raises:
        OutputError: The file cannot be written.
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
    r"""Text file for csv.writer that ends rows with "\n".

    With lineterminator="\n", csv.writer leaves a "\r" in a field unquoted, which readers take for a line end.
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
