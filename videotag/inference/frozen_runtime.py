"""The precision of a folder of features is that of its first run: SAVE_DIR/runtime.json.

The backend is kept too, but only for speed: features of two backends in the same precision may stand beside
each other, so another one may be asked for at any time.
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
from videotag.inference.extractor import Extractor, FrozenRuntime
from videotag.inference.outputs import RUNTIME_FILE as RUNTIME_FILE
from videotag.runtime.backends import backend_names
from videotag.safe_text import safe_repr
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

_PRECISIONS = ("f32", "bf16", "f16")
_LOOKED_AT = 10_000  # files of a folder without a choice, which may hold anything

logger = logging.getLogger(__name__)


def start_extractor(extractor: Extractor, save_dir: Path, outputs: Iterable[Path]) -> None:
    """Makes an extractor ready for a folder, in the precision of the features that are there.

    Args:
        extractor: Extractor to be started.
        save_dir: Folder of the features.
        outputs: Files that this run will write; they and others may be there from a run of an older version.

    Raises:
        ConfigError: Another precision is asked for, runtime.json is damaged, or the features there are in a
            precision that this version does not know.
        DeviceError: The folder's precision is one that this device cannot compute in.
    """
    others = itertools.islice(_files_in(save_dir), _LOOKED_AT)
    kept = read_frozen(save_dir / RUNTIME_FILE) or _of_stamps(itertools.chain(outputs, others))
    if kept is None:
        extractor.start(None)
        return
    asked = extractor.asked_precision
    if asked not in ("auto", kept.precision):
        raise ConfigError(
            f"{save_dir}: its features are in {kept.precision}, and --precision={asked} was asked for; "
            "leave that out, or choose another --save_dir"
        )
    try:
        extractor.start(kept)
    except DeviceError as error:
        raise DeviceError(
            f"{save_dir}: its features are in {kept.precision}, which this device cannot compute in; choose "
            "another --save_dir"
        ) from error
    logger.info("%s: %s, as in its first run", save_dir, kept.precision)


def read_frozen(path: Path) -> FrozenRuntime | None:
    """What a runtime.json names; None if it is not there.

    Raises:
        ConfigError: It is damaged.
    """
    if not path.exists():
        return None
    frozen = read_json(path, error=ConfigError, remedy="remove it")
    if not isinstance(frozen, dict) or frozen.get("precision") not in _PRECISIONS:
        raise ConfigError(f"{path}: names no precision of {', '.join(_PRECISIONS)}; remove it")
    backend = frozen.get("backend")
    if not isinstance(backend, str) or backend not in backend_names():
        backend = "auto"
    return FrozenRuntime(backend, frozen["precision"])


def write_frozen(save_dir: Path, extractor: Extractor) -> None:
    """Writes the runtime.json of a folder, with what an extractor is settled on, unless it is there.

    Raises:
        OutputError: It cannot be written.
    """
    path = save_dir / RUNTIME_FILE
    if not path.exists():
        chosen = FrozenRuntime(extractor.network.backend, extractor.network.precision)
        write_text(path, json.dumps(asdict(chosen), indent=2) + "\n")


def _files_in(save_dir: Path) -> Iterator[Path]:
    """The files of a folder, and of those in it."""
    for folder, _, names in os.walk(save_dir):
        yield from (Path(folder, name) for name in names)


def _of_stamps(files: Iterable[Path]) -> FrozenRuntime | None:
    """The precision of features that are there, f32 where their stamp says none; None without features."""
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
                    f"{path}: made in {safe_repr(precision)}, which is none of {', '.join(_PRECISIONS)}; "
                    "choose another --save_dir"
                )
            return FrozenRuntime("auto", precision)
    return None
