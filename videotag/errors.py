"""The exceptions that videotag raises on purpose, and the exit codes of its commands.

    VideotagError             a mistake of the user or in a user's file; shown without a traceback
    ├── ConfigError           a YAML file, --set or another flag
    ├── PluginError           a user's own models or readers
    ├── UnknownNameError      a model, optimizer ... that is not registered
    ├── FileListError         a list of videos or features
    ├── LabelFileError        a label file
    ├── FeatureFileError      a .npy or .npz file of features
    │   ├── DamagedFeaturesError  a truncated or otherwise incomplete one
    │   └── FeatureWidthError     one of another width than the model takes
    ├── RecordError           a TFRecord file, or a record in it
    ├── WeightsError          a weight file: missing, damaged, or made for another network
    ├── MediaError            a media file that cannot be decoded
    │   ├── DecoderLostError  one on which the decoder hung or crashed
    │   └── MissingInputError     one that lacks the wanted input, such as sound
    ├── OutputError           an output path that cannot be written
    ├── BusyError             a full request queue (retriable)
    ├── ClosedError           a predictor that was closed (from Python code)
    ├── DeviceError           a device that does not exist
    └── ShapeError            arrays whose shapes do not match (from Python code)

An error may report several problems (all bad lines of a list); its text then has one line per problem.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from videotag.safe_text import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Out-of-memory messages of libraries that do not raise MemoryError.
_OUT_OF_MEMORY_TEXTS = (
    "ResourceExhausted",  # Paddle
    "bad_alloc",  # OpenVINO, ONNX Runtime
    "bad allocation",
    "annot allocate memory",  # the operating system
    "failed to map segment",  # the dynamic loader
    "ailed to allocate memory",
    "can't start new thread",  # Python: no memory for the thread's stack
)

EXIT_OK = 0
EXIT_FAILURES = 1  # finished, but some items failed and are listed
EXIT_USAGE = 2  # nothing usable was produced: a usage error, an unreadable input, a full disk, a plugin
EXIT_INTERRUPTED = 130  # Ctrl-C
AGAIN = "copy or download it again"  # the remedy for a damaged file
_MAX_LINE = 2000  # characters per problem; our own longest one lists the shipped configs


class VideotagError(Exception):
    """Base of all errors raised on purpose; its text states the problem, its location and the remedy."""

    #: True if the same input may succeed on another attempt (lost worker, time-out).
    retriable = False

    #: True if the text has one line per problem (see one_error); else one line, even if it contains "\n".
    is_multiline = False


class ConfigError(VideotagError):
    """A config file, an override or a flag is wrong."""


class PluginError(VideotagError):
    """A plugin is missing, raises an error, or does not implement the interface of models or readers."""


class UnknownNameError(VideotagError):
    """A name is not registered."""


class FileListError(VideotagError):
    """A list of videos or features is wrong."""


class LabelFileError(VideotagError):
    """A label file is wrong."""


class FeatureFileError(VideotagError):
    """A feature file is missing or damaged, or its array has the wrong shape."""


class DamagedFeaturesError(FeatureFileError):
    """A feature file is truncated or partly overwritten, so that its array cannot be read."""


class FeatureWidthError(FeatureFileError):
    """Features have another width than expected.

    Attributes:
        widths: The width found and the expected one.
    """

    widths: tuple[int, int]


class RecordError(VideotagError):
    """A TFRecord file is missing or damaged, or a record in it is invalid."""


class WeightsError(VideotagError):
    """A weight file is missing, damaged, unsafe, or made for another network."""


class MediaError(VideotagError):
    """A media file cannot be decoded; another attempt does not help."""


class DecoderLostError(MediaError):
    """Decoding a media file hung, or the decoding process died; another attempt may succeed."""

    retriable = True


class MissingInputError(MediaError):
    """A sample lacks the wanted input, such as a film without sound."""


class OutputError(VideotagError):
    """An output path cannot be written or would be written twice."""


class BusyError(VideotagError):
    """A queue of requests is full."""

    retriable = True


class ClosedError(VideotagError):
    """A predictor is used after it was closed."""


class DeviceError(VideotagError):
    """The requested device does not exist on this machine."""


class ShapeError(VideotagError, ValueError):
    """The shapes, dtypes or values of arrays do not match what a function expects."""


def one_error(error: type[VideotagError], problems: list[str]) -> VideotagError:
    """A single error that lists several problems, one per line.

    Args:
        error: Class of the error.
        problems: Texts of the problems, of which the error lists the first 50 and the number of the others.
    """
    lines = [_one_line(problem) for problem in problems[:50]]
    if len(problems) > len(lines):
        lines.append(f"... and {len(problems) - len(lines)} more problems")
    result = error("\n".join(lines))
    result.is_multiline = True
    return result


def grouped(problems: Sequence[tuple[str, str]], *, at_most: int = 5) -> list[str]:
    """The lines of an error about many files, in order; more than `at_most` with one text are one line.

    Args:
        problems: Pairs of a place, such as a path, and the text of its problem.
        at_most: Number of places with the same text that have a line each.
    """
    places: dict[str, dict[str, None]] = {}  # ordered, unique
    for place, text in problems:
        places.setdefault(text, {})[place] = None
    lines = []
    for place, text in problems:
        if len(places[text]) <= at_most:
            lines.append(f"{place}: {text}")
            continue
        line = f"{next(iter(places[text]))} and {len(places[text]) - 1:,} more: {text}"
        if line not in lines:
            lines.append(line)
    return lines


def problems_of(error: BaseException) -> list[str]:
    """The lines of an error's text as shown to users: one per problem, control characters escaped."""
    text = str(error)
    lines = text.split("\n") if isinstance(error, VideotagError) and error.is_multiline else [text]
    return [_one_line(line) for line in lines]


def error_text(error: BaseException) -> str:
    """The lines of problems_of, joined by line breaks."""
    return "\n".join(problems_of(error))


def _one_line(text: str) -> str:
    return escaped(text, limit=_MAX_LINE)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of Python or of a library means that memory ran out."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = "" if isinstance(error, VideotagError) else str(error)
    return any(part in text for part in _OUT_OF_MEMORY_TEXTS)
