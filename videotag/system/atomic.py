"""Atomic writes: a file is staged beside its final path, flushed to disk, then renamed.

The writing process locks the staged file, and the operating system releases the lock when the process ends.
This distinguishes leftovers of killed processes from files being written, even by another container; the
first write into a folder removes the leftovers. On a file system without locks they stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from videotag.errors import OutputError

PARTIAL_MARK = ".partial"  # part of the name of every unfinished file
MAX_NAME_BYTES = 255  # length limit of a file name on all common file systems
_BACKUP_MARK = f".old{PARTIAL_MARK}"  # suffix of a folder that is being replaced
MAX_FOLDER_NAME_BYTES = MAX_NAME_BYTES - len(f".{_BACKUP_MARK}")  # limit for replace_folder
#: These match only names that this module creates: a user's own .x.partial stays.
_UNFINISHED_FILE = re.compile(r"\..+\.\d+\.\d+\.partial", re.DOTALL)
_UNFINISHED_FOLDER = re.compile(r"\..+\.(new\.[0-9a-f]{32}|old)\.partial", re.DOTALL)
_TEMPORARY = re.compile(r"videotag-[a-z0-9_]{8}\.partial")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_PROBE_BYTES = 2**16  # more than is free on a disk that was too full for a file
_cleaned: set[str] = set()  # folders that this process has already cleaned of leftovers
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    r"""Yields a file object whose content appears at `path` only when the block ends without an error.

    Text mode writes UTF-8 with "\n" line ends; lone surrogates, such as undecodable bytes of a file name, are
    written as escapes like \udcff, which JSON reads back. Missing parent folders are created. A process
    killed inside the block leaves at most a file with PARTIAL_MARK in its name, which nothing reads.

    Args:
        path: Final path; an existing file there is replaced.
        mode: "w" for text or "wb" for bytes.

    Raises:
        OutputError: The path cannot be written (read-only, disk full, a folder of that name).
    """
    as_text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    options: dict[str, Any] = {} if "b" in mode else as_text
    with _staged(Path(path)) as staged, staged.open(mode, **options) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` atomically.

    Raises:
        OutputError: The path cannot be written.
    """
    with open_atomic(path, "w") as file:
        file.write(text)


def append_whole(file: io.FileIO, data: bytes) -> None:
    """Appends all of `data` to an unbuffered file, or nothing.

    Raises:
        OSError: Writing failed, for example because the disk is full.
    """
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    try:
        while rest:  # a full disk accepts a part first and fails on the next call
            rest = rest[os.write(file.fileno(), rest) :]
    except OSError:
        file.truncate(end)
        raise


def remove_partial(folder: Path) -> None:
    """Deletes unfinished files that killed processes left in `folder`; files still being written stay.

    First restores folders that were being replaced when their process was killed. Does nothing if `folder`
    does not exist or cannot be listed.
    """
    try:
        names = [name for name in os.listdir(folder) if _unfinished_kind(name)]  # noqa: PTH208 - no order
    except OSError:  # it does not exist, or cannot be listed
        return
    for name in sorted(names, key=lambda name: not name.endswith(_BACKUP_MARK)):
        path = folder / name
        with contextlib.suppress(OSError), _locked_if_stale(path) as is_stale:
            if not is_stale or path.is_dir() != (_unfinished_kind(name) == "folder"):
                continue
            if name.endswith(_BACKUP_MARK):
                _restore_backup(folder / name.removeprefix(".").removesuffix(_BACKUP_MARK))
            else:
                if path.is_dir():  # it may hold a million pictures, which take minutes to delete
                    logger.info("removing the unfinished output of an earlier run: %s", path)
                _remove(path)


def _unfinished_kind(name: str) -> Literal["file", "folder"] | None:
    """Whether this module uses such a name for a file or a folder; None for neither."""
    if _UNFINISHED_FILE.fullmatch(name):
        return "file"
    return "folder" if _UNFINISHED_FOLDER.fullmatch(name) else None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields an empty folder in the system's temporary folder and removes it when the block ends.

    First removes those that killed processes of this user have left there.

    Raises:
        OutputError: The temporary folder cannot be written or is full.
    """
    parent: str | None = None
    folder = None
    try:
        parent = tempfile.gettempdir()
        _clean_temporary_once(Path(parent))
        folder = Path(tempfile.mkdtemp(prefix="videotag-", suffix=PARTIAL_MARK))
        with _locked(folder):
            yield folder
    except OSError as error:
        if folder is not None and not (error.errno in _NO_SPACE and _is_about(error, folder)):
            raise  # raised by the block, about another path
        raise OutputError(
            f"{parent or 'the temporary folder'}: cannot write ({error.strerror or error}); free space "
            "there, or set TMPDIR to another folder"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error may concern a file in `folder`; errors of open files name no path."""
    return error.filename is None or Path(str(error.filename)).is_relative_to(folder)


def check_room(folder: Path) -> None:
    """Checks for a full disk after a library that may not have reported it.

    Raises:
        OSError: The disk of `folder` is full.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
        append_whole(probe, bytes(_PROBE_BYTES))
        os.fsync(probe.fileno())


def check_writable(folder: Path) -> None:
    """Creates `folder` if it does not exist and checks that it can be written; for use before long work.

    Raises:
        OutputError: The folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write ({error.strerror or error}); check the folder's permissions and free "
            "space"
        ) from error


def check_may_write(folder: Path) -> None:
    """Checks the permissions to write to `folder` without creating anything.

    Raises:
        OutputError: The folder, or its nearest existing parent, cannot be written.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write; choose another --save_dir")


def link_atomic(source: Path, target: Path) -> None:
    """Atomically replaces `target` with a hard link to `source`, or a copy if the file system has no links.

    Raises:
        OutputError: `target` cannot be written.
    """
    if target.exists() and target.samefile(source):
        return  # renaming one link onto another link of the same file does nothing and would leave both
    # The link and the source are one file, so the lock on the source marks the link as in use.
    with _staged(target) as staged, _locked(source):
        staged.unlink(missing_ok=True)
        try:
            staged.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, staged)


@contextlib.contextmanager
def replace_folder(folder: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yields an empty folder to fill, which replaces `folder` when the block ends without an error.

    After an error, `folder` is unchanged. If the process is killed during the replacement, the old folder
    remains under a backup name, from which the next call, or remove_partial, restores it.

    Args:
        folder: Path of the folder; created if it does not exist.
        flush: Whether to flush every file to disk, which is slow for many files.

    Raises:
        OutputError: The path cannot be written.
    """
    folder = folder.resolve()
    # Named by a random id instead of the process id, which often repeats in containers.
    new = _staging_path(folder, f"new.{uuid.uuid4().hex}")
    try:
        _clean_once(folder.parent)
        _restore_backup(folder)
        new.mkdir(parents=True)
        with _locked(new):
            yield new
            for file in new.iterdir() if flush else ():
                with file.open("rb") as content:
                    os.fsync(content.fileno())
            with _locked(folder) if folder.exists() else contextlib.nullcontext():
                try:
                    if folder.exists():
                        folder.rename(_backup_path(folder))
                    new.rename(folder)
                finally:
                    _restore_backup(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    except OutputError as error:  # names a file in the staged folder; the user knows its final path
        raise OutputError(str(error).replace(str(new), str(folder))) from error
    finally:
        _remove(new)


def _staging_path(path: Path, mark: str) -> Path:
    """The path beside `path` for its unfinished content; long names are truncated to the length limit."""
    suffix = f".{mark}{PARTIAL_MARK}"
    name = path.name.encode(errors="replace")[: MAX_NAME_BYTES - len(f".{suffix}")].decode(errors="ignore")
    return path.with_name(f".{name}{suffix}")


def _backup_path(folder: Path) -> Path:
    """The name of an old folder while another one replaces it."""
    return folder.with_name(f".{folder.name}{_BACKUP_MARK}")


def _restore_backup(folder: Path) -> None:
    """Restores the backup of `folder` if the folder is missing; otherwise removes the backup."""
    backup = _backup_path(folder)
    if folder.exists():
        _remove(backup)
    elif backup.exists():
        backup.rename(folder)


def _remove(path: Path) -> None:
    """Deletes a file, or as much of a folder as possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` and renames it to `path` when the block ends without an error."""
    staged = _staging_path(path, f"{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean_once(path.parent)
        with _locked(staged, create=True):
            yield staged
            staged.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it was never created, or its folder is gone
            staged.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot write ({error.strerror or error}); check the folder's permissions and free space"
    )


def _clean_once(folder: Path) -> None:
    """Removes leftovers of killed processes from a folder, once per process."""
    name = str(folder.absolute())
    if name not in _cleaned:
        _cleaned.add(name)
        remove_partial(folder)


def _clean_temporary_once(parent: Path) -> None:
    """Removes leftover folders of temporary_folder, once per process."""
    if str(parent) in _cleaned:
        return
    _cleaned.add(str(parent))
    for name in filter(_TEMPORARY.fullmatch, os.listdir(parent)):  # noqa: PTH208 - no order
        path = parent / name
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                with _locked_if_stale(path) as is_stale:
                    if is_stale:
                        _remove(path)


@contextlib.contextmanager
def _locked(path: Path, *, create: bool = False) -> Iterator[None]:
    """Locks a file or folder until the block or the process ends, which marks it as in use.

    Args:
        path: The file or folder.
        create: Whether to create it as an empty file.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Another process may have removed it as a leftover before it was locked.
            if not create or _is_file_at(handle, path):
                yield
                return
        finally:
            os.close(handle)


@contextlib.contextmanager
def _locked_if_stale(path: Path) -> Iterator[bool]:
    """Yields whether a file or folder is a leftover that no process has locked; locks it during the block."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_stale = _is_file_at(handle, path)
        except OSError:  # in use, or on a file system without locks, where it cannot be known
            is_stale = False
        yield is_stale
    finally:
        os.close(handle)


def _is_file_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the file at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
