"""Jobs over lists of videos: plan, work, collect; resumable, parallel, with atomic outputs.

A Job defines the work per entry. Only the driver, run_job, locks the folder, lets the job make its decisions
for the whole list, and writes failures and the list of outputs. An Executor runs the work, by default in
threads.
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
    """The result of one entry; picklable.

    Attributes:
        item_id: Path of the entry as written in its list.
        status: "written" by this run, "kept" from an earlier one, or "failed".
        error: Reason of the failure; empty otherwise.
        retriable: Whether another try may succeed.
        warning: Problem that did not prevent reading the input; None if there is none.
        counts: Numbers that follow the output's path in a list, such as the number of frames in a folder.
        fields: Fields of the entry's line in a JSON list; empty for a classic list.
        parts: Outcomes of the failed inputs of a sample, which are listed as failures instead of `error`.
        kind: Kind of input of one of `parts`, such as "audio"; None for a whole entry.
    """

    item_id: str
    status: Literal["written", "kept", "failed"]
    error: str = ""
    retriable: bool = False
    warning: str | None = None
    counts: tuple[int, ...] = ()
    fields: Mapping[str, str | None] = field(default_factory=dict)
    parts: tuple[Outcome, ...] = ()
    kind: str | None = None

    @classmethod
    def of_error(cls, item_id: str, error: VideotagError) -> Outcome:
        """The outcome of a failed entry."""
        return cls(item_id, "failed", str(error), error.retriable)


#: An entry of a list, and the path of its output.
Item: TypeAlias = tuple[ListEntry, Path]
Loaded = TypeVar("Loaded")


class Job(OutputKind, Generic[Loaded]):
    """The work per entry of a list: `load` runs in many threads, `finish` in one."""

    def concurrency(self) -> tuple[int, int]:
        """The number of concurrent `load` calls, and of results that may queue for `finish`."""
        raise NotImplementedError

    def check(self, items: Sequence[Item], save_dir: Path) -> None:
        """Checks the outputs beyond check_outputs, before the folder is locked.

        Args:
            items: Entries with the paths of their outputs.
            save_dir: Folder of the outputs.

        Raises:
            OutputError: Some outputs are refused; the message has one line per output.
        """

    def prepare(self, items: Sequence[Item], save_dir: Path) -> Mapping[str, Outcome]:
        """Makes the decisions for all items, and finds the outcomes that need no work.

        Only the driver calls it, once, before any work.

        Args:
            items: Entries with the paths of their outputs.
            save_dir: Folder of the outputs.

        Returns:
            Path of the entry -> outcome, for entries that need no work.
        """
        return {}

    def load(self, item: Item, pool: DecodePool, stop: threading.Event) -> Loaded | Outcome:
        """The first stage, which must be idempotent; returns an Outcome if there is nothing to finish.

        Args:
            item: Entry with the path of its output.
            pool: Child processes to decode in.
            stop: Event that is set when the run ends early, to stop work in progress.

        Raises:
            MediaError: The entry fails; the other entries go on.
        """
        raise NotImplementedError

    def finish(self, loaded: Iterable[tuple[Item, Loaded | Outcome]]) -> Iterator[Outcome]:
        """The second stage: yields the outcome of every item, in order.

        The default has no second stage and passes the outcomes of `load` on.

        Args:
            loaded: Items with the results of `load`.
        """
        return (outcome for _, outcome in loaded if isinstance(outcome, Outcome))

    def write_list(self, path: Path, done: Sequence[tuple[ListEntry, Path, Outcome]]) -> None:
        """Writes the list of outputs.

        Args:
            path: Path of the list.
            done: Entries with their outputs and outcomes, without those that failed; a duplicate entry of the
                list appears as often.
        """
        listed = (ListEntry(str(out), (*outcome.counts, *entry.label_ids)) for entry, out, outcome in done)
        write_filelist(path, listed)


#: Runs `load` and `finish` of a picklable job; yields the outcomes of all items, in order.
Executor: TypeAlias = Callable[[Job[Any], Sequence[Item]], Generator[Outcome, None, None]]


def in_threads(job: Job[Loaded], items: Sequence[Item]) -> Generator[Outcome, None, None]:
    """The executor that loads items in threads of this process while it finishes earlier ones.

    Args:
        job: Job to run.
        items: Entries with the paths of their outputs.

    Yields:
        The outcome of every item, in order.
    """
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
    """Writes the outputs of a list, and the list of these outputs.

    Args:
        job: Work per entry.
        entries: Videos, or folders of frames with their number of frames; labels are optional. A duplicate
            entry is processed once, but appears in the list of outputs as often.
        destination: Location of the outputs, their list and the failures.
        log_interval: Number of entries per log line.
        execute: Executor that runs the work.

    Returns:
        Counts and failures; all zero for an empty list.

    Raises:
        OutputError: Two entries would share an output, an output would replace a foreign file, another run
            holds the folder, or it cannot be written; finished outputs are kept.
    """
    paths, save_dir = [entry.path for entry in entries], destination.save_dir
    names = {entry.path for entry in entries if entry.counts or entry.fields is not None}
    folder = save_dir / job.folder
    outputs = plan_outputs(paths, folder, destination.root, suffix=job.suffix, whole_names=names)
    check_outputs(outputs, destination, job)
    first = {entry.path: entry for entry in reversed(entries)}
    items = [(first[path], output) for path, output in outputs.items()]
    job.check(items, save_dir)
    done: dict[str, Outcome] = {}
    with folder_lock(save_dir):
        for parent in {output.parent for output in outputs.values()}:
            remove_partial(parent)
        known = job.prepare(items, save_dir)
        failures, summary = FailureList(save_dir), Summary()
        for path, error in unlistable(paths, outputs):
            _collect(Outcome.of_error(path, error), summary, failures)
        with contextlib.closing(execute(job, [i for i in items if i[0].path not in known])) as worked:
            for index, (entry, output) in enumerate(track(items, job.what, len(items)), start=1):
                outcome = known.get(entry.path) or next(worked)
                _collect(outcome, summary, failures)
                if outcome.status == "failed":
                    continue
                done[entry.path] = outcome
                if index % log_interval == 0:
                    logger.info("%d of %d: %s", index, len(items), output)
        if done:
            summary.list_path = destination.list_path
            listed = [(e, outputs[e.path], done[e.path]) for e in entries if e.path in done]
            job.write_list(summary.list_path, listed)
    return summary


def _collect(outcome: Outcome, summary: Summary, failures: FailureList) -> None:
    """Counts an outcome, records a failure, and logs failures and warnings."""
    path = outcome.item_id
    for part in outcome.parts or ((outcome,) if outcome.status == "failed" else ()):
        failures.write(part.item_id, part.error, retriable=part.retriable, part=part.kind)
        logger.warning("failed: %s", part.error)
    if outcome.status == "failed":
        summary.failed[path] = outcome.error
        return
    if outcome.parts:
        summary.missing[path] = "; ".join(part.error for part in outcome.parts)
    summary.written += outcome.status == "written"
    summary.kept += outcome.status == "kept"
    if outcome.warning:
        summary.partial[path] = outcome.warning
        logger.warning("%s", outcome.warning)
