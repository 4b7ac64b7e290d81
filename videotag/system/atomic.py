"""Files that are either whole or not there: written aside, flushed to disk, then renamed.

Unfinished files are locked by the process that writes them, and the system drops the lock when it ends. So
leftovers of killed processes are distinguished from files being written, also in another container, and the
first write into a folder removes them. Where a drive has no locks, they stay.
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
MAX_NAME_BYTES = 255  # of a file's name, on all common drives
_OLD_MARK = f".old{PARTIAL_MARK}"  # ends the name of a folder that is being replaced
MAX_FOLDER_NAME_BYTES = MAX_NAME_BYTES - len(f".{_OLD_MARK}")  # of one that replace_folder may replace
#: All names that this module gives, and no others: a user's own .x.partial stays.
_UNFINISHED_FILE = re.compile(r"\..+\.\d+\.\d+\.partial", re.DOTALL)
_UNFINISHED_FOLDER = re.compile(r"\..+\.(new\.[0-9a-f]{32}|old)\.partial", re.DOTALL)
_TEMPORARY = re.compile(r"videotag-[a-z0-9_]{8}\.partial")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_ROOM_BYTES = 2**16  # more than a disk leaves free that has cut a file short
_tidied: set[str] = set()  # folders that this process has looked through
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    r"""A file object whose content appears at `path` only when the block ends without an error.

    The text modes write UTF-8 with "\n" line ends; what is not Unicode, such as a byte of a file name, is
    written as \udcff, which JSON reads back. Missing parent folders are made. A process killed inside the
    block leaves at most a file with PARTIAL_MARK in its name, which nothing reads.

    Args:
        path: Where the finished file belongs; an older file there is replaced.
        mode: "w" or "wb".

    Raises:
        OutputError: The place cannot be written (read-only, no space, a folder of that name).
    """
    as_text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    options: dict[str, Any] = {} if "b" in mode else as_text
    with _aside(Path(path)) as aside, aside.open(mode, **options) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 at `path`, whole or not at all."""
    with open_atomic(path, "w") as file:
        file.write(text)


def append_whole(file: io.FileIO, data: bytes) -> None:
    """Appends to an unbuffered file, all of `data` or nothing.

    Raises:
        OSError: There is no room.
    """
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    try:
        while rest:  # a full disk takes a part first, and says so at the next call
            rest = rest[os.write(file.fileno(), rest) :]
    except OSError:
        file.truncate(end)
        raise


def remove_partial(folder: Path) -> None:
    """Deletes what killed processes left unfinished in `folder`; what a living one is writing stays.

    A folder that was being replaced when its process was killed is put back first.
    """
    try:
        names = [name for name in os.listdir(folder) if _unfinished_kind(name)]  # noqa: PTH208 - no order
    except OSError:  # not there yet, or closed to us
        return
    for name in sorted(names, key=lambda name: not name.endswith(_OLD_MARK)):
        path = folder / name
        with contextlib.suppress(OSError), _locked_if_left(path) as is_left:
            if not is_left or path.is_dir() != (_unfinished_kind(name) == "folder"):
                continue
            if name.endswith(_OLD_MARK):
                _put_back(folder / name.removeprefix(".").removesuffix(_OLD_MARK))
            else:
                if path.is_dir():  # of a million pictures, which takes minutes
                    logger.info("removing what an earlier run left unfinished: %s", path)
                _remove(path)


def _unfinished_kind(name: str) -> Literal["file", "folder"] | None:
    """What this module gives such a name to; None if it gives it to nothing."""
    if _UNFINISHED_FILE.fullmatch(name):
        return "file"
    return "folder" if _UNFINISHED_FOLDER.fullmatch(name) else None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder in the system's temporary folder, which is removed when the block ends.

    Those that killed processes of this user left there are removed before.

    Raises:
        OutputError: There is no room in the temporary folder.
    """
    place: str | None = None
    folder = None
    try:
        place = tempfile.gettempdir()
        _remove_temporary(Path(place))
        folder = Path(tempfile.mkdtemp(prefix="videotag-", suffix=PARTIAL_MARK))
        with _locked(folder):
            yield folder
    except OSError as error:
        if folder is not None and not (error.errno in _NO_SPACE and _is_about(error, folder)):
            raise  # of the block, about another place
        raise OutputError(
            f"{place or 'the temporary folder'}: cannot write ({error.strerror or error}); free space there, "
            "or set TMPDIR to another folder"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error may be about a file in `folder`: writing to an open file names none."""
    return error.filename is None or Path(str(error.filename)).is_relative_to(folder)


def check_room(folder: Path) -> None:
    """Fails where a library may have met a full disk and said nothing, or something else.

    Raises:
        OSError: There is no room in `folder`.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
        append_whole(probe, bytes(_ROOM_BYTES))
        os.fsync(probe.fileno())


def check_writable(folder: Path) -> None:
    """Makes `folder` if it is not there and a file in it, which vanishes; to be called before long work.

    Raises:
        OutputError: The place cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write ({error.strerror or error}); check the folder's rights and free space"
        ) from error


def check_may_write(folder: Path) -> None:
    """As check_writable as far as rights tell, making nothing: for what may still turn out to be a mistake.

    Raises:
        OutputError: The folder, or the one in which it would be made, cannot be written.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write; choose another --save_dir")


def link_atomic(source: Path, target: Path) -> None:
    """Replaces `target` by a hard link to `source`.

    A link costs no second copy; where the file system has no links, a copy is made.

    Raises:
        OutputError: The place cannot be written.
    """
    if target.exists() and target.samefile(source):
        return  # renaming a link onto another one to the same file does nothing and would leave it
    # The link is the same file as the source, so the source's lock says that the link is in use.
    with _aside(target) as aside, _locked(source):
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, aside)


@contextlib.contextmanager
def replace_folder(folder: Path, *, flush: bool = True) -> Iterator[Path]:
    """An empty folder to be filled, which takes the place of `folder` when the block ends without an error.

    What was at `folder` before is removed then, and stays as it was after an error. A process killed while
    one takes the place of the other leaves the old one aside, which the next call, or remove_partial, puts
    back.

    Args:
        folder: The place.
        flush: Whether the files are flushed to disk one by one, which takes long for many.

    Raises:
        OutputError: The place cannot be written.
    """
    folder = folder.resolve()
    # Not named by the process: in containers the next one often has the same number.
    new = _beside(folder, f"new.{uuid.uuid4().hex}")
    try:
        _tidy(folder.parent)
        _put_back(folder)
        new.mkdir(parents=True)
        with _locked(new):
            yield new
            for file in new.iterdir() if flush else ():
                with file.open("rb") as content:
                    os.fsync(content.fileno())
            with _locked(folder) if folder.exists() else contextlib.nullcontext():
                try:
                    if folder.exists():
                        folder.rename(_old_of(folder))
                    new.rename(folder)
                finally:
                    _put_back(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    except OutputError as error:  # of a file inside, which the user knows by the name that it was to get
        raise OutputError(str(error).replace(str(new), str(folder))) from error
    finally:
        _remove(new)


def _beside(path: Path, mark: str) -> Path:
    """An unfinished file's place, named by as much of the finished one's name as there is room for."""
    end = f".{mark}{PARTIAL_MARK}"
    name = path.name.encode(errors="replace")[: MAX_NAME_BYTES - len(f".{end}")].decode(errors="ignore")
    return path.with_name(f".{name}{end}")


def _old_of(folder: Path) -> Path:
    """Where a folder lies while another takes its place."""
    return folder.with_name(f".{folder.name}{_OLD_MARK}")


def _put_back(folder: Path) -> None:
    """Lets what lies at _old_of be `folder` again if that is missing; removes it if not."""
    old = _old_of(folder)
    if folder.exists():
        _remove(old)
    elif old.exists():
        old.rename(folder)


def _remove(path: Path) -> None:
    """Deletes a file, or a folder as far as it can be."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A path beside `path` for unfinished content, renamed to it when the block ends without an error."""
    aside = _beside(path, f"{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        with _locked(aside, make=True):
            yield aside
            aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it was never made, or its folder is gone
            aside.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot write ({error.strerror or error}); check the folder's rights and free space"
    )


def _tidy(folder: Path) -> None:
    """Once in a process, removes what killed processes left unfinished in a folder."""
    name = str(folder.absolute())
    if name not in _tidied:
        _tidied.add(name)
        remove_partial(folder)


def _remove_temporary(place: Path) -> None:
    """As _tidy, of the folders of temporary_folder."""
    if str(place) in _tidied:
        return
    _tidied.add(str(place))
    for name in filter(_TEMPORARY.fullmatch, os.listdir(place)):  # noqa: PTH208 - no order
        path = place / name
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                with _locked_if_left(path) as is_left:
                    if is_left:
                        _remove(path)


@contextlib.contextmanager
def _locked(path: Path, *, make: bool = False) -> Iterator[None]:
    """Marks a file or folder as in use by this process, until the block ends or the process does.

    Args:
        path: The file or folder.
        make: Whether to make it, as an empty file.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT if make else os.O_RDONLY, 0o666)
        try:
            with contextlib.suppress(OSError):  # a drive without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Someone who took it for a leftover may have removed it before it was locked.
            if not make or _is_at(handle, path):
                yield
                return
        finally:
            os.close(handle)


@contextlib.contextmanager
def _locked_if_left(path: Path) -> Iterator[bool]:
    """Yields True if no process holds the lock of a file or folder; holds it during the block."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_left = _is_at(handle, path)
        except OSError:  # in use; or on a drive without locks, where nobody can tell
            is_left = False
        yield is_left
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
