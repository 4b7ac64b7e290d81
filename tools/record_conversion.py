"""Converts one YouTube-8M TFRecord file to pickles, .npz files or a shard; the work of tf2pkl.py's processes.

Outputs are named after BASE, the relative path of the source without its suffix:

    pkl      BASE.pkl                  all records
    split    BASE_split_INDEX.pkl      one record each
    npy      BASE/INDEX_ID.npz         the dequantized features of one record each, for feature lists
    shard    BASE.safetensors          all records

When all outputs of a source are complete, the note FOLDER/.tf2pkl/MODE/BASE.json records what they were made
from. Outputs without a note do not count, so lists never name files of a killed run. BASE.begun exists while
outputs are written. Files in the place of outputs that have neither were not written by this tool.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import FailFast, TypeAdapter, ValidationError

from videotag.errors import OutputError, RecordError, VideotagError
from videotag.formats.feature_files import write_modalities
from videotag.formats.filelist import ListEntry
from videotag.formats.shards import write_shard
from videotag.formats.yt8m_pickles import Keys, write_yt8m_pickle
from videotag.formats.yt8m_records import YT8MRecord, dequantize, read_yt8m
from videotag.inference.input_files import is_same_input, path_from
from videotag.system.atomic import write_text
from videotag.system.json_text import read_json

Mode: TypeAlias = Literal["pkl", "split", "npy", "shard"]

NOTES = ".tf2pkl"
SUFFIXES = {"pkl": ".pkl", "split": "_split_*.pkl", "npy": "/*.npz", "shard": ".safetensors"}
_VERSION = 1  # of the outputs' content; a new version rebuilds old outputs
_Item = TypeVar("_Item")
_List = Annotated[list[_Item], FailFast()]  # pydantic uses 3 KB of memory per invalid element
_NPZ_NAME = re.compile(r"\d{4,}_.*\.npz")


@dataclass(frozen=True)
class Job:
    """The conversion of one source.

    Attributes:
        source: The TFRecord file.
        base: Common prefix of its outputs, relative to `folder`.
        folder: Folder of all outputs.
        mode: Kind of output.
        keys: Type of the keys in pickles.
        keep_partial: Whether to keep the records before a damaged one.
    """

    source: str
    base: str
    folder: str
    mode: Mode
    keys: Keys = "str"
    keep_partial: bool = False

    @property
    def note_path(self) -> Path:
        """Path of the note that says that all outputs are complete."""
        return Path(self.folder, NOTES, self.mode, f"{self.base}.json")

    @property
    def begun_path(self) -> Path:
        """Path of the note that exists while outputs are written."""
        return Path(self.folder, NOTES, self.mode, f"{self.base}.begun")

    def path(self, suffix: str) -> Path:
        """Path of an output."""
        return Path(self.folder, self.base + suffix)


@dataclass(frozen=True)
class Note:
    """The outputs of a source, and what they were made from.

    Attributes:
        outputs: Files relative to the folder, each with its labels for a list.
        num_records: Number of records in the outputs.
        num_empty: Number of records without steps, which have no .npz.
        failure: Why the later records of the source are missing; None if they are not.
        made_from: Source and options; if they change, the outputs are rebuilt.
        sizes: Size of every output in bytes.
        source: The source relative to the note's folder; empty in notes of earlier versions.
    """

    outputs: _List[tuple[str, _List[int]]] = field(default_factory=list)
    num_records: int = 0
    num_empty: int = 0
    failure: str | None = None
    made_from: dict[str, Any] = field(default_factory=dict)
    sizes: _List[int] = field(default_factory=list)
    source: str = ""

    def entries(self, folder: str | Path) -> list[ListEntry]:
        """The outputs as lines of a list."""
        return [ListEntry(str(Path(folder, name)), tuple(labels)) for name, labels in self.outputs]


_NOTE = TypeAdapter(Note)


class Outcome(NamedTuple):
    """Result of a conversion."""

    num_records: int
    num_empty: int
    failure: str | None


def read_note(path: Path) -> Note | None:
    """The note in a file; None if it is missing or damaged."""
    try:
        note: Note = _NOTE.validate_python(read_json(path, error=RecordError, remedy="it is written again"))
    except (RecordError, ValidationError):
        return None
    return note


def is_done(job: Job) -> bool:
    """Whether all outputs are complete, and made from the current source with the same options."""
    note = read_note(job.note_path)
    return (
        note is not None
        and note.failure is None
        and is_from(job, note)
        and note.made_from == _made_from(job)
        and note.sizes == [_size(Path(job.folder, name)) for name, _ in note.outputs]
    )


def is_from(job: Job, note: Note) -> bool:
    """Whether outputs were made from the job's source, even if it has changed since."""
    known = {"path": note.source, **note.made_from} if note.source else {}
    return is_same_input(known, job.source, job.note_path)


def _size(path: Path) -> int:
    """Size of a file in bytes; -1 if there is none."""
    return path.stat().st_size if path.is_file() else -1


def convert(job: Job) -> Outcome:
    """Rebuilds the outputs of one source: all, or those before a damaged record, or none.

    Raises:
        OutputError: The folder cannot be written.
    """
    made_from, source = _made_from(job), path_from(job.note_path, job.source)
    _write_note(job.begun_path, Note(failure="not finished", made_from=made_from, source=source))
    _remove_outputs(job)
    reading = _Reading(job)
    try:
        outputs = _WRITERS[job.mode](job, reading)
    except OutputError:
        raise
    except VideotagError as error:
        _remove_outputs(job)
        job.begun_path.unlink(missing_ok=True)
        return Outcome(0, 0, str(error))
    if not reading.num_records:
        _remove_outputs(job)
        job.begun_path.unlink(missing_ok=True)
        empty = f"{job.source}: no records, maybe a failed download; download the file again"
        return Outcome(0, 0, reading.failure or empty)
    num_records = reading.num_records - reading.num_empty
    sizes = [_size(Path(job.folder, name)) for name, _ in outputs]
    note = Note(outputs, num_records, reading.num_empty, reading.failure, made_from, sizes, source)
    _write_note(job.note_path, note)
    job.begun_path.unlink(missing_ok=True)
    return Outcome(num_records, reading.num_empty, reading.failure)


class _Reading:
    """Iterates over the records of a source; with keep_partial, a damaged record ends the iteration."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.num_records = 0
        self.num_empty = 0
        self.failure: str | None = None

    def __iter__(self) -> Iterator[YT8MRecord]:
        try:
            for record in read_yt8m(self._job.source):
                yield record
                self.num_records += 1
        except RecordError as error:
            if not self._job.keep_partial:
                raise
            self.failure = str(error)


def _write_pickle(job: Job, reading: _Reading) -> list[tuple[str, list[int]]]:
    write_yt8m_pickle(job.path(".pkl"), reading, keys=job.keys)
    return [(f"{job.base}.pkl", [])]


def _write_split(job: Job, reading: _Reading) -> list[tuple[str, list[int]]]:
    outputs: list[tuple[str, list[int]]] = []
    for index, record in enumerate(reading):
        write_yt8m_pickle(job.path(f"_split_{index}.pkl"), [record], keys=job.keys, single=True)
        outputs.append((f"{job.base}_split_{index}.pkl", []))
    return outputs


def _write_npz(job: Job, reading: _Reading) -> list[tuple[str, list[int]]]:
    outputs = []
    for index, record in enumerate(reading):
        if not record.features:
            raise RecordError(
                f"{job.source}: record {index} has video-level features, which .npz files cannot hold; give"
                " --format pkl or shard"
            )
        if not all(map(len, record.features.values())):
            reading.num_empty += 1
            continue
        # The index makes names unique: ids may repeat, or differ in case only.
        name = f"{index:04d}_{re.sub(r'[^A-Za-z0-9_-]', '_', record.video_id)[:64]}.npz"
        features = {name: dequantize(rows) for name, rows in record.features.items()}
        write_modalities(job.path(f"/{name}"), features)
        outputs.append((f"{job.base}/{name}", list(dict.fromkeys(record.labels.tolist()))))
    return outputs


def _write_shard(job: Job, reading: _Reading) -> list[tuple[str, list[int]]]:
    write_shard(job.path(".safetensors"), reading)
    return [(f"{job.base}.safetensors", [])]


_WRITERS: dict[Mode, Callable[[Job, _Reading], list[tuple[str, list[int]]]]] = {
    "pkl": _write_pickle,
    "split": _write_split,
    "npy": _write_npz,
    "shard": _write_shard,
}


def _made_from(job: Job) -> dict[str, Any]:
    """What the outputs depend on; without a size if the source is missing, which reading reports."""
    made_from: dict[str, Any] = {"version": _VERSION, "keys": job.keys}
    try:
        status = Path(job.source).stat()
    except OSError:
        return made_from
    return made_from | {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _write_note(path: Path, note: Note) -> None:
    write_text(path, json.dumps(asdict(note)) + "\n")


def _remove_outputs(job: Job) -> None:
    """Removes the note, then all outputs, also those of a killed run."""
    try:
        job.note_path.unlink(missing_ok=True)
        for path in outputs_there(job):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename}: cannot remove ({error.strerror}); check the permissions of the folder"
        ) from error


def outputs_there(job: Job) -> Iterator[Path]:
    """Yields the existing files in the places of a job's outputs."""
    if job.mode == "split":
        index = 0
        while (path := job.path(f"_split_{index}.pkl")).exists():
            yield path
            index += 1
    elif job.mode == "npy":
        folder = job.path("")
        if folder.is_dir():
            yield from [path for path in folder.iterdir() if _NPZ_NAME.fullmatch(path.name)]
    else:
        path = job.path(SUFFIXES[job.mode])
        if os.path.lexists(path):
            yield path
