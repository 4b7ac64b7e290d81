"""What commands that make files of a list of videos share: where each goes, and from what."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from videotag.errors import MediaError, OutputError, one_error
from videotag.shown import shown


@dataclass
class Summary:
    """What became of a list of videos.

    Attributes:
        written: videos turned into files now.
        kept: videos whose files were there already.
        failed: video -> why it could not be decoded.
        partial: video -> what is wrong with a file that could be read all the same, such as lost frames.
        list_path: the list of all outputs, with the labels of the video list; None if there are none.
    """

    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    list_path: Path | None = None


def plan_outputs(
    paths: Sequence[str],
    save_dir: Path,
    root: Path | None = None,
    *,
    suffix: str = ".npy",
    folders: Container[str] = (),
) -> dict[str, Path]:
    """The output of every video: its path mirrored below save_dir, with another suffix.

    Relative paths are mirrored as written. Absolute ones, and those that climb out of the working folder
    with "..", are mirrored relative to `root`.

    Args:
        paths: as the list wrote them; the same one may stand twice.
        save_dir: of the outputs.
        root: the common parent of the absolute paths if not given.
        suffix: of the outputs; empty for folders.
        folders: those of `paths` that are folders, whose names have no suffix to be replaced.

    Raises:
        OutputError: two videos share an output or one's would lie inside another's, or a path lies outside
            root; all, a line each.
    """
    absolute = {p: Path(os.path.abspath(p)) for p in paths if _leaves(p)}  # noqa: PTH100 - keeps symlinks
    if absolute and root is None:
        root = Path(os.path.commonpath([p.parent for p in absolute.values()]))
    outputs: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    problems = []
    for path in dict.fromkeys(paths):
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
            problems.append(f"{shown(path)}: a list cannot hold control characters; rename the file")
            continue
        inside = PurePath(os.path.normpath(path))
        if not inside.name:
            problems.append(f"{path}: names no file; correct the list")
            continue
        if path in absolute:
            base = Path(os.path.abspath(str(root)))  # noqa: PTH100
            if not absolute[path].is_relative_to(base):
                problems.append(f"{path}: lies outside --root {base}; name a folder that holds all videos")
                continue
            inside = absolute[path].relative_to(base)
        output = save_dir / (
            inside.with_name(inside.name + suffix) if path in folders else inside.with_suffix(suffix)
        )
        if output in owners:
            problems.append(f"{path}: would write {output}, as {owners[output]} does; rename one of the two")
        owners[output] = path
        outputs[path] = output
    problems += [
        f"{path}: would write {output} inside {parent}, which {owners[parent]} writes; rename one of the two"
        for path, output in outputs.items()
        for parent in output.parents
        if parent in owners
    ]
    if problems:
        raise one_error(OutputError, problems)
    return outputs


def input_identity(path: str) -> dict[str, Any]:
    """What changes when a file, or one in a folder, does: reading every video again would cost a decode.

    Raises:
        MediaError: the file or folder cannot be read.
    """
    try:
        if Path(path).is_dir():
            return {"files_sha256": _digest_of_folder(path)}
        status = Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise MediaError(f"{path}: cannot be read ({why}); check the list") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _digest_of_folder(path: str) -> str:
    """The sha256 of names, sizes and times of what lies in a folder."""
    with os.scandir(path) as found:
        files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _leaves(path: str) -> bool:
    normal = PurePath(os.path.normpath(path))
    return normal.is_absolute() or normal.parts[:1] == ("..",)
