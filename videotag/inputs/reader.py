"""The interface of a reader: checks a list's fields, reads one sample, collates samples into a batch.

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np

from videotag.errors import ConfigError, PluginError
from videotag.registry import MASK, ArraySpec, format_array_spec
from videotag.safe_text import safe_repr
from videotag.sections import InferSection, InputOptions, SplitSection
from videotag.train_section import TrainSection

Options = TypeVar("Options", bound=InputOptions)
Section = TypeVar("Section", bound=SplitSection)
#: A field of a sample and the generator for augmentation (None without it) -> what `collate` takes.
Read: TypeAlias = Callable[[str, "np.random.Generator | None"], Any]


@dataclass(frozen=True)
class CheckResult:
    """What a check of a list's fields finds before work starts.

    Attributes:
        sizes: Length of each sample, (n,) int64 in any unit; None where samples are equally long.
        made_by: Field -> tool and settings that made its file, for fields whose file records them; one
            training run requires a single value.
    """

    sizes: np.ndarray | None = None
    made_by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileScan:
    """The samples that a reader finds in a user's file or folder.

    Attributes:
        paths: Paths of the samples, sorted by name.
        left_out: One-line description of the skipped files of a folder; None if none were skipped.
    """

    paths: list[str]
    left_out: str | None = None


class Reader(Generic[Options, Section]):
    """Base class of readers; one instance serves all inputs of a config that share a reader and a field.

    Args:
        inputs: Options by name of the input.
        section: The TRAIN, VALID, TEST or INFER section of the config.

    Attributes:
        split_section, infer_section, train_section: Classes of the sections whose keys the reader uses.
        decodes: Whether reading a sample is slow enough to prefetch samples one by one.
        augments: Whether training samples differ from epoch to epoch.
        is_optional: Whether a sample may lack the field; `collate` then receives None and masks it.
        quantizes: Whether `collate` may return YouTube-8M's uint8 features for float32 ones.
    """

    split_section: ClassVar[type[SplitSection]] = SplitSection
    infer_section: ClassVar[type[InferSection]] = InferSection
    train_section: ClassVar[type[TrainSection]] = TrainSection
    decodes: ClassVar[bool] = False
    augments: ClassVar[bool] = False
    is_optional: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False

    def __init__(self, inputs: Mapping[str, Options], section: Section) -> None:
        self.inputs = dict(inputs)
        self.section = section

    @property
    def count_names(self) -> tuple[str, ...]:
        """Names of the numbers that follow the path in a line of a list and belong to the field."""
        return ()

    @property
    def num_threads(self) -> int:
        """Number of samples read concurrently; used if `decodes` is True."""
        return 1

    @property
    def ahead(self) -> int:
        """Maximum number of prefetched samples; used if `decodes` is True."""
        return 1

    def specs(self) -> list[ArraySpec]:
        """Name, shape (N, ...) and dtype of the arrays that `collate` returns."""
        raise NotImplementedError

    def check_kind(self, paths: Sequence[str]) -> None:
        """Checks that paths are of the reader's kind, before the rest of each line is parsed.

        Args:
            paths: Paths of a list; missing ones pass.

        Raises:
            FileListError: Some paths are of another kind; the message has one line per path.
        """

    def check(self, fields: Sequence[str]) -> CheckResult:
        """Checks all fields of a list as far as that is cheap.

        Args:
            fields: n fields of a list, such as paths.

        Raises:
            VideotagError: Some fields cannot be read; the message has one line per field.
        """
        return CheckResult()

    def find(self, path: Path) -> FileScan:
        """The samples in a user's file or folder.

        Args:
            path: The file or folder.

        Raises:
            ConfigError: The file is not a sample, or the folder holds none.
        """
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; list its files in a file and pass that as --filelist")
        return FileScan([str(path)])

    def read(self, field: str, rng: np.random.Generator | None) -> Any:
        """One sample, in the form that `collate` takes.

        Args:
            field: Field of the sample, such as a path.
            rng: Generator for augmentation; None reads without augmentation.

        Raises:
            MediaError, FeatureFileError: The sample cannot be read; the caller skips it.
        """
        raise NotImplementedError

    @contextlib.contextmanager
    def session(self, stop: threading.Event) -> Any:
        """Context that holds resources for reading, such as child processes that decode.

        Args:
            stop: Event that is set when results are no longer needed.

        Yields:
            A function like `read` that any thread may call.
        """
        yield self.read

    def collate_checked(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """The arrays (N, ...) that `collate` returns, after comparing them with `specs`.

        Args:
            samples: N results of `read`, as `collate` takes them.

        Raises:
            PluginError: Arrays are missing, or of other shapes or dtypes than declared.
        """
        arrays = self.collate(samples)
        returned = f"{type(self).__name__}.collate returned"
        if not isinstance(arrays, Mapping):
            raise PluginError(f"{returned} a {type(arrays).__name__}; return a dict of arrays by name")
        specs = specs_of(self)
        for spec in specs:
            if not isinstance(arrays.get(spec.name), np.ndarray):
                raise PluginError(
                    f"{returned} {safe_repr(list(arrays))}, without an array {spec.name!r}, which specs() "
                    "declares; add it"
                )
        for spec in specs:
            problem = self._problem_of(spec, arrays, len(samples))
            if problem:
                raise PluginError(f"{returned} {spec.name!r} {problem}")
        return arrays

    def _problem_of(self, spec: ArraySpec, arrays: Mapping[str, np.ndarray], num_samples: int) -> str | None:
        """How an array (N, ...) differs from its specification, or a mask from its sequence, or None."""
        array = arrays[spec.name]
        declared = replace(spec, shape=(num_samples, *spec.shape[1:]))
        has_dtype = array.dtype == spec.dtype or (self.quantizes and is_quantized(array, spec))
        if not has_dtype or not declared.accepts_shape(array.shape):
            found = format_array_spec(array.shape, array.dtype)
            return (
                f"as {found} for {num_samples} samples, but specs() declares {declared}; correct one of them"
            )
        sequence = arrays.get(spec.name.removesuffix(MASK))
        if not spec.name.endswith(MASK) or sequence is None or array.ndim != 2 or spec.dtype != "bool":
            return None
        if sequence.shape[:2] != array.shape:
            return f"of shape {array.shape} for a sequence {sequence.shape}; give the mask its first 2 sizes"
        if (array[:, 1:] & ~array[:, :-1]).any():
            return "with real steps after padding; put the real steps first"
        return None

    def collate(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """The arrays (N, ...) of a batch by name; shapes and dtypes match `specs`.

        Args:
            samples: N results of `read`, at least one; None for a sample that lacks the field, which only
                happens if `is_optional`.
        """
        raise NotImplementedError


def is_quantized(x: np.ndarray, spec: ArraySpec) -> bool:
    """Whether an array, of any shape, holds uint8 features where the model declares float32."""
    return bool(x.dtype == np.uint8) and spec.dtype == "float32"


def specs_of(reader: Reader[Any, Any]) -> list[ArraySpec]:
    """The specifications of the arrays that a reader makes.

    Raises:
        PluginError: The reader does not return specifications.
    """
    specs = reader.specs()
    if not isinstance(specs, list | tuple) or not all(isinstance(spec, ArraySpec) for spec in specs):
        raise PluginError(
            f"{type(reader).__name__}.specs returned {safe_repr(specs)}; return a list of ArraySpec"
        )
    return list(specs)


def check_fields(reader: Reader[Any, Any], fields: Sequence[str]) -> CheckResult:
    """What a reader's `check` finds in n fields of a list.

    Raises:
        PluginError: The reader returns something else.
        VideotagError: Some fields cannot be read; see Reader.check.
    """
    result = reader.check(fields)
    if not isinstance(result, CheckResult):
        raise PluginError(f"{type(reader).__name__}.check returned {safe_repr(result)}; return CheckResult()")
    return result
