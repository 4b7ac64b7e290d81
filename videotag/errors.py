"""Every error that videotag raises on purpose, and the exit codes of its commands.

    VideotagError             a user's mistake or a user's file; one line, no traceback
    ├── ConfigError           a YAML file, --set or another flag
    ├── PluginError           a file of one's own models or readers
    ├── UnknownNameError      a model, optimizer ... that is not registered
    ├── FileListError         a list of videos or features
    ├── LabelFileError        a label file
    ├── FeatureFileError      a .npy or .npz file of features
    │   └── DamagedFeaturesError  it is cut off, or not whole in another way
    ├── RecordError           a TFRecord file, or a record in it
    ├── WeightsError          a weight file: missing, damaged, or made for another network
    ├── MediaError            a video that cannot be decoded
    │   └── DecoderLostError  its decoding hung or crashed
    ├── OutputError           a place that cannot be written
    ├── BusyError             more requests than a queue takes (retriable)
    ├── ClosedError           a predictor that was closed (from Python code)
    ├── DeviceError           a device that is not there
    └── ShapeError            arrays that do not fit together (from Python code)

An error may stand for many problems (all bad lines of a list); its text then has one line for each.
"""

from __future__ import annotations

import errno

from videotag.safe_text import escaped

#: How libraries word a want of memory for which they raise no MemoryError.
_MEMORY_WORDS = (
    "ResourceExhausted",  # Paddle
    "bad_alloc",  # OpenVINO, ONNX Runtime
    "bad allocation",
    "annot allocate memory",  # the system
    "failed to map segment",  # its loader, of a library
    "ailed to allocate memory",
    "can't start new thread",  # Python's: a thread needs a stack
)

EXIT_OK = 0
EXIT_FAILURES = 1  # finished, but some items failed and were listed
EXIT_USAGE = 2  # the user's mistake, found before work began
EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_TERMINATED = 143  # SIGTERM, as of `kill` and `timeout`
AGAIN = "copy or download it again"  # the remedy for a damaged file
_MAX_LINE = 2000  # characters of a problem; the longest of our own lists the shipped configs


class VideotagError(Exception):
    """Base of all errors raised on purpose; its text names what, where and the remedy."""

    #: True if the same input may succeed when it is tried again (lost worker, time-out).
    retriable = False

    #: True if the text is of one_error, a line for each problem; else it is one line, whatever it quotes.
    has_lines = False


class ConfigError(VideotagError):
    """A config file, an override or a flag is wrong."""


class PluginError(VideotagError):
    """A plugin is missing, or fails while it is loaded."""


class UnknownNameError(VideotagError):
    """A name is not registered."""


class FileListError(VideotagError):
    """A list of videos or features is wrong."""


class LabelFileError(VideotagError):
    """A label file is wrong."""


class FeatureFileError(VideotagError):
    """A file of features is missing, damaged, or of another shape."""


class DamagedFeaturesError(FeatureFileError):
    """A file of features has been cut off or overwritten in part; nobody can read it."""


class RecordError(VideotagError):
    """A TFRecord file is missing or damaged, or a record in it is not what it should be."""


class WeightsError(VideotagError):
    """A weight file is missing, damaged, unsafe, or made for another network."""


class MediaError(VideotagError):
    """A media file cannot be decoded; trying again does not help."""


class DecoderLostError(MediaError):
    """Decoding a media file hung, or its process died; it may succeed when tried again."""

    retriable = True


class OutputError(VideotagError):
    """An output place cannot be written or would be written twice."""


class BusyError(VideotagError):
    """A queue of requests is full."""

    retriable = True


class ClosedError(VideotagError):
    """A predictor is used after it was closed."""


class DeviceError(VideotagError):
    """A device was asked for that this machine does not have."""


class ShapeError(VideotagError, ValueError):
    """Arrays do not fit together."""


def one_error(error: type[VideotagError], problems: list[str]) -> VideotagError:
    """One error of class `error` that lists all problems, a line each, the first 50 of them in full."""
    lines = [_one_line(problem) for problem in problems[:50]]
    if len(problems) > len(lines):
        lines.append(f"... and {len(problems) - len(lines)} more problems")
    result = error("\n".join(lines))
    result.has_lines = True
    return result


def problems_of(error: BaseException) -> list[str]:
    """The text of an error as it is shown: one line, or one for each problem; no control characters."""
    text = str(error)
    lines = text.split("\n") if isinstance(error, VideotagError) and error.has_lines else [text]
    return [_one_line(line) for line in lines]


def error_text(error: BaseException) -> str:
    """The lines of problems_of as one text."""
    return "\n".join(problems_of(error))


def _one_line(text: str) -> str:
    return escaped(text, limit=_MAX_LINE)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that there is too little memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = "" if isinstance(error, VideotagError) else str(error)
    return any(words in text for words in _MEMORY_WORDS)
