"""fit.yaml, which makes a folder of `videotag fit` a complete tagger: an extractor and the chosen models."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from videotag.errors import WeightsError
from videotag.formats.yaml_text import read_yaml
from videotag.safe_text import escaped
from videotag.sections import MAX_FRAMES, MAX_PATH
from videotag.weights import named_weights

FIT_FILE = "fit.yaml"
_MAX_MEMBERS = 10


def _inside(text: str) -> str:
    """Rejects a path that leaves the folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{escaped(text)} is not a path inside the folder")
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
        WeightsError: fit.yaml is damaged, or names paths outside the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / FIT_FILE
        remedy = "run `videotag fit` again"
        raw: Any = read_yaml(path, error=WeightsError, remedy=remedy)
        try:
            self._fit = Fit.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise WeightsError(f"{path}: {escaped(where)}: {escaped(first['msg'])}; {remedy}") from error

    @property
    def models(self) -> list[Path]:
        """Folders of the chosen taggers."""
        return [self.folder / name for name in self._fit.models]

    @property
    def extractor_weights(self) -> str | None:
        """Name or path of the extractor's weights; None if there is no extractor."""
        if self._fit.extractor is None:
            return None
        weights = self._fit.extractor.weights
        return weights if weights in named_weights() else str(self.folder / weights)

    @property
    def seg_num(self) -> int | None:
        """Number of frames per video; None if there is no extractor."""
        return self._fit.extractor.seg_num if self._fit.extractor else None


def is_fit_folder(path: str | Path) -> bool:
    """Whether a path is a folder with fit.yaml."""
    return (Path(path) / FIT_FILE).is_file()
