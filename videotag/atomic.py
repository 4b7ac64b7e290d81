"""Files that are either whole or not there: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from videotag.errors import OutputError

PARTIAL_MARK = ".partial"  # part of the name of every unfinished file
_OLD_MARK = f".old{PARTIAL_MARK}"  # ends the name of a folder that is being replaced


@contextlib.contextmanager
def open_atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    r"""A file object whose content appears at `path` only when the block ends without an error.

    The text modes write UTF-8 with "\n" line ends; what is not Unicode, such as a byte of a file name, is
    written as \udcff, which JSON reads back. Missing parent folders are made. A process killed inside the
    block leaves at most a file with PARTIAL_MARK in its name, which nothing reads.

    Args:
        path: where the finished file belongs; an older file there is replaced.
        mode: "w" or "wb".

    Raises:
        OutputError: the place cannot be written (read-only, no space, a folder of that name).
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


def remove_partial(folder: Path) -> None:
    """Deletes what killed processes left unfinished in `folder`, in which nobody else may be writing.

    A folder that was being replaced when its process was killed is put back first.
    """
    for path in folder.glob(f".*{_OLD_MARK}"):
        _put_back(folder / path.name.removeprefix(".").removesuffix(_OLD_MARK))
    for path in folder.glob(f".*{PARTIAL_MARK}"):
        _remove(path)


def check_writable(folder: Path) -> None:
    """Makes `folder` if it is not there and a file in it, which vanishes; to be called before long work.

    Raises:
        OutputError: the place cannot be written.
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
        OutputError: the folder, or the one in which it would be made, cannot be written.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write; choose another --save_dir")


def link_atomic(source: Path, target: Path) -> None:
    """Lets `target` be the same file as `source`, in place of an older one.

    A hard link, which costs no second copy; a copy where the file system has no links.

    Raises:
        OutputError: the place cannot be written.
    """
    if target.exists() and target.samefile(source):
        return  # renaming a link onto another one to the same file does nothing and would leave it
    with _aside(target) as aside:
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, aside)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to be filled, which takes the place of `folder` when the block ends without an error.

    What was at `folder` before is removed then, and stays as it was after an error. A process killed while
    one takes the place of the other leaves the old one aside, which the next call, or remove_partial, puts
    back.

    Raises:
        OutputError: the place cannot be written.
    """
    folder = folder.resolve()
    # Not named by the process: in containers the next one often has the same number.
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.new{PARTIAL_MARK}")
    try:
        _put_back(folder)
        new.mkdir(parents=True)
        yield new
        for file in new.iterdir():
            with file.open("rb") as content:
                os.fsync(content.fileno())
        try:
            if folder.exists():
                folder.rename(_old_of(folder))
            new.rename(folder)
        finally:
            _put_back(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write ({error.strerror or error}); check the folder's rights and free space"
        ) from error
    finally:
        _remove(new)


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
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL_MARK}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it was never made, or its folder is gone
            aside.unlink()
        if isinstance(error, OSError):
            raise OutputError(
                f"{path}: cannot write ({error.strerror or error}); check the folder's rights and free space"
            ) from error
        raise
