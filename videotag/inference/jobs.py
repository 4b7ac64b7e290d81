"""One job over a list of videos: plan, work, collect; resumable, in parallel, nothing half-written.

A Job says what is done to each entry. The driver, run_job, alone locks the folder, lets the job settle what
holds for all entries, and writes failures and the list. An Executor carries out the work, here in threads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from videotag.datasets.prefetch import prefetch
from videotag.errors import MediaError, VideotagError
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.inference.outputs import (
    Destination,
    OutputKind,
    Summary,
    check_outputs,
    plan_outputs,
    unlistable,
)
from videotag.media.decode_pool import DecodePool
from videotag.system.atomic import remove_partial
from videotag.system.failures import FailureList
from videotag.system.folder_lock import folder_lock
from videotag.system.progress import track

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one entry; can be pickled.

    Attributes:
        item_id: Path of the entry, as its list wrote it.
        status: "written" by this run, "kept" from an earlier one, or "failed".
        error: Why it failed; empty if it did not.
        retriable: Whether it may succeed when it is tried again.
        warning: What is wrong with the input although it could be read; None if nothing.
        facts: What else the job says of the output; of folders, num_frames.
    """

    item_id: str
    status: Literal["written", "kept", "failed"]
    error: str = ""
    retriable: bool = False
    warning: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_error(cls, item_id: str, error: VideotagError) -> Outcome:
        """The outcome of an entry that failed."""
        return cls(item_id, "failed", str(error), error.retriable)


#: An entry of a list, and the place of its output.
Item: TypeAlias = tuple[ListEntry, Path]
Loaded = TypeVar("Loaded")


class Job(OutputKind, Generic[Loaded]):
    """What is done to each entry of a list: loaded in many threads, then finished in one."""

    def concurrency(self) -> tuple[int, int]:
        """Calls of `load` at the same time, and results of them that may wait for `finish`."""
        raise NotImplementedError

    def check(self, items: Sequence[Item], save_dir: Path) -> None:
        """Refuses, before the folder is locked, what check_outputs does not know of."""

    def settle(self, items: Sequence[Item], save_dir: Path) -> Mapping[str, Outcome]:
        """Decides what holds for all items, and returns the outcomes that are known without work, by path.

        The driver calls it alone, before any work.
        """
        return {}

    def load(self, item: Item, pool: DecodePool, stop: threading.Event) -> Loaded | Outcome:
        """The first stage, which may be repeated; an Outcome if nothing is left to be finished.

        Args:
            item: Entry and output.
            pool: Decodes in child processes.
            stop: Set when the run ends early, so that work in progress ends too.

        Raises:
            MediaError: The entry fails, and the others go on.
        """
        raise NotImplementedError

    def finish(self, loaded: Iterable[tuple[Item, Loaded | Outcome]]) -> Iterator[Outcome]:
        """The second stage, if there is one: the outcome of every item, in order."""
        return (outcome for _, outcome in loaded if isinstance(outcome, Outcome))


#: Calls `load` and `finish` of a job, which can be pickled; gives the outcomes of all items, in order.
Executor: TypeAlias = Callable[[Job[Any], Sequence[Item]], Generator[Outcome, None, None]]


def in_threads(job: Job[Loaded], items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """The outcomes of items that are loaded by threads of this process while earlier ones are finished."""
    stop = threading.Event()
    num_threads, ahead = job.concurrency()

    def load(item: Item) -> tuple[Item, Loaded | Outcome]:
        try:
            return item, job.load(item, pool, stop)
        except MediaError as error:
            return item, Outcome.of_error(item[0].path, error)

    with DecodePool() as pool:
        loaded = prefetch(load, items, num_threads=num_threads, ahead=ahead, stop=stop)
        with contextlib.closing(loaded):
            yield from job.finish(loaded)


def run_job(
    job: Job[Any],
    entries: Sequence[ListEntry],
    destination: Destination,
    *,
    log_interval: int = 1,
    execute: Executor = in_threads,
) -> Summary:
    """Makes the outputs of a list, and the list of them.

    Args:
        job: What is done to each entry.
        entries: Videos, or folders of frames with their number; with labels or without. One that is
            there twice is worked on once, and in the list of outputs twice.
        destination: Where outputs, their list and the failures go.
        log_interval: Entries between log lines.
        execute: Carries the work out.

    Raises:
        OutputError: Two entries would have the same output, something else would be replaced, another run is
            at work in the folder, or it cannot be written; what was done is kept.
    """
    paths, save_dir = [entry.path for entry in entries], destination.save_dir
    folders = {entry.path for entry in entries if entry.numbers}
    outputs = plan_outputs(paths, save_dir, destination.root, suffix=job.suffix, folders=folders)
    check_outputs(outputs, destination, job)
    first = {entry.path: entry for entry in reversed(entries)}
    items = [(first[path], output) for path, output in outputs.items()]
    job.check(items, save_dir)
    done: dict[str, tuple[int, ...]] = {}
    with folder_lock(save_dir):
        for parent in {output.parent for output in outputs.values()}:
            remove_partial(parent)
        known = job.settle(items, save_dir)
        failures, summary = FailureList(save_dir), Summary()
        for path, error in unlistable(paths, outputs):
            _collect(Outcome.of_error(path, error), summary, failures)
        with contextlib.closing(execute(job, [i for i in items if i[0].path not in known])) as worked:
            for index, (entry, output) in enumerate(track(items, job.what, len(items)), start=1):
                outcome = known.get(entry.path) or next(worked)
                _collect(outcome, summary, failures)
                if outcome.status == "failed":
                    continue
                # The number of frames stands where other lists have the first label.
                done[entry.path] = () if job.suffix else (outcome.facts["num_frames"],)
                if index % log_interval == 0:
                    logger.info("%d of %d: %s", index, len(items), output)
        if done:
            summary.list_path = destination.list_path
            listed = (entry for entry in entries if entry.path in done)
            write_filelist(
                summary.list_path,
                [ListEntry(str(outputs[e.path]), (*done[e.path], *e.label_ids)) for e in listed],
            )
    return summary


def _collect(outcome: Outcome, summary: Summary, failures: FailureList) -> None:
    """Counts an outcome, and tells what is wrong with it."""
    path = outcome.item_id
    if outcome.status == "failed":
        summary.failed[path] = outcome.error
        failures.write(path, outcome.error, retriable=outcome.retriable)
        logger.warning("failed: %s", outcome.error)
        return
    summary.written += outcome.status == "written"
    summary.kept += outcome.status == "kept"
    if outcome.warning:
        summary.partial[path] = outcome.warning
        logger.warning("%s", outcome.warning)
