"""What a reader promises: check a list's fields, read one, and join samples to a batch.

    @register_reader("tokens", options=TokenOptions)
    class TokenReader(Reader):
        def specs(self): ...
        def read(self, field, rng): ...
        def collate(self, samples): ...

Shapes: N samples of a batch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np

from videotag.errors import ConfigError
from videotag.registry import ArraySpec
from videotag.sections import InferSection, InputOptions, SplitSection, TrainSection

Options = TypeVar("Options", bound=InputOptions)
Section = TypeVar("Section", bound=SplitSection)
#: A field of a sample, and what varies it in training -> what `collate` takes.
Read: TypeAlias = Callable[[str, "np.random.Generator | None"], Any]


@dataclass(frozen=True)
class Checked:
    """What is known of a list's fields before work starts.

    Attributes:
        sizes: (n,) int64, how long each sample is, in any unit; None where it makes no difference.
        made_by: Field -> what made it, of those that say so; those of one training must be made alike.
    """

    sizes: np.ndarray | None = None
    made_by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a file or folder that a user names holds for a reader.

    Attributes:
        paths: Its samples, by name.
        left_out: Line about files of a folder that are not among them; None if there are none.
    """

    paths: list[str]
    left_out: str | None = None


class Reader(Generic[Options, Section]):
    """Base of readers: one serves all inputs of a config that name it and the same field.

    Args:
        inputs: Options by input.
        section: TRAIN, VALID, TEST or INFER of the config.

    Attributes:
        split_section, infer_section, train_section: Classes of the sections whose keys it reads.
        decodes: Whether reading a sample takes so long that each is read ahead on its own.
        augments: Whether samples vary from epoch to epoch in training.
        may_miss: Whether a sample may lack the field; `collate` then gets None, and masks it.
    """

    split_section: ClassVar[type[SplitSection]] = SplitSection
    infer_section: ClassVar[type[InferSection]] = InferSection
    train_section: ClassVar[type[TrainSection]] = TrainSection
    decodes: ClassVar[bool] = False
    augments: ClassVar[bool] = False
    may_miss: ClassVar[bool] = False

    def __init__(self, inputs: Mapping[str, Options], section: Section) -> None:
        self.inputs = dict(inputs)
        self.section = section

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numbers that stand behind the path in a list's line and belong to the field."""
        return ()

    @property
    def num_threads(self) -> int:
        """Samples read at once, of a reader that decodes."""
        return 1

    @property
    def ahead(self) -> int:
        """Samples that may wait to be used, of a reader that decodes."""
        return 1

    def specs(self) -> list[ArraySpec]:
        """The arrays that `collate` makes."""
        raise NotImplementedError

    def check_kind(self, paths: Sequence[str]) -> None:
        """Looks whether paths are of the reader's kind, before the rest of a list's lines is understood.

        Raises:
            FileListError: All paths of another kind, a line each.
        """

    def check(self, fields: Sequence[str]) -> Checked:
        """Looks at all fields of a list, as far as that is cheap.

        Raises:
            VideotagError: All fields that cannot be read, a line each.
        """
        return Checked()

    def find(self, path: Path) -> Found:
        """The samples in a file or folder that a user names.

        Raises:
            ConfigError: It is none, or there are none in it.
        """
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; give --filelist with a list of what is in it")
        return Found([str(path)])

    def read(self, field: str, rng: np.random.Generator | None) -> Any:
        """One sample.

        Args:
            field: The field, such as a path.
            rng: Draws what varies in training; None without augmentation.

        Raises:
            MediaError, FeatureFileError: It cannot be read; the sample is left out.
        """
        raise NotImplementedError

    @contextlib.contextmanager
    def session(self, stop: threading.Event) -> Any:
        """What must be open while samples are read, such as child processes that decode.

        Args:
            stop: Set when nobody waits for results any more.

        Yields:
            `read`, to be called from any thread.
        """
        yield self.read

    def collate(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """The arrays of a batch, by name.

        Args:
            samples: N results of `read`; None for a sample without the field, if that may be.
        """
        raise NotImplementedError
