"""Plans output paths, and protects inputs and foreign files from being replaced.

Every command that writes checks its outputs here before its work. Inputs are compared by identity on disk
(symlinks and hard links resolved), not by spelling. An existing file is the program's own if its content says
so: features by their stamp, folders of frames by INFO_FILE, a list by the files that it names, other files by
their first bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar, Protocol

from videotag.errors import FileListError, OutputError, one_error
from videotag.formats.filelist import ListEntry, list_problem, read_filelist
from videotag.formats.json_lists import is_json_list, read_json_list
from videotag.inference.input_files import InputFiles, is_same_input
from videotag.media.frame_folder import INFO_FILE
from videotag.safe_text import MAX_TEXT, escaped, safe_repr
from videotag.system.atomic import MAX_FOLDER_NAME_BYTES, MAX_NAME_BYTES, PARTIAL_MARK
from videotag.system.failures import FAILURES_FILE, FAILURES_HEAD
from videotag.system.folder_lock import LOCK_FILE

RUNTIME_FILE = "runtime.json"  # in a folder of features
_RESERVED = {FAILURES_FILE, RUNTIME_FILE, INFO_FILE, LOCK_FILE}
_MAX_PATH_BYTES = 3900  # Linux allows 4,095; leaves room for file names in a folder of frames
_HEAD_BYTES = 2**16  # read from a file to recognize it


@dataclass
class Summary:
    """The result of a job over a list of videos.

    Attributes:
        written: Number of videos whose outputs this run wrote.
        kept: Number of videos whose outputs were up to date.
        failed: Video -> reason of the failure.
        partial: Video -> problem that did not prevent reading the file, such as lost frames.
        missing: Sample -> errors of the inputs without which it is listed.
        list_path: List of all outputs, with the labels of the input list; None if there are no outputs.
    """

    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    list_path: Path | None = None


def plan_outputs(
    paths: Sequence[str],
    save_dir: Path,
    root: Path | None = None,
    *,
    suffix: str = ".npy",
    whole_names: Container[str] = (),
) -> dict[str, Path]:
    """The output path of every video: its own path mirrored below save_dir, with another suffix.

    Relative paths are mirrored as written. Absolute paths, and those that leave the working folder through
    "..", are mirrored relative to `root`. A video is left out if no list or file system can hold its mirrored
    path; see unlistable.

    Args:
        paths: Paths as written in the list; duplicates are allowed.
        save_dir: Folder of the outputs.
        root: Folder that contains the absolute paths; None takes their common parent.
        suffix: Suffix of the outputs; empty for folders.
        whole_names: The members of `paths` whose names have no suffix to replace, such as folders and ids.

    Returns:
        Path -> output, in the order of paths; empty for no paths.

    Raises:
        OutputError: Outputs collide or nest, a path lies outside root, or an output has a name reserved for
            the program's own files, with one line per problem; or no list can hold the path of save_dir.
    """
    if problem := list_problem(str(save_dir)):
        raise OutputError(f"{safe_repr(str(save_dir), limit=MAX_TEXT)}: {problem}; choose another --save_dir")
    base = _common_parent(paths) if root is None else _absolute(root)
    outputs: dict[str, Path] = {}
    problems = []
    for path in dict.fromkeys(paths):
        try:
            inside = _mirrored(path, base, suffix, is_whole=path in whole_names)
        except ValueError as problem:
            problems.append(f"{path}: {problem}")
            continue
        output = save_dir / inside
        if list_problem(str(inside)) or _is_too_long(output, folder=not suffix):
            continue
        if reserved := next(filter(_is_reserved, inside.parts), None):
            problems.append(
                f"{path}: would write {output}, but {reserved} is a name of the program's own files; rename "
                "the file or its folder"
            )
            continue
        outputs[path] = output
    problems += _collisions(outputs, save_dir)
    if problems:
        raise one_error(OutputError, problems)
    return outputs


def _common_parent(paths: Iterable[str]) -> Path:
    """The common folder of all paths that are not mirrored as written; "." if there are none."""
    folders = {_absolute(path).parent for path in paths if _leaves(path)}
    return Path(os.path.commonpath(folders)) if folders else Path()


def _mirrored(path: str, base: Path, suffix: str, *, is_whole: bool) -> PurePath:
    """The path of a video's output relative to save_dir.

    Raises:
        ValueError: The video cannot be mirrored; the message is the reason.
    """
    inside = PurePath(os.path.normpath(path))
    if not inside.name:
        raise ValueError("names no file; correct the list")
    if _leaves(path):
        if not _absolute(path).is_relative_to(base):
            raise ValueError(f"lies outside --root {base}; name a folder that holds all videos")
        inside = _absolute(path).relative_to(base)
    return inside.with_name(inside.name + suffix) if is_whole else inside.with_suffix(suffix)


def _collisions(outputs: Mapping[str, Path], save_dir: Path) -> Iterator[str]:
    """Yields a line for every output that equals another one or lies inside it."""
    owners: dict[Path, str] = {}
    places = _Places(save_dir)
    for path, output in outputs.items():
        place = places.of(output)
        if place in owners:
            yield f"{path}: would write {output}, the output of {owners[place]}; rename one of the two"
        owners[place] = path
    for path, output in outputs.items():
        for parent in output.parents[: len(output.parts) - len(save_dir.parts) - 1]:
            if (place := places.of(parent)) in owners:
                yield (
                    f"{path}: would write {output} inside {parent}, the output of {owners[place]}; rename "
                    "one of the two"
                )


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - keeps symlinks


def unlistable(paths: Iterable[str], outputs: Container[str]) -> Iterator[tuple[str, FileListError]]:
    """Yields every path that plan_outputs left out, with the error that explains it.

    Args:
        paths: Paths as written in the list.
        outputs: Paths that have an output, as plan_outputs returns them.
    """
    for path in dict.fromkeys(paths):
        if path not in outputs:
            problem = list_problem(os.path.abspath(path)) or "the path of its output is too long"  # noqa: PTH100
            yield path, FileListError(f"{safe_repr(path, limit=MAX_TEXT)}: {problem}; rename the file")


@dataclass(frozen=True)
class Destination:
    """The location of a list's outputs.

    Attributes:
        save_dir: Folder of the outputs, their list and failures.jsonl.
        list_name: File name of the list of outputs inside save_dir.
        root: Folder that contains the absolute paths of the list; None takes their common parent.
        filelist: List of the inputs, which is never replaced; None if there is none.
        overwrite: Whether outputs of other inputs or programs may be replaced; inputs never are.
    """

    save_dir: Path
    list_name: str
    root: Path | None = None
    filelist: str | Path | None = None
    overwrite: bool = False

    @property
    def list_path(self) -> Path:
        """Path of the list of outputs."""
        return self.save_dir / self.list_name


class OutputKind(Protocol):
    """The kind of output that a command writes for each input.

    Attributes:
        what: Name of the outputs in messages, such as "features".
        suffix: Suffix of the outputs; empty for folders, whose list states the number of files.
        folder: Folder of the outputs below save_dir; empty for save_dir itself.
    """

    what: ClassVar[str]
    suffix: ClassVar[str]
    folder: ClassVar[str] = ""

    def input_of(self, output: Path) -> Mapping[str, Any] | None:
        """The identity of an existing output's input; empty if unknown, None if the output is foreign."""

    def is_listed(self, path: Path) -> bool:
        """Whether a path in a list may be an output of this kind; it need not exist."""


def check_outputs(outputs: Mapping[str, Path], destination: Destination, kind: OutputKind) -> None:
    """Refuses outputs that would replace anything but an earlier run's outputs of the same inputs.

    Args:
        outputs: Input -> output, as plan_outputs returns them.
        destination: Location of the outputs.
        kind: Kind of the outputs.

    Raises:
        OutputError: Files would be replaced; the message has one line per file.
    """
    save_dir, list_path, overwrite = destination.save_dir, destination.list_path, destination.overwrite
    inputs = InputFiles([*outputs, destination.filelist])
    in_folders, remedy = not kind.suffix, "choose another --save_dir"
    problems = []
    for path, output in outputs.items():
        if not os.path.lexists(output):  # cheaper than a failing stat call
            continue
        if text := inputs.refusal(output, folder=in_folders):
            if in_folders or not output.is_dir():  # a file never replaces a folder anyway
                problems.append(f"{output}: {text}; {remedy}")
        elif not overwrite and (text := _difference(path, output, kind)):
            problems.append(f"{output}: {text}; {remedy}, or give --overwrite")
    if destination.list_name.casefold() in _RESERVED:
        problems.append(f"{list_path}: a name of the program's own files; rename {destination.filelist}")
    elif os.path.lexists(list_path):
        known = set(outputs.values())
        count_names = () if kind.suffix else ("num_frames",)
        if text := inputs.refusal(list_path):
            problems.append(f"{list_path}: {text}; {remedy}")
        elif not overwrite and not is_own_list(
            list_path, save_dir, is_listed=kind.is_listed, known=known, count_names=count_names
        ):
            problems.append(
                f"{list_path}: exists and is not a list of this folder's {kind.what} written by videotag; "
                f"{remedy}, or give --overwrite"
            )
        elif (
            not overwrite
            and destination.filelist
            and (other := _other_entry(list_path, save_dir, outputs, count_names))
        ):
            problems.append(
                f"{list_path}: lists {escaped(other)}, but no {kind.what} of {destination.filelist}; rename "
                f"one of the two lists, {remedy}, or give --overwrite"
            )
    for own in (save_dir / RUNTIME_FILE, save_dir / LOCK_FILE):
        if text := inputs.refusal(own):
            problems.append(f"{own}: {text}; {remedy}")
    failures = FileOutput(save_dir / FAILURES_FILE, "--save_dir", FAILURES_HEAD)
    problems += _file_problems([failures], inputs, overwrite=overwrite)
    if problems:
        raise one_error(OutputError, problems)


def _difference(path: str, output: Path, kind: OutputKind) -> str | None:
    """The reason why an existing output does not belong to this input; None if it does."""
    made_from = kind.input_of(output)
    if made_from is None:
        return "exists and was not written by videotag"
    if is_same_input(made_from, path, output) or not os.path.exists(path):  # noqa: PTH110 - fails by itself
        return None
    other = os.path.normpath(os.path.join(output.parent, str(made_from["path"])))  # noqa: PTH118
    return f"{kind.what} of {escaped(other)}, not of {path}"


@dataclass(frozen=True)
class FileOutput:
    """A single file that a command writes.

    Attributes:
        path: Path of the file.
        flag: Flag that sets the path, for messages.
        head: Pattern that matches the beginning of every such file written by this program.
    """

    path: Path
    flag: str
    head: re.Pattern[str]


def check_files(
    outputs: Sequence[FileOutput], *, inputs: Iterable[str | Path | None], overwrite: bool | None = None
) -> None:
    """Refuses to overwrite inputs and foreign files.

    Args:
        outputs: All files that the command writes.
        inputs: All files that the command reads; None entries are skipped.
        overwrite: Whether foreign files may be replaced; inputs never are. None means False for a command
            without an --overwrite flag.

    Raises:
        OutputError: Files would be replaced, two outputs share a path, or a folder is in the place of a file;
            the message has one line per problem.
    """
    if problems := _file_problems(outputs, InputFiles(inputs), overwrite=overwrite):
        raise one_error(OutputError, problems)


def is_own_list(
    path: Path,
    folder: Path,
    *,
    is_listed: Callable[[Path], bool],
    known: Container[Path] = (),
    count_names: Sequence[str] = (),
) -> bool:
    """Whether a list names only outputs in a folder, as the list of an earlier run does.

    Args:
        path: Path of the existing list; an empty list is own. In a JSON list, every field is such a name.
        folder: Folder of the outputs.
        is_listed: Predicate for paths that may be outputs; see OutputKind.
        known: Outputs that pass without a check.
        count_names: Names of the numbers after each path; see read_filelist.
    """
    try:
        if not path.stat().st_size:
            return True
        entries = _entries_of(path, count_names)
    except (OSError, FileListError):
        return False
    places = _Places(folder)

    def is_own(entry: Path) -> bool:
        if entry in known:
            return True
        place = places.inside(entry)
        return place is not None and is_listed(place)

    named = ([entry.path] if entry.fields is None else entry.fields.values() for entry in entries)
    return all(is_own(Path(name)) for names in named for name in names)


def _other_entry(
    path: Path, folder: Path, outputs: Mapping[str, Path], count_names: Sequence[str]
) -> str | None:
    """The first entry of an own list that names none of the outputs; None if it names one, or is empty.

    Args:
        path: Path of the existing list.
        folder: Folder of the outputs.
        outputs: Input -> output of this run; the list of an earlier run of the same list names some of the
            outputs, a JSON list some of the inputs.
        count_names: Names of the numbers after each path; see read_filelist.
    """
    if not path.stat().st_size:
        return None
    entries = _entries_of(path, count_names)
    places = _Places(folder)
    own = {places.of(output) for output in outputs.values()}
    for entry in entries:
        if entry.path in outputs if entry.fields is not None else places.inside(Path(entry.path)) in own:
            return None
    return entries[0].path


def _entries_of(path: Path, count_names: Sequence[str]) -> list[ListEntry]:
    """The entries of an existing list of outputs, see read_filelist and read_json_list."""
    if is_json_list(path):
        return read_json_list(path)
    return read_filelist(path, must_exist=False, count_names=count_names)


def _leaves(path: str) -> bool:
    normal = PurePath(os.path.normpath(path))
    return normal.is_absolute() or normal.parts[:1] == ("..",)


def _is_too_long(output: Path, *, folder: bool) -> bool:
    """Whether the path of an output, or of its temporary file, exceeds the file system's limits."""
    limit = MAX_FOLDER_NAME_BYTES if folder else MAX_NAME_BYTES
    return len(os.fsencode(output.name)) > limit or len(os.fsencode(output.parent)) > _MAX_PATH_BYTES - limit


def _is_reserved(name: str) -> bool:
    """Whether a file or folder name is reserved for the program's own files."""
    name = name.casefold()
    return name in _RESERVED or name.endswith((".list", PARTIAL_MARK))


class _Places:
    """Canonical paths of outputs: equal for the same file, despite links and ignored case.

    Args:
        folder: Folder of the outputs; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._parents: dict[Path, str] = {}
        self._folds = _folds_case(folder)
        self._folder = folder
        self.folder = self._folded(os.path.realpath(folder))

    def of(self, output: Path) -> Path:
        """The canonical path of an output; a link at the path itself is not followed, as it is replaced."""
        parent = self._parents.get(output.parent)
        if parent is None:
            parent = self._parents[output.parent] = os.path.realpath(output.parent)
        return self._folded(os.path.join(parent, output.name))  # noqa: PTH118

    def inside(self, entry: Path) -> Path | None:
        """The canonical path of an entry of the folder's list; None if it is not in the folder.

        If the folder was moved since the list was written, or the list was written from another working
        folder, an entry matches by the tail of its path.
        """
        place = self.of(entry)
        if place.is_relative_to(self.folder):
            return place
        tails = (Path(*entry.parts[start:]) for start in range(1, len(entry.parts)))
        there = next((tail for tail in tails if os.path.lexists(self._folder / tail)), None)
        return None if there is None else self.of(self._folder / there)

    def _folded(self, path: str) -> Path:
        return Path(path.casefold() if self._folds else path)


def _folds_case(folder: Path) -> bool:
    """Whether a folder's file system ignores case, judged by the names that exist there."""
    absolute = folder.absolute()
    for path in (absolute, *absolute.parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if path.exists() and other != path:
            return other.exists() and other.samefile(path)
    return False


def _file_problems(outputs: Sequence[FileOutput], inputs: InputFiles, *, overwrite: bool | None) -> list[str]:
    """The problems that check_files reports, one line each."""
    problems = []
    owners: dict[str, str] = {}
    for output in outputs:
        path, remedy = output.path, f"give another {output.flag}"
        place = os.path.realpath(path)
        if place in owners:
            problems.append(f"{path}: {owners[place]} and {output.flag} write the same file; {remedy}")
        owners[place] = output.flag
        if not os.path.lexists(path):
            continue
        if text := inputs.refusal(path):
            problems.append(f"{path}: {text}; {remedy}")
        elif not overwrite and not _begins_with(path, output.head):
            remedy += "" if overwrite is None else ", or --overwrite"
            problems.append(f"{path}: exists and was not written by videotag; {remedy}")
    return problems


def _begins_with(path: Path, head: re.Pattern[str]) -> bool:
    """Whether the beginning of a file matches; an empty file passes, as it holds nothing to lose."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return not data or head.match(data.decode("utf-8", "replace")) is not None
