"""One TFRecord file of YouTube-8M -> its pickles, .npz files or shard; what workers of tf2pkl.py do.

Outputs lie below a folder under the source's own relative path without suffix, its base:

    pkl      BASE.pkl                  all records
    split    BASE_split_INDEX.pkl      one record each
    npy      BASE/INDEX_ID.npz         the dequantized features of one record each, as feature lists take them
    shard    BASE.safetensors          all records

When all of them are there, a note in FOLDER/.tf2pkl/MODE/BASE.json says from what they were made. Without it
they do not count: a run that was killed leaves whole files, but none that a list names. While they are made
BASE.begun lies there; without either, files at the places of outputs are somebody else's.
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
_VERSION = 1  # of what the writers write; a new one makes old outputs be made again
_Item = TypeVar("_Item")
_List = Annotated[list[_Item], FailFast()]  # pydantic takes 3 KB of memory for every wrong element
_NPZ_NAME = re.compile(r"\d{4,}_.*\.npz")


@dataclass(frozen=True)
class Job:
    """One source and what becomes of it.

    Attributes:
        source: The TFRecord file.
        base: Common beginning of its outputs, relative to `folder`.
        folder: Folder of all outputs.
        mode: What to make.
        keys: Kind of the keys in pickles.
        keep_partial: Whether the records before a damage are kept.
    """

    source: str
    base: str
    folder: str
    mode: Mode
    keys: Keys = "str"
    keep_partial: bool = False

    @property
    def note_path(self) -> Path:
        """Of the note that says that all outputs are there."""
        return Path(self.folder, NOTES, self.mode, f"{self.base}.json")

    @property
    def begun_path(self) -> Path:
        """Of a note of no outputs, which is there while they are made."""
        return Path(self.folder, NOTES, self.mode, f"{self.base}.begun")

    def path(self, suffix: str) -> Path:
        """Of an output."""
        return Path(self.folder, self.base + suffix)


@dataclass(frozen=True)
class Note:
    """What was made of a source.

    Attributes:
        outputs: Files below the folder, and the labels that a list gives with each.
        num_records: Number of records in them.
        num_empty: Number of records without steps, for which there is no .npz.
        failure: Why the source's later records are missing; None: they are not.
        made_from: What else has to be as it is, or the outputs are made again.
        sizes: Bytes of every output.
        source: The source, seen from the note's folder; empty in notes of earlier versions.
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
    """What a conversion reports."""

    num_records: int
    num_empty: int
    failure: str | None


def read_note(path: Path) -> Note | None:
    """The note in a file; None if there is none, or it is damaged."""
    try:
        note: Note = _NOTE.validate_python(read_json(path, error=RecordError, remedy="made anew"))
    except (RecordError, ValidationError):
        return None
    return note


def is_done(job: Job) -> bool:
    """Whether all outputs are there, made from the source as it is now, by the same options."""
    note = read_note(job.note_path)
    return (
        note is not None
        and note.failure is None
        and is_from(job, note)
        and note.made_from == _made_from(job)
        and note.sizes == [_size(Path(job.folder, name)) for name, _ in note.outputs]
    )


def is_from(job: Job, note: Note) -> bool:
    """Whether outputs were made of the job's source, as it is now or as it was."""
    known = {"path": note.source, **note.made_from} if note.source else {}
    return is_same_input(known, job.source, job.note_path)


def _size(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    return path.stat().st_size if path.is_file() else -1


def convert(job: Job) -> Outcome:
    """Makes the outputs of one source anew: all, or those before a damage, or none.

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
        empty = f"{job.source}: no records, as a download that has failed; download the file again"
        return Outcome(0, 0, reading.failure or empty)
    num_records = reading.num_records - reading.num_empty
    sizes = [_size(Path(job.folder, name)) for name, _ in outputs]
    note = Note(outputs, num_records, reading.num_empty, reading.failure, made_from, sizes, source)
    _write_note(job.note_path, note)
    job.begun_path.unlink(missing_ok=True)
    return Outcome(num_records, reading.num_empty, reading.failure)


class _Reading:
    """The records of a source; a damage ends them if what is before it is to be kept."""

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
                f"{job.source}: record {index} has no steps but means of a whole video, of which no feature"
                " list can be made; give --format pkl or shard"
            )
        if not all(map(len, record.features.values())):
            reading.num_empty += 1
            continue
        # Not the id alone: ids may be there twice, or differ in case only.
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
    """What the outputs depend on; a source that is not there has no size, and reading it says so."""
    made_from: dict[str, Any] = {"version": _VERSION, "keys": job.keys}
    try:
        status = Path(job.source).stat()
    except OSError:
        return made_from
    return made_from | {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _write_note(path: Path, note: Note) -> None:
    write_text(path, json.dumps(asdict(note)) + "\n")


def _remove_outputs(job: Job) -> None:
    """Removes the note first and then all outputs, also those of a run that was killed."""
    try:
        job.note_path.unlink(missing_ok=True)
        for path in outputs_there(job):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename}: cannot be removed ({error.strerror}); check the folder's rights"
        ) from error


def outputs_there(job: Job) -> Iterator[Path]:
    """The files at the places of a job's outputs."""
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
