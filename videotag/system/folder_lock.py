"""Locks that admit one run at a time to an output folder, and one process at a time to a file."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from videotag.errors import OutputError

LOCK_FILE = ".videotag.lock"
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def folder_lock(folder: Path, *, named_by: str = "--save_dir") -> Iterator[None]:
    """Locks `folder` for this run until the block ends.

    The operating system releases the lock when the process ends in any way. The empty file LOCK_FILE stays:
    if it were removed, a run that had just opened it would lock a deleted file.

    Args:
        folder: Output folder; created if it does not exist.
        named_by: Flag that sets the folder, named in error messages.

    Raises:
        OutputError: Another run uses the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write ({error.strerror}); choose another {named_by}") from error
    try:
        if not lock(handle, folder):
            raise OutputError(
                f"{folder}: another videotag process uses this folder; wait until it ends, or choose "
                f"another {named_by}"
            )
        yield
    finally:
        os.close(handle)


def lock(handle: int, path: Path, *, wait: bool = False) -> bool:
    """Locks an open file for this process.

    On a file system without locks, such as some network drives, it logs a warning and returns True.

    Args:
        handle: Descriptor of the open file.
        path: Path named in the warning.
        wait: Whether to wait until another process releases the lock.

    Returns:
        False if another process holds the lock and `wait` is False; else True.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning(
            "%s: cannot be locked (%s); run only one command there at a time", path, error.strerror
        )
    return True
