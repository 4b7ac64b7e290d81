"""fit.yaml, which makes a folder of `videotag fit` a complete tagger: an extractor and the chosen models."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from videotag.errors import WeightsError
from videotag.formats import yaml_text
from videotag.safe_text import escaped, safe_repr
from videotag.sections import MAX_FRAMES, MAX_PATH
from videotag.system.text import read_text
from videotag.weights import named_weights

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FIT_FILE = "fit.yaml"
MARK_FILE = ".fit"  # holds the path of the source; marks a folder of a fit, also before fit.yaml
_MAX_MEMBERS = 10
_REMEDY = "run `videotag fit` again"
#: Key of fit.yaml -> what is expected there, for messages.
_EXPECTED = {
    "models": f"a list of 1 to {_MAX_MEMBERS} folders inside this one",
    "extractor": "a section with weights and seg_num",
    "extractor.weights": "a name of published weights, or a path inside this folder",
    "extractor.seg_num": f"an integer from 1 to {MAX_FRAMES}",
}


def _inside(text: str) -> str:
    """Rejects a path that leaves the folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("not a path inside the folder")
    return text


_Inside = Annotated[str, Field(max_length=MAX_PATH), AfterValidator(_inside)]


class ExtractorOfFit(BaseModel):
    """Section `extractor` of fit.yaml.

    Attributes:
        weights: Name of published weights, or path of weights inside the folder.
        seg_num: Number of frames per video.
    """

    model_config = ConfigDict(extra="ignore")

    weights: _Inside
    seg_num: Annotated[int, Field(ge=1, le=MAX_FRAMES)]


class Fit(BaseModel):
    """What tagging needs of fit.yaml; the rest is for people.

    Attributes:
        extractor: First stage; None if `videotag fit` was given features.
        models: Folders of the chosen taggers, whose probabilities are averaged.
    """

    model_config = ConfigDict(extra="ignore")

    extractor: ExtractorOfFit | None = None
    models: Annotated[list[_Inside], Field(min_length=1, max_length=_MAX_MEMBERS)]


class FitFolder:
    """A folder that `videotag fit` wrote.

    Args:
        folder: Folder with fit.yaml.

    Raises:
        WeightsError: fit.yaml is damaged, names paths outside the folder, or names models that are not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._path = self.folder / FIT_FILE
        text = read_text(
            self._path, error=WeightsError, missing=_REMEDY, binary=_REMEDY, max_bytes=yaml_text.MAX_BYTES
        )
        try:
            self._fit = Fit.model_validate(yaml_text.parse_yaml(text))
        except ValidationError as error:
            problem = _problem(error.errors()[0])
            raise WeightsError(f"{self._path}: {problem}; {_REMEDY}") from error
        except ValueError as error:  # after ValidationError, which is one
            raise WeightsError(f"{self._path}: {error}; {_REMEDY}") from None
        for name in self._fit.models:
            self._check_exists("models", name)

    @property
    def models(self) -> list[Path]:
        """Folders of the chosen taggers."""
        return [self.folder / name for name in self._fit.models]

    @property
    def extractor_weights(self) -> str | None:
        """Name or path of the extractor's weights; None if there is no extractor.

        Raises:
            WeightsError: The weights are not there.
        """
        if self._fit.extractor is None:
            return None
        weights = self._fit.extractor.weights
        if weights in named_weights():
            return weights
        self._check_exists("extractor.weights", weights)
        return str(self.folder / weights)

    @property
    def seg_num(self) -> int | None:
        """Number of frames per video; None if there is no extractor."""
        return self._fit.extractor.seg_num if self._fit.extractor else None

    def _check_exists(self, key: str, name: str) -> None:
        path = self.folder / name
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises OSError of a name that is too long
            raise WeightsError(
                f"{self._path}: {key}: {escaped(str(path))} does not exist; copy the whole folder again, or "
                f"{_REMEDY}"
            )


def _problem(error: ErrorDetails) -> str:
    """Key, value and expectation of a value that does not match Fit."""
    keys = [str(part) for part in error["loc"] if isinstance(part, str)]
    key = ".".join(keys)
    if not key:
        return "expected a mapping with the key models"
    expected = _EXPECTED[key]
    if error["type"] == "missing":
        return f"{key}: missing, expected {expected}"
    return f"{key}: {safe_repr(error['input'])}, expected {expected}"


def is_fit_folder(path: str | Path) -> bool:
    """Whether a path is a folder of a finished fit.

    Raises:
        WeightsError: The fit in the folder is not finished.
    """
    is_finished = (Path(path) / FIT_FILE).is_file()
    if not is_finished and (Path(path) / MARK_FILE).is_file():
        raise WeightsError(f"{path}: `videotag fit` was interrupted here; run the same command again")
    return is_finished
