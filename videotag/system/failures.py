"""failures.jsonl: one line of JSON per input that failed, written as it happens."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from videotag.errors import OutputError, VideotagError
from videotag.system.atomic import append_whole
from videotag.system.json_text import parse_json
from videotag.system.text import MAX_LIST_BYTES, read_text

FAILURES_FILE = "failures.jsonl"
FAILURES_HEAD = re.compile(r'\{"(video_id|source)": [^\n]*"retriable": (true|false), "error": ')


class FailureList:
    """Writes and reads FAILURES_FILE in a folder.

    Deletes the file of an earlier run, since its failed inputs are tried again.

    Args:
        save_dir: Folder of the file; created if it does not exist.
        append: Whether to keep an existing file, as it belongs to the same run.
        named_by: Flag that sets the folder, named in error messages.
        key: JSON key of the input's name.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(
        self, save_dir: Path, *, append: bool = False, named_by: str = "--save_dir", key: str = "video_id"
    ) -> None:
        self._key = key
        self._path = save_dir / FAILURES_FILE
        try:
            save_dir.mkdir(parents=True, exist_ok=True)
            if not append:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{save_dir}: cannot write ({error.strerror}); choose another {named_by}"
            ) from error

    def messages(self) -> dict[str, str]:
        """The error message by name of the input, for all inputs listed so far; other lines are ignored.

        Raises:
            OutputError: The file cannot be read.
        """
        if not self._path.exists():
            return {}
        remedy = "move it away"
        text = read_text(self._path, error=OutputError, missing=remedy, max_bytes=MAX_LIST_BYTES)
        messages = {}
        for line in text.split("\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = parse_json(line)
                messages[str(record[self._key])] = str(record["error"])
        return messages

    def add(self, name: str, error: VideotagError) -> None:
        """Appends the line of one input, completely or not at all.

        Args:
            name: Name of the input.
            error: The error that it failed with.

        Raises:
            OutputError: The file cannot be written.
        """
        self.write(name, str(error), retriable=error.retriable)

    def write(self, name: str, text: str, *, retriable: bool, part: str | None = None) -> None:
        """Appends a line like `add`, for an error that another process reported as text.

        Args:
            name: Name of the input.
            text: Text of the error.
            retriable: Whether the input may succeed when it is tried again.
            part: Kind of input of a sample, such as "audio"; None for a whole input.

        Raises:
            OutputError: The file cannot be written.
        """
        kind = {} if part is None else {"input": part}
        record = {self._key: name, **kind, "retriable": retriable, "error": text}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                append_whole(file, line.encode("utf-8", "backslashreplace"))
        except OSError as problem:
            raise OutputError(
                f"{self._path}: cannot write ({problem.strerror}); check the folder's permissions and free "
                "space, then run again: finished results are kept"
            ) from problem
