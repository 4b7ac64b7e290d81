"""Keeps a folder of features in the precision of its first run, recorded in SAVE_DIR/runtime.json.

The backend is recorded too, but only to save time: features of different backends in the same precision are
interchangeable, so later runs may use another backend.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from videotag.errors import ConfigError, DeviceError, FeatureFileError
from videotag.formats.feature_files import read_stamp
from videotag.inference.extractor import Extractor
from videotag.inference.outputs import RUNTIME_FILE
from videotag.runtime.backends import backend_names
from videotag.runtime.choice import RecordedRuntime
from videotag.safe_text import safe_repr
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

_PRECISIONS = ("f32", "bf16", "f16")
_MAX_SCANNED_FILES = 10_000  # of a folder without runtime.json, which may hold anything

logger = logging.getLogger(__name__)


def start_extractor(extractor: Extractor, save_dir: Path, outputs: Iterable[Path]) -> None:
    """Starts an extractor for a folder, in the precision of the features it already holds.

    Args:
        extractor: Extractor to start.
        save_dir: Folder of the features.
        outputs: Feature files of this run, some of which a run of an older version may have written.

    Raises:
        ConfigError: The user requested another precision, runtime.json is damaged, or the folder's features
            are in a precision that this version does not support.
        DeviceError: The device cannot compute in the folder's precision.
    """
    others = itertools.islice(_files_in(save_dir), _MAX_SCANNED_FILES)
    kept = read_frozen(save_dir / RUNTIME_FILE) or _of_stamps(itertools.chain(outputs, others))
    if kept is None:
        extractor.network.reset(None)
        return
    asked = extractor.network.requested_precision
    if asked not in ("auto", kept.precision):
        raise ConfigError(
            f"{save_dir}: its features are in {kept.precision}, but --precision={asked} was given; "
            "remove the flag, or choose another --save_dir"
        )
    try:
        extractor.network.reset(kept)
    except DeviceError as error:
        raise DeviceError(
            f"{save_dir}: its features are in {kept.precision}, which this device cannot compute in; choose "
            "another --save_dir"
        ) from error
    logger.info("%s: %s, as in its first run", save_dir, kept.precision)


def read_frozen(path: Path) -> RecordedRuntime | None:
    """The runtime that a runtime.json records; None if the file does not exist.

    Args:
        path: Path of the runtime.json.

    Raises:
        ConfigError: The file is damaged.
    """
    if not path.exists():
        return None
    frozen = read_json(path, error=ConfigError, remedy="remove the file")
    if not isinstance(frozen, dict) or frozen.get("precision") not in _PRECISIONS:
        raise ConfigError(f"{path}: precision is none of {', '.join(_PRECISIONS)}; remove the file")
    backend = frozen.get("backend")
    if not isinstance(backend, str) or backend not in backend_names():
        backend = "auto"
    max_error = frozen.get("max_error")
    return RecordedRuntime(backend, frozen["precision"], max_error if isinstance(max_error, float) else None)


def write_frozen(save_dir: Path, extractor: Extractor) -> None:
    """Records the extractor's backend and precision in runtime.json, unless the file exists.

    Args:
        save_dir: Folder of the features.
        extractor: Extractor whose backend and precision are selected.

    Raises:
        OutputError: The file cannot be written.
    """
    path = save_dir / RUNTIME_FILE
    if not path.exists():
        network, choice = extractor.network, extractor.network.choice
        recorded = RecordedRuntime(network.backend, network.precision, choice.max_error if choice else None)
        known = {key: value for key, value in asdict(recorded).items() if value is not None}
        write_text(path, json.dumps(known, indent=2) + "\n")


def _files_in(save_dir: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders."""
    for folder, _, names in os.walk(save_dir):
        yield from (Path(folder, name) for name in names)


def _of_stamps(files: Iterable[Path]) -> RecordedRuntime | None:
    """The runtime of the first stamped feature file, f32 if its stamp has no precision; None without one."""
    for path in files:
        if path.suffix != ".npy":
            continue
        try:
            stamp = read_stamp(path)
        except FeatureFileError:
            continue
        if stamp is not None:
            precision = stamp.get("precision", "f32")
            if precision not in _PRECISIONS:
                raise ConfigError(
                    f"{path}: its precision is {safe_repr(precision)}, none of {', '.join(_PRECISIONS)}; "
                    "choose another --save_dir"
                )
            return RecordedRuntime("auto", precision)
    return None
