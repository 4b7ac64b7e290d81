"""Files that are either whole or not there: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from videotag.errors import OutputError

PARTIAL_MARK = ".partial"  # part of the name of every unfinished file


@contextlib.contextmanager
def open_atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    r"""A file object whose content appears at `path` only when the block ends without an error.

    The text modes write UTF-8 with "\\n" line ends. Missing parent folders are made. A process killed
    inside the block leaves at most a file with PARTIAL_MARK in its name, which nothing reads.

    Args:
        path: where the finished file belongs; an older file there is replaced.
        mode: "w" or "wb".

    Raises:
        OutputError: the place cannot be written (read-only, no space, a folder of that name).
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL_MARK}")
    binary = "b" in mode
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open(mode, encoding=None if binary else "utf-8", newline=None if binary else "\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        _discard(aside)
        raise OutputError(
            f"{path}: cannot write ({error.strerror or error}); check the folder's rights and free space"
        ) from error
    except BaseException:
        _discard(aside)
        raise


def _discard(aside: Path) -> None:
    with contextlib.suppress(OSError):  # it was never made, or its folder is gone
        aside.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 at `path`, whole or not at all."""
    with open_atomic(path, "w") as file:
        file.write(text)
