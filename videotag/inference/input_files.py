"""Identity of input files on disk, independent of their spelling, and the match of outputs to inputs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from videotag.errors import MediaError
from videotag.safe_text import escaped


class InputFiles:
    """The files that a command reads, recognized under any of their names.

    Args:
        paths: Files and folders; None and missing paths are ignored. The disk is read on first use.
    """

    def __init__(self, paths: Iterable[str | Path | None]) -> None:
        self._paths = paths
        self._found: dict[tuple[int, int], str] | None = None

    def refusal(self, output: Path, *, folder: bool = False) -> str | None:
        """The reason why an existing output must never be replaced; None if it may be, or does not exist.

        Args:
            output: Path of the output.
            folder: Whether the output is a folder.
        """
        try:
            found = output.stat()
        except (OSError, ValueError):  # such as a dangling link
            return None
        name = self._by_identity().get((found.st_dev, found.st_ino))
        if name is not None:
            same = os.path.normpath(name) == os.path.normpath(output)
            return "is an input itself" if same else f"is the same file as the input {escaped(name)}"
        if folder and not stat.S_ISDIR(found.st_mode):
            return "a file, expected a folder"
        if not folder and not stat.S_ISREG(found.st_mode):
            return "a folder, expected a file" if stat.S_ISDIR(found.st_mode) else "is not a regular file"
        return None

    def _by_identity(self) -> dict[tuple[int, int], str]:
        if self._found is None:
            self._found = {}
            for path in self._paths:
                try:
                    found = os.stat(path or "")  # noqa: PTH116 - a third of Path.stat's time over long lists
                except (OSError, ValueError):
                    continue
                self._found[found.st_dev, found.st_ino] = str(path)
        return self._found


def input_identity(path: str, output: Path | None = None) -> dict[str, Any]:
    """Fingerprint of an input from sizes and modification times, without reading its content.

    Args:
        path: The file or folder.
        output: Output made from the input; the identity then contains the input's path relative to it, which
            survives moving both together. None leaves the path out.

    Returns:
        size and mtime_ns of a file, or files_sha256 of a folder; and path, if output is given.

    Raises:
        MediaError: The file or folder cannot be read.
    """
    place = {} if output is None else {"path": path_from(output, path)}
    try:
        if Path(path).is_dir():
            return {"files_sha256": _digest_of_folder(path), **place}
        status = Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise MediaError(f"{path}: cannot be read ({why}); check the list") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, **place}


def without_path(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An input's identity without its path; equal results mean equal content."""
    return {key: value for key, value in identity.items() if key != "path"}


def path_from(output: Path, path: str) -> str:
    """The path of an input relative to its output's folder; symlinks in the input's path stay unresolved."""
    folder = os.path.realpath(output.parent)
    return os.path.relpath(os.path.abspath(path), folder)  # noqa: PTH100


def is_same_input(known: Mapping[str, Any], path: str, output: Path) -> bool:
    """Whether an output was made from the input at `path`, in its current or an earlier state.

    An input at another path counts as moved if the old path is gone and size and time are unchanged.

    Args:
        known: Identity stored in the output; one without a path, as older versions wrote, matches any input.
        path: Current path of the input.
        output: Path of the output, a file or folder.
    """
    before = known.get("path")
    if not isinstance(before, str) or before == path_from(output, path):
        return True
    there = os.path.normpath(os.path.join(os.path.realpath(output.parent), before))  # noqa: PTH118
    try:
        return os.path.samefile(there, path)  # noqa: PTH121
    except (OSError, ValueError):
        pass
    try:
        now = input_identity(path)
    except MediaError:
        return False
    return now.items() <= known.items()


def _digest_of_folder(path: str) -> str:
    """SHA-256 over the names, sizes and modification times of a folder's files."""
    with os.scandir(path) as found:
        files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
