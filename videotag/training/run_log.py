"""Records of a training run: a file of JSON lines, VisualDL scalars and log messages."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from videotag.errors import ConfigError, OutputError
from videotag.formats.train_log import LOG_FILE
from videotag.system.atomic import append_whole

logger = logging.getLogger(__name__)


class RunLog:
    """Appends events to save_dir/train_log.jsonl, one JSON object per line; a run begins with "start".

    Args:
        save_dir: Folder of the file, created if missing; None writes no file.
        scalars: Writer returned by open_scalars.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, save_dir: Path | None, scalars: Any = None) -> None:
        self._scalars = scalars
        self._path = path = Path(os.devnull) if save_dir is None else save_dir / LOG_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot write ({error.strerror}); choose another --save_dir"
            ) from error

    def write(self, event: str, text: str, *, step: int, **values: Any) -> None:
        """Records an event: a line in the file, scalars "event/key" at `step`, and a log message.

        Args:
            event: Kind of the event: start, train or valid.
            text: Log message.
            step: Index of the step over all epochs, from 0.
            values: Values of the event.

        Raises:
            OutputError: The file cannot be written.
        """
        record = {"event": event, "time": round(time.time(), 3), "step": step, **values}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            append_whole(self._file, line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot write ({error.strerror or error}); free space there, then continue "
                "with --resume"
            ) from error
        if self._scalars:
            for key, value in values.items():
                if isinstance(value, int | float):
                    self._scalars.add_scalar(f"{event}/{key}", value, step)
        logger.info("%s", text)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._scalars:
            self._scalars.close()


def open_scalars(folder: str | None) -> Any:
    """A VisualDL LogWriter; None without a folder.

    Args:
        folder: Folder that it writes to; None for no writer.

    Raises:
        ConfigError: VisualDL is not installed.
    """
    if folder is None:
        return None
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise ConfigError(
            f"--visualdl {folder}: VisualDL is not installed; run: pip install 'videotag[visualdl]'"
        ) from error
    return LogWriter(logdir=folder)
