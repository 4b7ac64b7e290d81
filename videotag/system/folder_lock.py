"""One run at a time in an output folder, one process at a time at a file."""

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
    """Keeps other runs out of `folder`, which is made if it is not there, until the block ends.

    The system holds the lock for this process and drops it when the process ends, however it does. The empty
    file LOCK_FILE stays: were it removed, a run that had just opened it would lock what is no longer there.

    Args:
        folder: of the outputs.
        named_by: the flag that names it, for messages.

    Raises:
        OutputError: another run is at work there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write ({error.strerror}); choose another {named_by}") from error
    try:
        if not lock(handle, folder):
            raise OutputError(
                f"{folder}: another videotag is at work in this folder; wait until it has ended, or choose "
                f"another {named_by}"
            )
        yield
    finally:
        os.close(handle)


def lock(handle: int, place: Path, *, wait: bool = False) -> bool:
    """Locks an open file for this process; False if another one holds it and `wait` is not set.

    Where the drive has no locks, as some network drives, it warns and goes on.

    Args:
        handle: of the file.
        place: for the warning.
        wait: until the other process has ended.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("%s: cannot be locked (%s); let one run at a time write there", place, error.strerror)
    return True
