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
from pathlib import Path
from typing import Any

from videotag.errors import ConfigError, DeviceError, FeatureFileError
from videotag.formats.feature_files import read_stamp
from videotag.inference.extractor import Extractor
from videotag.inference.outputs import RUNTIME_FILE as RUNTIME_FILE
from videotag.runtime.backends import backend_names
from videotag.safe_text import safe_repr
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

_PRECISIONS = ("f32", "bf16", "f16")
_LOOKED_AT = 10_000  # files of a folder without a choice, which may hold anything

logger = logging.getLogger(__name__)


class FolderRuntime:
    """What a folder's features are made in: kept from its first run, or chosen in this one.

    Args:
        save_dir: of the features.
        outputs: that this run will write; they and others may be there from a run of an older version.
        extractor: takes the precision that the features there have; if there are none, it chooses by the
            first frames it sees.

    Raises:
        ConfigError: another precision is asked for, runtime.json is damaged, or the features there are in a
            precision that this version does not know.
        DeviceError: the folder's is one that this device cannot compute in.
    """

    def __init__(self, save_dir: Path, outputs: Iterable[Path], extractor: Extractor) -> None:
        self._path = save_dir / RUNTIME_FILE
        frozen = read_frozen(self._path)
        self._is_kept = frozen is not None
        if frozen is None:
            others = itertools.islice(_files_in(save_dir), _LOOKED_AT)
            frozen = _of_stamps(itertools.chain(outputs, others))
        if frozen is None:
            return
        asked, kept = extractor.asked_precision, frozen["precision"]
        if asked not in ("auto", kept):
            raise ConfigError(
                f"{save_dir}: its features are in {kept}, and --precision={asked} was asked for; "
                "leave that out, or choose another --save_dir"
            )
        try:
            extractor.keep_runtime(frozen["backend"], kept)
        except DeviceError as error:
            raise DeviceError(
                f"{save_dir}: its features are in {kept}, which this device cannot compute in; choose "
                "another --save_dir"
            ) from error
        logger.info("%s: %s, as in its first run", save_dir, kept)

    def keep(self, extractor: Extractor) -> None:
        """Writes down what was chosen, once, before the first features are written.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._is_kept:
            network = extractor.network
            chosen = {"backend": network.backend, "precision": network.precision}
            write_text(self._path, json.dumps(chosen, indent=2) + "\n")
            self._is_kept = True


def read_frozen(path: Path) -> dict[str, Any] | None:
    """The backend ("auto" if it is not known here) and precision in a runtime.json; None if it is not there.

    Raises:
        ConfigError: It is damaged.
    """
    if not path.exists():
        return None
    frozen = read_json(path, error=ConfigError, remedy="remove it")
    if not isinstance(frozen, dict) or frozen.get("precision") not in _PRECISIONS:
        raise ConfigError(f"{path}: names no precision of {', '.join(_PRECISIONS)}; remove it")
    backend = frozen.get("backend")
    is_known = isinstance(backend, str) and backend in backend_names()
    return {"backend": backend if is_known else "auto", "precision": frozen["precision"]}


def _files_in(save_dir: Path) -> Iterator[Path]:
    """The files of a folder, and of those in it."""
    for folder, _, names in os.walk(save_dir):
        yield from (Path(folder, name) for name in names)


def _of_stamps(files: Iterable[Path]) -> dict[str, Any] | None:
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
            return {"backend": "auto", "precision": precision}
    return None
