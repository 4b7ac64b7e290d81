"""FAILURES_FILE: what a run could not do, a line of JSON each, written as it happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

from videotag.errors import OutputError, VideotagError
from videotag.system.atomic import append_whole

FAILURES_FILE = "failures.jsonl"
FAILURES_HEAD = re.compile(r'\{"(video_id|source)": [^\n]*"retriable": (true|false), "error": ')


class FailureList:
    """FAILURES_FILE in a folder, a line for each input that failed.

    The failures of an earlier run are forgotten: they are tried again now.

    Args:
        save_dir: the folder.
        named_by: the flag that names it, for messages.
        key: what an input is called in its line.

    Raises:
        OutputError: the place cannot be written; add() and write() too.
    """

    def __init__(self, save_dir: Path, *, named_by: str = "--save_dir", key: str = "video_id") -> None:
        self._key = key
        self._path = save_dir / FAILURES_FILE
        try:
            save_dir.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{save_dir}: cannot write ({error.strerror}); choose another {named_by}"
            ) from error

    def add(self, name: str, error: VideotagError) -> None:
        """Appends the line of one input, whole or not at all."""
        self.write(name, str(error), retriable=error.retriable)

    def write(self, name: str, text: str, *, retriable: bool) -> None:
        """As add, of an error that came out of another process as its text."""
        record = {self._key: name, "retriable": retriable, "error": text}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                append_whole(file, line.encode("utf-8", "backslashreplace"))
        except OSError as problem:
            raise OutputError(
                f"{self._path}: cannot write ({problem.strerror}); check the folder's rights and free space, "
                "then run again: what was done is kept"
            ) from problem
