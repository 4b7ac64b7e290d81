"""Part of the benchmark: parsing YouTube-8M's TFRecords, on one core; records.py measures more."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import records
from bench_options import Options, measures_of
from bench_report import Line, Part, take_turns

from videotag.formats.yt8m_records import write_yt8m

NUM_RECORDS, QUICK_RECORDS, NUM_STEPS = 1000, 200, 300
PROTOBUF = "protobuf, framed by videotag"


def run(options: Options) -> Part:
    """Measures this project's reader and other installed ones."""
    count = QUICK_RECORDS if options.quick else NUM_RECORDS
    part = Part(f"TFRecords: records of {NUM_STEPS} steps of 1024 + 128 bytes into arrays, one core")
    path = options.work_dir / f"records-{count}.tfrecord"
    if not path.exists():
        write_yt8m(path, records.generated(count, NUM_STEPS))
    names = list(records.readers())
    specs = dict.fromkeys(names, "bench_records:Reader")
    arguments = {name: {"reader": name} for name in names}
    with options.children(specs, arguments) as children:
        measures = measures_of(children, "rate", path=str(path))
        take_turns(measures, 1)  # the file is in memory
        rounds = take_turns(measures, options.num_rounds(cheap=True))
    part.lines.append(Line(f"{count} records", "records/s", rounds, reference=PROTOBUF, more_is_better=True))
    part.notes.append("More readers: docs/scale.md.")
    options.say("TFRecords")
    return part


class Reader:
    """A contestant: one of records.readers(), pinned to one core."""

    def __init__(self, reader: str) -> None:
        self._read = records.readers()[reader]
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(records.one_core())

    def measure(self, path: str) -> dict[str, Any]:
        """Records per second, and per second of processor time."""
        rate, cpu_rate = records.timed(self._read, Path(path))
        return {"rate": rate, "cpu_rate": cpu_rate}
